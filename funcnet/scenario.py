"""The demo's scenario: a job from prompt to payout, then a cheat from lie to slash. Every figure comes from the network's own answers."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from openai import OpenAI, OpenAIError

from funcnet import FuncnetError
from funcnet.network import DELEGATION, Network
from protocol.disputes import Status
from protocol.units import FUNC, format_func

CHEAT = "provider-2"
STAGES = ("provider-1", "provider-2", "provider-3")
ANCHOR_SECONDS, VERIFY_SECONDS, PAY_SECONDS, VERDICT_SECONDS = 40, 90, 150, 180
DRAW_SECONDS = 30
"""By then an epoch has closed and its duties are replayed."""


@dataclass
class Answer:
    """What one chat completion gave."""

    text: str
    tokens: list[int]
    job_id: str
    cost: int
    receipts: list[dict[str, Any]]
    usage: dict[str, int]


@dataclass
class Scenario:
    """Runs the steps in order on a network that is up; ``report`` is what ``--json`` prints."""

    network: Network
    prompt: str
    max_tokens: int
    step: Callable[[str], None]
    piece: Callable[[str], None]
    report: dict[str, Any] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    summary: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    _asked: float = 0.0

    def run(self) -> None:
        """All steps. Raises FuncnetError at the first that did not happen."""
        self.serve_and_compare()
        self.wait_verified(self.answers[0])
        self.catch_the_cheat()
        self.serve_with_spare()
        self.wait_paid()
        self.close_the_books()

    # steps

    def serve_and_compare(self) -> None:
        self.step("a job over three stages, streamed to the official openai client")
        self.answers.append(self.chat())
        answer = self.answers[0]
        self.step(
            f"{len(answer.tokens)} tokens for {format_func(answer.cost)} over {len(answer.receipts)} signed receipts; comparing with generate()"
        )
        reference = self.reference()
        identical = answer.tokens == reference["tokens"] and answer.text == reference["text"]
        served = {entry["receipt"]["message"]["provider"] for entry in answer.receipts}
        if served != {self.network.address(name) for name in STAGES}:
            raise FuncnetError(f"the first job was served by {served}, not by {', '.join(STAGES)}")
        self.report |= {"text": answer.text, "tokens": len(answer.tokens), "identical_to_generate": identical}
        if not identical:
            raise FuncnetError(f"the text differs from generate(): {answer.text!r} against {reference['text']!r}")

    def wait_verified(self, answer: Answer) -> None:
        self.step("waiting for the receipts to be anchored and replayed by the verifiers")
        self.network.wait(lambda: self.job(answer)["status"] in ("anchored", "verified"), ANCHOR_SECONDS, "anchoring")
        self.network.wait(lambda: self.job(answer)["status"] == "verified", VERIFY_SECONDS, "verification of the first job")

    def catch_the_cheat(self) -> None:
        self.network.wait_attested()
        self.step(f"restarting {CHEAT} with int8 weights; it still claims float32")
        self.network.restart_provider(CHEAT, adversary="int8-weights")
        self.answers.append(self.chat())
        served = {entry["receipt"]["message"]["provider"] for entry in self.answers[1].receipts}
        if self.network.address(CHEAT) not in served:
            raise FuncnetError("the second job was not served by the cheat, so there is nothing to catch")
        self.step("the cheat has served; verifiers replay, dispute and judge")
        self._asked = time.monotonic()
        self.network.wait(self._judged_at_last, VERDICT_SECONDS, "the verdict")
        self.step("the committee has convicted; the accused appeals to the full set, for a larger bond")
        self.network.appeal(CHEAT, self._judged()[0]["dispute_id"])
        self.network.wait(
            lambda: [d for d in self.disputes() if d["status"] == Status.GUILTY], VERDICT_SECONDS, "the full set's verdict to be carried out"
        )
        self.network.wait(lambda: self.provider(CHEAT)["jailed"], ANCHOR_SECONDS, "the cheat's jailing")

    def serve_with_spare(self) -> None:
        self.step("the spare takes over layers 10-20")
        self.network.wait(self._routed_around, ANCHOR_SECONDS, "a route around the cheat")
        self.answers.append(self.chat())
        served = {entry["receipt"]["message"]["provider"] for entry in self.answers[2].receipts}
        if self.network.address("spare") not in served or self.network.address(CHEAT) in served:
            raise FuncnetError(f"the third job was served by {served}, not by the spare")
        if self.answers[2].tokens != self.answers[0].tokens:
            raise FuncnetError("the spare gave other tokens than the first job's honest stages")

    def wait_paid(self) -> None:
        self.step("waiting for the windows to pass and the payouts")
        wanted = {("provider", self.network.address(name)) for name in STAGES}
        wanted |= {("verifier", self.network.address(f"verifier-{i}")) for i in range(1, self.network.verifiers + 1)}
        self.network.wait(lambda: sum(self.network.chain.call("Settlement", "sweepable")), PAY_SECONDS, "something for the treasury")
        wanted |= {("royalty", self.network.address("creator")), ("treasury", "treasury")}
        self.network.sweep()
        wanted |= {("delegators", self.network.address(STAGES[0])), ("emission", self.network.address(STAGES[0]))}
        self.network.wait(
            lambda: wanted <= {(r["kind"], r["account"]) for r in self.rewards() if int(r["amount"])}, PAY_SECONDS, "payment of all parties"
        )

    def close_the_books(self) -> None:
        self.step("closing the books")
        head = self.network.chain.head()
        self.network.wait(lambda: self.network.indexed("/v1/status")["block"]["number"] >= head, ANCHOR_SECONDS, "the indexer's catching up")
        network, rewards = self.network, self.rewards()
        totals = network.indexed("/v1/network")
        names = self.names()
        disputes = [d for d in self.disputes() if d["status"] == Status.GUILTY and int(d["slashed"])]
        slashed = [
            {
                "provider": d["provider"],
                "name": names.get(d["provider"], "?"),
                "stage": f"{d['receipt']['firstLayer']}-{d['receipt']['endLayer']}",
                "reason": {1: "output differs from the replay", 2: "list of receipts hidden", 3: "evidence withheld"}[d["kind"]],
                "appealed_by": names.get(d["appellant"], None),
                "amount": d["slashed"],
                "tx": d["closed_tx"],
            }
            for d in disputes
        ]
        cheat = network.address(CHEAT)
        by_indexer = {p["provider"] for p in network.indexed("/v1/providers")["data"] if int(p["slashed"])}
        paid: dict[str, int] = {}
        for row in rewards:
            if row["account"].startswith("0x") and row["kind"] != "delegators":
                paid[row["account"]] = paid.get(row["account"], 0) + int(row["amount"])
        paid[network.address("treasury")] = sum(int(r["amount"]) for r in rewards if r["kind"] == "treasury")
        self.report |= {
            "jobs": len(network.indexed("/v1/jobs")["data"]),
            "batches": totals["batches"],
            "checks": totals["checks"],
            "slashed": slashed,
            "honest_slashed": sorted(({s["provider"] for s in slashed} | by_indexer) - {cheat}),
            "paid": {account: str(amount) for account, amount in paid.items()},
            "royalty": str(sum(int(r["amount"]) for r in rewards if r["kind"] == "royalty")),
            "delegation": {"paid_in": str(DELEGATION * FUNC), "worth": str(self.network.delegation())},
            "conserved": self.conserved(),
        }
        self.summary = self.summarise(rewards, slashed)
        if {s["provider"] for s in slashed} != {cheat} or self.report["honest_slashed"]:
            raise FuncnetError(f"slashed were {[s['name'] for s in slashed]}, it should be {CHEAT} alone")
        if not self.report["conserved"]:
            raise FuncnetError("the balances do not add up to the supply less what was burned")
        if self.network.delegation() <= DELEGATION * FUNC:
            raise FuncnetError("the delegator has earned nothing")

    def summarise(self, rewards: list[dict[str, Any]], slashed: list[dict[str, Any]]) -> list[tuple[str, str, str, str, str]]:
        """Rows of the closing table: who, role, what was done, FUNC, transaction."""
        names, rows = self.names(), []
        payments = {(r["account"], r["kind"]): r for r in rewards}
        for provider in sorted(self.network.indexed("/v1/providers")["data"], key=lambda one: names[one["provider"]]):
            layers = ", ".join(f"{o['firstLayer']}-{o['endLayer']}" for o in provider["offers"])
            paid = payments.get((provider["provider"], "provider"), {"amount": "0", "newest_tx": "-"})
            did = f"layers {layers}: {provider['receipts']} receipts"
            rows.append((names[provider["provider"]], "provider", did, format_func(int(paid["amount"])), paid["newest_tx"]))
        for (account, kind), paid in sorted(payments.items(), key=lambda entry: (entry[0][1], names.get(entry[0][0], ""))):
            if kind in ("royalty", "verifier", "treasury", "emission", "delegators"):
                did = f"{paid['payments']} payments"
                rows.append((names.get(account, account), kind, did, format_func(int(paid["amount"])), paid["newest_tx"]))
        for entry in slashed:
            rows.append((entry["name"], "slashed", f"layers {entry['stage']}: {entry['reason']}", format_func(-int(entry["amount"])), entry["tx"]))
        for usage in self.network.indexed("/v1/usage")["data"]:
            did = f"{usage['jobs']} jobs, {usage['prompt_tokens']} + {usage['completion_tokens']} tokens"
            rows.append((names.get(usage["payer"], usage["payer"]), "payer", did, format_func(-int(usage["amount"])), "-"))
        return rows

    # answers

    def chat(self) -> Answer:
        """One streamed completion by the official client."""
        client = OpenAI(base_url=f"{self.network.gateway_url}/v1", api_key=self.network.api_key, max_retries=0, timeout=120)
        text, extra, usage = "", {}, {}
        try:
            stream = client.chat.completions.create(
                model=self.network.model_dir.name,
                messages=[{"role": "user", "content": self.prompt}],
                max_tokens=self.max_tokens,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    text += chunk.choices[0].delta.content
                    self.piece(chunk.choices[0].delta.content)
                if chunk.usage:
                    usage = chunk.usage.model_dump(include={"prompt_tokens", "completion_tokens"})
                    extra = dict((chunk.model_extra or {})["function_network"])
        except OpenAIError as error:
            raise FuncnetError(f"the gateway did not complete the job: {error}") from error
        self.piece("\n")
        if len(extra.get("receipts", [])) != len(STAGES):
            raise FuncnetError(f"{len(extra.get('receipts', []))} receipts came for {len(STAGES)} stages")
        return Answer(text, extra["token_ids"], extra["job_id"], int(extra["cost"]), extra["receipts"], usage)

    def reference(self) -> dict[str, Any]:
        """transformers' own answer on the unsplit model, in a process of its own."""
        request = {"messages": [{"role": "user", "content": self.prompt}], "max_tokens": self.max_tokens}
        command = [sys.executable, "-m", "inference.reference", str(self.network.model_dir)]
        done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
        if done.returncode:
            raise FuncnetError(f"the reference run failed: {done.stderr[-800:]}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def _judged_at_last(self) -> list[dict[str, Any]]:
        """The same; the lottery leaves out a job of a provider with a record now and then, so the cheat is given more while nobody accuses it."""
        if not self.disputes() and time.monotonic() - self._asked > DRAW_SECONDS:
            self.step("no verifier drew that job; another one for the cheat")
            self._asked = time.monotonic()
            self.chat()
        return self._judged()

    def _judged(self) -> list[dict[str, Any]]:
        """The cheat's disputes that wait for an appeal."""
        return [d for d in self.disputes() if d["status"] == Status.JUDGED and d["provider"] == self.network.address(CHEAT)]

    def job(self, answer: Answer) -> dict[str, Any]:
        found = [j for j in self.network.indexed("/v1/jobs")["data"] if j["job_id"] == answer.job_id]
        return found[0] if found else {"status": "unknown"}

    def disputes(self) -> list[dict[str, Any]]:
        return list(self.network.indexed("/v1/disputes")["data"])

    def rewards(self) -> list[dict[str, Any]]:
        return list(self.network.indexed("/v1/rewards")["data"])

    def provider(self, name: str) -> dict[str, Any]:
        return next(p for p in self.network.indexed("/v1/providers")["data"] if p["provider"] == self.network.address(name))

    def names(self) -> dict[str, str]:
        """Who is who, for people."""
        parties = ["creator", "delegator", "payer", "gateway", "treasury", *(p.name for p in self.network.plans)]
        parties += [f"verifier-{i}" for i in range(1, self.network.verifiers + 1)]
        return {self.network.address(name): name for name in parties}

    def _routed_around(self) -> bool:
        offers = self.network.chain.call("ProviderRegistry", "offersFor", self.network.manifest.model_id)
        listed = {offer[0] for offer in offers}
        time.sleep(2.2)  # the gateway's view of the offers is at most this old
        return self.network.address(CHEAT) not in listed

    def conserved(self) -> bool:
        """Whether all balances sum to the supply less what was burned, and each contract's ledger equals its balance, at one block."""
        chain = self.network.chain
        holders = self.network.indexed("/v1/holders")["data"]
        token = chain["FuncToken"].functions
        block = chain.web3.eth.block_number
        balances = sum(token.balanceOf(holder).call(block_identifier=block) for holder in holders)
        supply = token.totalSupply().call(block_identifier=block)
        burned = sum(
            event["args"]["value"]
            for event in chain["FuncToken"]
            .events.Transfer()
            .get_logs(from_block=chain.deployment.from_block, to_block=block, argument_filters={"to": "0x" + "00" * 20})
        )
        initial = token.INITIAL_SUPPLY().call()
        ledgers = all(
            chain[name].functions.ledger().call(block_identifier=block) == token.balanceOf(chain.address(name)).call(block_identifier=block)
            for name in ("Staking", "RewardPool", "PaymentEscrow", "Disputes")
        )
        return balances == supply == initial - burned and ledgers
