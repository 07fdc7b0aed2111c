"""What gateways hand in: signed receipts before they are anchored, and routing summaries. Each counts only with the right signature."""

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, HTTPException
from psycopg.types.json import Jsonb

from indexer.following import Following
from indexer.read import Reader
from protocol import ProtocolError
from protocol.database import Pool
from protocol.receipts import StageReceipt
from protocol.routing import RoutingSummary
from protocol.typed import Domain, Signed, TypedStruct

T = TypeVar("T", bound=TypedStruct)

MOST_SUMMARIES = 500


def hand_in(reader: Reader, pool: Pool, following: Following, domain: Domain) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.post("/v1/receipts", status_code=201)
    def add_receipt(signed: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        """Hand in a signed receipt; it counts only if its provider's operator signed it."""
        receipt, operator = _read(StageReceipt, signed, domain, "receipt")
        with reader.session() as session:
            registered = session.provider_of(operator)
        if registered != receipt.provider:
            if following.fault:
                raise HTTPException(503, f"operator {operator} is not known yet: {following.fault}; try again")
            raise HTTPException(400, f"the receipt is signed by {operator}, which is no operator of {receipt.provider}")
        _store_receipt(pool, receipt, signed)
        return {"provider": receipt.provider, "number": receipt.number}

    @router.post("/v1/routing", status_code=201)
    def add_summaries(batch: Annotated[list[dict[str, Any]], Body(max_length=MOST_SUMMARIES)]) -> dict[str, int]:
        """Hand in routing summaries; they count only from a gateway with a bond, and if they add up."""
        read = [_read(RoutingSummary, signed, domain, "routing summary") for signed in batch]
        for summary, signer in read:
            if signer != summary.gateway:
                raise HTTPException(400, f"a routing summary of {summary.gateway} is signed by {signer}")
            if not summary.adds_up:
                raise HTTPException(400, f"a routing summary of {summary.jobs} jobs does not add up to them")
        with reader.session() as session:
            bonded = {gateway for gateway in {summary.gateway for summary, _ in read} if session.has_bond(gateway)}
        if strangers := {summary.gateway for summary, _ in read} - bonded:
            raise HTTPException(400, f"{', '.join(sorted(strangers))} has no bond, so its word on providers does not count")
        with pool.connection() as connection:
            connection.cursor().executemany(
                "INSERT INTO indexer.routing VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [
                    (s.gateway, s.provider, "0x" + s.model_id.hex(), s.since, s.until, s.jobs, s.chosen, Jsonb(signed))
                    for (s, _), signed in zip(read, batch, strict=True)
                ],
            )
        return {"taken": len(read)}

    return router


def _read(kind: type[T], signed: dict[str, Any], domain: Domain, name: str) -> tuple[T, str]:
    """The structure and who signed it. Raises HTTPException."""
    try:
        struct = kind.from_json(signed["message"])
        return struct, struct.signer(domain, Signed(signed["message"], signed["signature"]).signature_bytes)
    except (KeyError, ValueError, AttributeError, TypeError, ProtocolError) as error:
        raise HTTPException(400, f"not a signed {name}: {error}") from error


def _store_receipt(pool: Pool, receipt: StageReceipt, signed: dict[str, Any]) -> None:
    job_id, model_id = "0x" + receipt.job_id.hex(), "0x" + receipt.model_id.hex()
    key = (receipt.provider, receipt.number, job_id, receipt.payer, receipt.gateway, model_id, str(receipt.layers))
    counts = (receipt.prompt_tokens, receipt.completion_tokens, receipt.amount, Jsonb(signed))
    with pool.connection() as connection:
        connection.execute("INSERT INTO indexer.receipt VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", (*key, *counts))
