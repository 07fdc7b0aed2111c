"""``funcnet bench``: run a claim's script."""

import importlib
import inspect
import json
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

import bench as scripts
from funcnet import FuncnetError


def bench(
    name: Annotated[str, typer.Argument(help="a script of bench/")],
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON")] = False,
    quick: Annotated[bool, typer.Option(help="less of it, where a script knows how")] = False,
    minutes: Annotated[float | None, typer.Option(help="of load, for soak")] = None,
    kills: Annotated[int | None, typer.Option(help="of stages, for recovery")] = None,
) -> None:
    """Run a benchmark; each row is a ratio measured in this run, with the bar it is held to."""
    script = load(name)
    options = {option: value for option, value in (("minutes", minutes), ("kills", kills)) if value is not None}
    if unknown := options.keys() - inspect.signature(script.run).parameters:
        raise FuncnetError(f"the benchmark {name} takes no --{', --'.join(sorted(unknown))}")
    report = script.run(quick, **options)
    for row in report["rows"]:
        verdict = "to compare" if row["bar"] is None else f"bar {row['bar']:<8.4g} {'holds' if row['holds'] else 'MISSED'}"
        print(f"{row['name']:52} {row['value']:>10.4g} {row['unit']:10} {verdict}")
    if as_json:
        print(json.dumps(report))


def load(name: str) -> ModuleType:
    """A benchmark's module. Raises FuncnetError, naming those that there are."""
    known = sorted(module.name for module in pkgutil.iter_modules(scripts.__path__) if not module.name.startswith("_"))
    if name not in known:
        raise FuncnetError(f"no benchmark {name!r}; known: {', '.join(known)}")
    # Scripts may use what lies beside them in a checkout, such as the adversaries of tests/, which are not installed.
    sys.path.insert(0, str(Path(next(iter(scripts.__path__))).parent))
    return importlib.import_module(f"bench.{name}")
