"""Whether a workload key may write a kind of record, asked before an entry is appended.

Invariant: nothing is refused that would count. The rows of the ledger are taken as they stand, and what any enrolment of the key
admits is let through; whether an entry counts (which enrolments were signed, which keys revoked) is decided from verified bytes by
the governance room, and Postgres' own `append()` refuses by the same rules. Acts that have effect only through the signatures of
people inside them are let through whoever writes them: a revoked workload key could otherwise never be replaced.
"""

from __future__ import annotations

from collections.abc import Iterator

from cognify_dagster.ledger import Store, parse_canonical
from cognify_dagster.ledger.errors import CanonicalJsonError, LedgerUnreadable, WriterRefused
from cognify_dagster.ledger.view import Row
from cognify_dagster.records import Genesis, Record, RecordError, Workload, WorkloadEnrolled, read_record

LET_THROUGH = frozenset(
    {
        "genesis", "person_enrolled", "workload_enrolled", "key_revoked", "delegated", "delegation_ended", "person_recertified",
        "person_recovered", "entry_disregarded", "policy_adopted",
    }
)  # fmt: skip
"""Kinds that have effect only through the signatures of people inside them."""
_PAGE = 256


class Permission:
    """What one workload key may write, remembered until a kind is asked for that it may not.

    Args:
        store: the ledger's rows.
        workload: the writer's id, for messages.
        key_id: its key.
    """

    def __init__(self, store: Store, workload: str, key_id: str) -> None:
        self._store, self._workload, self.key_id = store, workload, key_id
        self._kinds: frozenset[str] = frozenset()

    def require(self, kind: str) -> None:
        """Raise unless the key may write entries of a kind.

        Raises:
            WriterRefused: naming kind, workload and key, and how to admit it.
        """
        if kind in LET_THROUGH or kind in self._kinds:
            return
        if not hasattr(self._store, "about") or self._store.size() == 0:
            return  # nobody can say; governance judges the entry
        try:
            enrolled = [workload for record in self._about_people() for workload in _workloads(record)]
        except LedgerUnreadable:
            return  # these entries lie in an archive that is not here
        if not enrolled:
            return  # a ledger that admits no machine at all: nothing in it is judged by its writer
        self._kinds = frozenset(
            kind for workload in enrolled if workload.key.key_id == self.key_id for kind in workload.kinds
        )
        if kind not in self._kinds:
            may = f"it may write {', '.join(sorted(self._kinds))}" if self._kinds else "this key was never enrolled"
            raise WriterRefused(
                f"{self._workload} (key {self.key_id}) is not enrolled to write {kind} entries: {may}. A workspace admin admits it: "
                f"`cognify people enrol-workload {self._workload} --kind {kind} …`"
            )

    def _about_people(self) -> Iterator[Record]:
        """The records about people and keys, and the one that founded the ledger."""
        before = self._store.size()
        while rows := self._store.about("people", before, _PAGE):  # type: ignore[attr-defined]  # looked for above
            for row in rows:
                before = row[0].seq
                yield from _record(row)
        for entry, payload in zip(self._store.entries(0, 1), self._store.payloads(0, 1), strict=False):
            yield from _record((entry, payload))


def _workloads(record: Record) -> tuple[Workload, ...]:
    if isinstance(record, Genesis):
        return record.workloads
    return (record.workload,) if isinstance(record, WorkloadEnrolled) else ()


def _record(row: Row) -> Iterator[Record]:
    entry, payload = row
    if payload is None or payload.data is None:
        return
    try:
        schema = parse_canonical(entry.data)["body"]["schema"]
        yield read_record(entry.kind, schema, parse_canonical(payload.data))
    except (CanonicalJsonError, RecordError, KeyError, TypeError):
        return  # no record that counts
