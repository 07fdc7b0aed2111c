"""A provider lies on purpose in a job whose payer signed for it, and in no other: nobody could open the plant for it afterwards."""

from dataclasses import replace
from pathlib import Path

from funcnet.network import Network
from funcnet.plants import note
from protocol.disputes import DisputeReader
from protocol.plants import sign_consent
from protocol.receipts import SessionOffer
from protocol.vectors import counted
from provider.planting import Planting
from tests.signatures import twin


def test_plant__whose_payer_did_not_sign_as_the_contract_wants_it__is_not_carried(network: Network, tmp_path: Path) -> None:
    chain, provider, payer = network.chain, network.address("provider-1"), network.wallet("creator").account()
    plant = note(chain, network.wallet("treasury").account(), payer, provider, tmp_path / "plant.json")
    offer: SessionOffer = replace(counted(SessionOffer, 1), payer=payer.address, provider=provider)
    consents = {
        "another's": sign_consent(chain, network.wallet("treasury").account(), plant.digest),
        "to another plant": sign_consent(chain, payer, bytes(32)),
        "in the upper half": twin(plant.consent),
        "none": b"",
    }
    for name, consent in consents.items():
        folder = tmp_path / name
        folder.mkdir()
        replace(plant, consent=consent).write(folder / "plant.json")
        planting = Planting(chain, network.wallet("provider-1-operator").account(), provider, folder, DisputeReader(chain))
        assert planting.choose(offer) is None, name
        assert not list(folder.glob("*.job")), name
    planting = Planting(chain, network.wallet("provider-1-operator").account(), provider, tmp_path, DisputeReader(chain))
    assert planting.choose(replace(offer, payer=provider)) is None
    assert planting.choose(offer) == plant
    assert planting.choose(offer) == plant
    assert planting.choose(replace(offer, job_id=b"\x07" * 32)) is None
