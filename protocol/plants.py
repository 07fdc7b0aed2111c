"""Planted faults: jobs with a fault on purpose, by which the verifiers are checked. Design section 4, "Verifiers are checked too"."""

import json
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path

from eth_abi import encode as abi_encode
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from eth_utils.address import is_checksum_address
from eth_utils.hexadecimal import decode_hex

from protocol import BadSignature, ProtocolError
from protocol.chain import Chain
from protocol.keystore import write_secret
from protocol.typed import recover_signer


class Answer(IntEnum):
    """Plants.Answer: what a verifier's duty root says of a plant."""

    NONE = 0
    NOT_DRAWN = 1
    FOUND = 2
    UNDECIDED = 3
    PASSED = 4
    SILENT = 5


def plant_hash(salt: bytes, provider: str, payer: str) -> bytes:
    """What is noted on chain before the job: it tells nobody who is to lie, and to whom."""
    return keccak(abi_encode(["bytes32", "address", "address"], [salt, provider, payer]))


def sign_consent(chain: Chain, payer: LocalAccount, digest: bytes) -> bytes:
    """A payer's word (EIP-191) that a job of its own may be planted: without it a plant could shield a lie to somebody else."""
    return bytes(payer.sign_message(encode_defunct(consent_to(chain, digest))).signature)


def consent_to(chain: Chain, digest: bytes) -> bytes:
    """What a payer signs, as Plants.consentTo."""
    return keccak(abi_encode(["uint256", "address", "bytes32"], [chain.deployment.chain_id, chain.address("Plants"), digest]))


@dataclass(frozen=True)
class Plant:
    """A planted fault as the planter hands it to the provider: whoever has it may open the plant, so it is kept like a key until then."""

    provider: str
    payer: str
    salt: bytes
    consent: bytes

    @property
    def digest(self) -> bytes:
        return plant_hash(self.salt, self.provider, self.payer)

    def require_consent(self, chain: Chain) -> None:
        """Raises BadSignature where the contract would not open the plant, as the payer did not sign for it."""
        signer = recover_signer(keccak(b"\x19Ethereum Signed Message:\n32" + consent_to(chain, self.digest)), self.consent)
        if signer != self.payer:
            raise BadSignature(f"the consent is signed by {signer}, not by the payer {self.payer}")

    def write(self, path: Path) -> None:
        """With mode 0600. Raises FileExistsError."""
        body = {name: "0x" + value.hex() if isinstance(value, bytes) else value for name, value in asdict(self).items()}
        write_secret(path, json.dumps(body))

    @classmethod
    def read(cls, path: Path) -> "Plant":
        """Raises ProtocolError for a file that is not there or holds no plant."""
        try:
            body = json.loads(path.read_text())
            plant = cls(body["provider"], body["payer"], decode_hex(body["salt"]), decode_hex(body["consent"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProtocolError(f"{path} holds no plant ({error}); give a file that `funcnet plant note` wrote") from error
        if not is_checksum_address(plant.provider) or not is_checksum_address(plant.payer) or len(plant.salt) != 32:
            raise ProtocolError(f"{path} holds no plant: its addresses or its salt are malformed")
        return plant
