"""PaymentEscrow and Settlement: deposits, limits and bonds, vouchers, payouts and refunds."""

from indexer.facts import Args, Place, Value, add, count, on
from indexer.rules.payments import pays


@on("PaymentEscrow.Deposited", deposit="payer", network="")
def _deposited(e: Args, _: Place, deposit: Value, network: Value) -> None:
    deposit["balance"] = e["balance"]
    add(deposit, "paidIn", e["amount"])
    add(network, "deposited", e["amount"])


@on("PaymentEscrow.ThawStarted", deposit="payer")
def _thaw(e: Args, _: Place, deposit: Value) -> None:
    deposit["thawing"], deposit["thawedAt"] = e["amount"], e["thawedAt"]


@on("PaymentEscrow.Withdrawn", deposit="payer", network="")
def _withdrawn(e: Args, _: Place, deposit: Value, network: Value) -> None:
    deposit["balance"], deposit["thawing"] = e["balance"], "0"
    add(deposit, "withdrawn", e["amount"])
    add(network, "withdrawn", e["amount"])


@on("PaymentEscrow.Refunded", deposit="payer", network="")
def _refunded(e: Args, _: Place, deposit: Value, network: Value) -> None:
    deposit["balance"] = e["balance"]
    add(deposit, "refunded", e["amount"])
    add(network, "refunded", e["amount"])


@on("PaymentEscrow.LimitSet", limit="payer gateway", deposit="payer")
def _limit(e: Args, place: Place, limit: Value, deposit: Value) -> None:
    holds = place.timestamp < limit.get("endsAt", 0)
    limit["anyModel"] = not e["models"] or (holds and limit["anyModel"])
    limit["models"] = sorted({*e["models"], *(limit.get("models", []) if holds else [])})
    limit.update(amountPerPeriod=e["amountPerPeriod"], period=e["period"], expiry=e["expiry"], revokedAt=0, reserved=e["reserved"])
    limit.update(periodEnd=place.timestamp + e["period"], endsAt=e["expiry"] + place.thaw_period)
    limit["room"] = str(int(e["amountPerPeriod"]) - int(e["reserved"]))
    deposit["balance"] = e["balance"]


@on("PaymentEscrow.SignaturesRequired", authorisation="payer gateway")
def _signatures(e: Args, _: Place, authorisation: Value) -> None:
    authorisation.update({"cumulative": "0", "taken": "0"} | authorisation | {"required": e["required"]})


@on("PaymentEscrow.Authorised", authorisation="payer gateway")
def _authorised(e: Args, _: Place, authorisation: Value) -> None:
    authorisation.update({"required": False, "taken": "0"} | authorisation | {"cumulative": e["cumulative"]})


@on("PaymentEscrow.LimitRevoked", limit="payer gateway")
def _revoked(e: Args, place: Place, limit: Value) -> None:
    limit["revokedAt"], limit["endsAt"] = place.timestamp, e["endsAt"]


@on("PaymentEscrow.ReserveTaken", limit="payer gateway", deposit="payer")
def _reserve(e: Args, place: Place, limit: Value, deposit: Value) -> None:
    limit["reserved"], deposit["balance"] = e["reserved"], e["balance"]
    if place.timestamp >= limit["endsAt"]:
        return  # the payer has taken back what was left
    limit["room"] = str(int(limit["amountPerPeriod"]) - int(e["reserved"]))
    limit["periodEnd"] += ((place.timestamp - limit["periodEnd"]) // limit["period"] + 1) * limit["period"]


@on("PaymentEscrow.BondAdded", bond="gateway", network="")
def _bond(e: Args, _: Place, bond: Value, network: Value) -> None:
    bond["balance"] = e["balance"]
    add(network, "bonded", e["amount"])


@on("PaymentEscrow.BondThawStarted", bond="gateway")
def _bond_thaw(e: Args, _: Place, bond: Value) -> None:
    bond["thawing"], bond["thawedAt"] = e["amount"], e["thawedAt"]


@on("PaymentEscrow.BondWithdrawn", bond="gateway", network="")
def _bond_withdrawn(e: Args, _: Place, bond: Value, network: Value) -> None:
    bond["balance"], bond["thawing"] = e["balance"], "0"
    add(network, "bonded", -int(e["amount"]))


@on("PaymentEscrow.BondAllocated", bond="gateway", allocation="gateway provider")
def _allocated(e: Args, _: Place, bond: Value, allocation: Value) -> None:
    bond["allocated"], allocation["amount"] = e["allocated"], e["amount"]


@on("PaymentEscrow.BondDebited", bond="gateway", allocation="gateway provider", network="")
def _debited(e: Args, _: Place, bond: Value, allocation: Value, network: Value) -> None:
    bond["balance"] = e["balance"]
    add(bond, "allocated", -int(e["amount"]))
    add(allocation, "amount", -int(e["amount"]))
    # The redemption that follows says how much was taken in all; this much of it was not the payer's.
    bond["debited"] = e["amount"]
    add(network, "bonded", -int(e["amount"]))


@on(
    "Settlement.VoucherRedeemed",
    bond="redemption.gateway",
    limit="payer redemption.gateway",
    deposit="payer",
    authorisation="payer redemption.gateway",
)
def _charged(e: Args, _: Place, bond: Value, limit: Value, deposit: Value, authorisation: Value) -> None:
    """As PaymentEscrow takes it: from the reserve, then from the payer's balance as far as there is room."""
    wanted = int(e["redemption"]["delta"]) - int(bond.pop("debited", "0"))
    if not wanted:
        return
    taken = min(wanted, int(limit["reserved"]))
    more = wanted - taken
    add(limit, "reserved", -taken)
    add(limit, "room", -more)
    add(deposit, "balance", -more)
    if authorisation.get("required"):
        add(authorisation, "taken", wanted)


@on("Settlement.VoucherRedeemed", stream="payer redemption.gateway provider modelId", held="provider modelId", network="")
def _redeemed(e: Args, _: Place, stream: Value, held: Value, network: Value) -> None:
    stream["redeemed"] = e["redemption"]["redeemed"]
    count(stream, "redemptions")
    add(held, "held", e["redemption"]["delta"])
    add(network, "redeemed", e["redemption"]["delta"])


@on(
    "Settlement.VoucherRedeemed",
    epoch_usage="@epoch payer redemption.gateway provider modelId",
    day_usage="@day payer redemption.gateway provider modelId",
)
def _used(e: Args, _: Place, by_epoch: Value, by_day: Value) -> None:
    for value in (by_epoch, by_day):
        add(value, "amount", e["redemption"]["delta"])
        count(value, "redemptions")


@on("Settlement.VoucherSkipped", network="")
def _skipped(_: Args, __: Place, network: Value) -> None:
    count(network, "vouchers_skipped")


@on("Settlement.Released", held="provider modelId", released="provider")
def _released(e: Args, _: Place, held: Value, released: Value) -> None:
    held["held"] = e["payout"]["held"]
    add(released, "released", e["payout"]["amount"])


@on("Settlement.PayerRefunded", held="provider modelId", released="provider", refund="provider payer modelId")
def _payer_refunded(e: Args, _: Place, held: Value, released: Value, refund: Value) -> None:
    add(held, "held", -int(e["paid"]))
    add(released, "released", e["paid"])
    add(refund, "paid", e["paid"])
    refund["stillDue"] = e["stillDue"]


pays("Settlement.Released", "provider", "provider", lambda e: int(e["payout"]["parts"]["provider"]) - int(e["payout"]["delegators"]))
pays("Settlement.Released", "provider", "delegators", lambda e: int(e["payout"]["delegators"]))
pays("Settlement.Released", "payout.royaltyTo", "royalty", lambda e: int(e["payout"]["parts"]["royalty"]))
pays("Settlement.VerifierPaid", "verifier", "verifier", lambda e: int(e["amount"]))
pays("Settlement.Swept", "'treasury'", "treasury", lambda e: int(e["toTreasury"]))
pays("Settlement.Swept", "'burned'", "burned", lambda e: int(e["burned"]))
