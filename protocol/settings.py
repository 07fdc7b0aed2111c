"""All settings of all services: environment variables (FUNCNET_*), a TOML file (FUNCNET_SETTINGS), or flags that set the same names.

Secrets have a ``*_FILE`` twin that names a file holding them.
"""

import os
from decimal import Decimal
from pathlib import Path
from typing import Any, Self, TypeVar

from eth_utils import is_address, to_checksum_address
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from protocol import SettingsError
from protocol.chain import Chain, Deployment
from protocol.units import LayerRange

S = TypeVar("S", bound="NetworkSettings")
AUTO = "auto"


class NetworkSettings(BaseSettings):
    """What every service needs."""

    model_config = SettingsConfigDict(env_prefix="FUNCNET_", extra="ignore", populate_by_name=True)

    rpc_url: str = Field("http://127.0.0.1:8545", description="JSON-RPC address of the chain")
    deployment: Path = Field(Path("deployments/31337.json"), description="file that names the contracts' addresses")
    data_dir: Path = Field(Path(".funcnet"), description="where the service keeps its state")
    host: str = Field("127.0.0.1", description="address to bind to; loopback unless told otherwise")
    port: int = Field(0, ge=0, le=65535, description="port to bind to")
    keystore: Path | None = Field(None, description="keystore file of the service's hot key")
    keystore_password_file: Path | None = Field(None, description="file that holds the keystore's password")
    log_level: str = Field("INFO", description="least severe level to log")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = os.environ.get("FUNCNET_SETTINGS")
        return (init_settings, env_settings, *([TomlConfigSettingsSource(settings_cls, Path(file))] if file else []))

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Read all sources; flags that are None count as not given. Raises SettingsError that lists every fault at once."""
        try:
            return cls(**{name: value for name, value in flags.items() if value is not None})
        except ValidationError as error:
            faults = "; ".join(f"FUNCNET_{str(e['loc'][0]).upper()}: {e['msg']} (got {e['input']!r})" for e in error.errors())
            raise SettingsError(faults) from None

    def password(self) -> str:
        """The keystore's password. Raises SettingsError where no file names it."""
        return read_password(self.keystore_password_file, "FUNCNET_KEYSTORE_PASSWORD_FILE")

    def require_keystore(self) -> Path:
        if self.keystore is None:
            raise SettingsError("no keystore is set; set FUNCNET_KEYSTORE to the hot key's keystore file")
        return self.keystore

    def chain(self) -> Chain:
        return Chain(self.rpc_url, Deployment.read(self.deployment))


def read_password(file: Path | None, variable: str) -> str:
    """A password from its file. Raises SettingsError naming the variable to set."""
    if file is None or not file.is_file():
        raise SettingsError(f"no password file at {file}; set {variable}")
    return file.read_text().strip()


class ProviderSettings(NetworkSettings):
    """provider-agent."""

    owner: str = Field("", description="the provider's owner (cold) address")
    model_dir: Path = Field(Path(".funcnet/models/smollm2-135m-instruct"), description="folder of the safetensors model")
    models_dir: Path = Field(Path(".funcnet/models"), description="where --model looks for a model's folder by its name")
    layers: str = Field(AUTO, description="layers to serve, FIRST-END, or auto: those offered on chain, else those needed most")
    execution_class: str = Field("float32/sdpa", description="dtype and attention kernel to serve in")
    device: str = Field("auto", description="what to compute on: cpu, cuda, cuda:1, or auto for the first GPU, else the CPU")
    threads: int = Field(1, ge=1, description="threads of the compute process")
    compile: bool = Field(False, description="have torch compile norms and linear layers, which takes a minute at the start and a C++ compiler")
    kv_bytes: int = Field(2_000_000_000, ge=1, description="bytes of KV cache at most; a session is refused where its longest answer would not fit")
    evidence_bytes: int = Field(20_000_000_000, ge=1, description="bytes of rows to keep at most; new sessions are refused while they are used up")
    bulk_percent: int = Field(
        50, ge=0, le=100, description="percent of its prices at which bulk work is taken, which waits while others are served; 100 for no rebate"
    )
    anchor_seconds: float = Field(1.0, gt=0, description="pause between two looks for receipts to anchor")
    drain_seconds: float = Field(30.0, ge=0, description="how long open sessions may go on once the agent is asked to end")
    unload_seconds: float = Field(
        0.0, ge=0, description="idle for so long, the weights' memory is given back until the stage is asked again; 0 for never"
    )
    standby: str = Field(
        "", description="provider address of this operator's agent that gets the keys and values of all sessions, to stand in; empty for none"
    )
    hand_over: bool = Field(False, description="serve prompts, and leave each job to the standby once its first token is there")
    kv_from: str = Field("", description="provider addresses of this operator's agents that this one stands in for, comma-separated")
    standby_bytes: int = Field(1_000_000_000, ge=0, description="bytes of others' keys and values to keep at most")
    indexer_url: str = Field("http://127.0.0.1:8600", description="the indexer's address, for `provider-agent why`")

    def for_model(self, name: str | None) -> Self:
        """With the folder of a named model; as it is where no name is given. Raises SettingsError."""
        if name is not None:
            self.model_dir = self.models_dir / name
            if not (self.model_dir / "manifest.json").is_file():
                known = ", ".join(sorted(file.parent.name for file in self.models_dir.glob("*/manifest.json")))
                raise SettingsError(f"there is no prepared model {name!r} below {self.models_dir}; known: {known or 'none'}")
        return self

    @property
    def trusted(self) -> frozenset[str]:
        """Providers whose keys and values are taken. Raises SettingsError."""
        return frozenset(_address("FUNCNET_KV_FROM", part.strip()) for part in self.kv_from.split(",") if part.strip())

    @property
    def standby_address(self) -> str:
        """Empty where there is none. Raises SettingsError."""
        if self.hand_over and not self.standby:
            raise SettingsError("FUNCNET_HAND_OVER leaves jobs to a standby, and none is set; set FUNCNET_STANDBY to its provider address")
        return self.standby and _address("FUNCNET_STANDBY", self.standby)

    @property
    def layer_range(self) -> LayerRange:
        if self.layers == AUTO:
            raise SettingsError("no layers are offered on chain yet; run `provider-agent register`, or give --layers FIRST-END")
        try:
            return LayerRange.parse(self.layers)
        except ValueError as error:
            raise SettingsError(f"FUNCNET_LAYERS: {error}") from None


def _address(variable: str, text: str) -> str:
    """Checksummed. Raises SettingsError."""
    if not is_address(text):
        raise SettingsError(f"{variable}: {text!r} is no address; give a provider's, 0x and 40 hex digits")
    return str(to_checksum_address(text))


class VerifierSettings(NetworkSettings):
    """The verifier service and its replay worker."""

    database_url: SecretStr = Field(SecretStr(""), description="PostgreSQL address")
    bls_keystore: Path | None = Field(None, description="keystore file of the BLS secret")
    bls_keystore_password_file: Path | None = Field(None, description="file that holds that keystore's password")
    models_dir: Path = Field(Path(".funcnet/models"), description="folder whose sub-folders are the models that can be replayed")
    broker_dir: Path = Field(Path(".funcnet/broker"), description="folder of the filesystem broker, where no FUNCNET_BROKER_URL is set")
    broker_url: str = Field("", description="Celery broker, such as redis:// or amqp://; empty for the filesystem")
    device: str = Field("auto", description="what to replay on: cpu, cuda, cuda:1, or auto for the first GPU, else the CPU")
    threads: int = Field(1, ge=1, description="threads of a replay worker")
    check_price: Decimal | None = Field(None, ge=0, description="FUNC for a million rows of checks that gateways order; empty to sell none")


class IndexerSettings(NetworkSettings):
    """The indexer."""

    database_url: SecretStr = Field(SecretStr(""), description="PostgreSQL address")
    poll_seconds: float = Field(0.3, gt=0, description="pause between two looks at the head")
    websocket_url: str = Field("", description="WebSocket address of the node, for notices of new heads; empty to look every now and then only")
    other_rpc_urls: str = Field("", description="more nodes of the chain, comma-separated: asked where the first fails, and to compare final blocks")

    @property
    def more_nodes(self) -> list[str]:
        return [url.strip() for url in self.other_rpc_urls.split(",") if url.strip()]


class GatewaySettings(NetworkSettings):
    """The gateway."""

    database_url: SecretStr = Field(SecretStr(""), description="PostgreSQL address")
    key_pepper: SecretStr = Field(SecretStr(""), description="server-side secret of the API-key hashes")
    admin_token: SecretStr = Field(SecretStr(""), description="bearer token of the key administration")
    metrics_token: SecretStr = Field(SecretStr(""), description="bearer token of /metrics; the admin token where none is set")
    models: str = Field("", description="model names that this gateway lists: NAME=MODEL_ID=FOLDER, comma-separated")
    indexer_url: str = Field("http://127.0.0.1:8600", description="the indexer's address, for verification status and the network page")
    requests_per_minute: int = Field(600, ge=1, description="completions that a key may ask for in a minute, where it has no limit of its own")
    drain_seconds: float = Field(30.0, ge=0, description="how long answers may go on once the gateway is asked to end")
    signer_url: str = Field("", description="address of a signer apart, `python -m api.signer`, which then has the key; empty for the keystore here")
    signer_token: SecretStr = Field(SecretStr(""), description="bearer token of the signer")
    usd_per_func: Decimal | None = Field(None, gt=0, description="US dollars for one FUNC, to show prices and costs in dollars as well")


class SignerSettings(NetworkSettings):
    """The signer apart from the gateway. Amounts in FUNC."""

    signer_token: SecretStr = Field(SecretStr(""), description="bearer token that the gateway shows")
    most_input_price: Decimal = Field(Decimal(1_000), ge=0, description="FUNC for a million prompt tokens at one stage, at most")
    most_output_price: Decimal = Field(Decimal(2_000), ge=0, description="FUNC for a million completion tokens at one stage, at most")
    most_check_price: Decimal = Field(Decimal(1_000), ge=0, description="FUNC for a million rows of a stage that a verifier checks, at most")
    most_per_hour: Decimal = Field(Decimal(1_000), ge=0, description="FUNC that new vouchers may add up to within an hour")
    most_bond: Decimal = Field(Decimal(100), ge=0, description="FUNC of bond for one provider in one transaction")
