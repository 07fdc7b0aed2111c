"""The models that this gateway lists: from its settings, and those added while it runs."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import structlog

from api import BadRequest, NoSuchModel
from api.text import TextModel
from protocol import SettingsError
from protocol.database import AsyncPool
from protocol.manifest import Manifest

log = structlog.get_logger()


class Models(Mapping[str, TextModel]):
    """By name. ``restore`` brings back what ``add``, here or at another gateway, kept in the database."""

    def __init__(self, listing: str, pool: AsyncPool) -> None:
        self.pool = pool
        self._models = _listed(listing)
        self._missing: set[str] = set()

    def __getitem__(self, name: str) -> TextModel:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def named(self, name: str, among: Collection[str] | None = None) -> TextModel:
        """Raises NoSuchModel for one that is not listed, or is not ``among`` those that a key may use, or BadRequest for one that makes vectors."""
        model = self.any_named(name, among)
        if model.encoder is not None:
            raise BadRequest(f"{name!r} makes vectors and writes no text; ask it at /v1/embeddings", "model", "wrong_kind_of_model")
        return model

    def encoder_named(self, name: str, among: Collection[str] | None = None) -> TextModel:
        """The same for one that has to make vectors."""
        model = self.any_named(name, among)
        if model.encoder is None:
            raise BadRequest(f"{name!r} writes text and makes no vectors; ask it at /v1/chat/completions", "model", "wrong_kind_of_model")
        return model

    def any_named(self, name: str, among: Collection[str] | None = None) -> TextModel:
        """A model of either kind. Raises NoSuchModel."""
        if name not in self._models or (among is not None and name not in among):
            raise NoSuchModel(f"model {name!r} is not listed here; known: {', '.join(self)}", "model", "model_not_found")
        return self._models[name]

    async def restore(self) -> None:
        async with self.pool.connection() as connection:
            rows = await (await connection.execute("SELECT name, folder FROM api.model")).fetchall()
        for row in rows:
            if row["name"] in self._models or row["name"] in self._missing:
                continue
            try:
                self._models[row["name"]] = _load(row["name"], Path(row["folder"]))
            except (OSError, ValueError, KeyError) as error:  # as where another gateway's machine has it and this one has not
                self._missing.add(row["name"])
                log.warning("model is not served here", model=row["name"], folder=row["folder"], reason=str(error))

    async def add(self, name: str, folder: Path) -> TextModel:
        """List a prepared model folder of this machine. Raises BadRequest."""
        try:
            model = _load(name, folder)
        except (OSError, ValueError, KeyError) as error:
            raise BadRequest(f"{folder} is no prepared model folder of the gateway's machine: {error}", "folder") from error
        if name in self._models and self._models[name].model_id != model.model_id:
            raise BadRequest(f"{name!r} is listed for another model, 0x{self._models[name].model_id.hex()}; choose another name", "name")
        async with self.pool.connection() as connection:
            await connection.execute("INSERT INTO api.model VALUES (%s, %s) ON CONFLICT DO NOTHING", (name, str(folder)))
        self._models[name] = model
        self._missing.discard(name)
        return model


def _load(name: str, folder: Path) -> TextModel:
    return TextModel.load(name, Manifest.read(folder).model_id, folder)


def _listed(listing: str) -> dict[str, TextModel]:
    """``NAME=MODEL_ID=FOLDER`` entries, comma-separated. Raises SettingsError."""
    models = {}
    for entry in filter(None, listing.split(",")):
        parts = entry.split("=")
        if len(parts) != 3:
            raise SettingsError(f"FUNCNET_MODELS: {entry!r} is not of the form NAME=MODEL_ID=FOLDER")
        name, model_id, folder = parts
        models[name] = TextModel.load(name, bytes.fromhex(model_id.removeprefix("0x")), Path(folder))
    if not models:
        raise SettingsError("FUNCNET_MODELS lists no model; set it to NAME=MODEL_ID=FOLDER")
    return models
