"""``funcnet verify``: check a receipt offline, or against the chain."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from funcnet import FuncnetError
from protocol import BadSignature
from protocol.chain import Chain, Deployment
from protocol.receipts import Checkpoint, StageReceipt, job_cost
from protocol.typed import Domain, Signed, receipts_domain


def verify(
    file: Annotated[Path, typer.Argument(help="a receipt, or an answer's list of receipts, as JSON")],
    deployment: Annotated[Path, typer.Option(help="deployment file", envvar="FUNCNET_DEPLOYMENT")] = Path("deployments/31337.json"),
    rpc: Annotated[str | None, typer.Option(help="also ask this node whether the signers are the providers' operators")] = None,
) -> None:
    """Check signatures, amounts and checkpoints of receipts."""
    try:
        body = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise FuncnetError(f"{file} holds no JSON: {error}") from error
    entries = body if isinstance(body, list) else body.get("receipts", [body])
    placed = Deployment.read(deployment)
    domain = receipts_domain(placed.chain_id, placed.addresses["CommitmentLog"])
    chain = None if rpc is None else Chain(rpc, placed)
    for entry in entries:
        print(check(entry, domain, chain))


def check(entry: dict[str, Any], domain: Domain, chain: Chain | None) -> str:
    """One line of what holds. Raises FuncnetError with the first thing that does not."""
    try:
        raw, point_raw = entry.get("receipt", entry), entry.get("checkpoint")
        receipt = StageReceipt.from_json(raw["message"])
        signer = receipt.signer(domain, Signed(**raw).signature_bytes)
        due = job_cost(
            receipt.prompt_tokens,
            receipt.cached_count,
            receipt.completion_tokens,
            receipt.input_price,
            receipt.cached_price,
            receipt.output_price,
        )
        if due != receipt.amount:
            raise FuncnetError(f"receipt {receipt.number}: the amount is {receipt.amount} wei, its tokens and prices give {due}")
        if point_raw is not None:
            point = Checkpoint.from_json(point_raw["message"])
            point.require_signer(domain, Signed(**point_raw).signature_bytes, signer)
            if point.struct_hash() != receipt.checkpoint:
                raise FuncnetError(f"receipt {receipt.number}: the checkpoint is not the one that the receipt names")
    except (BadSignature, ValueError, KeyError, TypeError) as error:
        raise FuncnetError(f"not a valid receipt: {error}") from error
    words = f"receipt {receipt.number} of {receipt.provider}, layers {receipt.layers}: signature, amount and checkpoint hold"
    if chain is None:
        return f"{words}; signer {signer} not compared with the chain (give --rpc)"
    if chain.call("ProviderRegistry", "providerOf", signer) != receipt.provider:
        raise FuncnetError(f"receipt {receipt.number} is signed by {signer}, which is no operator of {receipt.provider}")
    anchored = chain.call("CommitmentLog", "lastNumber", receipt.provider) >= receipt.number
    return f"{words}; signed by the provider's operator; {'anchored' if anchored else 'not anchored yet'}"
