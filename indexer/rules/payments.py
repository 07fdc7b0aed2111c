"""Payments: each is a reward of somebody, counted in all and by the epoch of its block."""

from collections.abc import Callable

from indexer.facts import Args, Place, Value, add, count, on

PAYEES = ("provider", "delegators", "emission", "royalty", "verifier", "treasury", "burned")
"""Kinds of payment: to a provider for its work, to the pool of its delegators, from the emission, to a model's creator, to a verifier, to the
treasury, and what is burned."""


def pays(event: str, account: str, kind: str, amount: Callable[[Args], int]) -> None:
    """An event pays: ``account`` is the path of who is paid, ``amount`` what, in wei. Nothing is no payment."""
    assert kind in PAYEES

    @on(event, reward=f"{account} '{kind}'", epoch_reward=f"@epoch {account} '{kind}'", network="")
    def paid(e: Args, place: Place, reward: Value, by_epoch: Value, network: Value) -> None:
        wei = amount(e)
        if not wei:
            return
        for value in (reward, by_epoch):
            add(value, "amount", wei)
            count(value, "payments")
        add(network, f"paid_{kind}", wei)
