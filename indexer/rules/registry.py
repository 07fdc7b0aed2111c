"""ProviderRegistry and ModelRegistry: providers, their GPUs and offers, models."""

from indexer.facts import Args, Place, Value, count, on

ACTIVE = 1


@on("ProviderRegistry.ProviderRegistered", provider="provider", operator="operator", network="")
def _registered(e: Args, place: Place, provider: Value, operator: Value, network: Value) -> None:
    provider.update(operator=e["operator"], endpoint=e["endpoint"], tlsCertHash=e["tlsCertHash"], jailedUntil=0, registeredAt=place.timestamp)
    operator["provider"] = e["provider"]
    count(network, "providers")


@on("ProviderRegistry.EndpointChanged", provider="provider")
def _endpoint(e: Args, _: Place, provider: Value) -> None:
    provider["endpoint"], provider["tlsCertHash"] = e["endpoint"], e["tlsCertHash"]


@on("ProviderRegistry.RotationStarted", provider="provider")
def _rotation(e: Args, _: Place, provider: Value) -> None:
    provider["rotation"] = {"operator": e["operator"], "from": e["from"]}


@on("ProviderRegistry.OperatorChanged", provider="provider", operator="operator")
def _operator(e: Args, _: Place, provider: Value, operator: Value) -> None:
    # The former operator's signatures stay the provider's.
    provider["operator"], operator["provider"] = e["operator"], e["provider"]
    provider.pop("rotation", None)


@on("ProviderRegistry.ProviderJailed", provider="provider")
def _jailed(e: Args, _: Place, provider: Value) -> None:
    provider["jailedUntil"] = e["until"]


@on("ProviderRegistry.ProviderUnjailed", provider="provider")
def _unjailed(_: Args, __: Place, provider: Value) -> None:
    provider["jailedUntil"] = 0


@on("ProviderRegistry.GpuRegistered", gpu="provider gpuId", network="")
def _gpu(e: Args, _: Place, gpu: Value, network: Value) -> None:
    gpu.update({name: e[name] for name in ("model", "vram", "bandwidth", "score", "attestationHash")}, active=True)
    count(network, "gpus")


@on("ProviderRegistry.GpuRetired", gpu="provider gpuId", network="")
def _gpu_retired(_: Args, __: Place, gpu: Value, network: Value) -> None:
    gpu["active"] = False
    count(network, "gpus", -1)


@on("ProviderRegistry.OfferMade", offer="provider offerId", network="")
def _offer(e: Args, _: Place, offer: Value, network: Value) -> None:
    offer.update(e["offer"])
    count(network, "offers")


@on("ProviderRegistry.OfferWithdrawn", offer="provider offerId", network="")
def _offer_withdrawn(_: Args, __: Place, offer: Value, network: Value) -> None:
    offer["active"] = False
    count(network, "offers", -1)


@on("ModelRegistry.ModelRegistered", model="modelId", network="")
def _model(e: Args, _: Place, model: Value, network: Value) -> None:
    model.update(e["model"])
    count(network, "models")


@on("ModelRegistry.ModelDeprecated", model="modelId")
def _deprecated(e: Args, _: Place, model: Value) -> None:
    model["deprecatedFrom"] = e["from"]


@on("ModelRegistry.TolerancePublished", model="modelId")
def _tolerance(e: Args, _: Place, model: Value) -> None:
    # Attested tolerances hold until the new ones are attested.
    model["pendingTolerance" if model["toleranceAttested"] else "toleranceRoot"] = e["toleranceRoot"]


@on("ModelRegistry.ToleranceAttested", model="modelId")
def _attested(e: Args, _: Place, model: Value) -> None:
    model["toleranceRoot"], model["toleranceAttested"] = e["toleranceRoot"], True
    model.pop("pendingTolerance", None)


@on("ModelRegistry.PayoutChanged", model="modelId")
def _payout(e: Args, _: Place, model: Value) -> None:
    model["payout"] = e["payout"]
