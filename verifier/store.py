"""The verifier's state in PostgreSQL: epochs, checks under leases, statements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from psycopg.types.json import Jsonb

from protocol.batches import ReceiptBatch
from protocol.contradictions import Accusation
from protocol.database import Pool
from protocol.duties import DutyOpening, DutyResult
from protocol.receipts import Checkpoint, Voucher
from protocol.typed import Signed
from protocol.wire import DUTY, LIST, ORDERED, VOLUNTARY
from verifier import NotCovered
from verifier.drift import ALARM, cusum
from verifier.evidence import Place

LEASE_SECONDS = 40
RETRY_SECONDS = 3


@dataclass(frozen=True)
class CheckKey:
    """Names a check: of a duty, of one's own accord, of a batch's list (by its first number), for a dispute's committee, or ordered."""

    provider: str
    number: int
    dispute_id: int = DUTY


@dataclass(frozen=True)
class Drawn:
    """A receipt that this verifier has to check, or wants to; ``leaf`` and ``proof`` place it in its batch, ``found`` is what an ordered check of it
    has found already."""

    provider: str
    batch_id: int
    number: int
    leaf: bytes
    proof: list[bytes]
    voluntary: bool = False
    found: str | None = None


@dataclass(frozen=True)
class Sold:
    """A check that was ordered, with its order, and what it costs in wei."""

    key: CheckKey
    order: Signed
    cost: int


class Store:
    """One verifier's rows; several verifiers may share a database."""

    def __init__(self, pool: Pool, verifier: str) -> None:
        self.pool = pool
        self.verifier = verifier

    def is_posted(self, epoch: int) -> bool:
        return self._one("SELECT 1 FROM verifier.epoch WHERE verifier = %s AND epoch = %s AND posted", self.verifier, epoch) is not None

    def add_epoch(self, epoch: int, signature: bytes, drawn: list[Drawn]) -> None:
        """Note an epoch with its duties in one transaction; doing so twice changes nothing."""
        with self.pool.connection() as connection:
            connection.execute("INSERT INTO verifier.epoch VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", (self.verifier, epoch, signature))
            for duty in drawn:
                connection.execute(
                    "INSERT INTO verifier.check (verifier, provider, number, dispute_id, batch_id, epoch, leaf, proof, verdict) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                    (
                        self.verifier,
                        duty.provider,
                        duty.number,
                        VOLUNTARY if duty.voluntary else DUTY,
                        duty.batch_id,
                        epoch,
                        duty.leaf,
                        Jsonb([sibling.hex() for sibling in duty.proof]),
                        duty.found,
                    ),
                )

    def to_pin(self) -> list[dict[str, Any]]:
        """Duties whose evidence could not be had so far and that were not pinned."""
        return self._all(
            "SELECT provider, number, batch_id, epoch, leaf, proof FROM verifier.check "
            "WHERE verifier = %s AND dispute_id = -1 AND verdict IS NULL AND first_failure IS NOT NULL AND pinned IS NULL",
            self.verifier,
        )

    def mark_pinned(self, provider: str, number: int, in_time: bool) -> None:
        self._run(f"UPDATE verifier.check SET pinned = %s WHERE {_KEY}", in_time, *self._key(CheckKey(provider, number)))

    def add_committee_check(self, key: CheckKey, batch_id: int, epoch: int, of_list: bool = False) -> None:
        self._run(
            "INSERT INTO verifier.check (verifier, provider, number, dispute_id, batch_id, epoch, of_list) VALUES (%s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT DO NOTHING",
            self.verifier,
            key.provider,
            key.number,
            key.dispute_id,
            batch_id,
            epoch,
            of_list,
        )

    def sell(self, voucher: Voucher, signed: Signed, checks: Sequence[Sold], authorisation: Signed | None = None) -> None:
        """Take orders, the voucher that pays them and the payer's authorisation if there is one, in one transaction; what was ordered before costs
        nothing again. Raises NotCovered.

        Earnings count, not the voucher before: of orders that come together the later voucher may come first, and covers both.
        """
        stream = (self.verifier, voucher.payer, voucher.gateway, voucher.model_id)
        with self.pool.connection() as connection:
            connection.execute("INSERT INTO verifier.sale VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING", stream)
            row: Any = connection.execute(f"SELECT earned, cumulative FROM verifier.sale WHERE {_SALE} FOR UPDATE".encode(), stream).fetchone()
            cost = 0
            for sold in checks:
                added = connection.execute(
                    "INSERT INTO verifier.check (verifier, provider, number, dispute_id, batch_id, epoch, ordered, lease_until) "
                    "VALUES (%s, %s, %s, %s, 0, -1, %s, now() + make_interval(secs => %s)) ON CONFLICT DO NOTHING",
                    (*self._key(sold.key), Jsonb(msgspec.to_builtins(sold.order)), LEASE_SECONDS),
                ).rowcount
                cost += sold.cost if added else 0
            highest = max(int(row["cumulative"]), voucher.cumulative)
            if highest < row["earned"] + cost:
                raise NotCovered(f"vouchers up to {highest} wei do not cover the {row['earned']} of earlier checks and {cost} for these")
            connection.execute(f"UPDATE verifier.sale SET earned = earned + %s WHERE {_SALE}".encode(), (cost, *stream))
            if voucher.cumulative > row["cumulative"]:
                shown = None if authorisation is None else Jsonb(msgspec.to_builtins(authorisation))
                change = (voucher.cumulative, Jsonb(msgspec.to_builtins(signed)), shown)
                sql = f"UPDATE verifier.sale SET cumulative = %s, voucher = %s, authorisation = COALESCE(%s, authorisation) WHERE {_SALE}"
                connection.execute(sql.encode(), (*change, *stream))

    def sales(self) -> list[Signed]:
        """The highest voucher of each stream."""
        rows = self._all("SELECT voucher FROM verifier.sale WHERE verifier = %s AND voucher IS NOT NULL", self.verifier)
        return [msgspec.convert(row["voucher"], Signed) for row in rows]

    def authorisations(self) -> list[Signed]:
        """Payers' words for what those vouchers come to, where they sign their requests."""
        rows = self._all("SELECT authorisation FROM verifier.sale WHERE verifier = %s AND authorisation IS NOT NULL", self.verifier)
        return [msgspec.convert(row["authorisation"], Signed) for row in rows]

    def found(self, key: CheckKey) -> dict[str, Any] | None:
        """Verdict and detail of a check; None while it has none."""
        return self._one(f"SELECT verdict, detail FROM verifier.check WHERE {_KEY} AND verdict IS NOT NULL", *self._key(key))

    def accused(self, provider: str) -> set[str]:
        """Struct hashes, as 0x hex, of the provider's receipts that failed a check which was ordered."""
        rows = self._all(
            "SELECT ordered -> 'message' ->> 'receipt' AS receipt FROM verifier.check "
            "WHERE verifier = %s AND provider = %s AND dispute_id = %s AND verdict = 'FAIL'",
            self.verifier,
            provider,
            ORDERED,
        )
        return {row["receipt"] for row in rows}

    def add_list_check(self, provider: str, batch_id: int, first_number: int, epoch: int) -> None:
        """A batch could not be drawn from: see for how long its provider shows nobody its list."""
        self.add_committee_check(CheckKey(provider, first_number, LIST), batch_id, epoch, of_list=True)

    def keep_batch(self, provider: str, batch_id: int, batch: ReceiptBatch) -> None:
        """Keep a batch that has its root; one that a reorg put under another's number takes its place."""
        key, shown = (self.verifier, provider, batch_id), Jsonb(batch.to_json())
        with self.pool.connection() as connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM verifier.batch WHERE (verifier, provider, batch_id) = (%s, %s, %s) AND shown <> %s", (*key, shown))
            cursor.execute("INSERT INTO verifier.batch VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING", (*key, shown))
            cursor.executemany(
                "INSERT INTO verifier.receipt VALUES (%s, %s, %s, %s, %s, %s, %s, %s) "
                "ON CONFLICT (verifier, provider, number) DO UPDATE SET batch_id = excluded.batch_id, job_id = excluded.job_id, "
                "first_layer = excluded.first_layer, end_layer = excluded.end_layer, checkpoint = excluded.checkpoint",
                [(self.verifier, provider, r.number, batch_id, r.job_id, r.first_layer, r.end_layer, r.checkpoint) for r in batch.receipts],
            )

    def batch(self, provider: str, batch_id: int) -> ReceiptBatch | None:
        """A batch that was shown, None where it was not or not long ago enough."""
        row = self._one("SELECT shown FROM verifier.batch WHERE verifier = %s AND provider = %s AND batch_id = %s", self.verifier, provider, batch_id)
        return None if row is None else ReceiptBatch.from_json(row["shown"])

    def forget_batches(self, seconds: int) -> None:
        """Drop what was seen so long ago that nothing can be disputed about it."""
        for table in ("batch", "shown"):
            self._run(f"DELETE FROM verifier.{table} WHERE verifier = %s AND seen_at < now() - make_interval(secs => %s)", self.verifier, seconds)

    def place(self, provider: str, batch_id: int, number: int) -> Place | None:
        """Where a receipt lies and who served beside it, as far as batches were shown."""
        batch = self.batch(provider, batch_id)
        if batch is None or (index := batch.find(number)) is None:
            return None
        receipt = batch.receipts[index]
        served = self._all(
            "SELECT provider, first_layer, end_layer FROM verifier.receipt WHERE verifier = %s AND job_id = %s AND provider <> %s ORDER BY end_layer",
            self.verifier,
            receipt.job_id,
            provider,
        )
        # The last stage's tokens are what the first stage is fed.
        edge = receipt.first_layer or (served[-1]["end_layer"] if served else 0)
        before = [row["provider"] for row in served if row["end_layer"] == edge]
        return Place(batch, batch_id, index, before, [row["provider"] for row in served if row["first_layer"] == receipt.end_layer])

    def add_shown(self, signed: Sequence[Signed]) -> None:
        """Note checkpoints that a stage showed as those of the stage before it."""
        points = [(Checkpoint.from_json(entry.message), entry) for entry in signed]
        with self.pool.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO verifier.shown (verifier, checkpoint, provider, job_id, signed) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [(self.verifier, p.struct_hash(), p.provider, p.job_id, Jsonb(msgspec.to_builtins(entry))) for p, entry in points],
            )

    def contradictions(self) -> list[tuple[bytes, Accusation]]:
        """Shown checkpoints that exclude those which their signers' anchored receipts name, by hash; those that agree are not looked at again."""
        rows = self._all(
            "SELECT s.checkpoint, s.signed, r.provider, r.batch_id, r.number, r.checkpoint AS named FROM verifier.shown s "
            "JOIN verifier.receipt r USING (verifier, provider, job_id) WHERE verifier = %s AND NOT s.compared",
            self.verifier,
        )
        found = []
        for row in rows:
            if row["checkpoint"] == row["named"]:  # as with all that are honest
                self.mark_compared(row["checkpoint"])
                continue
            signed = msgspec.convert(row["signed"], Signed)
            batch = self.batch(row["provider"], row["batch_id"])
            index = None if batch is None else batch.find(row["number"])
            if batch is None or index is None:
                continue
            if Checkpoint.from_json(signed.message).contradicts(batch.checkpoints[index]):
                found.append((bytes(row["checkpoint"]), Accusation(signed, batch, row["batch_id"], index)))
            else:
                self.mark_compared(row["checkpoint"])
        return found

    def mark_compared(self, checkpoint: bytes) -> None:
        self._run("UPDATE verifier.shown SET compared = true WHERE verifier = %s AND checkpoint = %s", self.verifier, checkpoint)

    def epoch_signature(self, epoch: int) -> bytes:
        row = self._one("SELECT signature FROM verifier.epoch WHERE verifier = %s AND epoch = %s", self.verifier, epoch)
        return b"" if row is None else bytes(row["signature"])

    def lease(self) -> list[CheckKey]:
        """Take every check that waits or whose lease has run out."""
        rows = self._all(
            "UPDATE verifier.check SET lease_until = now() + make_interval(secs => %s) "
            "WHERE verifier = %s AND verdict IS NULL AND (lease_until IS NULL OR lease_until < now()) RETURNING provider, number, dispute_id",
            LEASE_SECONDS,
            self.verifier,
        )
        return [CheckKey(row["provider"], row["number"], row["dispute_id"]) for row in rows]

    def pending(self, key: CheckKey) -> dict[str, Any] | None:
        """A check that has no verdict yet; ``waited``: seconds since its evidence was first not to be had."""
        return self._one(
            f"SELECT *, COALESCE(extract(epoch FROM now() - first_failure), 0)::float AS waited FROM verifier.check WHERE {_KEY} AND verdict IS NULL",
            *self._key(key),
        )

    def committed(self, key: CheckKey, commitment: bytes, opening: bytes) -> None:
        self._run(f"UPDATE verifier.check SET commitment = %s, opening = %s WHERE {_KEY}", commitment, opening, *self._key(key))

    def finish(self, key: CheckKey, verdict: str, detail: dict[str, Any] | None) -> None:
        """Set the verdict and add its score to the provider's drift, once: a second worker's result for the same check counts for nothing."""
        sql = f"UPDATE verifier.check SET verdict = %s, detail = %s WHERE {_KEY} AND verdict IS NULL"
        with self.pool.connection() as connection:
            was_open = connection.execute(sql.encode(), (verdict, Jsonb(detail), *self._key(key))).rowcount
            if was_open and key.dispute_id in (DUTY, VOLUNTARY) and detail and "score" in detail:
                stage = (self.verifier, key.provider, detail["stage"])
                connection.execute("INSERT INTO verifier.drift VALUES (%s, %s, %s, 0, 0) ON CONFLICT DO NOTHING", stage)
                row: Any = connection.execute(f"SELECT total FROM verifier.drift WHERE {_STAGE} FOR UPDATE".encode(), stage).fetchone()
                total = cusum(row["total"], detail["score"])
                connection.execute(f"UPDATE verifier.drift SET total = %s, checks = checks + 1 WHERE {_STAGE}".encode(), (total, *stage))

    def distrusted(self) -> set[str]:
        """Providers that drift at any of their stages."""
        rows = self._all("SELECT DISTINCT provider FROM verifier.drift WHERE verifier = %s AND total >= %s", self.verifier, ALARM)
        return {row["provider"] for row in rows}

    def retry(self, key: CheckKey, reason: str) -> None:
        """Give the lease back, to be taken again shortly."""
        self._run(
            "UPDATE verifier.check SET lease_until = now() + make_interval(secs => %s), first_failure = COALESCE(first_failure, now()), "
            f"detail = %s WHERE {_KEY}",
            RETRY_SECONDS,
            Jsonb({"reason": reason}),
            *self._key(key),
        )

    def complete_epochs(self) -> list[int]:
        """Epochs that are not posted and whose duties are all done."""
        rows = self._all(
            "SELECT epoch FROM verifier.epoch e WHERE verifier = %s AND NOT posted AND NOT EXISTS (SELECT 1 FROM verifier.check c "
            "WHERE c.verifier = e.verifier AND c.epoch = e.epoch AND c.dispute_id = -1 AND c.verdict IS NULL) ORDER BY epoch",
            self.verifier,
        )
        return [int(row["epoch"]) for row in rows]

    def opening(self, epoch: int) -> DutyOpening:
        """What this verifier's root of the epoch is made of: its signature and the checks that are done."""
        rows = self._all(
            "SELECT * FROM verifier.check WHERE verifier = %s AND epoch = %s AND dispute_id = -1 AND verdict IS NOT NULL",
            self.verifier,
            epoch,
        )
        zero = bytes(32)
        results = (
            DutyResult(r["provider"], r["batch_id"], r["number"], r["verdict"], bytes(r["commitment"] or zero), bytes(r["opening"] or zero))
            for r in rows
        )
        return DutyOpening.of(self.epoch_signature(epoch), results)

    def mark_posted(self, epoch: int, posted: bool = True) -> None:
        self._run("UPDATE verifier.epoch SET posted = %s WHERE verifier = %s AND epoch = %s", posted, self.verifier, epoch)

    def forget_epoch(self, epoch: int) -> None:
        """Drop an epoch's draw and its duties, to be drawn again; results of receipts that are drawn again are lost with it."""
        with self.pool.connection() as connection:
            connection.execute("DELETE FROM verifier.check WHERE verifier = %s AND epoch = %s AND dispute_id < 0", (self.verifier, epoch))
            connection.execute("DELETE FROM verifier.epoch WHERE verifier = %s AND epoch = %s", (self.verifier, epoch))

    def unclaimed(self) -> list[int]:
        rows = self._all("SELECT epoch FROM verifier.epoch WHERE verifier = %s AND posted AND NOT claimed ORDER BY epoch", self.verifier)
        return [int(row["epoch"]) for row in rows]

    def mark_claimed(self, epoch: int) -> None:
        self._run("UPDATE verifier.epoch SET claimed = true WHERE verifier = %s AND epoch = %s", self.verifier, epoch)

    def to_dispute(self) -> list[dict[str, Any]]:
        """Duties that failed, lists that stayed hidden, and voluntary checks that found something, not disputed yet. Nobody owes rows to a voluntary
        check."""
        return self._all(
            "SELECT * FROM verifier.check WHERE verifier = %s AND NOT disputed AND (dispute_id = -1 AND verdict IN ('FAIL', 'WITHHELD') "
            "OR dispute_id = -2 AND verdict = 'FAIL' OR dispute_id = -3 AND verdict = 'WITHHELD')",
            self.verifier,
        )

    def mark_disputed(self, provider: str, number: int, of_list: bool = False) -> None:
        """A receipt, by whichever check of it, or a batch's list."""
        self._run(
            "UPDATE verifier.check SET disputed = true WHERE verifier = %s AND provider = %s AND number = %s AND of_list = %s",
            self.verifier,
            provider,
            number,
            of_list,
        )

    def verdict(self, key: CheckKey) -> str | None:
        row = self._one(f"SELECT verdict FROM verifier.check WHERE {_KEY}", *self._key(key))
        return None if row is None else row["verdict"]

    def add_statement(self, subject: str, epoch: int, value: str, signature: bytes) -> None:
        """Keep a signature on a subject; the first one stands, so that this verifier never says two things."""
        self._run(
            "INSERT INTO verifier.statement VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            self.verifier,
            subject,
            epoch,
            value,
            signature,
        )

    def statement(self, subject: str) -> dict[str, Any] | None:
        return self._one("SELECT epoch, value, signature FROM verifier.statement WHERE verifier = %s AND subject = %s", self.verifier, subject)

    def vouches(self, model_id: bytes) -> bool:
        """Whether this verifier has reproduced the model's table of tolerances."""
        said = self.statement(f"local/tolerance/{model_id.hex()}")
        return said is not None and said["value"] == "yes"

    def _key(self, key: CheckKey) -> tuple[object, ...]:
        return (self.verifier, key.provider, key.number, key.dispute_id)

    def _run(self, sql: str, *args: object) -> None:
        with self.pool.connection() as connection:
            connection.execute(sql.encode(), args)

    def _one(self, sql: str, *args: object) -> dict[str, Any] | None:
        with self.pool.connection() as connection:
            return connection.execute(sql.encode(), args).fetchone()  # type: ignore[return-value]

    def _all(self, sql: str, *args: object) -> list[dict[str, Any]]:
        with self.pool.connection() as connection:
            return list(connection.execute(sql.encode(), args).fetchall())  # type: ignore[arg-type]


_KEY = "verifier = %s AND provider = %s AND number = %s AND dispute_id = %s"
_SALE = "verifier = %s AND payer = %s AND gateway = %s AND model_id = %s"
_STAGE = "verifier = %s AND provider = %s AND stage = %s"
