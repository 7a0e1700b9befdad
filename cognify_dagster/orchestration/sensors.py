"""The approval sensor asks for release runs; the reconciliation sensor reports what bypassed the ledger.

The approval sensor is a convenience, not the gate: the deployment's body decides again. It is right after a restart, after a
deleted run and after a rename, because it asks the ledger whether a release was completed, not Dagster. What it tells Dagster
about a version's standing is for people to read.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from cognify_dagster.governance import Decision
from cognify_dagster.orchestration._compat import latest_materializations
from cognify_dagster.orchestration.accounting import subject_of, told_before, unaccounted
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.names import APPROVAL, RECONCILIATION, SENSOR_ROLE, sensor_name
from cognify_dagster.orchestration.notices import PURPOSE, REPORT, notices
from cognify_dagster.orchestration.package import SIGN_OFF
from cognify_dagster.orchestration.resource import LedgerResource
from cognify_dagster.orchestration.standing import BLOCKED, LIVE, SUPERSEDED, WAITING, Board, Standing
from cognify_dagster.records import Reconciliation
from cognify_dagster.workspace import Workspace, idempotency_key

VERSIONS_A_TICK = 50
VERSIONS_IN_TEXT = 5
NEWS_A_TICK = 20
EVENTS_A_TICK = 100


def approval_sensor(
    model: GovernedModel, deployment: dg.AssetsDefinition, check: dg.AssetCheckKey, target: str
) -> dg.SensorDefinition:
    """Return the sensor that requests the release run of every version whose approvals are complete.

    It also tells Dagster where a version stands, once for each change: see `notices`.
    """

    @dg.sensor(
        name=sensor_name(model.key, APPROVAL),
        target=dg.AssetSelection.assets(check.asset_key, deployment.key),
        minimum_interval_seconds=model.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        tags={SENSOR_ROLE: APPROVAL},
        description=(
            f"Requests the release of a version of {model.key} to {target} once every stage of its tier is signed. What "
            "waits for whom stands at the beginning of the cursor and in each tick's result."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, ledger: LedgerResource) -> dg.SensorResult:
        workspace = ledger.open()
        tick = _Tick(context, workspace, model, target)
        batch = tick.standings(datetime.now(timezone.utc))
        known = set(context.instance.get_dynamic_partitions(model.partitions.name or ""))
        events = [
            event
            for found in tick.news(batch, known, {check.asset_key, deployment.key})
            for event in notices(tick.board, found, check.asset_key, deployment.key)
        ]
        ready = [found.decision for found in batch if found.releasable and found.decision is not None]
        missing = [decision.version for decision in ready if decision.version not in known]
        requests = [_release(model, decision, deployment, check) for decision in ready]
        requests += [_report(model, found, check) for found in tick.to_report(batch, known)]
        text = _summary(tick.board, batch, len(tick.versions))
        if requests:  # a tick that requests a run has no result text, but a log
            context.log.info(text)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else text,
            dynamic_partitions_requests=[model.partitions.build_add_request(missing)] if missing else [],
            asset_events=events,
            cursor=tick.cursor(text),
        )

    return sensor


class _Tick:
    """One look at the ledger. The cursor begins with what the tick said, because the UI shows it on the sensor's page."""

    def __init__(self, context: Any, workspace: Workspace, model: GovernedModel, target: str) -> None:
        self.context = context
        self.board = Board(workspace, workspace.read(), model.key, target)
        self.versions = self.board.versions()
        stored = _cursor(context.cursor)
        offset = stored.get("offset")
        self.offset = offset if isinstance(offset, int) else 0
        self.told: dict[str, str] = _part(stored, "told")
        self.shown: dict[str, str] = _part(stored, "shown")
        self.seen: dict[str, int] = _part(stored, "seen")

    def standings(self, now: datetime) -> list[Standing]:
        """Return where versions stand, newest first; of more than `VERSIONS_A_TICK` open ones the older ones take turns.

        For a superseded version nothing is decided; it is looked at for what was not told yet.
        """
        open_ = [version for version in self.versions if not self.board.settled(version)]
        start = self.offset % len(open_) if open_ else 0
        turn = set((open_[start:] + open_[:start])[:VERSIONS_A_TICK])
        self.offset = (start + len(turn)) % len(open_) if open_ else 0
        left_out = set(open_[VERSIONS_IN_TEXT:]) - turn
        return [self.board.standing(version, now) for version in self.versions if version not in left_out]

    def news(self, batch: Sequence[Standing], known: set[str], assets: set[dg.AssetKey]) -> list[Standing]:
        """Return the standings that changed since they were told last, or whose page a newer materialization covers.

        Oldest first, so that the newest observation of an asset is about its newest version; at most `NEWS_A_TICK`.
        """
        covered = self._materialized(assets)
        self.told = {version: mark for version, mark in self.told.items() if version not in covered}
        fresh = [
            found
            for found in reversed(batch)
            if found.version in known and self.told.get(found.version) != found.fingerprint
        ][:NEWS_A_TICK]
        self.told |= {found.version: found.fingerprint for found in fresh}
        return fresh

    def to_report(self, batch: Sequence[Standing], known: set[str]) -> list[Standing]:
        """Return the standings whose sign-offs changed since the check was evaluated last.

        The run that builds a package evaluates it for a version that nobody signed, and the release run for one that is
        complete, so only what lies between needs a run of its own, and a deployment that a person launched without the check.
        """
        found = []
        for item in batch:
            mark, before = item.sign_off_mark, self.shown.get(item.version)
            if item.version not in known or mark == before:
                continue
            self.shown[item.version] = mark
            evaluated = before is None and (item.untouched or item.state == LIVE)
            if item.state in (WAITING, BLOCKED, LIVE) and not evaluated:
                found.append(item)
        return found[:NEWS_A_TICK]

    def _materialized(self, assets: set[dg.AssetKey]) -> set[str]:
        """Return the versions with a materialization since the last tick; the UI shows only observations after it."""
        covered: set[str] = set()
        for key in sorted(assets):
            name = key.to_user_string()
            records = latest_materializations(self.context.instance, key, self.seen.get(name), EVENTS_A_TICK)
            covered |= {str(record.partition_key) for record in records}
            if records:
                self.seen[name] = records[-1].storage_id
        return covered

    def cursor(self, text: str) -> str:
        """Return the next cursor."""
        return json.dumps(
            {"now": text, "offset": self.offset, "told": self.told, "shown": self.shown, "seen": self.seen}
        )


def _summary(board: Board, batch: Sequence[Standing], versions: int) -> str:
    """Say what waits for whom and what is live, newest version first; what was superseded is only counted."""
    if not versions:
        return f"no version of {board.model} has a package yet"
    lines = [found.text for found in batch if found.state != SUPERSEDED][:VERSIONS_IN_TEXT]
    superseded = sum(found.state == SUPERSEDED for found in batch)
    others = versions - len(lines) - superseded
    if others:
        lines.append(f"{others} more of {versions} versions are open: see `cognify status {board.model}`")
    if superseded:
        lines.append(f"superseded: {superseded}")
    return "; ".join(lines)


def _release(
    model: GovernedModel, decision: Decision, deployment: dg.AssetsDefinition, check: dg.AssetCheckKey
) -> dg.RunRequest:
    """Request the check and then the deployment, once for each set of approvals."""
    return dg.RunRequest(
        run_key=f"{model.key}/{decision.version}/{decision.target}/{decision.round}",
        partition_key=decision.version,
        asset_selection=[deployment.key],
        asset_check_keys=[check],
        tags={
            "cognify/release_round": decision.round[:16],
            "cognify/package": str(decision.package and decision.package.seq),
        },
    )


def _report(model: GovernedModel, found: Standing, check: dg.AssetCheckKey) -> dg.RunRequest:
    """Request the check alone, to show what it says now."""
    return dg.RunRequest(
        run_key=f"{model.key}/{found.version}/{found.target}/sign_off/{found.sign_off_mark}",
        partition_key=found.version,
        asset_selection=[],
        asset_check_keys=[check],
        tags={PURPOSE: REPORT},
    )


def reconciliation_sensor(model: GovernedModel, watched: Mapping[dg.AssetKey, str]) -> dg.SensorDefinition:
    """Return the sensor that compares materializations with the ledger and records findings. `watched`: assets and roles."""

    @dg.sensor(
        name=sensor_name(model.key, RECONCILIATION),
        minimum_interval_seconds=max(model.sensor_interval_seconds, 30),
        default_status=dg.DefaultSensorStatus.RUNNING,
        tags={SENSOR_ROLE: RECONCILIATION},
        description=f"Reports materializations of {model.key}'s assets that the ledger does not account for.",
    )
    def sensor(context: dg.SensorEvaluationContext, ledger: LedgerResource) -> dg.SkipReason:
        workspace = ledger.open()
        cursor = _cursor(context.cursor)
        events = [
            (key.to_user_string(), role, record)
            for key, role in watched.items()
            for record in _new_events(context.instance, key, cursor.get(key.to_user_string()))
        ]
        reading = (
            workspace.read()
        )  # after the events: a step appends its entry before Dagster stores the materialization
        found = 0
        for name, role, record in events:
            subject = subject_of(role, model.key, name, record.partition_key)
            problem = unaccounted(reading, role, subject, record)
            if problem is None and not record.run_id:
                problem = told_before(context.instance, reading, role, subject, record)
            if problem is not None:
                _record_finding(workspace, model, name, record, problem)
                found += 1
            cursor[name] = [record.storage_id, record.timestamp]
        context.update_cursor(json.dumps(cursor))
        if found:
            return dg.SkipReason(f"{found} new findings were recorded; see `cognify ledger show --kind finding`")
        return dg.SkipReason("every materialization is accounted for by a ledger entry")

    return sensor


def _new_events(instance: dg.DagsterInstance, key: dg.AssetKey, seen: Any) -> list[Any]:
    """Return the materializations after the one seen last, oldest first.

    Storage ids start again when runs are deleted (SQLite), so an id alone could hide an event: if the one seen last is no
    longer there, all are looked at again. Findings are recorded once each, whatever the cursor says.
    """
    if isinstance(seen, list) and len(seen) == 2 and isinstance(seen[0], int):
        records = latest_materializations(instance, key, seen[0] - 1, EVENTS_A_TICK + 1)
        if records and [records[0].storage_id, records[0].timestamp] == seen:
            return records[1:]
    return latest_materializations(instance, key, None, EVENTS_A_TICK)


def _record_finding(workspace: Workspace, model: GovernedModel, asset: str, record: Any, problem: str) -> None:
    version = record.partition_key
    workspace.append(
        Reconciliation(
            code="unattested_materialization",
            model=model.key,
            version=version,
            asset=asset,
            storage_id=record.storage_id,
            text=f"A materialization of {asset}"
            + (f" ({version})" if version else "")
            + f" is not accounted for: {problem}.",
        ),
        idem=idempotency_key("finding", model.key, asset, record.storage_id, record.timestamp),
    )


def _cursor(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _part(cursor: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = cursor.get(name)
    return dict(value) if isinstance(value, dict) else {}


def sign_off_key(package: dg.AssetKey) -> dg.AssetCheckKey:
    """Return the key of the sign-off check."""
    return dg.AssetCheckKey(package, SIGN_OFF)
