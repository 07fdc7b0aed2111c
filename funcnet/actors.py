"""The parties of a local network: their keystores, and what each does on chain to take part."""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from eth_abi import encode
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from protocol import Reverted, bls
from protocol.chain import Chain
from protocol.keystore import LIGHT_SCRYPT_N, create_keystore, read_account, read_keystore, write_secret
from protocol.units import FUNC

GAS_MONEY = 10**20
YEAR_SECONDS = 365 * 86_400


@dataclass(frozen=True)
class Wallet:
    """A keystore beside its password file. For a local network: in production the two live apart."""

    path: Path

    @property
    def password_file(self) -> Path:
        return self.path.with_suffix(".password")

    @classmethod
    def ensure(cls, path: Path, secret: bytes | None = None) -> "Wallet":
        """Make it on first use."""
        wallet = cls(path)
        if not path.exists():
            wallet.password_file.unlink(missing_ok=True)
            write_secret(wallet.password_file, secrets.token_hex(32))
            create_keystore(path, wallet.password, secret, LIGHT_SCRYPT_N)
        return wallet

    @property
    def password(self) -> str:
        return self.password_file.read_text().strip()

    def account(self) -> LocalAccount:
        return read_account(self.path, self.password)


def give_gas(chain: Chain, address: str) -> None:
    """Native coin for gas, from the development chain's own faucet."""
    chain.web3.provider.make_request("anvil_setBalance", [address, hex(GAS_MONEY)])  # type: ignore[arg-type]


def join_as_verifier(chain: Chain, account: LocalAccount, bls_wallet: Wallet, stake: int, endpoint: str) -> None:
    """Stake and register a BLS key with its proof of possession. Steps that are done are left out."""
    if chain.call("Staking", "stakeOf", account.address) < stake:
        chain.send(account, "FuncToken", "approve", chain.address("Staking"), stake)
        chain.send(account, "Staking", "stake", account.address, stake)
    if chain.call("VerifierSet", "memberOf", account.address)[1]:
        return
    secret = read_keystore(bls_wallet.path, bls_wallet.password)
    key = bls.public_key(secret)
    payload = bls.possession_payload(account.address, key)
    proof = bls.sign(secret, bls.message(bls.POSSESSION, chain.deployment.chain_id, chain.address("VerifierSet"), 0, payload))
    chain.send(account, "VerifierSet", "register", key, proof, endpoint)
    while chain.call("VerifierSet", "needsBuild"):
        try:
            chain.send(account, "VerifierSet", "buildSet")
        except Reverted as error:  # another one that joins now made the set longer than the gas was reckoned for
            if error.error != "OutOfGasOrRaced":
                raise


def register_model(
    chain: Chain, creator: LocalAccount, manifest_root: bytes, layers: int, tolerance_root: bytes, uri: str, cuttable: bool = True
) -> None:
    """Commit, then reveal: a model with a 5 % royalty that may be cut before any layer, or nowhere. Nothing to do where it is registered."""
    if chain.call("ModelRegistry", "model", keccak(manifest_root))[1] == manifest_root:
        return
    cuts = sum(1 << layer for layer in range(1, layers)) if cuttable else 0
    registration = (manifest_root, layers, cuts, tolerance_root, 500, creator.address, uri, secrets.token_bytes(32))
    commitment = _registration_commitment(registration, creator.address)
    chain.send(creator, "ModelRegistry", "commit", commitment)
    ready = chain.call("ModelRegistry", "committedAt", commitment) + chain.call("ModelRegistry", "commitDelay")
    while chain.now() < ready:
        time.sleep(0.2)
    chain.send(creator, "ModelRegistry", "register", registration)


def fund_payer(chain: Chain, payer: LocalAccount, gateway: str, deposit: int, limit: int) -> None:
    """Deposit, and let the gateway spend up to ``limit`` a day, on any model."""
    chain.send(payer, "FuncToken", "approve", chain.address("PaymentEscrow"), deposit)
    chain.send(payer, "PaymentEscrow", "deposit", payer.address, deposit)
    chain.send(payer, "PaymentEscrow", "setLimit", gateway, limit, 86_400, chain.now() + YEAR_SECONDS, [])


def require_signatures(chain: Chain, payer: LocalAccount, gateway: str) -> None:
    """Let the gateway spend only what the payer signs for, request by request. Nothing to do where that is so."""
    if not chain.call("PaymentEscrow", "authorisationOf", payer.address, gateway)[0]:
        chain.send(payer, "PaymentEscrow", "requireSignatures", gateway, True)


def bond_gateway(chain: Chain, gateway: LocalAccount, amount: int) -> None:
    chain.send(gateway, "FuncToken", "approve", chain.address("PaymentEscrow"), amount)
    chain.send(gateway, "PaymentEscrow", "addBond", gateway.address, amount)


def delegate(chain: Chain, delegator: LocalAccount, provider: str, amount: int) -> str:
    """Delegate to a provider for shares of its pool; the transaction."""
    chain.send(delegator, "FuncToken", "approve", chain.address("Staking"), amount)
    return chain.send(delegator, "Staking", "delegate", provider, amount)


def fund_rewards(chain: Chain, treasury: LocalAccount, amount: int) -> None:
    chain.send(treasury, "FuncToken", "approve", chain.address("RewardPool"), amount)
    chain.send(treasury, "RewardPool", "fund", amount)


def give_func(chain: Chain, treasury: LocalAccount, to: str, whole: int) -> None:
    chain.send(treasury, "FuncToken", "transfer", to, whole * FUNC)


def _registration_commitment(registration: tuple[object, ...], creator: str) -> bytes:
    return keccak(encode(["(bytes32,uint16,uint256,bytes32,uint16,address,string,bytes32)", "address"], [registration, creator]))
