"""Group commit: many threads append, one transaction makes a whole queue of entries durable.

Invariants: a caller returns only after the durable commit of its own entry, with its own receipt or its own error; an entry
is handed to the store once (a failed commit is reported, never retried); when the writing thread ends, every caller,
waiting or new, is told so.
"""

from __future__ import annotations

import copy
import os
import queue
import threading
from types import TracebackType

from cognify_dagster.ledger.entry import Draft, SealedBody, seal_body
from cognify_dagster.ledger.errors import LedgerError
from cognify_dagster.ledger.ledger import Ledger
from cognify_dagster.ledger.store import Receipt

MAX_GROUP = 1_000
MAX_GROUP_BYTES = 16 * 1024 * 1024
_LOOK_AGAIN_S = 1.0


class _Waiting:
    """One caller's entry; `done` is released when `result` is there."""

    __slots__ = ("done", "result", "sealed")

    def __init__(self, sealed: SealedBody) -> None:
        self.sealed = sealed
        self.result: Receipt | BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def finish(self, result: Receipt | BaseException) -> None:
        self.result = result
        self.done.release()


class GroupCommitter:
    """Appends for many threads of one process. Use it as a context manager, or call `close`.

    It trades nothing of durability: the waiting entries share one commit. A single thread gains nothing by it.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._state = threading.Lock()
        self._refusal: str | None = None
        self._cause: BaseException | None = None
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="ledger-group-commit", daemon=True)
        self._thread.start()

    def append(self, draft: Draft) -> Receipt:
        """Append one entry durably; blocks until it is.

        Raises:
            IdempotencyConflict, ClockError, EntryError: this entry was refused; the others were not held up by it.
            LedgerFull, LedgerUnreadable: the storage failed; nothing of this group was appended.
            LedgerError: the committer is closed or its thread ended.
        """
        waiting = _Waiting(seal_body(self._ledger.origin, draft))
        with self._state:
            self._refuse_unless_running()
            self._queue.put(waiting)
        while not waiting.done.acquire(timeout=_LOOK_AGAIN_S):
            if not self._thread.is_alive() and waiting.result is None:
                raise self._stopped()
        result = waiting.result
        if isinstance(result, Receipt):
            return result
        assert result is not None
        raise result

    def close(self) -> None:
        """Make durable what was handed in, then stop. Closing twice is no error."""
        with self._state:
            if self._refusal is None:
                self._refusal = "it was closed"
                self._queue.put(None)
        if self._pid == os.getpid() and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> GroupCommitter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refuse_unless_running(self) -> None:
        if self._pid != os.getpid():
            raise LedgerError("this group committer belongs to the process before the fork; make one in this process")
        if self._refusal is not None or not self._thread.is_alive():
            raise self._stopped()

    def _stopped(self) -> LedgerError:
        error = LedgerError(
            f"the group committer does not take entries: {self._refusal or 'its thread ended'}. Make a new one and append "
            "again; an entry that was stored already is then found by its idempotency key"
        )
        error.__cause__ = self._cause
        return error

    def _run(self) -> None:
        group: list[_Waiting] = []
        try:
            while self._collect(group):
                self._commit(group)
                group.clear()
        except BaseException as error:  # callers must not wait for a thread that is gone
            with self._state:
                self._refusal, self._cause = f"its thread ended with {error!r}", error
        with self._state:
            self._refusal = self._refusal or "its thread ended"
        while True:
            try:
                left = self._queue.get_nowait()
            except queue.Empty:
                break
            if left is not None:
                group.append(left)
        for waiting in group:
            if waiting.result is None:
                waiting.finish(self._stopped())

    def _collect(self, group: list[_Waiting]) -> bool:
        """Wait for an entry and take with it all that are there; False once closed and drained."""
        item = self._queue.get()
        size = 0
        while item is not None:
            group.append(item)
            size += len(item.sealed.draft.payload)
            if len(group) >= MAX_GROUP or size >= MAX_GROUP_BYTES:
                return True
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return True
        if group:
            self._queue.put(None)  # stop after this group
        return bool(group)

    def _commit(self, group: list[_Waiting]) -> None:
        try:
            results = self._ledger.store.append_each([item.sealed for item in group], self._ledger._clock())
        except LedgerError as error:
            for item in group:
                item.finish(_own(error))  # its own object: a traceback belongs to one thread
            return
        for item, result in zip(group, results, strict=True):
            item.finish(result)


def _own(error: LedgerError) -> LedgerError:
    own = copy.copy(error)
    own.__cause__ = error
    return own
