"""The network that ``funcnet up`` runs, as other commands reach it: its state, its chain, its treasury."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import requests
import typer

from funcnet import FuncnetError, actors
from funcnet.actors import Wallet
from funcnet.state import NetworkState
from protocol.chain import Chain, Deployment

Root = Annotated[Path, typer.Option(help="folder of the network's files", envvar="FUNCNET_DATA_DIR")]


def home(root: Path) -> Path:
    return root.resolve() / "network"


def running(root: Path) -> int | None:
    """The process of `funcnet up`, None where it is gone."""
    try:
        pid = int((home(root) / "up.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


@dataclass(frozen=True)
class LocalNetwork:
    """A running local network, whose wallets lie below its folder."""

    home: Path
    state: NetworkState
    chain: Chain

    @classmethod
    def find(cls, root: Path) -> "LocalNetwork":
        """Raises FuncnetError where none runs below ``root``."""
        if running(root) is None:
            raise FuncnetError(f"no network runs below {root}; start one with `funcnet up`, or name its folder with --root")
        state = NetworkState.load(home(root), ())
        deployment = Deployment.read(home(root) / "deployments" / "31337.json")
        return cls(home(root), state, Chain(f"http://127.0.0.1:{state.ports['chain']}", deployment))

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.state.ports['gateway']}"

    def wallet(self, name: str) -> Wallet:
        return Wallet(self.home / "keys" / f"{name}.json")

    def fund(self, address: str, whole: int) -> None:
        """FUNC from the treasury, and coin for gas."""
        actors.give_gas(self.chain, address)
        if whole:
            actors.give_func(self.chain, self.wallet("treasury").account(), address, whole)

    def list_model(self, name: str, folder: Path) -> None:
        """Have the gateway list a prepared model. Raises FuncnetError."""
        headers = {"authorization": f"Bearer {self.state.secrets['admin']}"}
        answer = requests.post(f"{self.gateway_url}/v1/models", json={"name": name, "folder": str(folder)}, headers=headers, timeout=60)
        if answer.status_code != 201:
            raise FuncnetError(f"the gateway did not list {name}: {answer.json()['error']['message']}")
