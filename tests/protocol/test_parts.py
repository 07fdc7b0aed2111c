"""Units, structures, keystores, settings, frames, duties: each with its bad input."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak

from protocol import BadSignature, KeystoreError, SettingsError
from protocol.duties import DutyOpening, DutyResult, is_drawn
from protocol.keystore import LIGHT_SCRYPT_N, create_keystore, read_account, read_keystore
from protocol.receipts import RouteUpdate, StageReceipt, Voucher, job_cost
from protocol.settings import GatewaySettings, ProviderSettings
from protocol.typed import Signed, TypedStruct, receipts_domain, settlement_domain
from protocol.units import FUNC, LayerRange, format_func
from protocol.vectors import counted
from protocol.wire import Frame, Kind
from tests.signatures import twin

DOMAIN = settlement_domain(31337, "0x" + "11" * 20)


@pytest.mark.parametrize("text", ["", "5", "10-5", "5-5", "a-b", "-1-4"])
def test_layer_range__malformed__names_the_text(text: str) -> None:
    with pytest.raises(ValueError, match=f"layers '{text}'"):
        LayerRange.parse(text)


def test_layer_range__parsed__holds_its_layers() -> None:
    layers = LayerRange.parse("10-20")
    assert 10 in layers
    assert 20 not in layers
    assert str(layers) == "10-20"


def test_format_func__wei__is_cut_never_rounded_up() -> None:
    assert format_func(1_999_999_999_999_999_999) == "1.999999 FUNC"
    assert format_func(-FUNC * 1_000) == "-1,000.000000 FUNC"


def test_job_cost__rounds_against_the_provider() -> None:
    assert job_cost(1, 0, 0, 999_999, 0, 0) == 0
    assert job_cost(10, 4, 3, 1_000_000, 500_000, 2_000_000) == 6 + 2 + 6


def test_typed__signed__recovers_and_another_domain_does_not() -> None:
    account = Account.create()
    voucher: Voucher = counted(Voucher, 1)
    signature = voucher.sign(DOMAIN, bytes(account.key))
    voucher.require_signer(DOMAIN, signature, account.address)
    with pytest.raises(BadSignature, match="is signed by"):
        voucher.require_signer(settlement_domain(1, DOMAIN.contract), signature, account.address)
    with pytest.raises(BadSignature, match="malformed"):
        voucher.signer(DOMAIN, b"short")


def test_typed__signed_as_no_contract_takes_it__is_refused() -> None:
    account = Account.create()
    voucher: Voucher = counted(Voucher, 1)
    digest, signature = voucher.digest(DOMAIN), voucher.sign(DOMAIN, bytes(account.key))
    assert voucher.signer(DOMAIN, signature) == account.address
    other, bit, zero = twin(signature), signature[64] - 27, bytes(32)
    cases = {
        "upper half": [other],
        "65 bytes": [signature[:64] + bytes([last]) for last in (bit, 35 + bit, 29)] + [signature[:64], signature + b"\0", b""],
        "malformed": [zero + signature[32:], signature[:32] + zero + signature[64:], b"\xff" * 32 + signature[32:]],
    }
    for words, bad in cases.items():
        for case in bad:
            with pytest.raises(BadSignature, match=words):
                voucher.signer(DOMAIN, case)
    # It is the same key's, and other libraries say so.
    assert {Account._recover_hash(digest, signature=both) for both in (signature, other)} == {account.address}


def test_typed__json__round_trips_with_wide_integers() -> None:
    receipt: StageReceipt = counted(StageReceipt, 2**60)
    assert StageReceipt.from_json(receipt.to_json()) == receipt
    assert Signed.of(receipt, b"\x01" * 65).signature_bytes == b"\x01" * 65


@pytest.mark.parametrize(("field", "value"), [("cumulative", -1), ("cumulative", 2**128), ("modelId", "0x12"), ("payer", "0x1")])
def test_typed__json_with_a_bad_field__names_it(field: str, value: object) -> None:
    body = {**counted(Voucher, 1).to_json(), field: value}
    with pytest.raises(ValueError, match=f"Voucher.{field}"):
        Voucher.from_json(body)


def test_keystore__made__is_private_and_opens(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    secret = create_keystore(path, "password", work=LIGHT_SCRYPT_N)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_keystore(path, "password") == secret
    assert secret.hex() not in path.read_text()
    with pytest.raises(FileExistsError):
        create_keystore(path, "password", work=LIGHT_SCRYPT_N)


def test_keystore__open_to_others_wrong_password_or_missing__says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    create_keystore(path, "password", work=LIGHT_SCRYPT_N)
    with pytest.raises(KeystoreError, match="does not open"):
        read_keystore(path, "wrong")
    path.chmod(0o644)
    with pytest.raises(KeystoreError, match="chmod 600"):
        read_account(path, "password")
    with pytest.raises(KeystoreError, match="no keystore at"):
        read_keystore(tmp_path / "none", "x")


def test_settings__faults__are_all_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCNET_PORT", "70000")
    monkeypatch.setenv("FUNCNET_THREADS", "none")
    with pytest.raises(SettingsError) as caught:
        ProviderSettings.load()
    assert "FUNCNET_PORT" in str(caught.value)
    assert "FUNCNET_THREADS" in str(caught.value)


def test_settings__flag_environment_and_file__in_that_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('layers = "0-5"\nport = 1\nowner = "file"\n')
    monkeypatch.setenv("FUNCNET_SETTINGS", str(file))
    monkeypatch.setenv("FUNCNET_PORT", "2")
    settings = ProviderSettings.load(layers="0-7", owner=None)
    assert (settings.layers, settings.port, settings.owner) == ("0-7", 2, "file")


def test_settings__secrets__do_not_print() -> None:
    settings = GatewaySettings.load(key_pepper="very-secret")
    assert "very-secret" not in repr(settings)


def test_settings__binds_to_loopback_by_default() -> None:
    assert GatewaySettings.load().host == "127.0.0.1"


def test_frame__encoded__round_trips() -> None:
    frame = Frame(Kind.ROWS, b"j" * 32, b"\x00\x01\x02", "float32", 1, 2, 3, 4, 5, 6)
    assert Frame.decode(frame.encode()) == frame


@pytest.mark.parametrize("raw", [b"", b"\x01" * 10, b"\x09" + Frame(Kind.ROWS, b"j" * 32).encode()[1:], Frame(Kind.ROWS, b"j" * 32).encode() + b"x"])
def test_frame__not_ours__is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="frame"):
        Frame.decode(raw)


def test_is_drawn__rate_covers_all__always_and_none_never() -> None:
    leaf = keccak(b"leaf")
    assert all(is_drawn(keccak(bytes([i])), "0x" + "11" * 20, 0, leaf, 3_000_000, 1, 3) for i in range(50))
    assert not any(is_drawn(keccak(bytes([i])), "0x" + "11" * 20, 0, leaf, 0, 1, 3) for i in range(50))


def test_is_drawn__half__is_about_half() -> None:
    hits = sum(is_drawn(keccak(i.to_bytes(4, "big")), "0x" + "11" * 20, 0, keccak(b"leaf"), 500_000, 1, 1) for i in range(2000))
    assert 880 < hits < 1120


def test_duty_root__order_of_results__does_not_matter_but_a_verdict_does() -> None:
    a = DutyResult("0x" + "11" * 20, 0, 1, "PASS", bytes(32), bytes(32))
    b = DutyResult("0x" + "11" * 20, 0, 2, "PASS", bytes(32), bytes(32))
    changed = DutyResult("0x" + "11" * 20, 0, 2, "FAIL", bytes(32), bytes(32))
    assert DutyOpening.of(b"s", [a, b]).root() == DutyOpening.of(b"s", [b, a]).root()
    roots = [DutyOpening.of(s, r).root() for s, r in ((b"s", [a, b]), (b"s", [a, changed]), (b"t", [a, b]), (b"s", [a]), (b"s", []))]
    assert len(set(roots)) == len(roots)


def test_duty_opening__as_json__is_the_same_again_and_finds_a_result() -> None:
    a, b = (DutyResult("0x" + "11" * 20, 0, number, "FAIL", keccak(b"c"), keccak(b"o")) for number in (1, 2))
    opening = DutyOpening.from_json(DutyOpening.of(b"s", [b, a]).to_json())
    assert opening == DutyOpening.of(b"s", [a, b])
    found = opening.find(b.provider, 2)
    assert found is not None and found[0] == b
    assert opening.find(b.provider, 3) is None
    with pytest.raises(ValueError, match="MAYBE"):
        DutyResult(a.provider, 0, 1, "MAYBE", bytes(32), bytes(32)).encode()


@pytest.mark.parametrize("struct", TypedStruct.__subclasses__(), ids=lambda struct: struct.TYPE_NAME)
def test_typed__each_structure__hashes_as_eth_account_does(struct: type[TypedStruct]) -> None:
    domain = receipts_domain(31337, "0x" + "1f" * 20)
    value = counted(struct, 3)
    fields = {"name": domain.name, "version": "1", "chainId": domain.chain_id, "verifyingContract": domain.contract}
    expected = encode_typed_data(fields, {struct.TYPE_NAME: struct.members()}, value.message())
    assert value.struct_hash() == expected.body
    assert value.digest(domain) == keccak(b"\x19\x01" + expected.header + expected.body)


@pytest.mark.parametrize("change", [{"epoch": -1}, {"epoch": 2**64}, {"route_hash": b"short"}, {"job_id": b"x" * 33}, {"epoch": "1"}])
def test_typed__value_out_of_its_type__is_not_hashed(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is no"):
        replace(counted(RouteUpdate, 1), **change).struct_hash()
