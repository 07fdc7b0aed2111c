"""The official `openai` client, but an answer whose receipts do not hold is never given out.

    from funcnet.client import FunctionNetwork

    client = FunctionNetwork(base_url="http://127.0.0.1:8000/v1", api_key="fn-...", deployment="deployments/31337.json")
    answer = client.chat.completions.create(model=..., messages=[...])

Checked is what one can check without a replay: that each stage's operator signed for it, that its tokens at its prices give its amount, that the
amounts are the cost, that the stages cover the model without a gap, that each countersigned the rows of the one before, and that none counts more
tokens than came. With ``rpc_url`` the operators are compared with the chain. What a stage *computed* is for verifiers: where the request asks for it
(``extra_body={"provider": {"require_verified": True}}``), the answer has to bring their signed word on every stage; `funcnet verify --replay` does it
by hand.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import openai
from openai.resources.chat import Chat
from openai.resources.chat.completions import Completions
from openai.resources.embeddings import Embeddings

from funcnet import FuncnetError
from funcnet.receipts import check, check_bound, check_reports, signer_of
from protocol.chain import Chain, Deployment
from protocol.receipts import StageReceipt
from protocol.typed import Domain, receipts_domain


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
            lines += check_reports(told.get("checks", []), receipts, self.domain, self.chain) if verified else []
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
    if (total := sum(receipt.amount for receipt in receipts) + int(told.get("check_cost", 0))) != int(told["cost"]):
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

    ``deployment``: the file that names the contracts; ``rpc_url``: a node to compare signers with.
    """

    def __init__(self, *, deployment: Path | str, rpc_url: str | None = None, **options: Any) -> None:
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


def _is_to_be_verified(options: dict[str, Any]) -> bool:
    return bool(((options.get("extra_body") or {}).get("provider") or {}).get("require_verified"))


def _require(client: Any, answer: Any, verified: bool) -> None:
    """Raises ReceiptsDoNotHold."""
    told = (answer.model_extra or {}).get("function_network")
    if told is None:
        raise ReceiptsDoNotHold("the answer brought no receipts; is this a gateway of Function Network?")
    assert isinstance(client, FunctionNetwork)
    client.last_check = client.receipts.check(told, verified)


class _Embeddings(Embeddings):
    def create(self, *args: Any, **options: Any) -> Any:
        answer = super().create(*args, **options)
        _require(self._client, answer, _is_to_be_verified(options))
        return answer


class _Chat(Chat):
    @cached_property
    def completions(self) -> Completions:
        return _Completions(self._client)


class _Completions(Completions):
    def create(self, *args: Any, **options: Any) -> Any:
        answer: Any = super().create(*args, **options)
        verified = _is_to_be_verified(options)
        if options.get("stream"):
            return self._checked(answer, verified)
        _require(self._client, answer, verified)
        return answer

    def _checked(self, stream: Any, verified: bool) -> Iterator[Any]:
        """Chunks as they come; the end is given out only if the receipts in it hold."""
        with stream:
            for chunk in stream:
                if "function_network" in (chunk.model_extra or {}):
                    _require(self._client, chunk, verified)
                yield chunk
