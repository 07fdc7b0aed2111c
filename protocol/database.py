"""PostgreSQL for the services that keep state there: a pool, and plain SQL migrations."""

import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from psycopg import AsyncConnection, Connection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from protocol import SettingsError

MIGRATION_LOCK = 0x46554E43
WAIT_SECONDS = 5.0
"""How long a request waits for a connection: a database that is away is told, not waited for."""

Row = dict[str, Any]
Pool = ConnectionPool[Connection[Row]]
AsyncPool = AsyncConnectionPool[AsyncConnection[Row]]


def require_url(url: str) -> str:
    """Raises SettingsError where none is set."""
    if not url:
        raise SettingsError("no database is set; set FUNCNET_DATABASE_URL to a PostgreSQL address, as in postgresql://user@host/name")
    return url


def open_pool(url: str, size: int = 4) -> Pool:
    """A pool for threads; rows come as dicts."""
    options = {"row_factory": dict_row}
    return ConnectionPool(
        require_url(url), min_size=1, max_size=size, kwargs=options, open=True, timeout=WAIT_SECONDS, check=ConnectionPool.check_connection
    )


def async_pool(url: str, size: int = 10) -> AsyncPool:
    """A pool for an event loop; the caller opens it there. Each statement is committed by itself, but those inside ``transaction``."""
    options = {"row_factory": dict_row, "autocommit": True}
    return AsyncConnectionPool(require_url(url), min_size=1, max_size=size, kwargs=options, open=False, timeout=WAIT_SECONDS, check=_check)


@asynccontextmanager
async def transaction(pool: AsyncPool) -> AsyncIterator[AsyncConnection[Row]]:
    """A connection in whose statements all happens or nothing."""
    async with pool.connection() as connection, connection.transaction():
        yield connection


async def _check(connection: AsyncConnection[Row]) -> None:
    """Ask the server only where it has said something unasked, as it does when it ends: a question before each transaction would double them."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await AsyncConnectionPool.check_connection(connection)


def migrate(url: str, package: str) -> None:
    """Run the package's ``migrations/*.sql`` that have not run, in the order of their names, each in a transaction."""
    with Connection.connect(require_url(url)) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        connection.execute("CREATE TABLE IF NOT EXISTS migration (package TEXT, name TEXT, PRIMARY KEY (package, name))")
        rows = connection.execute("SELECT name FROM migration WHERE package = %s", (package,))
        ran = {row[0] for row in rows}
        files = sorted((f for f in (resources.files(package) / "migrations").iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
        for file in files:
            if file.name not in ran:
                connection.execute(file.read_text().encode())
                connection.execute("INSERT INTO migration VALUES (%s, %s)", (package, file.name))
