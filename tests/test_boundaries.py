"""Imports run one way: protocol <- inference <- {provider, verifier}; protocol <- {indexer, api, funcnet}."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ALLOWED = {
    "protocol": set(),
    "inference": {"protocol"},
    "provider": {"protocol", "inference"},
    "verifier": {"protocol", "inference"},
    "indexer": {"protocol"},
    "api": {"protocol"},
    "funcnet": {"protocol", "bench"},
}
HEAVY = {"torch", "transformers", "safetensors"}


def imports(package: str) -> dict[str, set[str]]:
    """Top-level names that each file of a package imports, anywhere in it."""
    found = {}
    for file in Path(package).rglob("*.py"):
        names: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
        found[str(file)] = names
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_imports__run_one_way(package: str) -> None:
    for file, names in imports(package).items():
        foreign = (names & set(ALLOWED)) - ALLOWED[package] - {package}
        assert not foreign, f"{file} imports {foreign}"


@pytest.mark.parametrize("package", ["protocol", "indexer", "api", "funcnet"])
def test_imports__light_packages__never_need_torch(package: str) -> None:
    for file, names in imports(package).items():
        assert not names & HEAVY, f"{file} imports {names & HEAVY}"


@pytest.mark.parametrize("service", ["indexer.app", "api.app", "api.signer", "verifier.app", "provider.cli"])
def test_json__nested_by_a_stranger__is_an_error_and_not_the_end_of_the_service(service: str) -> None:
    code = f"import {service}, json\ntry:\n json.loads('[' * 100_000)\nexcept RecursionError:\n print('refused')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


def test_docs__every_setting__is_described() -> None:
    from protocol import settings

    text = Path("docs/settings.md").read_text()
    for kind in (settings.NetworkSettings, *settings.NetworkSettings.__subclasses__()):
        for name in kind.model_fields:
            assert f"FUNCNET_{name.upper()}" in text, f"docs/settings.md does not describe FUNCNET_{name.upper()}"


def test_alerts__name_metrics_that_there_are() -> None:
    from api.metrics import METRICS as GATEWAY
    from indexer.metrics import METRICS as INDEXER

    named = set(re.findall(r"funcnet_\w+", Path("deploy/alerts.yml").read_text()))
    assert named
    assert named <= {*GATEWAY, *INDEXER}
