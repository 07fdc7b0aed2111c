"""What travels between gateway, stages and verifiers: frames on streams, msgspec messages in calls."""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

import msgspec
from eth_hash.auto import keccak

from protocol.messages import Message
from protocol.typed import Signed

SERVICE = "funcnet.Stage"
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
VERSION = 1
_HEADER = struct.Struct("<BBBB32sIIIIII")
HEADER_BYTES = _HEADER.size


class Kind(IntEnum):
    """ATTACH opens a stream for a session; its position is that of the first row that the sender signs for.

    ROWS and TOKEN carry work, CHECKPOINT and COUNTERSIGN the signatures. Behind a token its TokenLogprobs may follow, as JSON.
    """

    ATTACH = 0
    ROWS = 1
    CHECKPOINT = 2
    COUNTERSIGN = 3
    TOKEN = 4


DTYPE_CODES = {"token": 0, "float32": 1, "bfloat16": 2}
CHECKPOINT_FOLLOWS = 1
"""Flag on ROWS: the sender's checkpoint over these rows comes next; the receiver waits for it before it goes on."""
NO_LOGPROBS, MOST_LOGPROBS = -1, 20


@dataclass(frozen=True)
class Frame:
    """Fixed-size header and raw payload. ``position``: of the first row; ``epoch``: the link's; ``step`` counts a session's frames from 0."""

    kind: Kind
    session: bytes
    payload: bytes = b""
    dtype: str = "token"
    flags: int = 0
    epoch: int = 0
    step: int = 0
    position: int = 0
    rows: int = 0
    hidden: int = 0

    def encode(self) -> bytes:
        head = (VERSION, self.kind, DTYPE_CODES[self.dtype], self.flags, self.session)
        return _HEADER.pack(*head, self.epoch, self.step, self.position, self.rows, self.hidden, len(self.payload)) + self.payload

    @classmethod
    def decode(cls, raw: bytes) -> "Frame":
        """Raises ValueError for another version, an unknown kind or dtype, or a length that does not fit."""
        if len(raw) < HEADER_BYTES:
            raise ValueError(f"a frame of {len(raw)} bytes is shorter than its {HEADER_BYTES}-byte header")
        version, kind, dtype, flags, session, epoch, step, position, rows, hidden, length = _HEADER.unpack_from(raw)
        names = {code: name for name, code in DTYPE_CODES.items()}
        if version != VERSION or dtype not in names or length != len(raw) - HEADER_BYTES:
            raise ValueError(f"a frame of version {version}, dtype {dtype} and {length} bytes is none of ours")
        return cls(Kind(kind), session, raw[HEADER_BYTES:], names[dtype], flags, epoch, step, position, rows, hidden)


class RouteStop(Message, frozen=True):
    """One stage on a job's route; ``tls_cert_hash`` as 0x hex."""

    provider: str
    operator: str
    endpoint: str
    tls_cert_hash: str
    first_layer: int
    end_layer: int


class OpenRequest(Message, frozen=True):
    """Opens a session at one stage. ``prompt`` holds all token ids so far, for the first stage and the last; ``logprobs``: how many of the likeliest
    tokens the last one is to name with each token, NO_LOGPROBS for none and no probability either; ``bulk``: work that others may be served before,
    at the stage's share for such work; ``authorisation``: the payer's, where it signs its requests."""

    offer: Signed
    route: list[RouteStop]
    sampling: dict[str, Any]
    prompt: list[TokenId]
    logprobs: Annotated[int, msgspec.Meta(ge=-1, le=MOST_LOGPROBS)] = NO_LOGPROBS
    bulk: bool = False
    authorisation: Signed | None = None


class OpenReply(Message, frozen=True):
    """``execution_class``: the class that the stage will run in; ``standby``: the provider that has its keys and values as it goes; ``hands_over``:
    the stage serves prompts, and asks for its standby in its place once the first token is there."""

    execution_class: str
    standby: str = ""
    hands_over: bool = False


class AttachRequest(Message, frozen=True):
    """Names a session: to subscribe to the last stage's tokens, to ask how far it is, to abort it."""

    job_id: str
    epoch: int


class SessionProgress(Message, frozen=True):
    """How far a session is. ``rows_in`` from position 0, ``rows_out`` from the session's first position; ``fault``: what broke its link, and
    ``refused`` whether that was what the stage before sent; ``leaving``: the stage takes no more rows and waits to be closed."""

    rows_in: int
    rows_out: int
    fault: str = ""
    refused: bool = False
    leaving: bool = False


class StatusRequest(Message, frozen=True):
    """Asks a stage how busy it is."""


class StageStatus(Message, frozen=True):
    """``kv_reserved`` of ``kv_bytes``: what the open sessions may come to; ``bulk_percent``: the share of its prices at which it takes bulk work."""

    sessions: int
    kv_reserved: int
    kv_bytes: int
    bulk_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 100


class RelinkRequest(Message, frozen=True):
    """Puts new neighbours beside a stage. ``epoch`` names the session, ``update`` is a signed RouteUpdate over ``route``."""

    job_id: str
    epoch: int
    update: Signed
    route: list[RouteStop]


class CloseRequest(Message, frozen=True):
    """Ends a session; the voucher covers the amount due for ``completion_tokens``. ``upstream``: the last checkpoint of the stage before, as that
    gave it to the gateway with its receipt; the rows in have to be bound to it."""

    job_id: str
    epoch: int
    completion_tokens: int
    voucher: Signed
    upstream: Signed | None = None


class CloseReply(Message, frozen=True):
    """The stage's receipt with the checkpoint it names and, where there is a next stage, that one's countersignature."""

    receipt: Signed
    checkpoint: Signed
    countersignature: Signed | None


class BatchAsk(Message, frozen=True):
    """Asks for an anchored batch's receipts; anyone may, since receipts hold no prompt."""

    batch_id: Count


class BatchReply(Message, frozen=True):
    """The receipts in the order of their numbers, and the checkpoint that each names."""

    receipts: list[Signed]
    checkpoints: list[dict[str, Any]]


DUTY, VOLUNTARY, LIST, ORDERED = -1, -2, -3, -4
"""In the place of a dispute's number: a check that the lottery asks for, one of a verifier's own accord, whether a batch's list is shown, or a
check that the job's gateway has ordered."""


class AnchoredReceipt(Message, frozen=True):
    """A receipt with its place on chain, for a stage that did not sign it."""

    message: dict[str, Any]
    batch_id: Count
    proof: list[str]


class EvidenceAsk(Message, frozen=True):
    """``duty_signature``: the verifier's BLS signature on the epoch's tip, as 0x hex; ``dispute``: a dispute's number, or DUTY or VOLUNTARY;
    ``offset``: bytes of rows that an earlier stream gave before it broke off; ``of``: the receipt of another stage of the job, whose rows this one
    sent or received and is asked for in its stead; ``order``: the gateway's CheckOrder, with ORDERED."""

    request: Signed
    duty_signature: str = ""
    dispute: int = DUTY
    offset: int = 0
    of: AnchoredReceipt | None = None
    order: Signed | None = None


class EvidenceHead(Message, frozen=True):
    """First message of an evidence stream; the rows follow as raw chunks. Of a receipt that is not anchored yet ``proof`` is empty.

    ``route``: as the offer names it; ``updates``: the gateway's orders that put other stages there; ``upstream``: for each stage before this one in
    turn, its last checkpoint that this stage countersigned, which binds the rows in to what was sent.
    """

    receipt: Signed
    checkpoint: Signed
    offer: Signed
    sampling: dict[str, Any]
    prompt: list[TokenId]
    batch_id: Count
    proof: list[str]
    row_bytes: Count
    row_count: Count
    route: list[RouteStop] = msgspec.field(default_factory=list)
    updates: list[RelinkRequest] = msgspec.field(default_factory=list)
    upstream: list[Signed] = msgspec.field(default_factory=list)


class NeighbourHead(Message, frozen=True):
    """First message of an evidence stream by a neighbour; the rows follow as raw chunks. ``offer``: the gateway's to the neighbour, which has the
    job's salt and sampling parameters."""

    offer: Signed
    sampling: dict[str, Any]
    row_bytes: Count
    row_count: Count


class CheckTerms(Message, frozen=True):
    """What a verifier that sells checks takes: ``price`` in wei per million rows as a decimal string, ``models`` by id as 0x hex."""

    price: str
    models: list[str]


class OrderedCheck(Message, frozen=True):
    """A CheckOrder and the receipt that it is for."""

    order: Signed
    receipt: Signed


class CheckRequest(Message, frozen=True):
    """Asks a verifier to check stages of one job now. The voucher's stream is (payer, gateway, verifier, model), and it covers all of them."""

    checks: Annotated[list[OrderedCheck], msgspec.Meta(min_length=1, max_length=256)]
    voucher: Signed
    authorisation: Signed | None = None


class CheckFinding(Message, frozen=True):
    """A signed CheckReport, and for people what was measured."""

    report: Signed
    detail: dict[str, Any]


class CheckAnswer(Message, frozen=True):
    """A finding for each check that was ordered, in their order."""

    findings: list[CheckFinding]


def route_hash(route: list[RouteStop]) -> bytes:
    """keccak of the route's JSON, which every offer of a job names."""
    return keccak(msgspec.json.encode(route))
