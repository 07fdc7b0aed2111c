"""Parts of the network are killed while they work: streams go on, nothing is billed twice, nothing that was acknowledged is lost."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import psycopg
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from funcnet import FuncnetError
from funcnet.network import Network
from protocol.receipts import StageReceipt
from tests.network.asking import ask, extra, providers_asked_afresh, receipts_of

STORY = [{"role": "user", "content": "Tell me a very long story."}]


@pytest.fixture(scope="module")
def client(network: Network) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)


USUAL: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def usual(network: Network) -> None:
    """The stages that the tests here break serve the story, also after another that stood in for one has its rows."""
    USUAL["provider"] = {"order": [network.address(f"provider-{i}") for i in (1, 2, 3)]}


def tell(client: openai.OpenAI, **options: Any) -> Any:
    return ask(client, messages=STORY, extra_body=USUAL, **options)


@pytest.fixture(scope="module")
def story(client: openai.OpenAI) -> list[int]:
    """The tokens of the story when nothing breaks."""
    return list(extra(tell(client, max_tokens=60))["token_ids"])


def job_of(network: Network, job_id: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {network.api_key}"}
    return dict(requests.get(f"{network.gateway_url}/v1/receipts/{job_id}", headers=headers, timeout=10).json())


def settled(network: Network, job_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        try:
            job = job_of(network, job_id)
        except requests.RequestException:
            return None
        return job if job.get("state") in ("done", "failed") and job.get("unsettled") == 0 else None

    return dict(network.wait(look, 60, f"the settlement of {job_id}"))


def tell_story(client: openai.OpenAI, at: int, then: Any) -> tuple[str, dict[str, Any]]:
    """Stream the story and do something after ``at`` chunks; (job id, what the last chunk says)."""
    told: dict[str, Any] = {}
    job_id = ""
    for count, chunk in enumerate(tell(client, max_tokens=60, stream=True)):
        job_id = chunk.id.removeprefix("chatcmpl-")
        if count == at:
            then()
        told = dict((chunk.model_extra or {}).get("function_network") or told)
    return job_id, told


@pytest.fixture(scope="module")
def stand_ins() -> list[StageReceipt]:
    """Receipts of stages that took over, as the tests of this module see them."""
    return []


def replacements(network: Network) -> float:
    """Streams that went on with other stages, as the gateway counts them."""
    text = requests.get(f"{network.gateway_url}/metrics", headers={"authorization": f"Bearer {network.secrets['admin']}"}, timeout=10).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return next(sample.value for sample in samples if sample.name == "funcnet_gateway_replacement_seconds_count")


def wait_served_by(network: Network, client: openai.OpenAI, name: str) -> None:
    """The gateway passes a provider over after a failure until it answers again."""

    def serves() -> bool:
        try:
            return network.address(name) in providers_asked_afresh(client)
        except openai.APIError:
            return False

    network.wait(serves, 30, f"work for {name}")


def conserved(network: Network) -> None:
    """Every voucher stream is the sum of its receipts, or of checks, nothing stays reserved, and what keys spent is what jobs were charged."""
    with psycopg.connect(network.database_url) as connection:

        def one(sql: str) -> Any:
            row = connection.execute(sql.encode()).fetchone()
            assert row is not None
            return row[0]

        network.wait(lambda: one("SELECT count(*) FROM api.leg WHERE state IN ('open', 'asked')") == 0, 60, "an end for every leg")
        network.wait(lambda: one("SELECT sum(reserved) FROM api.key") == 0, 30, "the release of every reservation")
        issued = one("SELECT COALESCE(sum(cumulative), 0) FROM api.voucher")
        checks = one("SELECT COALESCE(sum(amount), 0) FROM api.check")
        assert issued == checks + one("SELECT COALESCE(sum(amount), 0) FROM api.leg WHERE state = 'closed'")
        assert issued == one("SELECT sum(spent) FROM api.key")
        assert issued == one("SELECT sum(issued) FROM api.payer")
        assert issued == one("SELECT sum(charged) FROM api.job")
        assert one("SELECT sum(reserved) FROM api.payer") == 0


# The stage that is killed, the spare that takes over, and after how many chunks.
KILLS = [
    ("provider-2", "spare", 1),
    pytest.param("provider-2", "spare", 20, marks=pytest.mark.slow),
    pytest.param("provider-1", "spare-first", 20, marks=pytest.mark.slow),
    pytest.param("provider-3", "spare-last", 20, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "spare", "at"), KILLS)
def test_provider__killed_in_mid_stream__a_spare_takes_over_and_the_text_is_the_same(
    network: Network, client: openai.OpenAI, story: list[int], stand_ins: list[StageReceipt], name: str, spare: str, at: int
) -> None:
    counted = replacements(network)
    try:
        job_id, told = tell_story(client, at, lambda: network.supervisor.kill(name))
        assert replacements(network) == counted + 1
        assert told["token_ids"] == story
        assert told["replaced"] == [network.address(name)]
        served = {receipt.provider: receipt for receipt in receipts_of(told)}
        stand_in = served[network.address(spare)]
        stand_ins.append(stand_in)
        assert stand_in.epoch == 1
        assert stand_in.first_position > 0
        assert stand_in.cached_count == stand_in.prompt_tokens
        whole = [receipt for receipt in served.values() if receipt is not stand_in]
        assert [receipt.completion_tokens for receipt in whole] == [len(story)] * 2
    finally:
        network.heal()
        network.wait_provider(name)
        wait_served_by(network, client, name)
    job = settled(network, job_id)
    mine = [receipt for receipt in receipts_of(job) if receipt.provider == network.address(name)]
    # What it had countersigned before it died is paid once it is back, and no token is paid twice at one range of layers.
    assert len(mine) == 1 or (not mine and at == 1)
    assert sum(receipt.completion_tokens for receipt in mine) + stand_in.completion_tokens <= len(story)
    assert int(job["charged"]) == sum(receipt.amount for receipt in receipts_of(job))


@pytest.mark.slow
def test_provider__lies_about_its_roots__both_sides_of_the_link_are_replaced_and_the_text_is_the_same(
    network: Network, client: openai.OpenAI, story: list[int]
) -> None:
    liar, neighbour = network.address("provider-1"), network.address("provider-2")
    network.restart_provider("provider-1", adversary="commits-to-others")

    def lied_to() -> dict[str, Any] | None:
        told = extra(tell(client, max_tokens=12))
        return told if liar in told["replaced"] else None

    try:
        told = network.wait(lied_to, 60, "a job that the liar was given")
        assert told["token_ids"] == story[:12]
        # Nobody but they can say who of the two it was.
        assert set(told["replaced"]) == {liar, neighbour}
        receipts = receipts_of(told)
        assert [receipt.provider for receipt in receipts] == [network.address(name) for name in ("spare-first", "spare", "provider-3")]
        assert int(told["cost"]) == sum(receipt.amount for receipt in receipts)
    finally:
        network.restart_provider("provider-1")
        for name in ("provider-1", "provider-2"):
            wait_served_by(network, client, name)
    conserved(network)


@pytest.mark.slow
def test_provider__hangs_in_mid_stream__a_spare_takes_over_and_the_old_one_is_fenced(
    network: Network, client: openai.OpenAI, story: list[int]
) -> None:
    try:
        _, told = tell_story(client, 20, lambda: network.supervisor.signal("provider-2", signal.SIGSTOP))
        assert told["token_ids"] == story
        assert told["replaced"] == [network.address("provider-2")]
    finally:
        network.supervisor.signal("provider-2", signal.SIGCONT)
        wait_served_by(network, client, "provider-2")


@pytest.mark.slow
def test_provider__asked_to_end_in_mid_stream__finishes_what_it_can__hands_the_rest_over_and_is_paid_before_it_goes(
    network: Network, client: openai.OpenAI
) -> None:
    agent, leaves = network.supervisor.processes["provider-2"], network.address("provider-2")
    expected = extra(tell(client, max_tokens=250))["token_ids"]
    stream = tell(client, max_tokens=250, stream=True)
    job_id = next(stream).id.removeprefix("chatcmpl-")
    next(stream)
    network.supervisor.signal("provider-2", signal.SIGTERM)
    assert leaves not in providers_asked_afresh(client)
    told = [extra(chunk) for chunk in stream if "function_network" in (chunk.model_extra or {})][-1]
    assert told["token_ids"] == expected
    assert told["replaced"] == [leaves]
    assert agent.wait(20) == 0
    paid = {receipt.provider: receipt for receipt in receipts_of(job_of(network, job_id))}
    assert 0 < paid[leaves].completion_tokens < 250
    assert paid[leaves].completion_tokens + paid[network.address("spare")].completion_tokens == 250
    assert network.chain.call("CommitmentLog", "lastNumber", leaves) >= paid[leaves].number
    network.start_provider("provider-2")
    network.wait_provider("provider-2")
    wait_served_by(network, client, "provider-2")


@pytest.mark.slow
def test_provider__killed_while_idle__the_next_job_goes_to_the_spare(network: Network, client: openai.OpenAI) -> None:
    network.supervisor.kill("provider-2")
    try:
        served = {receipt.provider for receipt in receipts_of(extra(ask(client)))}
        assert network.address("spare") in served
    finally:
        network.heal()
        network.wait_provider("provider-2")
        wait_served_by(network, client, "provider-2")


@pytest.mark.slow
def test_provider__idle_for_long__gives_its_memory_back_and_wakes_when_it_is_asked(network: Network, client: openai.OpenAI) -> None:
    name = "provider-2"
    network.restart_provider(name, unload_seconds=1)
    try:
        wait_served_by(network, client, name)
        said = ask(client, max_tokens=4, extra_body=USUAL).choices[0].message.content
        for times in (1, 2):  # it falls asleep again
            network.wait(lambda times=times: network.supervisor.tail(name, 2000).count("sleeps until it is asked") >= times, 30, "its sleep")
            held = resident(network, name)
            answer = ask(client, max_tokens=4, extra_body=USUAL)
            assert network.address(name) in {receipt.provider for receipt in receipts_of(extra(answer))}
            assert answer.choices[0].message.content == said
            assert resident(network, name) > held
    finally:
        network.restart_provider(name)
        wait_served_by(network, client, name)


def resident(network: Network, name: str) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{network.supervisor.processes[name].pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
def test_provider__killed_without_a_spare__is_an_error_event_and_the_tokens_so_far_are_billed(network: Network, client: openai.OpenAI) -> None:
    seen: list[Any] = []
    network.supervisor.kill("spare")
    try:
        with pytest.raises(openai.APIError, match="nobody can stand in") as caught:
            for chunk in tell(client, max_tokens=60, stream=True):
                seen.append(chunk)
                if len(seen) == 40:
                    network.supervisor.kill("provider-2")
        assert caught.value.code == "stage_failed"
        with pytest.raises(openai.InternalServerError, match="covers layers 0-30") as refused:
            ask(client)
        assert refused.value.status_code == 503
        assert refused.value.response.headers["retry-after"]
    finally:
        network.heal()
        network.wait_provider("provider-2")
        network.wait_provider("spare")
        wait_served_by(network, client, "provider-2")
    job = settled(network, seen[0].id.removeprefix("chatcmpl-"))
    assert job["state"] == "failed"
    by_layers = {str(receipt.layers): receipt.completion_tokens for receipt in receipts_of(job)}
    assert by_layers["0-10"] == by_layers["20-30"] == job["completion_tokens"]
    # The stage that died is paid up to its last countersigned checkpoint.
    assert 0 < by_layers["10-20"] <= job["completion_tokens"]


@pytest.mark.slow
def test_gateway__asked_to_end_in_mid_stream__finishes_the_answer_and_takes_no_other(network: Network, client: openai.OpenAI) -> None:
    seen: list[Any] = []
    try:
        for chunk in tell(client, max_tokens=40, stream=True):
            seen.append(chunk)
            if len(seen) == 10:
                network.supervisor.signal("gateway", signal.SIGTERM)
                network.wait(lambda: not reachable(f"{network.gateway_url}/livez"), 5, "the closed door")
        told = seen[-1].model_extra["function_network"]
        assert len(told["token_ids"]) == 40
        assert told["settled"] is True
    finally:
        network.wait(lambda: network.supervisor.processes["gateway"].poll() is not None, 20, "the gateway's end")
        network.heal()
        network.wait(lambda: reachable(f"{network.gateway_url}/readyz"), 60, "the gateway")


def test_gateway__killed_in_mid_stream__bills_what_came_once_it_is_back(network: Network, client: openai.OpenAI) -> None:
    seen: list[Any] = []
    with pytest.raises((openai.APIError, httpx2.HTTPError)):
        for chunk in tell(client, max_tokens=60, stream=True):
            seen.append(chunk)
            if len(seen) == 20:
                network.supervisor.kill("gateway")
    network.heal()
    network.wait(lambda: reachable(f"{network.gateway_url}/readyz"), 60, "the gateway")
    job = settled(network, seen[0].id.removeprefix("chatcmpl-"))
    assert job["state"] == "failed"
    assert len({receipt.completion_tokens for receipt in receipts_of(job)}) == 1
    assert len(job["receipts"]) == 3
    assert 15 < job["completion_tokens"] < 60
    conserved(network)


def reachable(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False


@pytest.mark.slow
def test_database__killed_in_mid_stream__the_stream_goes_on_and_is_billed_once_it_is_back(
    network: Network, client: openai.OpenAI, story: list[int]
) -> None:
    try:
        job_id, told = tell_story(client, 10, network.kill_database)
        assert told["token_ids"] == story
        with pytest.raises(openai.InternalServerError) as refused:
            ask(client)
        assert refused.value.status_code == 503
        assert refused.value.response.headers["retry-after"]
    finally:
        network.heal()
    job = settled(network, job_id)
    assert job["state"] == "done"
    assert [receipt.completion_tokens for receipt in receipts_of(job)] == [len(story)] * 3
    network.wait(lambda: reachable(f"{network.indexer_url}/readyz"), 60, "the indexer")
    conserved(network)


class Load:
    """Jobs one after another in a thread, as long as the block lasts."""

    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client
        self.jobs: list[str] = []
        self.faults: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.5):
            try:
                self.jobs.append(extra(ask(self.client, max_tokens=8))["job_id"])
            except openai.APIError as error:
                self.faults.append(str(error))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.slow
def test_parts__killed_one_after_another_under_load__serving_goes_on_and_all_jobs_are_verified(network: Network, client: openai.OpenAI) -> None:
    with Load(client) as load:
        for name in ("indexer", "verifier-1", "verifier-1-worker", "chain"):
            before = len(load.jobs)
            network.supervisor.kill(name)
            deadline = time.monotonic() + 60
            while len(load.jobs) < before + 2 and not load.faults:
                assert time.monotonic() < deadline, f"no jobs without {name}"
                time.sleep(0.2)
            assert network.heal() == [name]
            time.sleep(2)
    jobs = load.jobs
    assert load.faults == []

    def verified() -> bool:
        try:
            return all(network.indexed(f"/v1/jobs/{job_id}")["status"] == "verified" for job_id in jobs)
        except FuncnetError:
            return False

    network.wait(verified, 120, f"the verification of {jobs}")
    conserved(network)


def test_worker__half_written_message__begins_anew(network: Network) -> None:
    """kombu's filesystem transport writes and reads without a lock between; Celery ends over what it cannot decode."""
    worker = network.supervisor.processes["verifier-1-worker"]
    (network.root / "verifier-1" / "broker" / "queue" / "0_half.replay-verifier-1.msg").touch()
    network.wait(lambda: "begins anew" in network.supervisor.tail("verifier-1-worker", 400), 30, "a new begin of the worker")
    assert network.supervisor.processes["verifier-1-worker"] is worker
    assert worker.poll() is None


@pytest.mark.parametrize("layers", ["10-20", pytest.param("20-30", marks=pytest.mark.slow)])
def test_stand_ins__replayed_by_verifiers__pass_from_the_first_row_they_served(network: Network, stand_ins: list[StageReceipt], layers: str) -> None:
    found = [receipt for receipt in stand_ins if str(receipt.layers) == layers]
    assert found
    with psycopg.connect(network.database_url, autocommit=True) as connection:
        for receipt in found:
            key = (receipt.provider, receipt.number)

            def verdicts(key: tuple[str, int] = key) -> set[str]:
                rows = connection.execute("SELECT verdict FROM verifier.check WHERE provider = %s AND number = %s AND verdict IS NOT NULL", key)
                return {row[0] for row in rows}

            assert network.wait(verdicts, 60, f"a check of the stand-in's receipt {key}") == {"PASS"}
    assert network.indexed("/v1/disputes")["data"] == []
