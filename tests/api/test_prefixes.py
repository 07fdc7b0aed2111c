"""Which beginnings the gateway takes for known: by the tokens themselves, block by block, and never another payer's."""

from api import prefixes
from api.prefixes import BLOCK, NOTHING, Prefixes
from protocol.wire import RouteStop

PAYER, MODEL = "0x" + "11" * 20, b"m" * 32
ROUTE = [RouteStop("0x" + "22" * 20, "0x" + "33" * 20, "grpcs://127.0.0.1:1", "0x", 0, 30)]
TOKENS = list(range(3 * BLOCK + 5))


def known(tokens: list[int] = TOKENS, job: bytes = b"j" * 32) -> Prefixes:
    found = Prefixes()
    found.keep(PAYER, MODEL, job, tokens, ROUTE)
    return found


def test_find__same_beginning__is_as_long_as_the_blocks_that_agree() -> None:
    found = known()
    assert found.find(PAYER, MODEL, [*TOKENS, 7, 8, 9]).tokens == 3 * BLOCK
    changed = [*TOKENS[: 2 * BLOCK + 1], 999, *TOKENS[2 * BLOCK + 2 :]]
    assert found.find(PAYER, MODEL, changed).tokens == 2 * BLOCK
    assert found.find(PAYER, MODEL, [999, *TOKENS]) is NOTHING
    assert found.find(PAYER, MODEL, TOKENS[: BLOCK - 1]) is NOTHING


def test_find__the_whole_prompt_is_known__leaves_a_token_to_be_run() -> None:
    assert known().find(PAYER, MODEL, TOKENS[: 2 * BLOCK]).tokens == BLOCK
    assert known().find(PAYER, MODEL, TOKENS[: 2 * BLOCK + 1]).tokens == 2 * BLOCK


def test_find__another_payer_or_model__has_nothing() -> None:
    assert known().find("0x" + "44" * 20, MODEL, TOKENS) is NOTHING
    assert known().find(PAYER, b"n" * 32, TOKENS) is NOTHING


def test_keep__shared_beginning__the_newest_job_has_it_and_the_rest_stays_with_the_older() -> None:
    found = known()
    found.keep(PAYER, MODEL, b"k" * 32, TOKENS[: BLOCK + 3], ROUTE)
    assert found.find(PAYER, MODEL, [*TOKENS[:BLOCK], 999]).job_id == b"k" * 32
    assert found.find(PAYER, MODEL, TOKENS).job_id == b"j" * 32
    found.forget(b"k" * 32)
    assert found.find(PAYER, MODEL, TOKENS).job_id == b"j" * 32
    assert found.find(PAYER, MODEL, [*TOKENS[:BLOCK], 999]) is NOTHING
    found.forget(b"never seen")


def test_keep__more_jobs_than_are_kept__the_oldest_go() -> None:
    found = known()
    for i in range(prefixes.MOST_JOBS):
        found.keep(PAYER, MODEL, i.to_bytes(32), [1_000_000 + i] * BLOCK, ROUTE)
    assert found.find(PAYER, MODEL, TOKENS) is NOTHING
    assert found.find(PAYER, MODEL, [1_000_000] * (BLOCK + 1)).job_id == bytes(32)
