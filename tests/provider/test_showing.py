"""A neighbour's evidence: the rows at a boundary are the same on both sides of it, and go only to whoever may see that receipt's."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from protocol.receipts import Checkpoint, SessionOffer, StageReceipt
from protocol.rows import last_stage_payload, token_payload
from protocol.typed import Signed
from protocol.units import LayerRange
from protocol.vectors import counted
from protocol.wire import EvidenceAsk, NeighbourHead, OpenRequest, RouteStop
from provider import Refused
from provider.access import EvidenceAccess, Granted
from provider.evidence import EvidenceMeta, EvidenceStore
from provider.ledger import Ledger
from provider.showing import Showing

OFFER: SessionOffer = replace(counted(SessionOffer, 1), first_position=0, generated=0, prompt_tokens=3)
NAMES = ("0x" + "11" * 20, "0x" + "22" * 20, "0x" + "33" * 20)
ROUTE = [RouteStop(name, name, "", "0x", i * 10, (i + 1) * 10) for i, name in enumerate(NAMES)]
TOKENS = [5, 6, 7, 8, 9]
ROWS = {boundary: [bytes([boundary, position]) * 4 for position in range(4)] for boundary in (10, 20, 30)}
NONE = EvidenceAsk(Signed({}, ""))


class Granting(EvidenceAccess):
    """Access as the chain grants it, to one request: what is looked at here is which rows that gives."""

    def __init__(self, granted: Granted) -> None:
        self.granted = granted

    def grant(self, ask: EvidenceAsk) -> Granted:
        return self.granted


def receipt_of(stage: int, first_position: int = 0, count: int = 4) -> StageReceipt:
    parties = {"payer": OFFER.payer, "gateway": OFFER.gateway, "model_id": OFFER.model_id, "job_id": OFFER.job_id}
    place = {"provider": NAMES[stage], "first_layer": stage * 10, "end_layer": stage * 10 + 10}
    return replace(counted(StageReceipt, 1), **parties, **place, first_position=first_position, position_count=count)


def showing(folder: Path, stage: int, granted: Granted) -> Showing:
    """The evidence of a stage that served the job: four rows of a prompt of three tokens."""
    store = EvidenceStore(folder / f"evidence{stage}", 1 << 30)
    own = store.folder(OFFER.job_id, 0, stage * 10)
    if not own.exists():
        own.mkdir()
        ins = list(map(token_payload, TOKENS[:4])) if stage == 0 else ROWS[stage * 10]
        outs = ROWS[stage * 10 + 10]
        if stage == 2:
            outs = [last_stage_payload(row, token) for row, token in zip(outs, (-1, -1, *TOKENS[3:]), strict=True)]
        (own / "in.rows").write_bytes(b"".join(ins))
        (own / "out.rows").write_bytes(b"".join(outs))
        offer = Signed.of(replace(OFFER, provider=NAMES[stage]), b"s" * 65)
        request = OpenRequest(offer, ROUTE, {}, TOKENS[:3] if stage != 1 else [])
        meta = EvidenceMeta(request, Signed.of(counted(Checkpoint, 1), b""), None, 4, 4)
        (own / "meta.json").write_bytes(msgspec.json.encode(meta))
    return Showing(store, Granting(granted), Ledger(folder / f"books{stage}.db"), LayerRange(stage * 10, stage * 10 + 10))


def rows_shown(folder: Path, stage: int, receipt: StageReceipt, part: int, offset: int = 0) -> list[bytes]:
    shown = showing(folder, stage, Granted(receipt, 0, part, None)).show(NONE)
    head, raw = msgspec.json.decode(shown.head, type=NeighbourHead), b"".join(shown.chunks(offset))
    assert len(raw) + offset == head.row_bytes * head.row_count
    return [raw[at : at + head.row_bytes] for at in range(0, len(raw), head.row_bytes)]


def test_neighbour__before_and_after__show_both_sides_of_a_stage(tmp_path: Path) -> None:
    middle = receipt_of(1)
    assert rows_shown(tmp_path, 0, middle, 0) == ROWS[10]
    assert rows_shown(tmp_path, 2, middle, 1) == ROWS[20]
    # Resumed, and of a replacement that served the last rows alone.
    assert rows_shown(tmp_path, 2, middle, 1, offset=8) == ROWS[20][1:]
    assert rows_shown(tmp_path, 2, receipt_of(1, 2, 2), 1) == ROWS[20][2:]
    assert rows_shown(tmp_path, 0, receipt_of(1, 2, 1), 0) == ROWS[10][:3]


def test_last_stage__shows_the_tokens_that_the_first_was_fed(tmp_path: Path) -> None:
    assert rows_shown(tmp_path, 2, receipt_of(0), 0) == list(map(token_payload, TOKENS[:4]))
    assert rows_shown(tmp_path, 2, receipt_of(0, 0, 3), 0) == list(map(token_payload, TOKENS[:3]))


@pytest.mark.parametrize(
    ("stage", "receipt", "part", "words"),
    [
        (0, receipt_of(1), 1, "never here"),
        (2, receipt_of(1), 0, "never here"),
        (1, receipt_of(0), 0, "never here"),
        (0, receipt_of(1, 0, 5), 0, "4 of these rows were here, 5 are asked for"),
        (2, receipt_of(0, 0, 6), 0, "5 of these tokens were here, 6 are asked for"),
        (0, replace(receipt_of(1), job_id=bytes(32)), 0, "dropped"),
        (0, replace(receipt_of(1), provider="0x" + "44" * 20), 0, "not on the route"),
        (0, replace(receipt_of(1), payer="0x" + "44" * 20), 0, "not on the route"),
        (2, replace(receipt_of(1), first_layer=0), 1, "not on the route"),
    ],
)
def test_neighbour__rows_of_another_job_or_length__are_refused(tmp_path: Path, stage: int, receipt: StageReceipt, part: int, words: str) -> None:
    showing(tmp_path, stage, Granted(receipt_of(stage), 0, part, None))
    with pytest.raises(Refused, match=words):
        rows_shown(tmp_path, stage, receipt, part)
