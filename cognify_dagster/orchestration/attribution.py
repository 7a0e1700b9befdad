"""Maps run launchers and commit authors to enrolled people.

A run tag is a hint that anyone who reaches the webserver can set; what it maps to is decided by signed enrolment entries, and
who maps to nobody is recorded as unattributed, which policy blocks or warns about.
"""

from typing import Any

from cognify_dagster.governance import Directory
from cognify_dagster.orchestration._compat import run_tags
from cognify_dagster.training import CodeState, TrainingRecorder
from cognify_dagster.training.recording import Attribution
from cognify_dagster.workspace import os_login

USER_TAG = "user"
SCHEDULE_TAG = "dagster/schedule_name"
SENSOR_TAG = "dagster/sensor_name"
UNAUTHENTICATED = "!unauthenticated"
"""Stands in the user tag of a run whose user nobody authenticated: see `coordinator`. No alias counts for it."""


def launcher_alias(context: Any) -> str:
    """Return the alias of who launched the run: its `user` tag, its schedule or sensor, or the operating system's user."""
    tags = run_tags(context)
    if tags.get(USER_TAG):
        return f"user:{tags[USER_TAG]}"
    if tags.get(SCHEDULE_TAG):
        return f"schedule:{tags[SCHEDULE_TAG]}"
    if tags.get(SENSOR_TAG):
        return f"sensor:{tags[SENSOR_TAG]}"
    return f"os:{os_login()}"


def _countable(alias: str) -> list[str]:
    return [] if alias == f"user:{UNAUTHENTICATED}" else [alias]


def launcher(context: Any, people: Directory) -> str:
    """Return the launcher's person id, or "unattributed"."""
    found, _ = people.resolve(_countable(launcher_alias(context)))
    return found[0] if found else "unattributed"


def identified(context: Any, people: Directory) -> str:
    """Say how the launcher was told, since a name that nobody typed needs an explanation."""
    alias = launcher_alias(context)
    kind, _, name = alias.partition(":")
    how = {
        "user": f"the run's tag {USER_TAG}={name}",
        "schedule": f"schedule {name}",
        "sensor": f"sensor {name}",
        "os": f"run without a login on this machine: OS user {name}",
    }[kind]
    found, _ = people.resolve(_countable(alias))
    return f"{how} is enrolled as an alias of {people.name(found[0])}" if found else f"{how} is enrolled for nobody"


def attribute(context: Any, people: Directory, code: CodeState) -> Attribution:
    """Return who touched the version: launcher and commit authors, mapped as far as they are enrolled."""
    alias = launcher_alias(context)
    authors = [f"git:{author}" for author in code.authors]
    mapped, unknown = people.resolve([*_countable(alias), *authors])
    launched, _ = people.resolve(_countable(alias))
    unknown = [*unknown, *([] if _countable(alias) else [alias])]
    return Attribution(
        launched_by=launched[0] if launched else "unattributed",
        touched_by=tuple(mapped),
        unattributed=tuple(sorted(unknown)),
    )


def with_features(context: Any, people: Directory, found: Attribution, recorder: TrainingRecorder) -> Attribution:
    """Add the authors of the feature pipeline to who touched a version, where the training named one."""
    if recorder.feature_code is None:
        return found
    more = attribute(context, people, recorder.feature_code)
    return Attribution(
        found.launched_by,
        tuple(sorted({*found.touched_by, *more.touched_by})),
        tuple(sorted({*found.unattributed, *more.unattributed})),
    )
