"""Requests signed by the payer's wallet, in place of a key: ``Authorization: Wallet <base64url of {"message", "signature"}>``.

What is signed is an Authorisation: the request's own hash, and what the gateway may have spent in all by then. It is the proof that the payer asked,
and the money for it: where the payer requires signatures on chain, the escrow lets no gateway take more. Whoever sees one can only have the same
request answered again, which is the same answer.
"""

import asyncio
import base64
import binascii
from dataclasses import dataclass
from typing import Any

import msgspec
from eth_utils import to_checksum_address
from fastapi import Request
from psycopg.types.json import Jsonb

from api import NoCredit, WrongKey
from api.cover import Cover
from api.keys import ApiKey
from protocol import BadSignature
from protocol.chain import Chain
from protocol.database import AsyncPool
from protocol.receipts import Authorisation, signed_request_hash
from protocol.typed import Signed

SCHEME = "wallet "
MOST_BYTES = 2_000
EVERYTHING = 2**128 - 1


@dataclass
class SignedRequests:
    """Lets payers in by their signatures."""

    chain: Chain
    pool: AsyncPool
    cover: Cover
    gateway: str

    @staticmethod
    def is_one(header: str | None) -> bool:
        return header is not None and header[: len(SCHEME)].lower() == SCHEME

    async def authenticate(self, request: Request) -> ApiKey:
        """The payer, with what it has signed for on the books. Raises WrongKey."""
        signed = _decode(request.headers["authorization"][len(SCHEME) :])
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        expected = signed_request_hash(target, await request.body())
        try:
            given = Authorisation.from_json(signed.message)
            given.require_signer(self.chain.escrow_domain, signed.signature_bytes, given.payer)
            payer = to_checksum_address(given.payer)
        except (BadSignature, ValueError) as error:
            raise WrongKey(f"the wallet's signature does not hold: {error}", code="invalid_signature") from error
        if given.gateway != self.gateway:
            raise WrongKey(f"the request is signed for gateway {given.gateway}, this is {self.gateway}", code="wrong_gateway")
        if given.request_hash != expected:
            raise WrongKey("the signature is for another request than came: other bytes, or another path", code="invalid_signature")
        newest = await self._note(payer, given, signed)
        name = f"{given.cumulative}-{expected.hex()}"
        return ApiKey(f"wallet-{payer}", payer, None, authorisation=newest, request_name=name)

    async def _note(self, payer: str, given: Authorisation, signed: Signed) -> Signed:
        """Keep the greatest that the payer has signed for, and read what that lets this gateway take; that authorisation. Raises NoCredit."""
        async with self.pool.connection() as connection:
            known = await (await connection.execute("SELECT FROM api.payer WHERE address = %s", (payer,))).fetchone()
        # Wallets cost nothing: only of those that have deposited something anything is written down.
        if known is None and not (await asyncio.to_thread(self.cover.credit_of, payer, [], EVERYTHING))[0]:
            words = f"{payer} has nothing deposited for this gateway, {self.gateway}; deposit FUNC and set a limit (`funcnet wallet pay`)"
            raise NoCredit(words, code="insufficient_credit")
        async with self.pool.connection() as connection:
            await connection.execute("INSERT INTO api.payer (address) VALUES (%s) ON CONFLICT DO NOTHING", (payer,))
            own = "INSERT INTO api.key (id, name, payer) VALUES (%s, 'wallet', %s) ON CONFLICT DO NOTHING"
            await connection.execute(own, (f"wallet-{payer}", payer))
            await connection.execute(
                "UPDATE api.payer SET authorised = %s, authorisation = %s WHERE address = %s AND authorised < %s",
                (given.cumulative, Jsonb(msgspec.to_builtins(signed)), payer, given.cumulative),
            )
            row: Any = await (await connection.execute("SELECT authorisation FROM api.payer WHERE address = %s", (payer,))).fetchone()
        await self.cover.refresh_credit(payer)
        return signed if row["authorisation"] is None else msgspec.convert(row["authorisation"], Signed)


def _decode(text: str) -> Signed:
    """Raises WrongKey."""
    try:
        if len(text) > MOST_BYTES:
            raise ValueError("it is too long")
        return msgspec.json.decode(base64.urlsafe_b64decode(text.strip()), type=Signed)
    except (ValueError, binascii.Error) as error:
        words = f"'Authorization: Wallet' takes base64url of a signed Authorisation as JSON ({error}); funcnet.client makes one"
        raise WrongKey(words, code="invalid_signature") from error
