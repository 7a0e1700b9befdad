"""`cognify doctor`: checks of the workspace and of the Dagster instance that runs it, each with what to do."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import BLOCKED, OK, explain, finish
from cognify_dagster.cli.inputs import json_option, open_workspace
from cognify_dagster.cli.output import as_json, moment, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.workspace import Reading, Workspace, WorkspaceConfig

_SKEW_S = 5 * 60
_LOW_DISK = 1 << 30
_NO_DISK = 50 << 20


@dataclass(frozen=True)
class Check:
    """One check: `status` is ok, warn or fail; `do` says what to do unless it is ok."""

    name: str
    status: str
    text: str
    do: str = ""


@click.command(cls=Command, name="doctor")
@click.option("--no-dagster", is_flag=True, help="Leave the Dagster checks out.")
@json_option
@click.pass_context
def command(ctx: click.Context, no_dagster: bool, json_: bool) -> None:
    """Check the workspace, its keys, clock and storage, and Dagster if it is set up. Exit code 1 if any check fails.

    \b
    Example:
      cognify doctor
    """
    checks: list[Check] = []
    trial = False
    workspace: Workspace | None = None
    try:
        workspace = open_workspace(ctx)
        checks.append(Check("workspace", "ok", f"{workspace.origin} in {workspace.config.path.parent}"))
    except Exception as error:
        text, _ = explain(error)
        checks.append(Check("workspace", "fail", text, "mend it first; some checks need it"))
    config = workspace.config if workspace is not None else _config(ctx)
    if config is not None:
        for probe in (_keys, _storage, _database, _evidence):
            checks += _guarded(config, probe)
    if workspace is not None:
        reading, found = _ledger(workspace)
        checks += found
        if reading is not None:
            trial = reading.trial
            for judge in (_clock, _writer, _people, _policy):
                checks.append(judge(workspace, reading))
        if not no_dagster:
            checks += _dagster(workspace)
    worst = "fail" if any(check.status == "fail" for check in checks) else "ok"
    if json_:
        as_json(
            {
                "ok": worst == "ok",
                "trial": trial,
                "checks": [{"name": c.name, "status": c.status, "text": c.text, "do": c.do} for c in checks],
            }
        )
    else:
        trial_banner(trial)
        table(("check", "state", "what was found", "what to do"), [(c.name, c.status, c.text, c.do) for c in checks])
        counts = [f"{sum(c.status == word for c in checks)} {word}" for word in ("ok", "warn", "fail")]
        say(", ".join(counts))
    finish(BLOCKED if worst == "fail" else OK)


def _config(ctx: click.Context) -> WorkspaceConfig | None:
    """Read the configuration of a workspace that does not open, so that its files can be looked at."""
    from cognify_dagster.workspace import WorkspaceError, find_config, load_config
    from cognify_dagster.workspace.workspace import ENVIRONMENT_VARIABLE

    try:
        return load_config(find_config(ctx.obj.get("workspace") or os.environ.get(ENVIRONMENT_VARIABLE) or "."))
    except WorkspaceError:
        return None


def _guarded(config: WorkspaceConfig, probe: Callable[[WorkspaceConfig], Iterator[Check]]) -> list[Check]:
    """Run a group of checks; one that cannot be made is a failed check, not the end of the others."""
    found: list[Check] = []
    try:
        found.extend(probe(config))
    except Exception as error:
        found.append(Check(probe.__name__.strip("_"), "fail", explain(error)[0]))
    return found


def _ledger(workspace: Workspace) -> tuple[Reading | None, list[Check]]:
    from cognify_dagster.governance import judge_acts

    try:
        report = workspace.ledger.verify(workspace.trust(), acts=judge_acts)
    except Exception as error:
        return None, [Check("ledger", "fail", explain(error)[0], "run `cognify ledger verify`")]
    if report.findings:
        first = report.findings[0]
        return None, [
            Check("ledger", "fail", f"{len(report.findings)} findings; first: {first}", "run `cognify ledger verify`")
        ]
    checks = [Check("ledger", "ok", f"{report.size} entries verify, level {report.level}"), *_appendable(workspace)]
    if report.uncovered:
        checks.append(
            Check(
                "exposure window",
                "warn",
                f"{report.uncovered} newest entries are under no signed head",
                "run `cognify ledger checkpoint`",
            )
        )
    else:
        checks.append(Check("exposure window", "ok", "every entry is under a signed head"))
    return workspace.read(), checks


def _appendable(workspace: Workspace) -> list[Check]:
    from cognify_dagster.ledger import RolledBack
    from cognify_dagster.ledger.recovery.rollback import mark_path, require_appendable

    try:
        require_appendable(mark_path(workspace.config.ledger))
    except RolledBack as error:
        return [Check("rollback", "fail", str(error), "see docs/operations.md")]
    return []


def _keys(config: WorkspaceConfig) -> Iterator[Check]:
    from cognify_dagster.workspace.workspace import EVIDENCE_KEY, LOG_KEY, RECORD_KEY, WORKLOAD_KEY, log_keys

    folder = config.keys
    signing = log_keys(config)
    log_key = signing[-1].name if signing else LOG_KEY
    meaning = {
        **({log_key: "no checkpoint can be signed here"} if config.signer == "local" else {}),
        WORKLOAD_KEY: "entries written here would not be signed",
        EVIDENCE_KEY: "personal and confidential evidence cannot be read or written",
        RECORD_KEY: "records with personal data cannot be digested",
    }
    missing = [name for name in meaning if not (folder / name).exists()]
    for name in missing:
        yield Check(
            f"key {name}", "warn", f"missing: {meaning[name]}", "restore it from your backup, if this host needs it"
        )
    if config.signer == "external" and signing:
        yield Check(
            "log key",
            "warn",
            f'{signing[0]} lies here although signer = "external"',
            "move it to where `cognify signer run` runs",
        )
    if len(signing) > 1:
        yield Check(
            "log key",
            "warn",
            f"{len(signing)} log keys sign: a rotation is under way",
            "cognify ledger rotate-key --finish",
        )
    people = sorted(config.people_keys.glob("*.json")) if config.people_keys.is_dir() else []
    present = [folder / name for name in meaning if name not in missing] + people
    loose = [path for path in present if _mode(path) & 0o077]
    for path in loose:
        yield Check(f"key {path.name}", "fail", f"mode {_mode(path):04o}: others can read it", f"chmod 600 {path}")
    if folder.is_dir() and _mode(folder) & 0o077:
        yield Check("keys folder", "warn", f"mode {_mode(folder):04o}", f"chmod 700 {folder}")
    if not loose and present:
        yield Check("keys", "ok", f"{len(present)} private files, readable by their owner only")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _storage(config: WorkspaceConfig) -> Iterator[Check]:
    from cognify_dagster.ledger import filesystem_of
    from cognify_dagster.ledger.sqlite.store import _NETWORK_FILESYSTEMS

    if config.ledger_url is not None:
        yield _free(config.home)
        return
    kind = filesystem_of(config.ledger.parent)
    if kind in _NETWORK_FILESYSTEMS:
        yield Check(
            "filesystem", "fail", f"the ledger lies on {kind}, where its locks do not hold", "move it to a local disk"
        )
    else:
        yield Check("filesystem", "ok", f"the ledger lies on {kind}")
    yield _free(config.ledger.parent)
    if not os.access(config.ledger, os.W_OK) or not os.access(config.ledger.parent, os.W_OK):
        yield Check("ledger file", "fail", f"{config.ledger} cannot be written by this user", "mend owner and mode")


def _free(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    status = "fail" if free < _NO_DISK else "warn" if free < _LOW_DISK else "ok"
    return Check(
        "disk space", status, f"{free / 1e9:.1f} GB free", "" if status == "ok" else "free space before the next run"
    )


def _database(config: WorkspaceConfig) -> Iterator[Check]:
    """The database under the ledger: Postgres' settings were checked when it was opened, its warnings are shown."""
    if config.ledger_url is None:
        yield from _sqlite(config)
        return
    from cognify_dagster.ledger.postgres.store import PostgresStore
    from cognify_dagster.workspace.stores import ledger_url

    store = PostgresStore(ledger_url(config) or "")
    store.size()
    if not store.warnings:
        yield Check("postgres", "ok", f"{store!r} is durable")
    for text in store.warnings:
        yield Check("postgres", "warn", text, "see docs/postgres.md")


def _sqlite(config: WorkspaceConfig) -> Iterator[Check]:
    from cognify_dagster.ledger.sqlite.store import WAL_SAFE

    uri = f"{config.ledger.absolute().as_uri()}?mode=ro"
    with sqlite3.connect(uri, uri=True) as db:
        mode = str(db.execute("PRAGMA journal_mode").fetchone()[0])
    db.close()
    text = f"SQLite {sqlite3.sqlite_version}, journal {mode if mode == 'wal' else 'truncated at each commit'}"
    if mode == "wal" and sqlite3.sqlite_version_info < WAL_SAFE:
        wanted = ".".join(str(part) for part in WAL_SAFE)
        yield Check(
            "sqlite",
            "fail",
            f"{text}: this version can damage a WAL database",
            f"use SQLite {wanted}, or open the ledger once while nothing else uses it: it is turned back",
        )
    else:
        yield Check("sqlite", "ok", text)


def _evidence(config: WorkspaceConfig) -> Iterator[Check]:
    where = config.evidence
    if "://" in where:
        yield Check(
            "evidence", "warn", f"{where}: remote, not written to by this check", "see that the last package is there"
        )
        return
    folder = Path(where)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if os.access(folder, os.W_OK | os.X_OK):
        yield Check("evidence", "ok", f"{where} is writable")
    else:
        yield Check("evidence", "fail", f"{folder} cannot be written by this user", "mend owner and mode")


def _clock(workspace: Workspace, reading: Reading) -> Check:
    last = reading.view.entries[-1].entry.time_us
    behind = last / 1e6 - time.time()
    if behind > _SKEW_S:
        return Check(
            "clock", "fail", f"{behind:.0f} s before the last entry ({moment(last)})", "correct this machine's clock"
        )
    if behind > 1:
        return Check(
            "clock", "warn", f"{behind:.0f} s before the last entry ({moment(last)})", "check this machine's clock"
        )
    return Check("clock", "ok", f"after the last entry ({moment(last)})")


def _writer(workspace: Workspace, reading: Reading) -> Check:
    from cognify_dagster.governance import directory

    if workspace.writer is None:
        return Check(
            "workload", "warn", "this host has no workload key: what it writes is not signed", "restore workload.key"
        )
    people, writer = directory(reading), workspace.writer
    if people.key_at(writer.workload, writer.key_id, reading.size) is None:
        return Check(
            "workload",
            "fail",
            f"{writer.workload} with key {writer.key_id} is not enrolled",
            "restore the enrolled key, or enrol this one: `cognify people enrol-workload --help`",
        )
    return Check("workload", "ok", f"{writer.workload}, key {writer.key_id}")


def _people(workspace: Workspace, reading: Reading) -> Check:
    from cognify_dagster.governance import directory

    people = directory(reading)
    admins = [
        person.name
        for person in people.with_role("workspace_admin")
        if any(span.valid_at(reading.size) for span in people.keys.get(person.person, ()))
    ]
    if len(admins) < 2:
        return Check(
            "people",
            "warn",
            f"{len(people.people())} people, but only {len(admins)} workspace admin with a valid key",
            "enrol a second admin: nobody can vouch for themselves",
        )
    return Check("people", "ok", f"{len(people.people())} people, {len(admins)} workspace admins")


def _policy(workspace: Workspace, reading: Reading) -> Check:
    from cognify_dagster.governance import PolicyError, load_policy, policy_in_force

    current = policy_in_force(reading)
    path = workspace.config.policy
    if current.unreadable:
        seq, problem = current.unreadable[-1]
        return Check(
            "policy", "fail", f"the policy of entry {seq} cannot be read: {problem}", "upgrade this installation"
        )
    if not path.exists():
        return Check(
            "policy",
            "warn",
            f"{path} is missing; entry {current.seq} is in force",
            "write it again from `cognify policy show`",
        )
    try:
        policy = load_policy(path)
    except PolicyError as error:
        return Check("policy", "fail", str(error), "run `cognify policy check`")
    if policy.digest != current.digest:
        return Check(
            "policy",
            "warn",
            f"{path.name} differs from the policy in force (entry {current.seq}); it has no effect",
            "adopt it with `cognify policy adopt`, or restore the file",
        )
    return Check("policy", "ok", f"{path.name} is the policy in force (entry {current.seq})")


def _dagster(workspace: Workspace) -> list[Check]:
    """Dagster's checks, where it is installed and an instance is set up; dagster is imported only here."""
    variable = os.environ.get("DAGSTER_HOME")
    home = Path(variable).expanduser() if variable else workspace.home / "dagster_home"
    if importlib.util.find_spec("dagster") is None:
        return [
            Check(
                "dagster",
                "warn",
                "not installed in this environment",
                "nothing to do where only people sign and verify",
            )
        ]
    if not home.is_dir():
        if variable:
            return [
                Check(
                    "dagster",
                    "fail",
                    f"DAGSTER_HOME={variable} is no folder",
                    "correct the variable or create the folder",
                )
            ]
        return [
            Check(
                "dagster",
                "warn",
                "no instance: neither DAGSTER_HOME nor .cognify/dagster_home",
                "set DAGSTER_HOME to check it",
            )
        ]
    try:
        from cognify_dagster.orchestration.health import dagster_checks

        found = dagster_checks(home, workspace.config.path.parent)
    except Exception as error:
        return [Check("dagster", "fail", explain(error)[0])]
    return [Check(item.name, item.status, item.text, item.do) for item in found]
