"""Follow the chain: four cases for a new head, backfill by range up to what is final, undo by block hash, and prove by sequence numbers that no
log is missing before anything is written."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

import structlog

from indexer import FinalityBroken, MissingLogs, NodeFault, Refused
from indexer.decode import Decoder, Event
from indexer.facts import Constants, touches
from indexer.node import Header, Source, Tips
from indexer.rules import RULES
from indexer.store import Batch, BlockRow, Cursor, Store

log = structlog.get_logger()

LIVE_BLOCKS = 64
"""Blocks that are read one by one at a time, and the most that is left for that once the rest is final."""
FIRST_SPAN, LONGEST_SPAN = 256, 8192
WANTED_EVENTS = 4000
"""Events of a range; the range is made longer or shorter for it."""
FETCHERS = 3
CROSS_CHECK_BLOCKS = 16


class Case(Enum):
    """What a new head is to an indexer that stands at another block."""

    DUPLICATE = "duplicate"
    BEHIND = "behind"
    NEXT = "next"
    GAP = "gap"


def classify(cursor: Cursor, head: Header) -> Case:
    """The case; whether the head continues what is kept is another question, and is asked for each."""
    if head.hash == cursor.hash:
        return Case.DUPLICATE
    if head.number <= cursor.number:
        return Case.BEHIND
    return Case.NEXT if head.number == cursor.number + 1 else Case.GAP


def require_complete(newest: Mapping[str, int], events: Sequence[Event], counters: Mapping[str, int] | None) -> None:
    """Raises MissingLogs unless each contract's numbers go on from ``newest`` without a gap, and up to its own counter where those are given."""
    reached = dict(newest)
    for event in events:
        if event.sequence is None:
            continue
        before = reached.get(event.contract, 0)
        if event.sequence != before + 1:
            raise MissingLogs(event.contract, f"{event.contract} goes from event {before} to {event.sequence}")
        reached[event.contract] = event.sequence
    for contract, told in (counters or {}).items():
        if told != reached.get(contract, 0):
            raise MissingLogs(contract, f"{contract} has {told} events, {reached.get(contract, 0)} were given")


@dataclass
class Stretch:
    """Blocks that follow on each other, read and decoded. ``counters``: by contract, None where the node could not tell any more."""

    first: int
    last: BlockRow
    blocks: list[BlockRow]
    events: list[Event]
    counters: dict[str, int] | None


@dataclass
class Counts:
    """What the indexer has met, since it was started."""

    blocks: int = 0
    events: int = 0
    reorgs: int = 0
    deepest_reorg: int = 0
    missing: int = 0
    healed: int = 0
    stale: int = 0
    heads: dict[str, int] = field(default_factory=lambda: dict.fromkeys((case.value for case in Case), 0))


@dataclass
class Follower:
    """Moves the tables along the chain. One writer: where another indexer leads, ``step`` does nothing."""

    source: Source
    store: Store
    decoder: Decoder
    read_constants: Callable[[], Constants]
    from_block: int
    cursor: Cursor | None = None
    counts: Counts = field(default_factory=Counts)
    span: int = FIRST_SPAN
    _newest: dict[str, int] | None = None
    """Each contract's newest number; None while another indexer writes."""
    _amiss: int = 0
    _crossed: int = 0

    @cached_property
    def constants(self) -> Constants:
        """What the contracts fixed; asked once."""
        return self.read_constants()

    def step(self) -> bool:
        """Take what there is to take next; whether there may be more. Raises Retryable, FinalityBroken, or what the database raises."""
        if not self.store.lead():
            self.cursor, self._newest = self.store.cursor(), None
            return False
        with self._kept_true():
            if self.cursor is None or self._newest is None:
                self._start()
            cursor = self.cursor
            if cursor is not None and cursor.halted:
                raise FinalityBroken(cursor.halted)
            tips = self.source.tips()
            return self._begin(tips) if cursor is None else self._follow(cursor, tips)

    @contextmanager
    def _kept_true(self) -> Iterator[None]:
        """After any failure, what is remembered of the tables is read again."""
        try:
            try:
                yield
            except MissingLogs as error:
                log.warning("logs are missing", reason=str(error))
                self.counts.missing += 1
                self._amiss += 1
                self._heal(error.contract)
                raise
        except BaseException:
            self.cursor = None
            raise

    def _start(self) -> None:
        self.cursor = self.store.cursor()
        self._newest = self._newest_at()

    def _begin(self, tips: Tips) -> bool:
        """The block before the first: what the chain starts from."""
        if tips.latest.number < self.from_block - 1:
            raise NodeFault(f"the node is at block {tips.latest.number}, the contracts were deployed at {self.from_block}")
        (origin,) = self.source.headers([max(0, self.from_block - 1)])
        after = self._cursor_at(BlockRow(origin.number, origin.hash, origin.timestamp), tips)
        self._write(Batch([_row(origin)], [], []), after)
        return True

    def _follow(self, cursor: Cursor, tips: Tips) -> bool:
        head, case = tips.latest, classify(cursor, tips.latest)
        self.counts.heads[case.value] += 1
        if case is Case.DUPLICATE:
            return False
        if case is Case.BEHIND and self._is_stale(cursor, head):
            self.counts.stale += 1
            self.source.prefer_another()
            return False
        self._cross_check(cursor, tips)
        if tips.finalized is not None and tips.finalized.number - cursor.number > LIVE_BLOCKS:
            # What this indexer read last may have been replaced while it was away.
            if self.source.headers([cursor.number])[0].hash != cursor.hash:
                return self._reorganise(cursor, tips)
            self._backfill(tips)
            return True
        last = min(head.number, cursor.number + LIVE_BLOCKS)
        headers = [head] if case is Case.NEXT else self.source.headers(range(cursor.number + 1, last + 1))
        if case is Case.BEHIND or headers[0].parent_hash != cursor.hash:
            return self._reorganise(cursor, tips)
        _require_chain(headers)
        self._append(headers, tips)
        return headers[-1].number < head.number

    def _is_stale(self, cursor: Cursor, head: Header) -> bool:
        """Not a reorg: the node has not seen yet what it or another one has told. Of blocks before the final one not all are kept; a node that is
        there shows its branch when it has caught up."""
        kept = self.store.hashes(head.number, head.number).get(head.number)
        return kept == head.hash or (kept is None and head.number < cursor.finalized)

    def _append(self, headers: Sequence[Header], tips: Tips, keep: int | None = None) -> None:
        logs, counters = self.source.blocks(self.decoder.addresses, [header.hash for header in headers], list(self.decoder.numbered))
        blocks = [_row(header) for header in headers]
        stretch = Stretch(headers[0].number, blocks[-1], blocks, self.decoder.decode_all(logs), self._by_name(counters))
        hashes = {block.number: block.hash for block in blocks}
        if any(hashes.get(event.block_number) != event.block_hash for event in stretch.events):
            raise NodeFault("the node gave logs of other blocks than were asked for")
        self._take(stretch, tips, keep)

    def _take(self, stretch: Stretch, tips: Tips, keep: int | None = None) -> None:
        """Prove a stretch complete, then write it."""
        newest = self._newest if keep is None and self._newest is not None else self._newest_at(keep)
        require_complete(newest, stretch.events, stretch.counters)
        timestamps = {block.number: block.timestamp for block in stretch.blocks}
        batch = Batch(stretch.blocks, stretch.events, touches(stretch.events, timestamps, self.constants, RULES))
        self._write(batch, self._cursor_at(stretch.last, tips), keep)
        self._newest = newest | {event.contract: event.sequence for event in stretch.events if event.sequence is not None}
        if self._amiss:
            self.counts.healed += 1
            self.store.note("missing_logs", stretch.last.number, f"complete after {self._amiss} more attempts")
            self._amiss = 0
        self.counts.blocks += len(stretch.blocks)
        self.counts.events += len(stretch.events)

    def _newest_at(self, keep: int | None = None) -> dict[str, int]:
        """Each contract's newest number in the tables, or in them by a block."""
        return {name: self.store.newest_event(name, keep)[0] for name in self.decoder.numbered.values()}

    def _write(self, batch: Batch, after: Cursor, keep: int | None = None) -> None:
        self.store.write(self.cursor, after, batch, keep)
        self.cursor = after

    def _cursor_at(self, block: BlockRow, tips: Tips) -> Cursor:
        """Finality as far as the tables go; it never goes back."""
        final, safe = (min(tip.number if tip else 0, block.number) for tip in (tips.finalized, tips.safe))
        was = self.cursor
        final = max(final, was.finalized) if was else final
        return Cursor(block.number, block.hash, max(safe, final), final, tips.latest.number)

    # reorgs

    def _reorganise(self, cursor: Cursor, tips: Tips) -> bool:
        """Go back to the newest block that chain and tables share, and on from there, in one transaction."""
        common = self._common(cursor, tips.latest)
        keep, depth = common.number, cursor.number - common.number
        log.warning("reorg", blocks=depth, since=keep + 1)
        headers = self.source.headers(range(keep + 1, min(tips.latest.number, keep + LIVE_BLOCKS) + 1))
        if headers:
            _require_chain(headers)
            if headers[0].parent_hash != common.hash:
                raise NodeFault("the chain changed while it was read")
            self._append(headers, tips, keep)
        else:
            self._newest = self._newest_at(keep)
            self._write(Batch([], [], []), self._cursor_at(_row(common), tips), keep)
        self.counts.reorgs += 1
        self.counts.deepest_reorg = max(self.counts.deepest_reorg, depth)
        self.store.note("reorg", keep + 1, f"{depth} blocks were replaced")
        return True

    def _common(self, cursor: Cursor, head: Header) -> Header:
        """The newest block that both have. Halts, and raises FinalityBroken, where that lies before what was final."""
        top = min(cursor.number, head.number)
        while top >= cursor.finalized:
            bottom = max(cursor.finalized, top - LIVE_BLOCKS + 1)
            kept, told = self.store.hashes(bottom, top), self.source.headers(range(bottom, top + 1))
            for header in reversed(told):
                if kept.get(header.number) == header.hash:
                    return header
            top = bottom - 1
        reason = (
            f"the node's chain leaves ours before block {cursor.finalized}, which was final; "
            "nothing is written until somebody has looked: see `funcnet indexer rewind --help`"
        )
        log.error("finality broken", block=cursor.finalized, head=head.number)
        self.store.halt(cursor, reason)
        raise FinalityBroken(reason)

    def _cross_check(self, cursor: Cursor, tips: Tips) -> None:
        """Other nodes have to have the block that becomes final, too."""
        if tips.finalized is None or tips.finalized.number < self._crossed + CROSS_CHECK_BLOCKS:
            return
        if words := self.source.disagreement(tips.finalized):
            raise NodeFault(f"nodes disagree on a final block: {words}; nothing is written until they agree")
        self._crossed = tips.finalized.number

    def _heal(self, contract: str) -> None:
        """Before another attempt: ask another node. Where that was no help, the gap may lie in what is written already, behind the contract's newest
        event there: go back to before it."""
        self.source.prefer_another()
        cursor = self.cursor
        if cursor is None or self._amiss % 2:
            return
        block = self.store.newest_event(contract)[1]
        keep, hash_ = self.store.kept_before(block)
        log.warning("reading again what may lack logs", since=keep + 1)
        self._write(Batch([], [], []), cursor.back_to(keep, hash_), keep)
        self._newest = self._newest_at(keep)

    # backfill

    def _backfill(self, tips: Tips) -> None:
        """All up to what is final, by ranges: several are fetched at once, one is written after the other."""
        assert self.cursor is not None and tips.finalized is not None
        began, start, last = time.monotonic(), self.cursor.number, tips.finalized.number
        with ThreadPoolExecutor(FETCHERS) as pool:
            waiting: deque[Future[list[Stretch]]] = deque()
            ahead = start + 1
            try:
                while waiting or ahead <= last:
                    while ahead <= last and len(waiting) < FETCHERS:
                        end = min(last, ahead + self.span - 1)
                        waiting.append(pool.submit(self._fetch, ahead, end))
                        ahead = end + 1
                    for stretch in waiting.popleft().result():
                        self._take(stretch, tips)
                        self._adapt(stretch)
                    done, seconds = self.cursor.number - start, time.monotonic() - began
                    log.info("backfill", block=self.cursor.number, of=last, left_s=round(seconds / max(done, 1) * (last - self.cursor.number)))
            finally:
                for future in waiting:
                    future.cancel()

    def _fetch(self, first: int, last: int) -> list[Stretch]:
        """A range, in parts where the node refuses the whole."""
        try:
            logs = self.source.logs(self.decoder.addresses, first, last)
        except Refused:
            if first == last:
                raise
            middle = (first + last) // 2
            self.span = max(1, middle - first + 1)
            return self._fetch(first, middle) + self._fetch(middle + 1, last)
        (end,) = self.source.headers([last])
        events = self.decoder.decode_all(logs)
        if any(not first <= event.block_number <= last for event in events):
            raise NodeFault("the node gave logs of other blocks than were asked for")
        if any(event.block_number == last and event.block_hash != end.hash for event in events):
            raise NodeFault(f"block {last} changed while it was read")
        try:
            counters = self._by_name(self.source.counters(list(self.decoder.numbered), end.hash))
        except Refused:
            counters = None  # a node that keeps no old state; the next range's numbers show a gap
        return [Stretch(first, _row(end), self._rows(events, end), events, counters)]

    def _rows(self, events: Sequence[Event], end: Header) -> list[BlockRow]:
        """The range's blocks that hold events, and its last."""
        timestamps = read_timestamps(self.source, events)
        rows = {event.block_number: BlockRow(event.block_number, event.block_hash, timestamps[event.block_number]) for event in events}
        rows[end.number] = _row(end)
        return [rows[number] for number in sorted(rows)]

    def _adapt(self, stretch: Stretch) -> None:
        """Ranges of about as many events as one transaction should hold."""
        if len(stretch.events) > 2 * WANTED_EVENTS:
            self.span = max(1, self.span // 2)
        elif len(stretch.events) < WANTED_EVENTS // 2 and stretch.last.number - stretch.first + 1 >= self.span:
            self.span = min(LONGEST_SPAN, self.span * 2)

    def _by_name(self, counters: Sequence[int]) -> dict[str, int]:
        return dict(zip(self.decoder.numbered.values(), counters, strict=True))


def read_timestamps(source: Source, events: Sequence[Event]) -> dict[int, int]:
    """When each event's block was made. A node that puts no timestamp to its logs is asked for the headers."""
    known = {event.block_number: event.timestamp for event in events if event.timestamp is not None}
    untimed = sorted({event.block_number for event in events} - known.keys())
    told = (header for i in range(0, len(untimed), LIVE_BLOCKS) for header in source.headers(untimed[i : i + LIVE_BLOCKS]))
    return known | {header.number: header.timestamp for header in told}


def _row(header: Header) -> BlockRow:
    return BlockRow(header.number, header.hash, header.timestamp)


def _require_chain(headers: Sequence[Header]) -> None:
    """Raises NodeFault where they do not follow on each other: the chain changed between two answers."""
    for before, after in itertools.pairwise(headers):
        if after.parent_hash != before.hash:
            raise NodeFault(f"block {after.number} does not follow on block {before.number}; the chain changed while it was read")
