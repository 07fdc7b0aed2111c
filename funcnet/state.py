"""What a local network remembers between two starts: ports, secrets, the API key, and whether its parties have joined."""

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from funcnet.processes import free_ports


@dataclass
class NetworkState:
    """Kept in ``network.json`` with mode 0600, since it holds the gateway's secrets."""

    ports: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    api_key: str = ""
    joined: bool = False

    @classmethod
    def load(cls, root: Path, names: Iterable[str]) -> "NetworkState":
        """Read it, or make it with free ports and new secrets."""
        file = root / "network.json"
        if file.is_file():
            return cls(**json.loads(file.read_text()))
        named = list(names)
        state = cls(dict(zip(named, free_ports(len(named)), strict=True)), {name: secrets.token_urlsafe(32) for name in ("pepper", "admin")})
        state.save(root)
        return state

    def save(self, root: Path) -> None:
        """Write beside and move, so that an interruption leaves the old one."""
        partial = root / "network.json.part"
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file)
        partial.rename(root / "network.json")
