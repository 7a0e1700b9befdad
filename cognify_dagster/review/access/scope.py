"""What a visitor may see of entries, datasets and evidence.

Invariants: encrypted evidence (confidential, personal) is for people who hold a role that counts now, and for an auditor from outside
only where their grant names the class; the lines of the access log are for those who may see the log, whichever page leads to them;
an auditor from outside sees entries of the kinds that somebody decided about (`access.kinds`) and of no other; one of certain models
sees none about other models, nor about data that theirs do not use, nor of a kind that may name other models (holds, other
auditors' grants); what may not be seen is answered as if it were not there.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from cognify_dagster.ledger import Entry
from cognify_dagster.records import AccessLogged, Evaluation, EvidenceItem, TrainingRun
from cognify_dagster.review.access.kinds import KINDS, Shown
from cognify_dagster.review.errors import Refused, not_found
from cognify_dagster.review.identity.grants import grant_of
from cognify_dagster.review.identity.user import User
from cognify_dagster.review.visit import Visit
from cognify_dagster.workspace import Reading

SEALED = frozenset({"confidential", "personal"})
LOG_ROLES = frozenset({"workspace_admin", "compliance_officer", "auditor"})
_OF_MODEL = ("model/", "oversight/", "release/", "experiment/", "external/")


def may_read(visit: Visit, sensitivity: str) -> bool:
    """Whether the visitor may read evidence of a class."""
    user = visit.user
    if user is None:
        return False
    if sensitivity not in SEALED:
        return True
    if user.person is not None:
        return bool(user.roles)
    grant = grant_of(visit.reading, user.account)
    return grant is not None and sensitivity in grant.item.record.classes


def require_readable(visit: Visit, items: Iterable[EvidenceItem | None]) -> None:
    """Refuse unless all of these may be read.

    Raises:
        Refused: 403, naming the class.
    """
    for item in items:
        if item is not None and not may_read(visit, item.sensitivity):
            raise Refused(
                403,
                f"{item.name} is {item.sensitivity} evidence; your roles or your grant do not open it.",
                "sensitivity",
            )


def may_see_log(visit: Visit) -> bool:
    """Whether the visitor sees all lines of the access log, and not only their own."""
    user = visit.user
    if user is None:
        return False
    if user.person is not None:
        return bool(user.roles & LOG_ROLES)
    return user.models is None and may_read(visit, "personal")


def may_open(visit: Visit, record: object, item: EvidenceItem) -> bool:
    """Whether the visitor may read evidence that a record names: by its class, and lines of the access log only as the log itself."""
    if isinstance(record, AccessLogged) and not may_see_log(visit):
        return False
    return may_read(visit, item.sensitivity)


def require_open(visit: Visit, record: object, item: EvidenceItem) -> None:
    """Refuse evidence that the visitor may not open.

    Raises:
        Refused: 403, saying why.
    """
    if not may_open(visit, record, item):
        require_readable(visit, [item])
        raise Refused(403, "The lines of the access log are for those who may see all of the log.", "sensitivity")


def sees_entry(reading: Reading, user: User, entry: Entry) -> bool:
    """Whether a visitor may know of an entry: people of the workspace of each, auditors from outside by the list of kinds."""
    if user.models is None and user.person is not None:
        return True
    rule = KINDS.get(entry.kind)
    if rule is None:
        return False
    return user.models is None or _shows(rule, reading, user, entry)


def _shows(rule: Shown, reading: Reading, user: User, entry: Entry) -> bool:
    """Whether an auditor of certain models sees an entry of a kind with this rule."""
    models = {name for subject in entry.subjects if (name := _model_of(subject))}
    if any(not user.sees(name) for name in models):  # whatever the rule: no other model is told of
        return False
    if rule is Shown.COMMON:
        return True
    if rule is Shown.OWN_GRANT:
        return entry.seq == user.account.grant_seq
    if rule is Shown.MODEL or (rule is Shown.MODEL_OR_DATA and models):
        return bool(models)
    if rule in (Shown.DATA, Shown.MODEL_OR_DATA):
        data = {
            subject.removeprefix("dataset/").partition("@")[0]
            for subject in entry.subjects
            if subject[:8] == "dataset/"
        }
        return bool(data) and data <= datasets_of(reading, user.models or ())
    return False


def _model_of(subject: str) -> str:
    for prefix in _OF_MODEL:
        if subject.startswith(prefix):
            return subject[len(prefix) :].partition("@")[0].partition(".")[0]
    return ""


def datasets_of(reading: Reading, models: Iterable[str]) -> frozenset[str]:
    """Return the datasets that models were trained or evaluated on, without their partitions."""
    wanted = tuple(sorted(models))
    heads = tuple(reading.view.heads.get(f"model/{model}", -1) for model in wanted)
    kept = reading.memo.get(("datasets of", wanted))
    if kept is not None and kept[0] == heads:
        return frozenset(kept[1])
    found: set[str] = set()
    for model in wanted:
        subject = f"model/{model}"
        for run in reading.all(TrainingRun, subject):
            found |= {item.name for item in run.record.datasets}
        found |= {item.record.dataset.name for item in reading.all(Evaluation, subject)}
    names = frozenset(name.partition("@")[0] for name in found)
    reading.memo["datasets of", wanted] = (heads, names)
    return names


def require_dataset(visit: Visit, name: str) -> None:
    """Refuse a dataset that this visitor may not see, as if it were not there."""
    user = visit.user
    if user is None or (
        user.models is not None and name.partition("@")[0] not in datasets_of(visit.reading, user.models)
    ):
        raise not_found(f"The dataset {name[:80]}")


def evidence_items(value: object) -> list[EvidenceItem]:
    """Return every reference to evidence inside a record, in field order."""
    if isinstance(value, EvidenceItem):
        return [value]
    if isinstance(value, (list, tuple)):
        return [found for part in value for found in evidence_items(part)]
    if isinstance(value, BaseModel):
        return [found for name in type(value).model_fields for found in evidence_items(getattr(value, name))]
    return []
