"""What `cognify section` and `cognify attest` take: names of sections and texts, what an attestation is about, roles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.inputs import parse_time

if TYPE_CHECKING:
    from cognify_dagster.workspace import Reading

NEVER = "never"


class _Word(click.ParamType):
    def __init__(self, name: str, hint: str) -> None:
        self.name, self._hint = name, hint

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", str(value)):
            self.fail(f"{str(value)[:80]!r} is not {self._hint}", param, ctx)
        return str(value)


class _End(click.ParamType):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if str(value) == NEVER:
            return NEVER
        try:
            return parse_time(str(value))
        except ValueError as error:
            self.fail(f"{error}, nor {NEVER}", param, ctx)


class _Subject(click.ParamType):
    name = "about"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from cognify_dagster.records.attestations import ABOUT_PATTERN

        if re.fullmatch(ABOUT_PATTERN, str(value)) is None or str(value).endswith("\n"):
            self.fail(f"{str(value)[:120]!r} is none of model/KEY, model/KEY@VERSION, dataset/NAME", param, ctx)
        return str(value)


SECTION = _Word("section", "the name of a section, such as failure_modes")
TEXT_ID = _Word("text id", "the id of a text, such as baa")
ABOUT_TYPE, END = _Subject(), _End()


def role_of(reading: Reading, person: str, wanted: Sequence[str]) -> str:
    """Return the role in which a person signs: the first of those wanted that they hold; else any in which one acts.

    Raises:
        click.ClickException: if they hold none of them.
    """
    import time

    from cognify_dagster.governance import directory, policy_in_force

    people = directory(reading)
    held = people.roles_at(person, reading.size, time.time_ns() // 1000)
    choice = wanted or policy_in_force(reading).policy.acting_roles
    found = next((role for role in choice if role in held), None)
    if found is None:
        needed = " or ".join(wanted) or "a role that acts"
        raise click.ClickException(f"{people.name(person)} may not sign this: it needs {needed}")
    return found
