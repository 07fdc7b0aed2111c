"""Plant one fault at a time in the money paths of a copy, and require that the tests notice each.

A mutant is a file, a text that occurs once in it, and what it becomes. A survivor is a gap in the tests; a text that is no longer there is a
mutant to write anew. Ends with 0 only if every one was killed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[2]
STAKING, ESCROW, SETTLEMENT = "staking/Staking.sol", "market/PaymentEscrow.sol", "market/Settlement.sol"
SHARES = "libraries/ShareMath.sol"
DISPUTES, REWARDS, LOG, SET = "dispute/Disputes.sol", "staking/RewardPool.sol", "verify/CommitmentLog.sol", "verify/VerifierSet.sol"
PLANTS, ATTENDANCE, CONTRADICTIONS = "verify/Plants.sol", "dispute/Attendance.sol", "dispute/Contradictions.sol"

MUTANTS = (
    (STAKING, "require(active >= inFlight, FeesInFlight(inFlight));", "", "stake leaves under fees in flight"),
    (STAKING, "active -= uint96(amount);", "", "unbonding leaves the stake active"),
    (STAKING, "delete _own[msg.sender][buckets[i]];", "", "a bucket pays twice"),
    (STAKING, "delete _unbonding[account][msg.sender][buckets[i]];", "", "a delegator's bucket pays twice"),
    (STAKING, "return a.holds == 0 ? block.timestamp : a.frozenSince;", "return block.timestamp;", "stake leaves during a dispute"),
    (STAKING, "require(_endOf(bucket) <= asOf,", "require(_endOf(bucket) <= asOf + 1000,", "stake leaves early"),
    (STAKING, "uint96 part = uint96(Math.min(amount, active));", "uint96 part = 0;", "a slash spares the operator's active stake"),
    (STAKING, "Math.mulDiv(tokens, left, total, Math.Rounding.Ceil)", "Math.mulDiv(tokens, left, total + 1)", "a slash is not pro rata"),
    (STAKING, "_toBurn += taken - awarded;", "_toBurn += taken;", "the award is burned too"),
    (STAKING, "if (_accounts[account].frozen > s.remaining)", "if (false)", "more is frozen than there is"),
    (STAKING, "if (--a.holds == 0) (a.frozen, a.frozenSince) = (0, 0);", "--a.holds;", "a freeze does not end"),
    (STAKING, "uint64(block.timestamp) + (bps > now_ ? unbondingPeriod : 0)", "uint64(block.timestamp)", "a commission rises at once"),
    (SHARES, "mulDiv(shares, poolTokens + VIRTUAL_TOKENS,", "mulDiv(shares, poolTokens + 1 ether,", "shares pay too much"),
    (SHARES, "VIRTUAL_SHARES = 1e6;", "VIRTUAL_SHARES = 1;", "a first depositor inflates the price"),
    (ESCROW, "        d.balance -= uint96(amount);", "", "a withdrawal leaves the balance"),
    (ESCROW, "require(d.thawedAt <= block.timestamp, StillThawing(d.thawedAt));", "", "a deposit leaves before its thaw"),
    (ESCROW, "kept.reserved = r.reserved - uint88(amount);", "kept.reserved = r.reserved;", "a reserve is spent for ever"),
    (ESCROW, "r.room -= uint88(more);", "", "a period's limit has no end"),
    (ESCROW, "r.room = amount - r.reserved;", "r.room = amount;", "a period grants more than its limit"),
    (ESCROW, "if (block.timestamp >= r.endsAt) return false;", "", "an ended limit still pays"),
    (ESCROW, "require(allocated <= limit, InsufficientBalance(limit, allocated));", "", "a bond is allocated twice"),
    (ESCROW, "bond.balance -= taken;", "", "a spent bond remains"),
    (ESCROW, "require(bond.thawedAt <= block.timestamp, StillThawing(bond.thawedAt));", "", "a bond leaves before its thaw"),
    (SETTLEMENT, "if (v.cumulative <= redeemed) return Result.Stale;", "", "a voucher is redeemed again"),
    (SETTLEMENT, "|| signer != v.gateway) return", ") return", "anybody signs vouchers"),
    (SETTLEMENT, "redeemed += taken;", "redeemed = v.cumulative;", "an unfunded part is lost"),
    (SETTLEMENT, "uint96 gross = uint96(Math.min(h.gross, room));", "uint96 gross = h.gross;", "more is released than is anchored"),
    (SETTLEMENT, "require(staking.openDisputes(provider) == 0, DisputeOpen(provider));", "", "a payout runs from a dispute"),
    (SETTLEMENT, "net += p.parts.provider - p.delegators;", "net += p.parts.provider;", "delegators are paid twice"),
    (SETTLEMENT, "claimed[epoch][verifier] = true;", "", "a verifier is paid twice"),
    (SETTLEMENT, "require(!attendance.isDocked(epoch, msg.sender), Docked(msg.sender, epoch));", "", "an absent judge is paid"),
    (SETTLEMENT, "require(attendance.isDocked(epoch, verifier), NotDocked(verifier, epoch));", "", "anybody takes a verifier's pay away"),
    (SETTLEMENT, "pot[epoch] = 0;", "", "a pot is there twice"),
    (SETTLEMENT, "_setDue(h, debt, before, due - paid);", "_setDue(h, debt, before, 0);", "a refund that could not be paid is forgotten"),
    (DISPUTES, "uint96 rest = p.bond - _firstFee(disputeId);", "uint96 rest = p.bond;", "the fee is paid twice"),
    (DISPUTES, "status == Status.Expired;", "status != Status.Open;", "one fault is slashed twice"),
    (DISPUTES, "_refunded[claim.root][leaf] = true;", "", "a job is refunded twice"),
    (DISPUTES, "j.paid |= bit;", "", "a judge is paid twice"),
    (DISPUTES, "d.round == Round.Committee && msg.sender == _loser(d),", "d.round == Round.Committee,", "anybody appeals"),
    (DISPUTES, "return may ? _parameters[d.version].appealPeriod : 0;", "return 0;", "a verdict is carried out before its appeal"),
    (DISPUTES, "require(msg.sender == plants, NotAllowed(msg.sender));", "", "anybody calls a verdict off"),
    (PLANTS, "++r.missed;\n        return true;", "++r.missed;\n        return given == Answer.Silent;", "passing a plant costs nothing"),
    (PLANTS, "if (r.debt == _terms.spared) return true;", "", "deciding nothing costs nothing"),
    (PLANTS, "if (r.debt != 0) --r.debt;", "", "who finds most is fined for what it cannot check"),
    (PLANTS, "uint96 bounty = again ? 0 : _terms.bounty;", "uint96 bounty = _terms.bounty;", "a bounty is paid twice"),
    (PLANTS, "p.planter = address(0);", "", "a bounty is taken back twice"),
    (PLANTS, "require(p.notedAt < b.anchoredAt, NotedTooLate(p.notedAt, b.anchoredAt));", "", "a lie that was found becomes a plant"),
    (PLANTS, "require(fault == ECDSA.RecoverError.NoError && signer == payer, NoConsent(payer));", "", "a plant shields a lie to a stranger"),
    (PLANTS, "require(!again || p.leaf == leaf, AnotherReceipt(hash));", "", "a plant shields two receipts"),
    (DISPUTES, "kind == Kind.Hidden || models.isAttested", "models.isAttested", "hiding a list costs nothing"),
    (DISPUTES, "leaf == _leafOfList(receipt.provider, b.firstNumber)", "true", "one hidden list is slashed many times"),
    (CONTRADICTIONS, "proven[provider][number] = true;", "", "one contradiction is slashed again"),
    (CONTRADICTIONS, "registry.providerOf(signer) == provider", "true", "anybody signs a provider's contradiction"),
    (CONTRADICTIONS, "CheckpointLib.samePlace(signed, named) && differ", "differ", "checkpoints of two sessions contradict each other"),
    (CONTRADICTIONS, "&& differ, NoContradiction()", ", NoContradiction()", "a checkpoint signed again contradicts itself"),
    (CONTRADICTIONS, "== anchored.receipt.checkpoint && named.provider", "!= 0 && named.provider", "a checkpoint that no receipt names convicts"),
    (ATTENDANCE, "panel.seats & ~present[disputeId][d.round];", "panel.seats;", "a judge that voted loses its pay"),
    (ATTENDANCE, "require(msg.sender == address(disputes), NotAllowed(msg.sender));", "", "anybody docks judges"),
    (REWARDS, "delete _cuts[epoch][provider];", "", "a reward is claimed twice"),
    (REWARDS, "CAP_BPS = 9_000;", "CAP_BPS = 11_000;", "a provider is paid more than its cap"),
    (LOG, "require(block.timestamp > until, WindowOpen(until));", "", "a batch matures in its window"),
    (SET, "weight * 3 >= (weight + absentWeight) * 2", "weight * 2 >= weight + absentWeight", "half the weight is a quorum"),
)


def main() -> int:
    """Each mutant in a copy whose tests are linked at run time, so that only what a fault touches is compiled again."""
    started = time.monotonic()
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("contracts", "deploy", "protocol", "foundry.toml"):
            source = PROJECT / name
            shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy)
        (copy / "node_modules").symlink_to(PROJECT / "node_modules")
        (copy / "deployments").mkdir()
        if not _passes(copy):
            print("the tests fail without any fault; mend them first", file=sys.stderr)
            return 1
        for number, (name, text, fault, meaning) in enumerate(MUTANTS, 1):
            path = copy / "contracts/src" / name
            original = path.read_text()
            if original.count(text) != 1:
                print(f"{name} has {original.count(text)} times, not once: {text}", file=sys.stderr)
                return 1
            path.write_text(original.replace(text, fault))
            killed = not _passes(copy)
            path.write_text(original)
            print(f"{number:2} of {len(MUTANTS)}  {'killed  ' if killed else 'SURVIVED'}  {name}: {meaning}", flush=True)
            if not killed:
                survivors.append(meaning)
    print(f"{len(MUTANTS) - len(survivors)} of {len(MUTANTS)} mutants killed in {time.monotonic() - started:.0f} s")
    return int(bool(survivors))


def _passes(copy: Path) -> bool:
    environment = {**os.environ, "FOUNDRY_DYNAMIC_TEST_LINKING": "true", "FOUNDRY_FUZZ_RUNS": "32", "FOUNDRY_INVARIANT_RUNS": "4"}
    done = subprocess.run(["forge", "test", "--fail-fast"], cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if "Compiler run failed" in done.stdout + done.stderr:
        raise SystemExit(f"a mutant does not compile:\n{(done.stdout + done.stderr)[-1500:]}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
