"""The pages as their users meet them: in a headless Chromium, against the shared network."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from eth_account.messages import encode_defunct
from playwright.sync_api import Browser, Page, expect

from funcnet.network import Network
from tests.browser import browser

SHOTS = Path(".funcnet/screenshots")
DESKTOP, PHONE = {"width": 1200, "height": 800}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    SHOTS.mkdir(parents=True, exist_ok=True)
    with browser() as opened:
        yield opened


@pytest.fixture
def page(chromium: Browser, network: Network) -> Iterator[Page]:
    """A page that fails the test on a script's error or a request to another host."""
    context = chromium.new_context(viewport=DESKTOP)  # type: ignore[arg-type]
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    own = urlsplit(network.gateway_url).netloc
    page.on("request", lambda request: faults.append(request.url) if urlsplit(request.url).netloc not in (own, "") else None)
    yield page
    context.close()
    assert faults == []


def open_chat(page: Page, network: Network) -> None:
    page.goto(f"{network.gateway_url}/#key={network.api_key}")
    expect(page.locator("#model option")).to_have_count(1)
    assert network.api_key not in page.url


def say(page: Page, words: str) -> None:
    page.fill("#ask", words)
    page.press("#ask", "Enter")


def fits(page: Page) -> bool:
    """No sideways scrolling."""
    return bool(page.locator("html").evaluate("node => node.scrollWidth <= node.clientWidth"))


def test_chat__answer__streams_shows_its_cost_and_becomes_verified(page: Page, network: Network) -> None:
    open_chat(page, network)
    page.fill("#tokens", "30")
    page.fill("#temperature", "0")
    say(page, "Name three colours.")
    expect(page.locator("#stop")).to_be_visible()
    # Of stages that have served much not every epoch is drawn from, and an answer of one that is not stays anchored.
    for turns in range(1, 7):
        answer = page.locator(".turn.assistant").last
        expect(answer.locator(".cost")).to_contain_text("FUNC", timeout=60_000)
        expect(answer.locator(".text")).not_to_be_empty()
        expect(answer.locator(".badge")).to_have_attribute("data-status", re.compile("anchored|verified"), timeout=60_000)
        with contextlib.suppress(AssertionError):
            expect(answer.locator(".badge")).to_have_attribute("data-status", "verified", timeout=20_000)
            break
        say(page, f"Name {turns + 3} others.")
    expect(answer.locator(".badge")).to_have_attribute("data-status", "verified")
    page.screenshot(path=SHOTS / "chat-light.png")
    answer.locator(".badge").click()
    expect(page.locator("#receipt-body tbody tr")).to_have_count(3)
    with page.expect_download() as download:
        page.click("#receipt-body a")
    assert network.api_key not in Path(download.value.path()).read_text()
    page.screenshot(path=SHOTS / "receipt.png")
    page.click("#close")
    page.reload()
    expect(page.locator(".turn")).to_have_count(2 * turns)
    page.click("#theme")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.reload()
    assert fits(page)
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.screenshot(path=SHOTS / "chat-dark-phone.png")
    say(page, "Now only the one that you like best.")
    expect(page.locator(".turn.assistant .under").last).to_contain_text("cached", timeout=60_000)


def test_chat__stopped__keeps_what_came_and_is_billed_for_it(page: Page, network: Network) -> None:
    open_chat(page, network)
    page.fill("#system", "You are a story teller.")
    say(page, "Tell me a very long story about a sailor.")
    text = page.locator(".turn.assistant .text")
    expect(text).to_contain_text(re.compile(r"\w+ \w+"), timeout=60_000)
    page.click("#stop")
    expect(page.locator(".under")).to_contain_text("stopped")
    expect(page.locator(".cost")).not_to_have_text("0 FUNC", timeout=30_000)
    assert text.inner_text()
    expect(page.locator("#send")).to_be_visible()


def test_chat__wrong_key__says_so(page: Page, network: Network) -> None:
    page.goto(network.gateway_url)
    page.fill("#key", "fn-mistyped")
    page.locator("#key").blur()
    expect(page.locator("#key:invalid")).to_have_count(1)
    say(page, "Hello")
    expect(page.locator(".fault")).to_contain_text("well-formed")


def test_network_page__shows_stages_jobs_batches_and_checks(page: Page, network: Network) -> None:
    page.goto(f"{network.gateway_url}/network")
    expect(page.locator(".stage")).to_have_count(len(network.plans))
    for listing in ("providers", "verifiers", "jobs", "batches", "checks"):
        expect(page.locator(f"#{listing} tbody tr").first).to_be_visible()
    expect(page.locator("#disputes")).to_contain_text("No provider was ever accused")
    # All checks, not those of the rows that are shown.
    least = sum(verifier["checks"] for verifier in network.indexed("/v1/verifiers")["data"])
    told = page.locator("#figures .figure", has_text="checks by verifiers").locator("b")
    network.wait(lambda: int(told.inner_text()) >= least, 20, "the page's figure")
    page.screenshot(path=SHOTS / "network-light.png", full_page=True)
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert fits(page)
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=SHOTS / "network-dark-phone.png", full_page=True)


def with_wallet(page: Page, network: Network, name: str) -> None:
    """Give the page what a wallet's extension gives it, with the key of one of the network's parties."""
    account = network.wallet(name).account()
    page.expose_function("signText", lambda text: "0x" + bytes(account.sign_message(encode_defunct(hexstr=text)).signature).hex())
    page.add_init_script(
        "window.ethereum = { request: async ({ method, params }) => "
        f"method === 'eth_requestAccounts' ? ['{account.address.lower()}'] : await window.signText(params[0]) }};"
    )


def test_keys_page__wallet__signs_in_makes_and_gives_away_keys(page: Page, network: Network) -> None:
    with_wallet(page, network, "payer")
    page.goto(f"{network.gateway_url}/keys")
    page.click("#in")
    expect(page.locator("#inside")).to_be_visible()
    page.fill("#name", "from the page")
    page.fill("#budget", "0.5")
    page.select_option("#period", "day")
    page.click("#create button")
    row = page.locator("#keys tr", has_text="from the page")
    expect(row).to_contain_text("0.5 FUNC")
    secret = page.locator("#secret").inner_text()
    assert secret.startswith("fn-")
    row.get_by_text("Rotate").click()
    expect(page.locator("#made-title")).to_contain_text("new secret")
    assert page.locator("#secret").inner_text() != secret
    page.fill("#count", "1")
    page.click("#sponsor button")
    expect(page.locator("#sponsorships tr", has_text="workshop")).to_contain_text("0 of 1")
    code = page.locator("#secret").inner_text()
    page.screenshot(path=SHOTS / "keys-light.png", full_page=True)
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert fits(page)
    page.screenshot(path=SHOTS / "keys-phone.png", full_page=True)
    page.once("dialog", lambda dialog: dialog.accept())
    row.get_by_text("Revoke").click()
    expect(row).to_have_count(0)
    page.click("#out")
    expect(page.locator("#outside")).to_be_visible()
    # Somebody without a wallet takes the code, and asks something with what it gives.
    page.fill("#code", code)
    page.click("#claim button")
    expect(page.locator("#made-title")).to_contain_text("Your key")
    page.click("#try")
    expect(page.locator("#model option")).to_have_count(1)
    page.goto(f"{network.gateway_url}/keys")
    page.fill("#code", code)
    page.click("#claim button")
    expect(page.locator("#fault")).to_contain_text("all of its keys are claimed")


def test_keys_page__no_wallet__says_what_to_do(page: Page, network: Network) -> None:
    page.goto(f"{network.gateway_url}/keys")
    page.click("#in")
    expect(page.locator("#fault")).to_contain_text("funcnet key login")
