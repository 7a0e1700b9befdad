"""Creates, or brings up to date, a Postgres ledger: schema, roles, functions, guards. One transaction: all or nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cognify_dagster.ledger.errors import LedgerError, LedgerUnreadable
from cognify_dagster.ledger.names import check_origin
from cognify_dagster.ledger.postgres import earlier
from cognify_dagster.ledger.postgres.connection import Place, driver, preflight
from cognify_dagster.ledger.postgres.ordinary import MEMBERS
from cognify_dagster.ledger.postgres.schema import FORMAT, RETIRED, SETTINGS, TABLES
from cognify_dagster.ledger.postgres.upkeep import EVENT_TRIGGERS

MAX_SKEW_US = 5 * 60 * 1_000_000
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")
ROLES = ("owner", "writer", "reader", "signer", "eraser", "archivist")
_EXECUTE = {
    "writer": (
        "append(bytea, bytea, bytea, bytea, bigint, bigint)",
        f"append_members({MEMBERS})",
        "append_batch(bytea[], bytea[], bytea[], bytea[], bigint, bigint, boolean)",
    ),
    "signer": ("add_checkpoint(bigint, bytea)",),
    "eraser": ("erase(bigint[])", "forget(bigint[])"),
    "archivist": (
        "add_checkpoint(bigint, bytea)",
        "detach(bigint, bigint, text)",
        "load_rows(bigint, bigint[], bytea[], bytea[], bytea[], text[], bigint[], text[], bytea[], bytea[], bytea[])",
        "attach_rows(bigint, bigint[], bytea[], bytea[], bytea[], text[], bigint[], text[], bytea[], bytea[], bytea[])",
        "attach_done(bigint, bigint, text)",
    ),
}


@dataclass(frozen=True)
class PostgresSetup:
    """What `init_postgres` made. `roles` maps owner, writer, reader, signer, eraser and archivist to role names; `notes` says
    what was skipped and what is left to do."""

    origin: str
    schema: str
    roles: Mapping[str, str]
    event_triggers: bool
    notes: tuple[str, ...]


def init_postgres(
    url: str,
    origin: str,
    *,
    schema: str | None = None,
    roles: str | None = None,
    server_clock: bool = False,
    grant: Mapping[str, Sequence[str]] | None = None,
) -> PostgresSetup:
    """Create an empty ledger in a schema of its own, or bring the functions and guards of an existing one up to date.

    Args:
        url: a login that may create schemas and roles; only a superuser can also install the event triggers.
        origin: the ledger's origin.
        schema: the schema's name, `cognify` or the one in the URL (`?schema=…`) unless given; one ledger a schema.
        roles: prefix of the role names (`<roles>_writer`, …); the schema's name unless given. Roles belong to the whole
            server, so two databases of one server need two prefixes.
        server_clock: take every entry's time from the database server instead of the writing machine. Fixed at creation.
        grant: logins to give roles to, such as `{"writer": ["pipeline"], "signer": ["pipeline"]}`; they must exist.

    Raises:
        LedgerUnreadable: if the server cannot be reached, is too old or is not durable.
        LedgerError: if the schema holds something else, or another ledger; nothing was changed then.
        EntryError: if the origin is malformed.
    """
    check_origin(origin)
    place = Place(url, schema)
    schema = place.schema
    prefix = schema if roles is None else roles
    for text in (schema, prefix):
        if not _NAME.fullmatch(text):
            raise LedgerError(f"{text[:60]!r} is no usable name: use up to 40 of a-z 0-9 _, not beginning with a digit")
    if schema.startswith("pg_") or schema in ("public", "information_schema"):
        raise LedgerError(f"schema {schema!r} belongs to others; give the ledger one of its own, such as cognify")
    unknown = set(grant or {}) - set(ROLES[1:])
    if unknown:
        raise LedgerError(f"{sorted(unknown)[0]!r} is no role that can be granted; use {', '.join(ROLES[1:])}")
    psycopg = driver()
    try:
        with place.connect() as db:
            preflight(db, place, writing=True)
            with db.transaction():
                setup = _Setup(db, place, origin, prefix, server_clock)
                return setup.run(grant or {})
    except psycopg.errors.InsufficientPrivilege as error:
        raise LedgerError(
            f"{place}: {place.scrub(str(error))}. Nothing was changed; run this as a superuser, or as a login with CREATEROLE and "
            "CREATE on the database"
        ) from None
    except psycopg.Error as error:
        raise place.translate(error) from None


class _Setup:
    def __init__(self, db: Any, place: Place, origin: str, prefix: str, server_clock: bool) -> None:
        self.db, self.place, self.origin, self.server_clock = db, place, origin, server_clock
        self.schema = place.schema
        self.roles = {name: f"{prefix}_{name}" for name in ROLES}
        self.notes: list[str] = []
        self.superuser: bool = db.execute("SELECT current_setting('is_superuser') = 'on'").fetchone()[0]
        self.trigger = f"{self.schema}_guard"

    def run(self, grant: Mapping[str, Sequence[str]]) -> PostgresSetup:
        """Do everything inside the caller's transaction."""
        db = self.db
        lock = lock_key(self.schema)
        db.execute("SELECT pg_advisory_xact_lock(%s)", (lock,))
        self._unlock()
        if not self.superuser and self._there(self.roles["owner"]):  # to read what is there; given back below
            db.execute(f'GRANT "{self.roles["owner"]}" TO CURRENT_USER')
        known = self._known()
        self._create_roles(known)
        owner = self.roles["owner"]
        if not self.superuser:
            db.execute(f'GRANT "{owner}" TO CURRENT_USER')
        db.execute(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}" AUTHORIZATION "{owner}"')
        db.execute(f'SET LOCAL ROLE "{owner}"')
        db.execute(f'SET LOCAL search_path = "{self.schema}", pg_catalog, pg_temp')
        db.execute(self._sql(TABLES + SETTINGS))
        if not known:
            db.execute(
                "INSERT INTO meta VALUES ('format', %s), ('origin', %s), ('server_clock', %s), ('roles', %s)",
                (str(FORMAT), self.origin, str(self.server_clock).lower(), owner.removesuffix("_owner")),
            )
        db.execute(self._sql(RETIRED + earlier.current()))
        self._grant_functions()
        db.execute("RESET ROLE")
        for name, logins in grant.items():
            for login in logins:
                db.execute(f'GRANT "{self.roles[name]}" TO "{self._login(login)}"')
        if self.superuser:
            self._event_triggers()
        else:
            db.execute(f'REVOKE "{owner}" FROM CURRENT_USER')
            self.notes.append(
                "event triggers were skipped: only a superuser can create them. Without them the owner role could drop the guards; "
                "run this once more as a superuser"
            )
        if not grant:
            self.notes.append(
                f"no login has a role yet: GRANT {self.roles['writer']}, {self.roles['signer']} TO <the pipeline's login>"
            )
        return PostgresSetup(self.origin, self.schema, self.roles, self.superuser, tuple(self.notes))

    def _sql(self, text: str) -> bytes:
        return fill(text, self.schema, self.origin, self.server_clock).encode()

    def _known(self) -> bool:
        """Whether this ledger exists here already; refuse anything else that has the schema's name."""
        db = self.db
        if db.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (self.schema,)).fetchone() is None:
            return False
        tables = [
            row[0]
            for row in db.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)", (self.schema,)
            )
        ]
        if not tables:
            return False
        if "meta" not in tables or "entry" not in tables:
            raise LedgerError(f"{self.place}: this schema holds other tables; give the ledger a schema of its own")
        found = dict(db.execute(f'SELECT key, value FROM "{self.schema}".meta').fetchall())
        if found.get("origin") != self.origin:
            raise LedgerError(
                f"{self.place}: this is the ledger {found.get('origin')!r}, not {self.origin!r}; nothing was changed"
            )
        if found.get("format") != str(FORMAT):
            raise LedgerUnreadable(
                f"{self.place}: storage format {found.get('format')}; this release writes {FORMAT}. "
                "Copy the ledger out with the release that made it, and in with this one (`cognify ledger copy`)"
            )
        self.server_clock = found.get("server_clock") == "true"
        self.roles = {name: f"{found['roles']}_{name}" for name in ROLES}
        return True

    def _create_roles(self, known: bool) -> None:
        db = self.db
        there = {
            row[0]
            for row in db.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", (list(self.roles.values()),))
        }
        owner = self.roles["owner"]
        if not known and owner in there:
            used = db.execute(
                "SELECT 1 FROM pg_shdepend WHERE refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s)", (owner,)
            )
            if used.fetchone() is not None:
                raise LedgerError(
                    f"{self.place}: the role {owner} owns another ledger on this server, whose logins could then write here; give "
                    "this one its own names with another prefix of roles"
                )
        for role in self.roles.values():
            if role not in there:
                db.execute(f'CREATE ROLE "{role}" NOLOGIN NOINHERIT')
        login = db.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND (rolcanlogin OR rolsuper)",
            (list(self.roles.values()),),
        )
        bad = login.fetchone()
        if bad is not None:
            raise LedgerError(
                f"{self.place}: {bad[0]} can log in or is a superuser; it must be a NOLOGIN role without rights of its own"
            )

    def _grant_functions(self) -> None:
        db, schema = self.db, self.schema
        everyone = ", ".join(f'"{self.roles[name]}"' for name in ROLES[1:])
        db.execute(f'REVOKE ALL ON SCHEMA "{schema}" FROM PUBLIC, {everyone}')
        db.execute(f'REVOKE ALL ON ALL TABLES IN SCHEMA "{schema}" FROM PUBLIC, {everyone}')
        db.execute(f'REVOKE ALL ON ALL FUNCTIONS IN SCHEMA "{schema}" FROM PUBLIC, {everyone}')
        db.execute(f'GRANT USAGE ON SCHEMA "{schema}" TO {everyone}')
        db.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO {everyone}')
        db.execute(f'GRANT EXECUTE ON FUNCTION "{schema}".ledger_derived() TO {everyone}')  # it changes nothing
        for name, functions in _EXECUTE.items():
            for function in functions:
                db.execute(f'GRANT EXECUTE ON FUNCTION "{schema}".{function} TO "{self.roles[name]}"')

    def _there(self, role: str) -> bool:
        return self.db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None

    def _login(self, login: str) -> str:
        if not self._there(login):
            raise LedgerError(f"{self.place}: there is no login {login!r}; create it with CREATE ROLE … LOGIN first")
        return login.replace('"', '""')

    def _unlock(self) -> None:
        """A later run changes functions, so the event triggers must rest until this transaction ends."""
        names = (f"{self.trigger}_ddl", f"{self.trigger}_drop")
        there = [
            row[0]
            for row in self.db.execute("SELECT evtname FROM pg_event_trigger WHERE evtname = ANY (%s)", (list(names),))
        ]
        if there and not self.superuser:
            raise LedgerError(
                f"{self.place}: the ledger's event triggers are on; only a superuser can bring it up to date"
            )
        for name in there:
            self.db.execute(f'ALTER EVENT TRIGGER "{name}" DISABLE')

    def _event_triggers(self) -> None:
        db = self.db
        oids = [
            row[0]
            for row in db.execute(
                "SELECT oid FROM pg_class WHERE relnamespace = to_regnamespace(%s) UNION ALL SELECT oid FROM pg_proc WHERE "
                "pronamespace = to_regnamespace(%s) UNION ALL SELECT to_regnamespace(%s)::oid",
                (self.schema,) * 3,
            )
        ]
        text = EVENT_TRIGGERS.replace("@oids@", ", ".join(map(str, oids))).replace("@trigger@", self.trigger)
        text = text.replace("@by_owner@", f"current_user = '{self.roles['owner']}'")
        db.execute(self._sql(text.replace("@like@", self.schema.replace("_", "\\_"))))
        for kind, event in (("ddl", "ddl_command_end"), ("drop", "sql_drop")):
            name = f"{self.trigger}_{kind}"
            if db.execute("SELECT 1 FROM pg_event_trigger WHERE evtname = %s", (name,)).fetchone() is None:
                db.execute(f'CREATE EVENT TRIGGER "{name}" ON {event} EXECUTE FUNCTION "{self.trigger}".guard_{kind}()')
            db.execute(f'ALTER EVENT TRIGGER "{name}" ENABLE ALWAYS')


def fill(text: str, schema: str, origin: str, server_clock: bool) -> str:
    """Return SQL for one ledger."""
    text = text.replace("@schema@", schema).replace("@origin@", origin)
    text = text.replace("@lock@", str(lock_key(schema))).replace("@skew@", str(MAX_SKEW_US))
    take = "v_now := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;" if server_clock else ""
    return text.replace("@take_time@", take).replace("@server_clock@", str(server_clock).lower())


def lock_key(schema: str) -> int:
    """Return the key of a ledger's advisory lock; advisory locks belong to one database."""
    return int.from_bytes(hashlib.sha256(f"cognify ledger {schema}".encode()).digest()[:8], "big", signed=True)
