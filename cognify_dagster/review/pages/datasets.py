"""Datasets: what there is, where it comes from, what changed between snapshots, who approved that."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from functools import partial
from threading import RLock
from typing import Any

from starlette.responses import Response

from cognify_dagster.datasets import DatasetError, diff_digest, diff_snapshots
from cognify_dagster.datasets.recording import record_diff
from cognify_dagster.documents import DocumentError
from cognify_dagster.documents.outputs.content import Code
from cognify_dagster.documents.outputs.dataset_diff import dataset_diff_view
from cognify_dagster.documents.outputs.making import json_text, make_croissant
from cognify_dagster.documents.outputs.provenance import six_answers
from cognify_dagster.evidence import EvidenceError
from cognify_dagster.governance import (
    Change,
    Directory,
    GovernanceError,
    attestations_about,
    changes_of,
    decision_record,
    directory,
    find_change,
    policy_in_force,
    reason_record,
)
from cognify_dagster.governance.oversight.dataset_changes import Snapshot, deciding_roles, snapshots_of
from cognify_dagster.records import DatasetDiffRecorded, DatasetSnapshot, RecordError
from cognify_dagster.review.access.scope import datasets_of, require_dataset, require_readable
from cognify_dagster.review.errors import Refused, not_found
from cognify_dagster.review.reading.files import Shelf
from cognify_dagster.review.reading.runs import runs_of
from cognify_dagster.review.reading.signed import signed_statements
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.visit import Visit
from cognify_dagster.workspace import Reading, Recorded

USES = 1_000
"""So many entries about a dataset are looked through for its uses: a page is not made of ten thousand experiments."""
_KEPT = 32
_SHORT = 8


@page("/datasets", Need.READ)
def datasets(visit: Visit) -> Response:
    """List the datasets, with the newest snapshot of each and whether its last change was approved."""
    reading, user = visit.reading, visit.user
    assert user is not None
    visible = None if user.models is None else datasets_of(reading, user.models)
    wanted = visit.query("q")[:100].lower()
    rows = [
        row
        for name, row in sorted(_known(visit, reading).items())
        if (visible is None or name.partition("@")[0] in visible) and wanted in name.lower()
    ]
    return visit.render("datasets.html.j2", rows=rows, q=visit.query("q")[:100], any=bool(rows))


@page("/datasets/{name}", Need.READ)
def dataset(visit: Visit) -> Response:
    """Show a dataset: provenance, six questions, snapshots, changes with their approvals, what people attested."""
    return _show(visit)


@page("/datasets/{name}/diff", Need.READ)
def dataset_diff(visit: Visit) -> Response:
    """Show what differs between two snapshots; the newest change unless two roots are named."""
    name, held = _held(visit)
    old, new = _pair(visit, name, held)
    parts = [new.record.profile, new.record.manifest, new.record.record_index]
    parts += [old.record.profile, old.record.manifest, old.record.record_index] if old is not None else []
    require_readable(visit, parts)
    title, lead, sections, charts = _compared(visit, old, new)
    shelf = Shelf(visit)
    files = [("the snapshot before", shelf.of_snapshot(name, old))] if old is not None else []
    files.append(("the snapshot after", shelf.of_snapshot(name, new)))
    recorded = _recorded_diff(visit.reading, old, new)
    if recorded is not None:
        files.append(("the difference", shelf.of_difference(recorded)))
    visit.detail = f"{old.record.root[:12] if old is not None else 'nothing'} to {new.record.root[:12]}"
    return visit.render(
        "dataset_diff.html.j2",
        name=name,
        title=title,
        lead=lead,
        sections=sections,
        charts=charts,
        snapshots=_roots(visit, name, held),
        files=files,
        old=old,
        new=new,
    )


@page("/datasets/{name}/croissant.json", Need.READ)
def dataset_croissant(visit: Visit) -> Response:
    """Give a snapshot's description as Croissant metadata."""
    name, held = _held(visit)
    item = _at(held, visit.query("root")) if visit.query("root") else held[-1]
    if item is None:
        raise not_found("This snapshot")
    require_readable(visit, [item.record.profile, item.record.manifest])
    try:
        data = json_text(make_croissant(visit.workspace, visit.reading, item)).encode()
    except (DocumentError, DatasetError, EvidenceError) as error:
        raise Refused(409, f"The description cannot be made: {error}") from error
    visit.detail = f"croissant of {item.record.root[:12]}"
    return visit.download(data, f"{name}.croissant.json", "application/ld+json")


@page("/datasets/{name}/decide", Need.PERSON, methods=("POST",))
def dataset_decide(visit: Visit) -> Response:
    """Prepare the approval or rejection of a change, to be signed."""
    name, _ = _held(visit)
    root, decision = visit.field("root"), visit.field("decision")
    if decision not in ("approve", "reject"):
        return _show(visit, ["Choose whether you approve or reject the change."])
    try:
        change = find_change(visit.reading, name, root)
        deciding = deciding_roles(policy_in_force(visit.reading).policy, change.name)
        if visit.user is None or not visit.user.roles & set(
            deciding
        ):  # before anything is computed or recorded for them
            return _show(visit, [f"Changes of {change.name} are decided by {' or '.join(deciding)}."])
        if change.diff is None:  # computed from the two snapshots, so that what is signed names it
            record_diff(visit.workspace, change.name, change.item.seq)
            visit.refresh()
        record = decision_record(
            visit.reading, name, root, "approve" if decision == "approve" else "reject", visit.person,
            role=visit.field("role"), comment=visit.field("comment"),
        )  # fmt: skip
        return _to_sign(visit, record, f"{decision.capitalize()} the change of {name} to root {root[:12]}")
    except (GovernanceError, RecordError, DatasetError, EvidenceError) as error:
        return _show(visit, [str(error)])


@page("/datasets/{name}/reason", Need.PERSON, methods=("POST",))
def dataset_reason(visit: Visit) -> Response:
    """Prepare the statement why a dataset changed, to be signed."""
    name, _ = _held(visit)
    if not visit.field("reason"):
        return _show(visit, ["Write why the data changed."])
    try:
        record = reason_record(visit.reading, name, visit.field("root"), visit.field("reason"), visit.person)
        return _to_sign(visit, record, f"Say why {name} changed to root {visit.field('root')[:12]}")
    except (GovernanceError, RecordError) as error:
        return _show(visit, [str(error)])


def _to_sign(visit: Visit, record: Any, title: str) -> Response:
    from cognify_dagster.review.signing.acts import start

    return visit.redirect(f"/acts/{start(visit, record, [visit.person], title)}")


# --- the page of one dataset ----------------------------------------------------------------------------------------


def _show(visit: Visit, problems: list[str] | None = None) -> Response:
    name, held = _held(visit)
    reading, people = visit.reading, directory(visit.reading)
    chosen = _at(held, visit.query("root")) if visit.query("root") else held[-1]
    if chosen is None:
        raise not_found("This snapshot")
    names = list(dict.fromkeys(item.record.name for item in held))
    changes = [change for one in names for change in changes_of(reading, people, one)]
    changes.sort(key=lambda change: -change.item.seq)
    attested, _ = attestations_about(reading, people, f"dataset/{name}", visit.now)
    record = chosen.record
    user = visit.user
    roles = sorted(user.roles) if user is not None else []
    deciding, shelf = deciding_roles(policy_in_force(reading).policy, record.name), Shelf(visit)
    return visit.render(
        "dataset.html.j2",
        status=400 if problems else 200,
        problems=problems or [],
        name=name,
        item=chosen,
        record=record,
        newest=chosen is held[-1],
        questions=[(question, _plain(rows)) for question, rows in six_answers(reading, chosen, visit.now, USES)],
        snapshots=_roots(visit, name, held),
        changes=[_change(visit, shelf, people, change) for change in changes[:100]],
        runs=runs_of(record, visit.site.config.dagster_url),
        shelf=shelf,
        signed_in=partial(signed_statements, reading),
        more_changes=max(0, len(changes) - 100),
        attested=attested,
        people=people,
        may_decide=user is not None and user.person is not None and any(role in deciding for role in roles),
        roles=[role for role in roles if role in deciding],
        deciding=deciding,
        personal=bool(record.provenance.get("contains_personal_data") or record.provenance.get("contains_phi")),
    )


def _change(visit: Visit, shelf: Shelf, people: Directory, change: Change) -> dict[str, Any]:
    tone = {"approved": "good", "rejected": "bad"}.get(change.state, "open")
    return {
        "change": change,
        "tone": tone,
        "summary": _summary(change),
        "files": shelf.of_difference(change.diff) if change.diff is not None else None,
        "decisions": [
            {
                "who": people.name(one.item.record.decided_by),
                "word": "approved" if one.item.record.decision == "approve" else "rejected",
                "role": one.item.record.role,
                "comment": one.item.record.comment,
                "seq": one.item.seq,
                "time_us": one.item.time_us,
                "why": one.why,
                "signed": signed_statements(visit.reading, one.item),
            }
            for one in change.decisions
        ],
    }


def _summary(change: Change) -> str:
    if change.diff is None:
        return ""
    text = change.diff.record.summary.get("text") or change.diff.record.summary.get("summary") or ""
    return str(text)


def _plain(rows: Any) -> list[tuple[str, str, str]]:
    """Answers as text: what it is about, the answer, the entry."""
    return [tuple(cell.text if isinstance(cell, Code) else str(cell) for cell in row) for row in rows]  # type: ignore[misc]


def _roots(visit: Visit, name: str, held: list[Snapshot]) -> list[dict[str, Any]]:
    shelf, dagster_url = Shelf(visit), visit.site.config.dagster_url
    return [
        {
            "name": item.record.name, "root": item.record.root, "seq": item.seq, "time_us": item.time_us,
            "records": item.record.record_count, "files": item.record.file_count, "bytes": item.record.total_bytes,
            "reason": item.record.change_reason, "runs": runs_of(item.record, dagster_url),
            "download": shelf.of_snapshot(name, item),
        }
        for item in reversed(held)
    ]  # fmt: skip


# --- finding -----------------------------------------------------------------------------------------------------------


def _held(visit: Visit) -> tuple[str, list[Snapshot]]:
    """The snapshots of the dataset that the path names, oldest first."""
    name = visit.param("name")
    visit.subject = f"dataset/{name[:160]}"
    require_dataset(visit, name)
    held = snapshots_of(visit.reading, name) or visit.reading.all(DatasetSnapshot, f"dataset/{name}")
    if not held:
        raise not_found(f"The dataset {name[:80]}")
    return name, held


def _at(held: list[Snapshot], root: str) -> Snapshot | None:
    """The newest snapshot whose root begins so, if no other root does."""
    found = [item for item in held if item.record.root.startswith(root)]
    return found[-1] if len(root) >= _SHORT and len({item.record.root for item in found}) == 1 else None


def _recorded_diff(reading: Reading, old: Snapshot | None, new: Snapshot) -> Recorded[DatasetDiffRecorded] | None:
    """The newest recorded difference between exactly these two, which people sign under."""
    roots = (old.record.root if old is not None else None, new.record.root)
    found = reading.all(DatasetDiffRecorded, f"dataset/{new.record.name}")
    return next((i for i in reversed(found) if (i.record.old_root, i.record.new_root) == roots), None)


def _pair(visit: Visit, name: str, held: list[Snapshot]) -> tuple[Snapshot | None, Snapshot]:
    to, since = visit.query("to"), visit.query("from")
    new = _at(held, to) if to else held[-1]
    if new is None:
        raise not_found(f"A snapshot of {name} whose root begins with {to[:16]}")
    if since:
        old = _at(held, since)
        if old is None:
            raise not_found(f"A snapshot of {name} whose root begins with {since[:16]}")
        return old, new
    before = [item for item in held if item.seq < new.seq and item.record.root != new.record.root]
    same = [item for item in before if item.record.name == new.record.name]
    return (same[-1] if same else None), new


def _compared(visit: Visit, old: Snapshot | None, new: Snapshot) -> tuple[str, list[str], list[Any], dict[str, str]]:
    """The view of a difference; the last 32 are kept, since a root says what was compared."""
    kept: tuple[OrderedDict[Any, Any], RLock] = visit.site.remember("dataset-diffs", lambda: (OrderedDict(), RLock()))
    key = (old.leaf if old is not None else "", new.leaf)
    with kept[1]:
        if key in kept[0]:
            kept[0].move_to_end(key)
            found: tuple[str, list[str], list[Any], dict[str, str]] = kept[0][key]
            return found
    try:
        diff = diff_snapshots(visit.workspace, old, new)
        view, charts = dataset_diff_view(diff.to_dict(), diff_digest(diff), summary=diff.summary)
    except (DatasetError, EvidenceError, LookupError) as error:
        raise Refused(409, f"These snapshots cannot be compared: {error}", "not-comparable") from error
    found = (view["title"], view["lead"], view["sections"], charts)
    with kept[1]:
        kept[0][key] = found
        while len(kept[0]) > _KEPT:
            kept[0].popitem(last=False)
    return found


def _known(visit: Visit, reading: Reading) -> dict[str, dict[str, Any]]:
    """Every dataset with its newest snapshot, kept up to date by what is new."""
    state: dict[str, Any] = visit.site.remember("datasets", lambda: {"size": 0, "rows": {}, "lock": RLock()})
    with state["lock"]:
        if reading.size > state["size"]:
            for seq in reading.view.seqs_of_kind(DatasetSnapshot.kind):
                item = reading.find(DatasetSnapshot, seq) if seq >= state["size"] else None
                if item is not None:
                    _note(state["rows"], item)
            state["size"] = reading.size
        rows = {name: dict(row) for name, row in state["rows"].items()}
    people = directory(reading)
    for name, row in rows.items():
        head = reading.view.heads.get(f"dataset/{name}", -1)
        key = ("dataset-state", name)
        kept = visit.site.state.get(key)
        if kept is None or kept[0] != head:
            changes = changes_of(reading, people, name)
            kept = (head, changes[-1].state if changes else "not approved")
            visit.site.state[key] = kept
        row["state"] = kept[1]
    return rows


def _note(rows: dict[str, dict[str, Any]], item: Snapshot) -> None:
    record = item.record
    row = rows.setdefault(record.name, {"name": record.name, "snapshots": 0})
    when: datetime = item.when
    row |= {
        "snapshots": row["snapshots"] + 1, "root": record.root, "seq": item.seq, "when": when,
        "records": record.record_count, "owner": str(record.provenance.get("owner") or ""),
        "personal": bool(record.provenance.get("contains_personal_data") or record.provenance.get("contains_phi")),
    }  # fmt: skip
