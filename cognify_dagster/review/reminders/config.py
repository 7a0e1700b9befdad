"""The table `[review.reminders]` of cognify.toml, and the ways of `[[notify]]` by which the digest reaches people."""

from __future__ import annotations

from dataclasses import dataclass

from cognify_dagster.governance import Directory
from cognify_dagster.governance.oversight.news import DIGEST, EVENTS, address_of
from cognify_dagster.review.config import ReviewConfig
from cognify_dagster.workspace import Workspace, WorkspaceError
from cognify_dagster.workspace.notify import Channel, EmailChannel, Message, channels

STEPS = (0, 3, 7, 14)
HOUR = 7
_FIELDS = {"mail", "hour", "steps"}
_MOST_STEPS, _MOST_DAYS = 10, 365


@dataclass(frozen=True)
class Reminders:
    """How people and systems are reminded.

    Args:
        steps: a request is told of again when it has been overdue for so many days; in rising order.
        hour: the hour, UTC, from which the digest of a day is sent.
        channels: the ways by which a digest is sent, in the order in which they are tried; none: nobody gets one.
    """

    steps: tuple[int, ...] = STEPS
    hour: int = HOUR
    channels: tuple[Channel, ...] = ()

    def channel_for(self, message: Message) -> Channel | None:
        """Return the first channel by which somebody can be reached."""
        return next((item for item in self.channels if item.reaches(message)), None)

    def reaches(self, people: Directory, person: str) -> bool:
        """Whether a person can get a digest at all."""
        probe = Message(person, people.name(person), address_of(people, person), "", ())
        return self.channel_for(probe) is not None


def reminders_of(workspace: Workspace, config: ReviewConfig) -> Reminders:
    """Read the table.

    Raises:
        WorkspaceError: naming the field that is wrong, here or in a `[[notify]]` table.
    """
    where, table = f"{workspace.config.path}: [review.reminders]", config.reminders
    unknown = sorted(set(table) - _FIELDS)
    if unknown:
        raise WorkspaceError(f"{where} has unknown field {unknown[0]!r}; it may have {', '.join(sorted(_FIELDS))}")
    mail, hour, steps = table.get("mail", True), table.get("hour", HOUR), table.get("steps", list(STEPS))
    if not isinstance(mail, bool):
        raise WorkspaceError(f"{where} mail must be true or false")
    if isinstance(hour, bool) or not isinstance(hour, int) or not 0 <= hour <= 23:
        raise WorkspaceError(f"{where} hour must be a whole hour of the day in UTC, from 0 to 23")
    whole = isinstance(steps, list) and all(isinstance(day, int) and not isinstance(day, bool) for day in steps)
    if not whole or not 0 < len(steps) <= _MOST_STEPS or not all(0 <= day <= _MOST_DAYS for day in steps):
        raise WorkspaceError(
            f"{where} steps must be a list of up to {_MOST_STEPS} numbers of days, from 0 to {_MOST_DAYS}"
        )
    if sorted(set(steps)) != steps:
        raise WorkspaceError(f"{where} steps must rise, such as [0, 3, 7]")
    return Reminders(tuple(steps), hour, tuple(_ways(workspace)) if mail else ())


def _ways(workspace: Workspace) -> list[Channel]:
    """Mail first. A command gets digests only where its `events` name them: most of them post to a place that many read."""
    found = channels(workspace.config, EVENTS)
    mail = [item for item in found if isinstance(item, EmailChannel) and (not item.events or DIGEST in item.events)]
    return [*mail, *(item for item in found if not isinstance(item, EmailChannel) and DIGEST in item.events)]
