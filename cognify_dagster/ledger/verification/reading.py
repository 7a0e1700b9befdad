"""Reading a store whose rows may hold anything, because somebody took the tables' constraints away.

Invariant: only what a store raises while it reads is taken for the ledger's fault; an error in the code that judges rows stays an
error of ours. Rows that could be read are still of unknown types: whoever uses a value looks at its type first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar

from cognify_dagster.ledger.errors import LedgerUnreadable
from cognify_dagster.ledger.store import HoldingStore, Store, StoredEntry, StoredPayload, Tombstone

P = ParamSpec("P")
T = TypeVar("T")
_STRANGE = (AttributeError, TypeError, ValueError)  # ValueError also for text that is no UTF-8


def read(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a store's method returns.

    Raises:
        LedgerUnreadable: if a row holds what the store cannot read; or as the method does.
    """
    try:
        return call(*args, **kwargs)
    except _STRANGE as error:
        raise _unreadable(error) from error


def held(store: Store) -> AbstractContextManager[object]:
    """Share one snapshot between a few short reads, where the store can."""
    return store.held() if isinstance(store, HoldingStore) else nullcontext()


def rows(call: Callable[P, Iterable[T]], *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
    """Yield the rows that a store's method yields.

    Raises:
        LedgerUnreadable: if a row holds what the store cannot read; or as the method does.
    """
    found = iter(read(call, *args, **kwargs))
    while True:
        try:
            row = next(found)
        except StopIteration:
            return
        except _STRANGE as error:
            raise _unreadable(error) from error
        yield row


def _unreadable(error: Exception) -> LedgerUnreadable:
    return LedgerUnreadable(f"a row holds a value that no ledger writes ({error})")


_ENTRY: dict[str, type] = {
    "seq": int,
    "data": bytes,
    "leaf": bytes,
    "prev": str,
    "idem": str,
    "kind": str,
    "time_us": int,
    "subjects": tuple,
}
_PAYLOAD: dict[str, type] = {"seq": int, "salt": bytes, "facts_digest": str, "data": bytes}
_TOMBSTONE: dict[str, type] = {"seq": int, "idem": str, "leaf": bytes, "time_us": int, "facts_digest": str}
_MAY_BE_NONE = {"salt", "facts_digest", "data"}


def strange(row: StoredEntry | StoredPayload | Tombstone) -> str | None:
    """Say which value of a row is of a type that no ledger writes; None if none is."""
    types = _ENTRY if isinstance(row, StoredEntry) else _PAYLOAD if isinstance(row, StoredPayload) else _TOMBSTONE
    for name, kind in types.items():
        value: Any = getattr(row, name)
        if type(value) is not kind and not (value is None and types is not _ENTRY and name in _MAY_BE_NONE):
            return f"the column {_COLUMN.get(name, name)!r} holds {_shown(value)}, which no ledger writes there"
    return None


_COLUMN = {"data": "bytes"}


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"
