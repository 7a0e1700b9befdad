"""Who touched a run, and whether the data that it stands on are there: asked alike by the SDK and by what imports runs of other tools."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cognify_dagster.governance import classification_of, directory, policy_in_force, require_ready
from cognify_dagster.records import DatasetRef, DatasetSnapshot
from cognify_dagster.training.recording import Attribution
from cognify_dagster.workspace import Reading


def attribution_of(reading: Reading, launcher: Sequence[str], others: Iterable[str] = ()) -> Attribution:
    """Return who touched a run, as far as the names are aliases of people who are enrolled.

    Args:
        reading: the ledger.
        launcher: alias of who started it, such as `os:ben`; empty where nobody says.
        others: further aliases, such as `git:` and the authors of its code.
    """
    people = directory(reading)
    mapped, unknown = people.resolve(list(dict.fromkeys((*launcher, *others))))
    launched, _ = people.resolve(list(launcher))
    return Attribution(
        launched_by=launched[0] if launched else "unattributed",
        touched_by=tuple(mapped),
        unattributed=tuple(sorted(unknown)),
    )


def require_refs(reading: Reading, project: str, refs: Iterable[DatasetRef], purpose: str) -> None:
    """Refuse data of which the policy in force asks for something that is not there.

    Raises:
        GovernanceError: naming dataset, what is missing and who gives it.
    """
    people, policy = directory(reading), policy_in_force(reading).policy
    tier = classification_of(reading, people, policy, project).tier
    items = [found for ref in refs if (found := reading.find(DatasetSnapshot, ref.seq)) is not None]
    require_ready(reading, people, policy, items, tier, purpose)
