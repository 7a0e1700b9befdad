"""The deployment record of a model version: what went live where and when, under which release, with which conditions, and the way back.

Invariants: something is said to have been live only by a completed deployment that follows from a release, once for each release; the
people named are those whose sign-offs the release itself names; what is live now is judged as the release gate judges it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.labels import words
from cognify_dagster.documents.outputs.common import cite, condition_kind, digest, ledger_rows, listed, pairs, preamble
from cognify_dagster.documents.outputs.content import (
    Block,
    Bullets,
    Cell,
    Code,
    Document,
    Heading,
    Paragraph,
    facts,
    table,
)
from cognify_dagster.documents.package.parts import when
from cognify_dagster.governance import Directory, check_sign_off, directory, live_state
from cognify_dagster.governance.release.history import completions, grant_of
from cognify_dagster.records import (
    DeploymentCompleted,
    DeploymentFailed,
    ModelAdopted,
    ModelRegistered,
    Package,
    ReleaseGranted,
    ReleaseRefused,
    RollbackOrdered,
    SignOff,
)
from cognify_dagster.workspace import Reading, Recorded, unknown_version

_PURPOSE = {
    "release": "release after all sign-offs that the policy demands",
    "rollback": "rollback to a version that was live before",
    "break_glass": "break-glass: an emergency release without all sign-offs",
}
_STANDING = {
    "live": "live, and nothing stands against it",
    "suspended": "live but suspended: what it rests on no longer holds",
    "unattested": "live since before this ledger; nothing about it is attested",
    "none": "nothing is live there",
}


def deployment_record(reading: Reading, model: str, version: str, *, now: datetime) -> Document:
    """Return the deployment record of a version; one that was never released has one too, which says so.

    Args:
        reading: verified entries.
        model: model key.
        version: version id.
        now: the moment for which it is judged what stands, with time zone.

    Raises:
        DocumentError: if the ledger knows no such version.
    """
    subject = f"model/{model}@{version}"
    if not reading.history(subject):
        raise DocumentError(unknown_version(reading, model, version) or f"nothing about {subject} can be read")
    people = directory(reading)
    registered = reading.latest(ModelRegistered, f"model/{model}")
    grants = reading.all(ReleaseGranted, subject)
    targets = list(dict.fromkeys(item.record.target for item in grants))
    title = (registered.record.title if registered else "") or model
    blocks: list[Block] = preamble(
        reading, now, f"When version {version} of {model} went live, where, and on whose word."
    )
    blocks += [
        facts(
            ("Model", title),
            ("Model key", model),
            ("Version", version),
            ("Owner", registered.record.owner if registered else "not registered"),
            ("Released on", listed(targets, "no target: this version was never released")),
            *ledger_rows(reading),
        ),
        Heading("1. What is live now"),
        *_now(reading, model, version, targets, now),
        Heading("2. Releases and deployments of this version"),
    ]
    for item in grants:
        blocks += _release(reading, people, item)
    if not grants:
        blocks.append(Paragraph("None: no release of this version was granted."))
    blocks += [
        Heading("3. The way back"),
        *_way_back(reading, model, version, targets, people),
        Heading("4. Refused and failed"),
        *_refused(reading, people, subject),
    ]
    return Document("deployment_record", f"Deployment record: {title}, version {version}", tuple(blocks))


def _now(reading: Reading, model: str, version: str, targets: Sequence[str], now: datetime) -> list[Block]:
    rows: list[Sequence[Cell]] = []
    more: list[Block] = []
    for target in targets:
        state = live_state(reading, model, target, now)
        mine = state.version == version
        text = _STANDING[state.standing] if mine else "another version is live"
        rows.append([target, state.version or "–", text, cite(state.completed)])
        if not mine:
            continue
        for reason in state.reasons:
            by = f" Resolved by {reason.resolved_by}." if reason.resolved_by else ""
            more.append(Paragraph(f"{target}, speaks against it: {reason.text}.{by}"))
        bound: list[Sequence[Cell]] = [
            [
                found.condition.text,
                condition_kind(found.condition.kind),
                found.name,
                str(found.condition.due or found.condition.limit.get("until") or "no date"),
                "overdue" if found.overdue(now) else "open",
                str(found.sign_off_seq),
            ]
            for found in state.conditions
        ]
        if bound:
            more += [
                Heading(f"Open conditions on {target}", 3),
                table(["Condition", "Kind", "Given by", "Due", "State", "Entry"], bound),
            ]
        more.append(
            Paragraph(f"Next review on {target}: {state.review.due or 'no date; the policy or a review sets one'}.")
        )
    head = ["Target", "Version live", "State", "Went live in"]
    return [table(head, rows, empty="Nothing of this version was ever live."), *more]


def _release(reading: Reading, people: Directory, grant: Recorded[ReleaseGranted]) -> list[Block]:
    record = grant.record
    done = _completion(reading, grant)
    rows: list[tuple[str, Cell | None]] = [
        ("Purpose", _PURPOSE[record.purpose]),
        ("Release granted", cite(grant)),
        ("Decided on", f"the first {record.decided_on_size} entries, at {record.decided_at}"),
        ("Policy", digest(record.policy_digest)),
        ("Package", digest(record.package_digest)),
        ("Package recorded in", f"entry {record.package_seq}{_revision(reading, record.package_seq)}"),
        ("Model file", digest(record.model_digest)),
        ("Automated gates relied on", listed(f"entry {seq}" for seq in record.gate_seqs)),
        ("Stages waived", listed(record.waived) if record.waived else None),
        ("Change plan", f"entry {record.plan_seq}" if record.plan_seq is not None else None),
        ("Ordered by", _order(reading, people, record.order_seq) if record.order_seq is not None else None),
        ("Replaced version", record.supersedes or "none: nothing was live on this target"),
    ]
    if done is None:
        rows.append(("Deployment", "not completed: nothing went live under this release"))
    else:
        rows += [
            ("Went live", cite(done)),
            ("Location", Code(done.record.location) if done.record.location else "not recorded"),
            ("Reported by the deployment", pairs(done.record.detail) or "nothing further"),
            ("Live until", _until(reading, done)),
        ]
    signed: list[Sequence[Cell]] = [_signed(reading, people, seq) for seq in record.sign_off_seqs]
    bound: list[Sequence[Cell]] = [
        [
            str(c.get("text", "")),
            condition_kind(str(c.get("kind", "text"))),
            str(c.get("due", "no date")),
            str(c.get("sign_off_seq", "–")),
        ]
        for c in record.conditions
    ]
    return [
        Heading(f"Target {record.target}, entry {grant.seq}", 3),
        facts(*rows),
        table(
            ["Stage", "Who", "Role", "Decision", "Signed", "Entry"],
            signed,
            empty="No sign-off was relied on: automated gates only.",
        ),
        table(
            ["Condition the release is bound to", "Kind", "Due", "From entry"],
            bound,
            empty="The release was bound to no condition that was open when it was granted.",
        ),
    ]


def _revision(reading: Reading, seq: int) -> str:
    found = reading.at(seq) if seq < reading.size else None
    return f", revision {found.record.revision}" if found is not None and isinstance(found.record, Package) else ""


def _completion(reading: Reading, grant: Recorded[ReleaseGranted]) -> Recorded[DeploymentCompleted] | None:
    """The deployment that follows from a grant, if it completed."""
    for item in reading.all(DeploymentCompleted, f"model/{grant.record.model}@{grant.record.version}"):
        if item.record.grant_seq == grant.seq and grant_of(reading, item) is not None:
            return item
    return None


def _until(reading: Reading, done: Recorded[DeploymentCompleted]) -> str:
    for later in completions(reading, done.record.model, done.record.target):
        if later.seq > done.seq:
            return f"{when(later)}, replaced by version {later.record.version} (entry {later.seq})"
    return "still live, by the record"


def _signed(reading: Reading, people: Directory, seq: int) -> list[Cell]:
    item = reading.at(seq) if seq < reading.size else None
    if item is None or not isinstance(item.record, SignOff):
        return ["–", "the entry cannot be read", "–", "–", "–", str(seq)]
    record = item.record
    found = check_sign_off(
        Recorded(item.seq, item.time_us, item.leaf, item.actor, item.key_id, record, item.entry), reading, people
    )
    if isinstance(found, str):
        return [
            record.stage,
            people.name(record.person),
            words(record.role),
            f"does not verify now: {found}",
            record.signed_at,
            str(seq),
        ]
    behalf = f", for {people.name(found.on_behalf_of.person)}" if found.on_behalf_of else ""
    name = f"{found.printed_name}{behalf}"
    return [record.stage, name, words(record.role), words(record.decision), record.signed_at, str(seq)]


def _order(reading: Reading, people: Directory, seq: int) -> str:
    found = reading.at(seq) if seq < reading.size else None
    record: Any = found.record if found is not None else None
    if record is None:
        return f"entry {seq}, which cannot be read"
    signers = getattr(record, "signers", None) or (getattr(record, "ordered_by", ""),)
    names = listed(people.name(person) for person in signers if person)
    return f"{names}, entry {seq}: {getattr(record, 'reason', '')}"


def _way_back(reading: Reading, model: str, version: str, targets: Sequence[str], people: Directory) -> list[Block]:
    rows: list[Sequence[Cell]] = []
    for target in targets:
        seen = [item for item in completions(reading, model, target) if item.record.version != version]
        before = next(
            (item for item in reversed(seen) if item.seq < _first_live(reading, model, version, target)), None
        )
        if before is not None:
            rows.append([target, before.record.version, cite(before), digest(before.record.model_digest)])
            continue
        adopted = reading.latest(ModelAdopted, f"release/{model}.{target}")
        if adopted is not None:
            rows.append(
                [target, adopted.record.version, f"before this ledger (entry {adopted.seq}); nothing is attested", "–"]
            )
        else:
            rows.append([target, "none", "nothing was live before it", "–"])
    blocks: list[Block] = [
        table(
            ["Target", "Version live before", "Went live", "Its model file"],
            rows,
            empty="Nothing of this version was ever live.",
        )
    ]
    if any(row[1] != "none" for row in rows):
        blocks.append(
            Paragraph(
                "A rollback is ordered by a signed act (cognify model rollback); it needs no new sign-offs, for what it brings back "
                "was released before, and it is judged anew."
            )
        )
    orders = [
        item for item in reading.all(RollbackOrdered, f"model/{model}") if item.record.target in targets or not targets
    ]
    told = tuple(
        f"{when(item)}, entry {item.seq}: {people.name(item.record.ordered_by)} ordered {item.record.target} back to version "
        f"{item.record.version}, in place of what entry {item.record.replaces_seq} brought: {item.record.reason}"
        for item in orders
    )
    return [*blocks, Heading("Rollbacks ordered for this model", 3), Bullets(told) if told else Paragraph("None.")]


def _first_live(reading: Reading, model: str, version: str, target: str) -> int:
    """The entry with which the version first went live on a target; the ledger's size if it never did."""
    return min(
        (i.seq for i in completions(reading, model, target) if i.record.version == version), default=reading.size
    )


def _refused(reading: Reading, people: Directory, subject: str) -> list[Block]:
    told: list[str] = []
    for item in reading.history(subject):
        record = item.record
        if isinstance(record, ReleaseRefused):
            reasons = "; ".join(reason.text for reason in record.reasons)
            told.append(
                f"{when(item)}, entry {item.seq}: release on {record.target}, asked for by {people.name(record.requested_by)}, "
                f"was refused: {reasons}"
            )
        elif isinstance(record, DeploymentFailed):
            told.append(
                f"{when(item)}, entry {item.seq}: deployment on {record.target} under the release of entry {record.grant_seq} "
                f"failed: {record.reason}"
            )
    return [Bullets(tuple(told))] if told else [Paragraph("None.")]
