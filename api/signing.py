"""Who signs for a gateway: its own key, or a signer apart from it that has the key and a ceiling. See ``api.signer``."""

from typing import Any, NamedTuple, Protocol

import aiohttp
import requests
from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes

from protocol import SettingsError, Unavailable
from protocol.typed import Domain, Signed, TypedStruct

TIMEOUT_SECONDS = 5


class RawTransaction(NamedTuple):
    raw_transaction: HexBytes


class Signer(Protocol):
    """One account. ``sign`` is for structures; ``sign_transaction`` blocks. Both raise Unavailable where a signer apart does not answer, or
    refuses."""

    @property
    def address(self) -> str: ...

    async def sign(self, struct: TypedStruct, domain: Domain) -> Signed: ...

    def sign_transaction(self, transaction: Any, /) -> Any: ...

    async def close(self) -> None: ...


class LocalSigner:
    """The key is in this process."""

    def __init__(self, account: LocalAccount) -> None:
        self.account = account

    @property
    def address(self) -> str:
        return str(self.account.address)

    async def sign(self, struct: TypedStruct, domain: Domain) -> Signed:
        return Signed.of(struct, struct.sign(domain, bytes(self.account.key)))

    def sign_transaction(self, transaction: Any, /) -> Any:
        return self.account.sign_transaction(transaction)

    async def close(self) -> None:
        """Holds nothing open."""


class RemoteSigner:
    """The key is elsewhere. What it signs is checked, since a wrong signature would only show at a stage."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self.headers = {"authorization": f"Bearer {token}"}
        self._http: aiohttp.ClientSession | None = None
        try:
            answer = requests.get(f"{self.url}/address", headers=self.headers, timeout=TIMEOUT_SECONDS)
            self._address = str(answer.json()["address"])
        except (requests.RequestException, KeyError, ValueError) as error:
            raise SettingsError(f"no signer answers at {url} ({error}); start `python -m api.signer`, check FUNCNET_SIGNER_TOKEN") from error

    @property
    def address(self) -> str:
        return self._address

    async def sign(self, struct: TypedStruct, domain: Domain) -> Signed:
        if self._http is None:
            self._http = aiohttp.ClientSession(headers=self.headers, timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        body = {"type": struct.TYPE_NAME, "message": struct.to_json()}
        try:
            async with self._http.post(f"{self.url}/structures", json=body) as answer:
                told = await answer.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"the signer does not answer: {error}") from error
        if answer.status != 200:
            raise Unavailable(f"the signer refuses: {told.get('detail')}")
        signed = Signed(struct.to_json(), told["signature"])
        struct.require_signer(domain, signed.signature_bytes, self.address)
        return signed

    def sign_transaction(self, transaction: Any, /) -> RawTransaction:
        body = {**transaction, "data": HexBytes(transaction["data"]).to_0x_hex()}
        try:
            answer = requests.post(f"{self.url}/transactions", json=body, headers=self.headers, timeout=TIMEOUT_SECONDS)
            told = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise Unavailable(f"the signer does not answer: {error}") from error
        if answer.status_code != 200:
            raise Unavailable(f"the signer refuses: {told.get('detail')}")
        return RawTransaction(HexBytes(told["raw"]))

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
