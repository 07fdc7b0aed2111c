"""What the parties of a job sign: offers, checkpoints, receipts, vouchers. Design sections 3 and 5."""

from dataclasses import dataclass
from typing import Any, ClassVar

from eth_abi import encode as abi_encode
from eth_hash.auto import keccak

from protocol.typed import U16, U32, U64, U128, ZERO32, Addr, Bytes32, TypedStruct
from protocol.units import TOKENS_PER_PRICE, JobId, LayerRange, Wei


@dataclass(frozen=True)
class SessionOffer(TypedStruct):
    """The gateway's signed order to one stage.

    ``epoch`` fences: it is raised when a stage is replaced. A replacement rebuilds its KV cache from the rows before ``first_position``
    without sending them on; ``generated`` counts the completion tokens that there were before it. The first ``cached_tokens`` rows are those of
    ``prefix_job``, which the stage served before and still has: it runs none of them and answers for all. ``sampling_hash`` is that of the pinned
    sampling parameters, ``prompt_root`` the RFC 6962 root over the row leaves at boundary 0 of the prompt and those tokens, ``salt`` the
    session's, ``expires_at`` in chain seconds.
    """

    TYPE_NAME: ClassVar[str] = "SessionOffer"
    job_id: Bytes32
    payer: Addr
    gateway: Addr
    provider: Addr
    model_id: Bytes32
    first_layer: U16
    end_layer: U16
    execution_class: Bytes32
    epoch: U64
    input_price: U128
    cached_price: U128
    output_price: U128
    first_position: U32
    generated: U32
    prompt_tokens: U32
    max_tokens: U32
    cached_tokens: U32
    prefix_job: Bytes32
    prompt_root: Bytes32
    sampling_hash: Bytes32
    route_hash: Bytes32
    salt: Bytes32
    expires_at: U64

    @property
    def layers(self) -> LayerRange:
        return LayerRange(self.first_layer, self.end_layer)

    @property
    def known_tokens(self) -> int:
        """Tokens that there were when this session was opened: each further row is one that was fed back."""
        return self.prompt_tokens + self.generated

    @property
    def cached_count(self) -> int:
        """Prompt tokens billed as cached: all of them where somebody else's output for them is used, else those of an earlier job."""
        return self.prompt_tokens if self.first_position else self.cached_tokens

    def cost(self, completion: int) -> Wei:
        """Wei for this stage's part of the job with ``completion`` tokens of its own."""
        return job_cost(self.prompt_tokens, self.cached_count, completion, self.input_price, self.cached_price, self.output_price)

    @property
    def most_rows(self) -> int:
        """Rows that the job may come to: its prompt and its longest answer."""
        return self.prompt_tokens + self.max_tokens

    @property
    def most(self) -> Wei:
        """What this stage's part may cost at most."""
        return self.cost(self.max_tokens - self.generated)


@dataclass(frozen=True)
class RouteUpdate(TypedStruct):
    """The gateway's order to a stage whose neighbour was replaced: only frames of ``epoch`` count from now on, over the route of that hash."""

    TYPE_NAME: ClassVar[str] = "RouteUpdate"
    job_id: Bytes32
    epoch: U64
    route_hash: Bytes32


@dataclass(frozen=True)
class KvShipment(TypedStruct):
    """A provider's word to its standby: this file has the keys and values of a job's rows ``[first, end)`` at its layers."""

    TYPE_NAME: ClassVar[str] = "KvShipment"
    job_id: Bytes32
    provider: Addr
    standby: Addr
    first: U32
    end: U32
    file_hash: Bytes32


@dataclass(frozen=True)
class Checkpoint(TypedStruct):
    """A stage's claim about its rows: roots over rows in from position 0 and over rows out from ``first_position``.

    ``count`` is the number of rows out; ``previous`` the struct hash of the checkpoint before, or zero; ``upstream`` that of the newest checkpoint
    by the stage before that was countersigned here, which the rows in are bound to, or zero. ``CheckpointLib.Checkpoint`` on chain.
    """

    TYPE_NAME: ClassVar[str] = "Checkpoint"
    job_id: Bytes32
    provider: Addr
    epoch: U64
    first_layer: U16
    end_layer: U16
    first_position: U32
    count: U32
    root_in: Bytes32
    root_out: Bytes32
    previous: Bytes32
    upstream: Bytes32 = ZERO32

    @property
    def end(self) -> int:
        """The position after its last row."""
        return self.first_position + self.count

    def contradicts(self, other: "Checkpoint") -> bool:
        """Whether both give roots for the same rows of one session, and not the same ones: ``Contradictions.proveCheckpoints``."""
        return _place(self) == _place(other) and (self.root_in, self.root_out) != (other.root_in, other.root_out)


@dataclass(frozen=True)
class Countersignature(TypedStruct):
    """The receiver's word that the rows it received have the root that the sender signed."""

    TYPE_NAME: ClassVar[str] = "Countersignature"
    checkpoint: Bytes32
    root: Bytes32


@dataclass(frozen=True)
class StageReceipt(TypedStruct):
    """Invoice, proof of usage and evidence: ``ReceiptLib.Receipt`` on chain. ``checkpoint`` is the last one's struct hash."""

    TYPE_NAME: ClassVar[str] = "StageReceipt"
    provider: Addr
    number: U64
    job_id: Bytes32
    payer: Addr
    gateway: Addr
    model_id: Bytes32
    first_layer: U16
    end_layer: U16
    execution_class: Bytes32
    epoch: U64
    first_position: U32
    position_count: U32
    cached_count: U32
    checkpoint: Bytes32
    prompt_tokens: U32
    completion_tokens: U32
    input_price: U128
    cached_price: U128
    output_price: U128
    amount: U128

    @property
    def layers(self) -> LayerRange:
        return LayerRange(self.first_layer, self.end_layer)

    @property
    def rows(self) -> int:
        """Rows that a replay of it runs: all from position 0 on."""
        return self.first_position + self.position_count

    @property
    def due(self) -> Wei:
        """What the receipt's own tokens and prices give; its amount, unless somebody changed it."""
        prices = (self.input_price, self.cached_price, self.output_price)
        return job_cost(self.prompt_tokens, self.cached_count, self.completion_tokens, *prices)


@dataclass(frozen=True)
class Voucher(TypedStruct):
    """The gateway's promise to a provider: ``cumulative`` wei over the stream (payer, gateway, provider, model)."""

    TYPE_NAME: ClassVar[str] = "Voucher"
    payer: Addr
    gateway: Addr
    provider: Addr
    model_id: Bytes32
    cumulative: U128


@dataclass(frozen=True)
class Authorisation(TypedStruct):
    """A payer's word that a gateway may spend ``cumulative`` wei of its money in all, at the latest for the request of that hash.

    ``PaymentEscrow.authorise`` takes it; where the payer requires such, no more is ever debited.
    """

    TYPE_NAME: ClassVar[str] = "Authorisation"
    payer: Addr
    gateway: Addr
    cumulative: U128
    request_hash: Bytes32


@dataclass(frozen=True)
class EvidenceRequest(TypedStruct):
    """A request for a receipt's rows. ``part``: 0 rows in, 1 rows out. ``commitment``: salted hash of the requester's replay, for rows out."""

    TYPE_NAME: ClassVar[str] = "EvidenceRequest"
    requester: Addr
    provider: Addr
    number: U64
    part: U16
    commitment: Bytes32
    expires_at: U64


@dataclass(frozen=True)
class CheckOrder(TypedStruct):
    """The gateway's order to a verifier to check a stage's part of a job at once. It shows the stage that the verifier may see the rows.

    ``receipt`` is the struct hash of the stage's receipt, ``price`` wei per million rows, ``expires_at`` in chain seconds.
    """

    TYPE_NAME: ClassVar[str] = "CheckOrder"
    verifier: Addr
    gateway: Addr
    payer: Addr
    provider: Addr
    number: U64
    receipt: Bytes32
    price: U128
    expires_at: U64


@dataclass(frozen=True)
class CheckReport(TypedStruct):
    """A verifier's word on the receipt of that struct hash. ``verdict``: its place in protocol.duties.VERDICTS, from 1."""

    TYPE_NAME: ClassVar[str] = "CheckReport"
    verifier: Addr
    receipt: Bytes32
    verdict: U16


def _place(point: Checkpoint) -> tuple[object, ...]:
    session = (point.job_id, point.provider, point.epoch, point.first_layer, point.end_layer)
    return (*session, point.first_position, point.count)


def receipt_entries(body: Any) -> list[dict[str, Any]]:
    """The receipts in parsed JSON: one, a list of them, or an answer that carries ``receipts``; none where it is something else."""
    if isinstance(body, list):
        return body
    return list(body.get("receipts", [body])) if isinstance(body, dict) else []


def job_id(gateway: str, gateway_nonce: int, request_hash: bytes) -> JobId:
    """``keccak256(abi.encode(gateway, gatewayNonce, requestHash))``."""
    return JobId(keccak(abi_encode(["address", "uint256", "bytes32"], [gateway, gateway_nonce, request_hash])))


def request_hash(salt: bytes, body: bytes) -> bytes:
    """Hash of a request's bytes under a 32-byte salt, so that a short prompt cannot be guessed from its hash."""
    return keccak(salt + body)


def signed_request_hash(target: str, body: bytes) -> bytes:
    """What a payer's authorisation names: hash of an HTTP request's path with its query, and of its body."""
    return keccak(target.encode() + b"\n" + body)


def execution_class_id(name: str) -> bytes:
    """A class name such as ``float32/sdpa`` as bytes32."""
    return keccak(name.encode())


EXECUTION_CLASSES = {
    execution_class_id(f"{precision}/{kernel}"): f"{precision}/{kernel}"
    for precision in ("float32", "bfloat16", "bfloat16+int8")
    for kernel in ("sdpa", "eager")
}
"""The classes that stages may declare, by id: precision, then the attention kernel. ``+int8``: linear weights in int8 for each output channel."""


def precision_of(class_name: str) -> str:
    """A class without its kernel: ``bfloat16+int8/sdpa`` gives ``bfloat16+int8``."""
    return class_name.partition("/")[0]


def wire_dtype_of(class_name: str) -> str:
    """The dtype of a class's rows on the wire: ``bfloat16+int8/sdpa`` gives ``bfloat16``."""
    return precision_of(class_name).partition("+")[0]


def bulk_price(price: int, percent: int) -> int:
    """What a price comes to for bulk work at this share of it."""
    return price * percent // 100


def check_cost(rows: int, price: int) -> Wei:
    """Wei for a check that replays so many rows, at a price per million of them. Rounds down, against the verifier who claims it."""
    return Wei(rows * price // TOKENS_PER_PRICE)


def job_cost(prompt: int, cached: int, completion: int, input_price: int, cached_price: int, output_price: int) -> Wei:
    """Wei for one stage's part of a job; prices are per million tokens. Rounds down, against the provider who claims it."""
    total = (prompt - cached) * input_price + cached * cached_price + completion * output_price
    return Wei(total // TOKENS_PER_PRICE)
