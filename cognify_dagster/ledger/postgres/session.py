"""An open Postgres ledger: connections that were checked, and how statements are run on them, again where that is safe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cognify_dagster.ledger.errors import LedgerError, LedgerUnreadable
from cognify_dagster.ledger.postgres.connection import Connections, Place, driver, insist, preflight
from cognify_dagster.ledger.postgres.schema import FORMAT

if TYPE_CHECKING:
    import psycopg


class Session:
    """Reads and writes of one ledger's schema. Threads and forked processes may share the object."""

    def __init__(
        self,
        url: str,
        origin: str | None = None,
        *,
        schema: str | None = None,
        read_only: bool = False,
        connections: int = 8,
        patience_s: float = 20.0,
    ) -> None:
        """Open a ledger that `init_postgres` made.

        Args:
            url: libpq URL or keyword string of a login with the writer role (with the reader role for `read_only`).
            origin: the origin expected here; refused if the ledger has another one.
            schema: the ledger's schema; the one named in the URL (`?schema=…`), or `cognify`, unless given.
            read_only: refuse to write, and accept a standby server.
            connections: how many connections this process may use at once.
            patience_s: seconds to go on trying after the connection was lost.

        Raises:
            LedgerUnreadable: if the server cannot be reached, is not durable (the message names the setting), or holds no
                such ledger.
        """
        self._place = Place(url, schema)
        self._read_only = read_only
        self._patience = patience_s
        self._schema = self._place.schema.replace('"', '""')
        self._statements: dict[str, bytes] = {}
        self.warnings: tuple[str, ...] = ()
        self._connections = Connections(self._place, self._prepare, connections)
        meta = insist(lambda: self._rows("SELECT key, value FROM {s}.meta"), self._place, 0.0)
        found = {str(key): str(value) for key, value in meta}
        if found.get("format") != str(FORMAT) or "origin" not in found:
            raise LedgerUnreadable(
                f"{self._place}: storage format {found.get('format')}; this release reads {FORMAT}. "
                "Copy the ledger out with the release that made it, and in with this one (`cognify ledger copy`)"
            )
        if origin is not None and found["origin"] != origin:
            raise LedgerUnreadable(f"{self._place}: this is the ledger {found['origin']!r}, not {origin!r}")
        self._origin = found["origin"]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place})"

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a Postgres ledger holds connections and a password; open it anew in the other process instead")

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        self.warnings = preflight(connection, self._place, writing=not self._read_only)

    def close(self) -> None:
        """Close idle connections. The store stays usable and opens new ones when needed."""
        self._connections.close()

    @property
    def origin(self) -> str:
        """The origin of the ledger kept here."""
        return self._origin

    @property
    def schema(self) -> str:
        """The schema that holds this ledger."""
        return self._place.schema

    def _rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        query = self._statements.get(statement)
        if query is None:
            query = self._statements[statement] = statement.replace("{s}", f'"{self._schema}"').encode()
        with self._connections.use() as connection:
            return connection.execute(query, parameters, binary=True).fetchall()

    def _read(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return insist(lambda: self._rows(statement, parameters), self._place, self._patience)

    def _write(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        self._refuse_read_only()
        return insist(lambda: self._rows(statement, parameters), self._place, self._patience)

    def _refuse_read_only(self) -> None:
        if self._read_only:
            raise LedgerError(f"{self._place}: opened read-only; nothing was changed")

    def _transaction(self, work: Callable[[Callable[..., None]], None]) -> None:
        """Run several statements in one transaction. It is not repeated by itself: the rows came from an iterator."""
        self._refuse_read_only()
        try:
            with self._connections.use() as connection, connection.transaction():

                def put(statement: str, parameters: Sequence[Any]) -> None:
                    connection.execute(statement.replace("{s}", f'"{self._schema}"').encode(), parameters)

                work(put)
        except driver().Error as error:
            raise self._place.translate(error) from None
