"""Connections to a Postgres ledger: a small pool that survives forks and server restarts, preflight, errors in our words.

Invariants: a connection is used by one thread of one process at a time, never across a fork; nothing is appended through a
server or session whose settings could lose an acknowledged entry; no message carries the password of the URL.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from cognify_dagster.ledger.errors import (
    ClockError,
    EntryError,
    IdempotencyConflict,
    LedgerError,
    LedgerFull,
    LedgerUnreadable,
    RolledBack,
    SizeChanged,
    Tampered,
    WriterRefused,
)

if TYPE_CHECKING:
    import psycopg

MIN_VERSION = 140_000
DEFAULT_SCHEMA = "cognify"
_SCHEMA = re.compile(r"([?&])schema=([A-Za-z0-9_]{1,63})(&|$)")
_NO_TRACE = "its messages are withheld: they would repeat parts of the URL"
_GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03"})  # shut down, crashed, starting up, idle for too long
_HOPELESS = ("authentication", "pg_hba.conf", "does not exist", "not permitted to log in", "SSL", "too long")
T = TypeVar("T")


_OURS: dict[str, type[LedgerError]] = {
    "CG001": IdempotencyConflict,
    "CG002": SizeChanged,
    "CG003": ClockError,
    "CG004": EntryError,
    "CG005": WriterRefused,
    "CG006": LedgerUnreadable,
    "CG007": Tampered,
    "CG008": LedgerError,
    "CG009": LedgerError,
    "CG010": LedgerUnreadable,
    "CG011": RolledBack,
}


def driver() -> Any:
    """Import psycopg when it is first needed.

    Raises:
        LedgerUnreadable: if it is not installed.
    """
    try:
        import psycopg
    except ImportError as error:
        raise LedgerUnreadable(
            "a Postgres ledger needs the driver psycopg; install cognify-dagster[postgres]"
        ) from error
    return psycopg


class Place:
    """Where a ledger is: the URL for the driver, and a form of it without password for people."""

    def __init__(self, url: str, schema: str | None) -> None:
        """Parse a URL or keyword string of libpq. A URL may also name the schema: `postgresql://…/database?schema=name`.

        Raises:
            LedgerUnreadable: if it cannot be parsed; the text does not repeat it.
        """
        psycopg = driver()
        url, named = _take_schema(url)
        if schema is not None and named is not None and schema != named:
            raise LedgerUnreadable(f"the Postgres URL names the schema {named}, not {schema}; give it once")
        self.schema = schema = schema or named or DEFAULT_SCHEMA
        self._url = url
        try:
            parts = psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.Error:
            raise LedgerUnreadable(
                f"the Postgres URL cannot be read ({_NO_TRACE}); write postgresql://user@host:5432/database"
            ) from None
        self._secrets = tuple(str(parts[name]) for name in ("password", "sslpassword") if parts.get(name))
        host = parts.get("host") or parts.get("hostaddr") or "localhost"
        self.user = str(parts.get("user") or "")
        self.text = (
            f"postgresql://{host}{':' + str(parts['port']) if parts.get('port') else ''}/{parts.get('dbname') or ''}"
        )
        self.text += f" (schema {schema})"
        self.options: dict[str, Any] = {}
        if "connect_timeout" not in parts:
            self.options["connect_timeout"] = 10
        if "application_name" not in parts:
            self.options["application_name"] = "cognify-ledger"

    def __repr__(self) -> str:
        return self.text

    def connect(self) -> psycopg.Connection[Any]:
        """Open an autocommit connection."""
        connection: psycopg.Connection[Any] = driver().connect(
            self._url, autocommit=True, prepare_threshold=2, **self.options
        )
        return connection

    def scrub(self, text: str) -> str:
        """Take secrets out of a message."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())

    def translate(self, error: Exception) -> LedgerError:
        """Return our error for one of the driver's; its text says what to do."""
        state = getattr(error, "sqlstate", None) or ""
        diag = getattr(error, "diag", None)
        text = self.scrub((diag.message_primary if diag is not None else None) or str(error) or type(error).__name__)
        if state in _OURS:
            return _OURS[state](text)
        if state.startswith("22") or state == "54001":
            return EntryError(f"body or payload is not JSON that Postgres can read: {text}")
        if state == "42501":
            return LedgerError(
                f"{self}: {text}. The login {self.user or '(default)'} lacks a role of this ledger; ask for GRANT of its "
                "writer, reader, signer or eraser role"
            )
        if state == "25006":
            return LedgerFull(f"{self}: the server is read-only; nothing was changed. Connect to the primary server")
        if state in ("53100", "58030", "53200") or (
            state == "XX000" and text.startswith(("could not extend", "could not write"))
        ):
            return LedgerFull(f"{self}: {text}; nothing was appended. Free space or mend the disk, then retry")
        if state == "53300" or "too many clients" in text or "too many connections" in text:
            return LedgerUnreadable(f"{self}: {text}; close other connections or raise max_connections")
        if state == "55P03":
            return LedgerUnreadable(f"{self}: another session holds the ledger's lock; nothing was changed, try again")
        if state == "42883":
            return LedgerUnreadable(
                f"{self}: the ledger's functions are older than this release; run `cognify ledger init --url` again as a superuser ({text})"
            )
        if state in ("42P01", "3F000"):
            return LedgerUnreadable(f"{self}: there is no ledger here; run `cognify ledger init --url` first ({text})")
        if lost(error):
            return LedgerUnreadable(
                f"{self}: the server cannot be reached: {text}. Whether the last entry was kept is known only after a retry "
                "with the same idempotency key, which returns its receipt"
            )
        return LedgerUnreadable(f"{self}: {text}")


def _take_schema(url: str) -> tuple[str, str | None]:
    found = _SCHEMA.search(url) if url.startswith(("postgresql://", "postgres://")) else None
    if found is None:
        return url, None
    joint = found[1] if found[3] else ""
    return url[: found.start()] + joint + url[found.end() :], found[2]


def lost(error: Exception) -> bool:
    """Whether the connection, or the server, went away."""
    psycopg = driver()
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return state in _GONE or state.startswith("08")
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))


class Connections:
    """Open connections of this process. At most `limit` are in use at once; idle ones are kept for the next caller."""

    def __init__(self, place: Place, prepare: Callable[[psycopg.Connection[Any]], None], limit: int) -> None:
        self._place, self._prepare, self._limit = place, prepare, limit
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[psycopg.Connection[Any]] = []
        self._slots = threading.BoundedSemaphore(self._limit)

    @contextmanager
    def use(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend a connection; one on which an error left anything open is closed, not lent again."""
        if os.getpid() != self._pid:
            self._reset()  # after a fork the sockets belong to the parent; the driver does not close what it did not open
        slots = self._slots
        with slots:
            connection = self._take()
            try:
                yield connection
            except BaseException:
                with suppress(Exception):
                    if connection.closed or connection.info.transaction_status.name != "IDLE":
                        connection.close()
                raise
            finally:
                if not connection.closed:
                    with self._lock:
                        self._idle.append(connection)

    def _take(self) -> psycopg.Connection[Any]:
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            if not connection.closed and not connection.broken:
                return connection
        connection = self._place.connect()
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close idle connections."""
        if os.getpid() == self._pid:
            with self._lock:
                idle, self._idle = self._idle, []
            for connection in idle:
                with suppress(Exception):
                    connection.close()


def insist(call: Callable[[], T], place: Place, patience_s: float) -> T:
    """Call, and call again while the connection is lost, for at most `patience_s` seconds.

    Only for calls that may be repeated: reads, and appends, whose idempotency key makes the second one return the first one's
    receipt. A server that crashed over a failed fsync has replayed its log before it answers again.
    """
    end = time.monotonic() + patience_s
    pause = 0.02
    while True:
        try:
            return call()
        except LedgerError:
            raise
        except Exception as error:
            if not isinstance(error, driver().Error):
                raise
            if (
                getattr(error, "sqlstate", None) == "23505"
                and "entry_idem_key" in str(error)
                and time.monotonic() < end
            ):
                continue  # the same key came at the same moment; now its receipt can be found
            hopeless = any(word in str(error) for word in _HOPELESS)
            if not lost(error) or hopeless or time.monotonic() + pause > end:
                raise place.translate(error) from (
                    None if place.scrub(str(error)) != " ".join(str(error).split()) else error
                )
        time.sleep(pause)
        pause = min(pause * 2, 0.5)


_CHECK = """
SELECT set_config('search_path', 'pg_catalog', false), current_setting('server_version_num')::int, pg_is_in_recovery(),
    current_setting('server_encoding'), current_setting('is_superuser') = 'on',
    (SELECT json_object_agg(name, json_build_array(setting, source)) FROM pg_settings WHERE name IN ('fsync', 'full_page_writes',
        'synchronous_commit', 'default_transaction_isolation', 'data_sync_retry', 'default_transaction_read_only', 'data_checksums'))
"""
_WANTED = {
    "fsync": ("on", "an acknowledged entry could be lost or the database damaged when the machine fails"),
    "full_page_writes": ("on", "a crash could damage the database"),
    "synchronous_commit": ("on", "an acknowledged entry could be lost when the server crashes"),
    "default_transaction_isolation": ("read committed", "a snapshot older than the ledger's lock would fork it"),
    "data_sync_retry": ("off", "a failed write to the disk would be retried and believed"),
}


def preflight(connection: psycopg.Connection[Any], place: Place, *, writing: bool) -> tuple[str, ...]:
    """Check a session's and its server's settings; return warnings.

    Raises:
        LedgerUnreadable: naming the setting to change.
    """
    row = connection.execute(_CHECK).fetchone()
    assert row is not None
    _, version, standby, encoding, superuser, settings = row
    if version < MIN_VERSION:
        raise LedgerUnreadable(
            f"{place}: Postgres {version // 10_000} is too old; use {MIN_VERSION // 10_000} or newer"
        )
    if encoding != "UTF8":
        raise LedgerUnreadable(f"{place}: the database's encoding is {encoding}; create it with ENCODING 'UTF8'")
    if not writing:
        return ()
    if standby:
        raise LedgerUnreadable(
            f"{place}: this server is a standby; connect to the primary, or open the ledger read-only"
        )
    for name, (wanted, reason) in _WANTED.items():
        value, source = settings[name]
        good = value != "off" if name == "synchronous_commit" else value == wanted
        if not good:
            raise LedgerUnreadable(f"{place}: {name} is {value} (set by: {source}): {reason}. Set {name} = {wanted}")
    if settings["default_transaction_read_only"][0] == "on":
        raise LedgerUnreadable(
            f"{place}: default_transaction_read_only is on; set it to off, or open the ledger read-only"
        )
    warnings = []
    if superuser:
        warnings.append(
            "the login is a superuser, whom the ledger's roles do not bind; use one that only has the writer role"
        )
    if settings["data_checksums"][0] != "on":
        warnings.append(
            "the server keeps no data checksums; enable them with pg_checksums to notice failing disks early"
        )
    return tuple(warnings)
