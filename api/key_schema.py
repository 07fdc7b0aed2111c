"""What the administration of keys, management keys, sponsorships and models takes."""

from datetime import datetime
from typing import Annotated, Any, Literal

from eth_utils import is_checksum_address, is_checksum_formatted_address, to_checksum_address
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from api import BadRequest
from api.keys import Policy
from api.schema import MaxPrice, to_wei


def _with_zone(time: datetime, about: ValidationInfo) -> datetime:
    if time.tzinfo is None:
        raise BadRequest(f"'{about.field_name}' is {time.isoformat()} without a time zone; end it with Z or +00:00", about.field_name)
    return time


def _checksummed(address: str, about: ValidationInfo) -> str:
    if is_checksum_formatted_address(address) and not is_checksum_address(address):
        raise BadRequest(f"'{about.field_name}' is {address}, whose capitals do not fit its checksum; it may be mistyped", about.field_name)
    return to_checksum_address(address)


Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$"), AfterValidator(_checksummed)]
Moment = Annotated[datetime, AfterValidator(_with_zone)]
"""With its zone, since it could else mean any."""
Wei = Annotated[str, Field(pattern=r"^\d{1,60}$")]
PERIODS = {"hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}


class KeyPolicy(BaseModel):
    """What a key may do; what is left out or null has no limit. ``budget``: wei as a decimal string, in all or in each ``budget_period``."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=200)] = "default"
    budget: Wei | None = None
    budget_period: Literal["hour", "day", "week", "month"] | None = None
    models: list[str] | None = None
    expires_at: Moment | None = None
    max_price: MaxPrice | None = None
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    def to_policy(self) -> Policy:
        price = self.max_price or MaxPrice()
        return Policy(
            None if self.budget is None else int(self.budget),
            None if self.budget_period is None else PERIODS[self.budget_period],
            self.models,
            self.expires_at,
            to_wei(price.prompt),
            to_wei(price.completion),
            self.requests_per_minute,
        )


class KeyRequest(KeyPolicy):
    """``POST /v1/keys``. ``payer``: whose deposit pays; a management key's own where none is given."""

    payer: Address | None = None


class KeyChange(KeyPolicy):
    """``PATCH /v1/keys/{id}``: what is given is changed, null takes a limit away, what is left out stays."""

    def changes(self) -> dict[str, Any]:
        """The members of the policy that were given."""
        columns = {"budget_period": ("period_seconds",), "max_price": ("most_input", "most_output")}
        policy = self.to_policy()._asdict()
        given = [column for name in self.model_fields_set - {"name"} for column in columns.get(name, (name,))]
        return {column: policy[column] for column in given}


class Rotation(BaseModel):
    """``POST /v1/keys/{id}/rotate``."""

    model_config = ConfigDict(extra="forbid")
    grace_seconds: Annotated[int, Field(ge=0, le=30 * 86_400)] = 3600


class ChallengeRequest(BaseModel):
    """``POST /v1/auth/challenge``."""

    model_config = ConfigDict(extra="forbid")
    address: Address


class SignIn(BaseModel):
    """``POST /v1/auth/sign-in``. ``signature``: of the challenge's message, as wallets sign text (EIP-191)."""

    model_config = ConfigDict(extra="forbid")
    nonce: Annotated[str, Field(max_length=64)]
    signature: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{130}$")]


class ManagementKeyRequest(BaseModel):
    """``POST /v1/management-keys``. ``payer``: the caller's own where none is given."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=200)] = "default"
    payer: Address | None = None
    expires_at: Moment | None = None


class SponsorshipRequest(KeyPolicy):
    """``POST /v1/sponsorships``: a policy for each of ``keys`` keys, good for ``key_days``, that whoever has the code may claim until
    ``expires_at``. ``budget``: of each key, and required: it is what the sponsor gives away."""

    budget: Wei
    payer: Address | None = None
    keys: Annotated[int, Field(ge=1, le=10_000)]
    key_days: Annotated[int, Field(ge=1, le=366)] = 30

    def key_policy(self) -> dict[str, Any]:
        """The members that are the keys' own, as JSON."""
        return self.model_dump(mode="json", exclude={"name", "payer", "keys", "key_days", "expires_at"})


class Claim(BaseModel):
    """``POST /v1/sponsorships/claim``."""

    model_config = ConfigDict(extra="forbid")
    code: Annotated[str, Field(max_length=200)]


class ModelRequest(BaseModel):
    """``POST /v1/models``. ``folder``: a prepared model folder on the gateway's machine."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=96)]
    folder: str
