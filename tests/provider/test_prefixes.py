"""An earlier session's beginning: used again by the same payer alone, in other rooms, and with the same rows under the new job's salt."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from protocol.receipts import SessionOffer
from protocol.rows import last_stage_payload, token_payload
from protocol.vectors import counted
from provider import Refused
from provider.evidence import EvidenceStore, RowLog, SessionFiles
from provider.prefixes import Prefixes, take_over
from provider.scheduler import Scheduler
from provider.server import StageServer

EARLIER: SessionOffer = replace(counted(SessionOffer, 1), job_id=b"e" * 32, first_position=0, cached_tokens=0, prompt_tokens=6, max_tokens=4)
LATER = replace(EARLIER, job_id=b"l" * 32, cached_tokens=5, prefix_job=EARLIER.job_id, prompt_tokens=9)
TOKENS = list(range(40, 48))
HIDDEN = [bytes([position]) * 4 for position in range(8)]


def files_of(folder: Path, offer: SessionOffer, dtype_in: str = "token") -> SessionFiles:
    store = EvidenceStore(folder, 1 << 30)
    where = store.folder(offer.job_id, 0, 0)
    file_in, file_out, rebuilt = store.create(where)
    return SessionFiles(where, RowLog(offer.salt, 0, dtype_in, file=file_in), RowLog(offer.salt, 10, "float32", file=file_out), rebuilt)


def ended(folder: Path, offer: SessionOffer = EARLIER, rows_in: list[bytes] | None = None, plant: object = None) -> Any:
    """A session with eight rows that was closed for its receipt; its KV cache is looked at elsewhere."""
    files = files_of(folder, offer)
    for row_in, row_out in zip(rows_in or map(token_payload, TOKENS), HIDDEN, strict=True):
        files.rows_in.append(row_in)
        files.rows_out.append(row_out)
    files.close()
    (files.folder / "meta.json").touch()
    return SimpleNamespace(offer=offer, files=files, plant=plant)


CACHE: Any = SimpleNamespace(position=8)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., SessionFiles]]:
    """Files of new sessions, which the test leaves open."""
    made: list[SessionFiles] = []

    def open_(offer: SessionOffer, dtype_in: str = "token") -> SessionFiles:
        made.append(files_of(tmp_path / f"new{len(made)}", offer, dtype_in))
        return made[-1]

    yield open_
    for files in made:
        files.close()


def keeping(session: Any) -> Prefixes:
    prefixes = Prefixes(possible=True)
    prefixes.keep(session, CACHE)
    return prefixes


def test_of__same_payer_and_gateway__has_the_rows(tmp_path: Path) -> None:
    prefixes = keeping(ended(tmp_path))
    kept = prefixes.of(LATER)
    assert kept is not None
    assert kept.offer == EARLIER
    assert prefixes.of(EARLIER) is None


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another payer": ({"payer": "0x" + "99" * 20}, "no rows of job 6565656565656565 are kept here for 0x9999"),
    "another gateway": ({"gateway": "0x" + "99" * 20}, "no rows of job 6565656565656565 are kept here"),
    "another job": ({"prefix_job": b"x" * 32}, "no rows of job 7878787878787878 are kept here"),
    "more rows than it had": ({"cached_tokens": 9, "prompt_tokens": 20}, "9 rows of an earlier job do not fit: it has 8"),
    "no row left to run": ({"cached_tokens": 5, "prompt_tokens": 5}, "of 5 prompt tokens the last has to be run"),
    "a replacement": ({"first_position": 3}, "a replacement has none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_of__what_may_not_be_used__is_refused(tmp_path: Path, case: str) -> None:
    changes, words = REFUSED[case]
    with pytest.raises(Refused, match=words):
        keeping(ended(tmp_path)).of(replace(LATER, **changes))


def test_of__rows_that_were_dropped__are_refused(tmp_path: Path) -> None:
    session = ended(tmp_path)
    prefixes = keeping(session)
    EvidenceStore(tmp_path, 1).drop(session.files.folder)
    with pytest.raises(Refused, match="no rows of job"):
        prefixes.of(LATER)


def test_wants__a_replacement_a_plant_or_a_cache_that_cannot_be_cut__no(tmp_path: Path) -> None:
    assert Prefixes(possible=True).wants(ended(tmp_path / "0"))
    assert not Prefixes(possible=True).wants(ended(tmp_path / "1", replace(EARLIER, first_position=2)))
    assert not Prefixes(possible=True).wants(ended(tmp_path / "2", plant=object()))
    assert not Prefixes(possible=False).wants(ended(tmp_path / "3"))


def test_drop__room_is_needed__what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    prefixes = Prefixes(possible=True)
    jobs = [bytes([i]) * 32 for i in range(3)]
    for job in jobs:
        prefixes.keep(ended(tmp_path, replace(EARLIER, job_id=job)), CACHE)
    assert prefixes.rows == 24
    prefixes.of(replace(LATER, prefix_job=jobs[0]))
    prefixes.drop(9)
    assert prefixes.rows == 8
    assert prefixes.of(replace(LATER, prefix_job=jobs[0])) is not None
    prefixes.drop(1000)
    assert prefixes.rows == 0


def test_take_over__rows_are_hashed_under_the_new_salt(tmp_path: Path, opened: Callable[..., SessionFiles]) -> None:
    kept, later = keeping(ended(tmp_path / "a")).of(LATER), replace(LATER, salt=b"s" * 32)
    assert kept is not None
    taken, run = opened(later), opened(later)
    take_over(kept, taken, 5, [*TOKENS[:5], 1, 2, 3, 4], is_last=False)
    for token, row in zip(TOKENS[:5], HIDDEN, strict=False):
        run.rows_in.append(token_payload(token))
        run.rows_out.append(row)
    assert [taken.rows_in.root(), taken.rows_out.root()] == [run.rows_in.root(), run.rows_out.root()]
    assert kept.files.rows_in.root() != run.rows_in.root()


def test_take_over__other_token_ids__are_refused(tmp_path: Path, opened: Callable[..., SessionFiles]) -> None:
    kept = keeping(ended(tmp_path / "a")).of(LATER)
    assert kept is not None
    with pytest.raises(Refused, match="the first 5 token ids are not those of job 6565656565656565"):
        take_over(kept, opened(LATER), 5, [*TOKENS[:4], 1, 1, 2, 3, 4], is_last=False)


def test_take_over__last_stage__the_tokens_of_the_earlier_answer_are_no_answer_now(tmp_path: Path, opened: Callable[..., SessionFiles]) -> None:
    marked = [last_stage_payload(row, 7) for row in HIDDEN]
    session = ended(tmp_path / "a", rows_in=HIDDEN)
    (session.files.folder / "out.rows").write_bytes(b"".join(marked))
    kept, taken, run = keeping(session).of(LATER), opened(LATER, "float32"), opened(LATER, "float32")
    assert kept is not None
    take_over(kept, taken, 5, [], is_last=True)
    for row in HIDDEN[:5]:
        run.rows_out.append(last_stage_payload(row, -1))
    assert taken.rows_out.root() == run.rows_out.root()


async def test_keep__no_memory_for_it__is_no_error_of_the_job_that_ended() -> None:
    def fork(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    prefixes = Prefixes(possible=True)
    executor: Any = SimpleNamespace(fork=fork)
    server: Any = SimpleNamespace(prefixes=prefixes, executor=executor, scheduler=Scheduler(executor, lambda: 0))
    session: Any = SimpleNamespace(offer=SimpleNamespace(first_position=0, job_id=bytes(32)), plant=None, cache=SimpleNamespace(position=3))
    await StageServer._keep(server, session)
    assert prefixes.rows == 0
