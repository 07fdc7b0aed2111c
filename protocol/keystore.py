"""Keystore files: encrypted, mode 0600, and never anything but a file."""

import json
import os
import secrets
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_keyfile import create_keyfile_json, decode_keyfile_json

from protocol import KeystoreError

LIGHT_SCRYPT_N = 2**14
"""Work factor where the password is itself 256 random bits kept beside the file, as on a devnet."""
STANDARD_SCRYPT_N = 2**18


def write_secret(path: Path, text: str) -> None:
    """Create a file that only its owner can read. Raises FileExistsError rather than overwrite."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)


def create_keystore(path: Path, password: str, secret: bytes | None = None, work: int = STANDARD_SCRYPT_N) -> bytes:
    """Write a new web3 keystore (version 3) and return its 32-byte secret."""
    secret = secret or secrets.token_bytes(32)
    body = create_keyfile_json(secret, password.encode(), version=3, kdf="scrypt", iterations=work)
    write_secret(path, json.dumps(body))
    return secret


def read_keystore(path: Path, password: str) -> bytes:
    """The 32-byte secret. Raises KeystoreError for a missing file, one that others may read, or a wrong password."""
    if not path.is_file():
        raise KeystoreError(f"no keystore at {path}; make one with `provider-agent init` or `funcnet wallet new`")
    if path.stat().st_mode & 0o077:
        raise KeystoreError(f"{path} can be read by others (mode {path.stat().st_mode & 0o777:04o}); run: chmod 600 {path}")
    try:
        return bytes(decode_keyfile_json(json.loads(path.read_text()), password.encode()))
    except ValueError as error:
        raise KeystoreError(f"the password does not open {path}; check FUNCNET_KEYSTORE_PASSWORD_FILE") from error


def read_account(path: Path, password: str) -> LocalAccount:
    """The keystore's secp256k1 account."""
    account: LocalAccount = Account.from_key(read_keystore(path, password))
    return account
