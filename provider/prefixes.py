"""Beginnings that can be used again: sessions that ended keep their KV cache for a while, beside their rows on disk. Design section 3, step 4.

The gateway, which alone sees what two prompts share, names the earlier job and how many of its rows. The stage hashes those rows anew under the
new job's salt and answers for them as for any others, so a verifier sees no difference; what it saves is to compute and to send them.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from inference.executor import SessionState
from protocol.receipts import SessionOffer
from protocol.rows import TOKEN_DTYPE, last_stage_payload, token_payload
from provider import Refused
from provider.evidence import SessionFiles
from provider.session import NO_TOKEN, StageSession


@dataclass(frozen=True)
class Kept:
    """A session that ended."""

    offer: SessionOffer
    cache: SessionState
    files: SessionFiles


@dataclass
class Prefixes:
    """The sessions that ended last, as many as the KV cache has room for beside those that are open."""

    possible: bool
    """Whether a cache of this stage can be cut after any row."""
    _kept: OrderedDict[bytes, Kept] = field(default_factory=OrderedDict)

    @property
    def rows(self) -> int:
        """Rows of KV cache that are held."""
        return sum(kept.cache.position for kept in self._kept.values())

    def wants(self, session: StageSession) -> bool:
        """Not a replacement, which has no rows out of its own for the beginning; not one with planted faults in them."""
        return self.possible and session.offer.first_position == 0 and session.plant is None

    def keep(self, session: StageSession, cache: SessionState) -> None:
        """Keep a closed session's files and a copy of its KV cache."""
        self._kept[session.offer.job_id] = Kept(session.offer, cache, session.files)

    def drop(self, rows: int) -> None:
        """Make room by at least so many rows, if there are as many; what was used longest ago goes first."""
        until = max(0, self.rows - rows)
        while self._kept and self.rows > until:
            self._kept.popitem(last=False)

    def of(self, offer: SessionOffer) -> Kept | None:
        """The session whose beginning an offer names; None where it names none. Raises Refused where that may not or cannot be used."""
        if not offer.cached_tokens:
            return None
        kept = self._kept.get(offer.prefix_job)
        # The same words for what is not here and for what is somebody else's: nobody learns what others asked.
        parties = None if kept is None else (kept.offer.payer, kept.offer.gateway)
        if kept is None or parties != (offer.payer, offer.gateway) or not kept.files.saved:
            raise Refused(f"no rows of job {offer.prefix_job.hex()[:16]} are kept here for {offer.payer}")
        if offer.first_position or not offer.cached_tokens <= min(kept.files.rows_out.count, offer.prompt_tokens - 1):
            raise Refused(
                f"{offer.cached_tokens} rows of an earlier job do not fit: it has {kept.files.rows_out.count}, of {offer.prompt_tokens} "
                f"prompt tokens the last has to be run, and a replacement has none"
            )
        self._kept.move_to_end(offer.prefix_job)
        return kept


def take_over(kept: Kept, files: SessionFiles, count: int, prompt: list[int], is_last: bool) -> None:
    """Append the first ``count`` rows of a session that ended to a new one's. Raises Refused where they are not ``prompt``'s, FileNotFoundError."""
    rows_in, rows_out = kept.files.first_rows(count)
    if files.rows_in.dtype == TOKEN_DTYPE and rows_in != [token_payload(token) for token in prompt[:count]]:
        raise Refused(f"the first {count} token ids are not those of job {kept.offer.job_id.hex()[:16]}")
    if is_last:
        rows_out = [last_stage_payload(row[: -len(token_payload(NO_TOKEN))], NO_TOKEN) for row in rows_out]
    for log, rows in ((files.rows_in, rows_in), (files.rows_out, rows_out)):
        for row in rows:
            log.append(row)
