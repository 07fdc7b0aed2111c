"""A headless Chromium for the tests of pages: the system's, or the one that npm brought."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

PROJECT = Path(__file__).resolve().parents[1]
UNPACK = "import chromium from '@sparticuz/chromium'; process.stdout.write(await chromium.executablePath())"
FLAGS = ["--no-sandbox", "--disable-gpu", "--headless=shell", "--no-zygote", "--disable-dev-shm-usage"]


@contextmanager
def browser() -> Iterator[Browser]:
    """Start it, give it, end it."""
    folder = PROJECT / ".funcnet" / "chromium"
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None) or _unpack(folder)
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(folder / "al2023" / "lib")}
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=FLAGS, env=dict(environment))
        try:
            yield opened
        finally:
            opened.close()


def _unpack(folder: Path) -> str:
    """Unpack npm's Chromium below ``folder``; its path. The variable makes it bring the libraries that a small system lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(folder), "AWS_EXECUTION_ENV": "AWS_Lambda_nodejs22.x"}
    command = ["node", "--input-type=module", "-e", UNPACK]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True).stdout
