"""The official `openai` client, but an answer whose receipts do not hold is never given out.

    from funcnet.client import FunctionNetwork

    client = FunctionNetwork(base_url="http://127.0.0.1:8000/v1", api_key="fn-...", deployment="deployments/31337.json")
    answer = client.chat.completions.create(model=..., messages=[...])

Checked is what one can check without a replay: that each stage's operator signed for it, that its tokens at its prices give its amount, that the
amounts are the cost, that the stages cover the model without a gap, that each countersigned the rows of the one before, and that none counts more
tokens than came. With ``rpc_url`` the operators are compared with the chain. What a stage *computed* is for verifiers: where the request asks for it
(``extra_body={"provider": {"require_verified": True}}``), the answer has to bring their signed word on every stage; what that cost is the gateway's
word, within what the request allows. `funcnet verify --replay` does it by hand.

With a ``SigningWallet`` there is no key: the payer signs each request, and the gateway can spend no more of its money than that says.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import httpx2
import openai
from eth_account.signers.local import LocalAccount
from openai.resources.chat import Chat
from openai.resources.chat.completions import Completions
from openai.resources.embeddings import Embeddings

from funcnet import FuncnetError
from funcnet.receipts import check, check_bound, check_reports, signer_of
from protocol.chain import Chain, Deployment
from protocol.receipts import Authorisation, StageReceipt, signed_request_hash
from protocol.typed import Domain, Signed, escrow_domain, receipts_domain


class ReceiptsDoNotHold(FuncnetError):
    """An answer came with receipts that do not prove what they should."""


class Receipts:
    """Checks the receipts of answers."""

    def __init__(self, deployment: Path | str, rpc_url: str | None = None) -> None:
        placed = Deployment.read(Path(deployment))
        self.domain: Domain = receipts_domain(placed.chain_id, placed.addresses["CommitmentLog"])
        self.chain = None if rpc_url is None else Chain(rpc_url, placed)

    def check(self, told: dict[str, Any], verified: bool = False) -> list[str]:
        """A line of what holds for each receipt. ``told``: an answer's ``function_network``; ``verified``: whether verifiers have to have passed
        each stage. Raises ReceiptsDoNotHold."""
        if "choices" in told:
            return [line for choice in told["choices"] for line in self.check(choice, verified)]
        try:
            entries = told["receipts"]
            signers = {signer for entry in entries if (signer := signer_of(entry, self.domain))}
            lines = [check(entry, self.domain, self.chain, signers if len(entries) > 1 else set()) for entry in entries]
            bound = check_bound(entries)
            receipts = [StageReceipt.from_json(entry["receipt"]["message"]) for entry in entries]
            _require_whole(told, receipts)
            found = told.get("checks", [])
            lines += check_reports(found, receipts, self.domain, self.chain) if verified or found else []
        except ReceiptsDoNotHold:
            raise
        except (FuncnetError, KeyError, TypeError, ValueError) as error:
            raise ReceiptsDoNotHold(f"the answer's receipts do not hold: {error}") from error
        return [*lines, *([bound] if bound else [])]


def _require_whole(told: dict[str, Any], receipts: list[StageReceipt]) -> None:
    """The receipts are of this one job, cover the model from its first layer on, and their amounts are its cost."""
    if not receipts or not told["settled"]:
        raise ReceiptsDoNotHold(
            f"only {len(receipts)} receipts came with the answer, and its stages are not settled; ask /v1/receipts for them later"
        )
    if others := {receipt.job_id.hex() for receipt in receipts} - {told["job_id"].removeprefix("0x")}:
        raise ReceiptsDoNotHold(f"a receipt is of job 0x{others.pop()}, not of {told['job_id']}")
    checks = int(told["check_cost"]) if told.get("checks") else 0
    if (total := sum(receipt.amount for receipt in receipts) + checks) != int(told["cost"]):
        raise ReceiptsDoNotHold(f"receipts and checks sum to {total} wei, the answer says {told['cost']}")
    if (most := max(receipt.completion_tokens for receipt in receipts)) > len(told["token_ids"]):
        raise ReceiptsDoNotHold(f"a receipt counts {most} tokens, {len(told['token_ids'])} came")
    edge = 0
    for first, end in sorted({(receipt.layers.first, receipt.layers.end) for receipt in receipts}):
        if first > edge:
            raise ReceiptsDoNotHold(f"no receipt is for layers {edge}-{first}")
        edge = max(edge, end)


class FunctionNetwork(openai.OpenAI):
    """openai's client with checked chat completions and embeddings.

    ``deployment``: the file that names the contracts; ``rpc_url``: a node to compare signers with; ``wallet``: signs requests in place of a key.
    """

    def __init__(self, *, deployment: Path | str, rpc_url: str | None = None, wallet: "SigningWallet | None" = None, **options: Any) -> None:
        self.wallet = wallet
        if wallet is not None:
            # A retry that the wallet did not sign for would be another request.
            options = {"api_key": "the wallet signs", **options, "http_client": openai.DefaultHttpxClient(auth=wallet), "max_retries": 0}
        super().__init__(**options)
        self.receipts = Receipts(deployment, rpc_url)
        self.last_check: list[str] = []
        """What held for the last answer."""

    @cached_property
    def chat(self) -> Chat:
        return _Chat(self)

    @cached_property
    def embeddings(self) -> Embeddings:
        return _Embeddings(self)


class SigningWallet(httpx2.Auth):
    """Signs each request with the payer's own key: what is asked, and how much the gateway may have spent of its money by then.

    ``most``: wei that a request may cost. ``book``: where it keeps what was spent, by receipts that held; no more is ever signed for than that and
    ``most`` for each request under way. Of one that failed nobody here knows what it cost: ``spent`` stays, the gateway may then refuse the next
    one, and ``owe`` raises it once you have looked at the receipts.
    """

    requires_request_body = True

    def __init__(self, account: LocalAccount, gateway: str, deployment: Path | str, most: int, book: Path | str) -> None:
        placed = Deployment.read(Path(deployment))
        self.account, self.gateway, self.most, self.book = account, gateway, most, Path(book)
        self.domain = escrow_domain(placed.chain_id, placed.addresses["PaymentEscrow"])
        self.spent = int(self.book.read_text()) if self.book.is_file() else 0
        self._asked, self._changing = 0, Lock()

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """A request that asks may cost ``most``; one that reads, nothing."""
        asked = max(1, self._asked) if request.method == "POST" else self._asked
        cumulative = self.spent + asked * self.most
        digest = signed_request_hash(request.url.raw_path.decode(), request.content)
        given = Authorisation(self.account.address, self.gateway, cumulative, digest)
        signed = Signed.of(given, given.sign(self.domain, bytes(self.account.key)))
        body = json.dumps({"message": signed.message, "signature": signed.signature}).encode()
        request.headers["authorization"] = f"Wallet {urlsafe_b64encode(body).decode()}"
        yield request

    @contextmanager
    def asking(self) -> Iterator[None]:
        """While a request is under way."""
        with self._changing:
            self._asked += 1
        try:
            yield
        finally:
            with self._changing:
                self._asked -= 1

    def owe(self, cost: int) -> None:
        """Count what an answer cost, on disk before the next one is signed for. Raises ReceiptsDoNotHold for more than was signed for."""
        if cost > self.most:
            raise ReceiptsDoNotHold(f"the answer cost {cost} wei, {self.most} were signed for")
        with self._changing:
            self.spent += cost
            partial = self.book.with_name(f"{self.book.name}.part")
            partial.write_text(str(self.spent))
            partial.rename(self.book)


def _is_to_be_verified(options: dict[str, Any]) -> bool:
    return bool(((options.get("extra_body") or {}).get("provider") or {}).get("require_verified"))


def _require(client: Any, answer: Any, verified: bool) -> None:
    """Raises ReceiptsDoNotHold."""
    told = (answer.model_extra or {}).get("function_network")
    if told is None:
        raise ReceiptsDoNotHold("the answer brought no receipts; is this a gateway of Function Network?")
    assert isinstance(client, FunctionNetwork)
    client.last_check = client.receipts.check(told, verified)
    if client.wallet is not None:
        client.wallet.owe(int(told["cost"]))


def _asking(client: Any) -> AbstractContextManager[None]:
    return nullcontext() if client.wallet is None else client.wallet.asking()  # type: ignore[no-any-return]


class _Embeddings(Embeddings):
    def create(self, *args: Any, **options: Any) -> Any:
        with _asking(self._client):
            answer = super().create(*args, **options)
            _require(self._client, answer, _is_to_be_verified(options))
        return answer


class _Chat(Chat):
    @cached_property
    def completions(self) -> Completions:
        return _Completions(self._client)


class _Completions(Completions):
    def create(self, *args: Any, **options: Any) -> Any:
        verified = _is_to_be_verified(options)
        with ExitStack() as under_way:
            under_way.enter_context(_asking(self._client))
            answer: Any = super().create(*args, **options)
            if options.get("stream"):
                return self._checked(answer, verified, under_way.pop_all())
            _require(self._client, answer, verified)
        return answer

    def _checked(self, stream: Any, verified: bool, under_way: ExitStack) -> Iterator[Any]:
        """Chunks as they come; the end is given out only if the receipts in it hold."""
        with under_way, stream:
            for chunk in stream:
                if "function_network" in (chunk.model_extra or {}):
                    _require(self._client, chunk, verified)
                yield chunk
