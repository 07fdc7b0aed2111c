"""FuncToken, Staking, RewardPool: balances, stakes, delegations, slashes, emission."""

from indexer.facts import Args, Place, Value, add, count, on
from indexer.rules.payments import pays

NOBODY = "0x0000000000000000000000000000000000000000"


@on("FuncToken.Transfer", balance="from")
def _sent(e: Args, _: Place, balance: Value) -> None:
    if e["from"] != NOBODY:
        add(balance, "balance", -int(e["value"]))


@on("FuncToken.Transfer", balance="to")
def _received(e: Args, _: Place, balance: Value) -> None:
    if e["to"] != NOBODY:
        add(balance, "balance", e["value"])


@on("FuncToken.Transfer", network="")
def _supply(e: Args, _: Place, network: Value) -> None:
    if e["from"] == NOBODY:
        add(network, "supply", e["value"])
    if e["to"] == NOBODY:
        add(network, "supply", -int(e["value"]))
        add(network, "burned", e["value"])


@on("Staking.Staked", stake="account", network="")
def _staked(e: Args, _: Place, stake: Value, network: Value) -> None:
    stake["active"] = e["active"]
    add(network, "staked", e["amount"])


@on("Staking.Delegated", stake="account", delegation="account delegator", network="")
def _delegated(e: Args, _: Place, stake: Value, delegation: Value, network: Value) -> None:
    stake["delegated"] = e["delegated"]
    add(delegation, "paidIn", e["amount"])
    add(network, "delegated", e["amount"])


@on("Staking.UnbondingStarted", stake="account", delegation="account delegator", network="")
def _unbonding(e: Args, _: Place, stake: Value, delegation: Value, network: Value) -> None:
    # The last member is what stays: of one's own stake, or of the pool.
    own = e["account"] == e["delegator"]
    stake["active" if own else "delegated"] = e["active"]
    if not own:
        add(delegation, "takenOut", e["amount"])
    add(delegation, "unbonding", e["amount"])
    delegation["releaseAt"] = e["releaseAt"]
    add(network, "staked" if own else "delegated", -int(e["amount"]))


@on("Staking.Withdrawn", delegation="account delegator")
def _withdrawn(e: Args, _: Place, delegation: Value) -> None:
    add(delegation, "withdrawn", e["amount"])


@on("Staking.PoolEarned", stake="account", network="")
def _pool_earned(e: Args, _: Place, stake: Value, network: Value) -> None:
    stake["delegated"] = e["delegated"]
    add(network, "delegated", e["amount"])


@on("Staking.CommissionSet", stake="account")
def _commission(e: Args, _: Place, stake: Value) -> None:
    stake["commissionBps"], stake["commissionFrom"] = e["bps"], e["from"]


@on("Staking.FrozenChanged", stake="account")
def _frozen(e: Args, _: Place, stake: Value) -> None:
    stake["frozen"], stake["holds"] = e["frozen"], e["holds"]


@on("Staking.Slashed", stake="account", slash="account @block @log", network="")
def _slashed(e: Args, place: Place, stake: Value, slash: Value, network: Value) -> None:
    cut = e["slash"]
    active = int(stake.get("active", "0")) - int(cut["active"])
    delegated = int(stake.get("delegated", "0")) - int(cut["delegated"])
    stake["active"], stake["delegated"] = cut["active"], cut["delegated"]
    stake["frozen"] = str(min(int(stake.get("frozen", "0")), int(cut["remaining"])))
    add(stake, "slashed", cut["amount"])
    slash.update(amount=cut["amount"], awarded=cut["awarded"], fromPool=cut["fromPool"], beneficiary=e["beneficiary"], epoch=place.epoch)
    add(network, "staked", -active)
    add(network, "delegated", -delegated)
    add(network, "slashed", cut["amount"])


@on("RewardPool.Funded", network="")
def _funded(e: Args, _: Place, network: Value) -> None:
    network["unallocated"] = e["unallocated"]


@on("RewardPool.EmissionSet", network="")
def _emission(e: Args, _: Place, network: Value) -> None:
    network["emission"] = e["emission"]


@on("RewardPool.CutRecorded", cut="epoch provider", budget="epoch")
def _cut(e: Args, _: Place, cut: Value, budget: Value) -> None:
    cut["cut"], budget["cut"] = e["cut"], e["total"]


@on("RewardPool.EpochClosed", budget="epoch", network="")
def _closed(e: Args, _: Place, budget: Value, network: Value) -> None:
    budget["budget"], budget["closed"] = e["budget"], True
    network["unallocated"] = e["unallocated"]


@on("RewardPool.RewardClaimed", cut="epoch provider", budget="epoch", network="")
def _claimed(e: Args, _: Place, cut: Value, budget: Value, network: Value) -> None:
    add(budget, "cut", -int(cut["cut"]))
    add(budget, "budget", -int(e["amount"]))
    if budget["cut"] == "0":
        # What rounding left goes back to the pool.
        add(network, "unallocated", budget["budget"])
        budget["budget"] = "0"
    cut["cut"], cut["claimed"] = "0", e["amount"]


pays("RewardPool.RewardClaimed", "provider", "emission", lambda e: int(e["amount"]) - int(e["toDelegators"]))
pays("RewardPool.RewardClaimed", "provider", "delegators", lambda e: int(e["toDelegators"]))


@on("Staking.Burned", network="")
def _burned(e: Args, _: Place, network: Value) -> None:
    count(network, "burns")
