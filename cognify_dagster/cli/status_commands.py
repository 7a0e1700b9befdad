"""The commands that `cognify status` prints: who signs the next stage, and who resolves what is found, with which key file."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import TYPE_CHECKING

from cognify_dagster.cli.output import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cognify_dagster.cli.status import Standing
    from cognify_dagster.governance import Finding
    from cognify_dagster.workspace import Reading, Workspace


def sign_commands(workspace: Workspace, reading: Reading, found: Standing) -> list[str]:
    """Return the command of each person who can sign the next stage, delegates included."""
    from cognify_dagster.cli.inputs import program
    from cognify_dagster.governance import directory

    decision, stage = found.decision, found.decision.next_stage
    if (
        found.state not in ("blocked", "suspended")
        or stage is None
        or stage.stage.kind != "sign_off"
        or decision.package is None
    ):
        return []
    people = directory(reading)
    holders = {person.name: person.person for role in stage.stage.wanted for person in people.with_role(role)}
    signers = [(holders.get(name), clean(name)) for name in stage.waiting_for]
    waiting = {person for person, _ in signers}
    for item in people.delegations:
        runs = item.covers(decision.model, stage.name) and item.runs_at(reading.size, decision.at)
        if runs and item.delegator in waiting and item.role in stage.stage.wanted:
            words = f"{people.name(item.delegate)} on behalf of {people.name(item.delegator)}"
            signers.append((item.delegate, clean(words)))
    more = "" if decision.target == "production" else f" --target {decision.target}"
    return [
        f"{program(workspace)} sign {decision.model} {decision.version} "
        f"--key {_key_file(workspace, person) if person else 'KEYFILE'}{more}    # {name}"
        for person, name in signers
    ]


def _key_file(workspace: Workspace, person: str) -> str:
    """Return a person's key file where people keep their keys in the workspace, as in the demo; else a word in its place."""
    from cognify_dagster.governance import KeyFileError, read_public

    folder = workspace.config.people_keys
    for path in sorted(folder.glob("*.key.json")) if folder.is_dir() else ():
        with suppress(KeyFileError, OSError):
            if read_public(path)[0] == person:
                return shlex.quote(str(path))
    return "KEYFILE"


def resolve_commands(workspace: Workspace, reading: Reading, model: str, findings: Iterable[Finding]) -> list[str]:
    """Return, for each finding, the command that closes it, with the people who may do so."""
    from cognify_dagster.cli.inputs import program
    from cognify_dagster.cli.overseeing import now
    from cognify_dagster.governance import directory, policy_in_force
    from cognify_dagster.governance.oversight.findings import who_may_not

    people, policy, lines = directory(reading), policy_in_force(reading).policy, []
    roles, now_us = policy.findings.close_roles, int(now().timestamp() * 1_000_000)
    able = {
        person.person: person.name for role in roles for person in people.role_holders_at(role, reading.size, now_us)
    }
    for item in {item.seq: item for item in findings if item.open}.values():
        excluded = who_may_not(reading, policy, model, item.version)
        may = {person: name for person, name in able.items() if person not in excluded}
        first = next(iter(may), None)
        who = " or ".join(clean(name) for name in may.values()) or f"nobody yet: enrol a {' or '.join(roles)}"
        lines.append(
            f'{program(workspace)} finding resolve {item.seq} --close --reason "…" '
            f"--as {_key_file(workspace, first) if first else 'KEYFILE'}    # {who}"
        )
    return lines
