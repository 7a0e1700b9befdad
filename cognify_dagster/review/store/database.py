"""Opens the site's database and makes its tables. Each module of `store` adds its own tables to `metadata`.

Invariants: the database belongs to the site alone (SQLite: a file that only its owner reads); secrets are stored as hashes; the
values of a statement that failed stand in no log.
Times are whole seconds since 1970 UTC unless a column's name ends in `_us`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from cognify_dagster.review.errors import ReviewError

metadata = MetaData()


class Store:
    """The opened database.

    Args:
        url: an SQLAlchemy URL, as `ReviewConfig.database`.

    Raises:
        ReviewError: if it cannot be opened.
    """

    def __init__(self, url: str) -> None:
        from cognify_dagster.review.store import declare_all

        declare_all()
        self.engine = _engine(url)
        try:
            metadata.create_all(self.engine)
        except SQLAlchemyError as error:
            shown = make_url(url).render_as_string(hide_password=True)
            reason = str(getattr(error, "orig", error)).splitlines()[0]
            raise ReviewError(f"the site's database {shown} cannot be opened: {reason}") from error

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run a transaction: kept at the end of the block, undone if it raises."""
        with self.engine.begin() as connection:
            yield connection

    def alive(self) -> bool:
        """Whether the database answers."""
        try:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("SELECT 1")
        except OperationalError:
            return False
        return True

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _forget_values(context: ExceptionContext) -> None:
    """Cut the server's details off an error: there Postgres repeats the values of a row."""
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None and error.args:
            error.args = (str(error.args[0]).partition("\nDETAIL:")[0], *error.args[1:])


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        engine = create_engine(
            parsed, pool_size=10, max_overflow=10, pool_pre_ping=True, pool_timeout=10, hide_parameters=True
        )
        event.listen(engine, "handle_error", _forget_values)
        return engine
    if parsed.database and parsed.database != ":memory:":
        path = Path(parsed.database)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    engine = create_engine(parsed, connect_args={"timeout": 10}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _prepare(connection, _record) -> None:  # type: ignore[no-untyped-def]
        connection.isolation_level = None  # SQLAlchemy's own BEGIN below, so that a transaction locks from its start
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
