"""The approval sensor asks for release runs and tells Dagster where each version stands.

It is a convenience, not the gate: the deployment's body decides again. It is right after a restart, after a deleted run and
after a rename, because it asks the ledger whether a release was completed, not Dagster. What it tells Dagster about a version's
standing is for people to read. It serves every target of the model, and puts on record, once, that a release is suspended.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from cognify_dagster.governance.release.suspension import record_suspension
from cognify_dagster.ledger import LedgerError
from cognify_dagster.orchestration._compat import latest_materializations
from cognify_dagster.orchestration.lanes import Lane, sign_off_key
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.names import APPROVAL, SENSOR_ROLE, sensor_name
from cognify_dagster.orchestration.notices import PURPOSE, REPORT, deployment_notice, package_notice
from cognify_dagster.orchestration.resource import LedgerResource
from cognify_dagster.orchestration.standing import BLOCKED, LIVE, READY, SUPERSEDED, SUSPENDED, WAITING, Board, Standing
from cognify_dagster.workspace import Reading, Workspace, WorkspaceError

__all__ = ["approval_sensor", "read_cursor", "sign_off_key"]

VERSIONS_A_TICK = 50
VERSIONS_IN_TEXT = 5
NEWS_A_TICK = 20
EVENTS_A_TICK = 100


def approval_sensor(
    model: GovernedModel, lanes: Sequence[Lane], *, request_releases: bool = True
) -> dg.SensorDefinition:
    """Return the sensor that requests the release run of every version whose approvals are complete.

    It also tells Dagster where a version stands, once for each change: see `notices`.

    Args:
        model: the governed model.
        lanes: its deployments, the one that the package's page tells of in front.
        request_releases: False where an automation condition asks for the first release of a version; the sensor then
            evaluates the check when a version is ready, and requests only what goes live again: rollbacks and new rounds.
    """
    checks = {lane.check.asset_key for lane in lanes}

    @dg.sensor(
        name=sensor_name(model.key, APPROVAL),
        target=dg.AssetSelection.assets(*checks, *(lane.deployment for lane in lanes)),
        minimum_interval_seconds=model.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        tags={SENSOR_ROLE: APPROVAL},
        description=(
            f"Requests the release of a version of {model.key} to {' and '.join(lane.target for lane in lanes)} once every stage "
            "of its tier is signed. What waits for whom stands at the beginning of the cursor and in each tick's result."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, ledger: LedgerResource) -> dg.SensorResult:
        workspace = ledger.open()
        now = datetime.now(timezone.utc)
        known = set(context.instance.get_dynamic_partitions(model.partitions.name or ""))
        stored = _part(read_cursor(context.cursor), "targets")
        reading = workspace.read()
        ticks = [_Tick(context, workspace, reading, model, lane, _part(stored, lane.target), now) for lane in lanes]
        requests: list[dg.RunRequest] = []
        missing: set[str] = set()
        for tick in ticks:
            tick.record_suspensions()
            ready = [found for found in tick.batch if found.releasable]
            missing |= {found.version for found in ready} - known
            requests += [
                _release(model, found, tick.lane) for found in ready if request_releases or found.deployed is not None
            ]
            requests += [
                _report(model, found, tick.lane) for found in tick.to_report(known, ready=not request_releases)
            ]
        events = _events(ticks, known)
        text = "; ".join(_summary(tick.board, tick.batch, len(tick.versions)) for tick in ticks)
        if requests:  # a tick that requests a run has no result text, but a log
            context.log.info(text)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else text,
            dynamic_partitions_requests=[model.partitions.build_add_request(sorted(missing))] if missing else [],
            asset_events=events,
            cursor=json.dumps({"now": text, "targets": {tick.lane.target: tick.cursor() for tick in ticks}}),
        )

    return sensor


class _Tick:
    """One look at the ledger for one lane."""

    def __init__(
        self,
        context: Any,
        workspace: Workspace,
        reading: Reading,
        model: GovernedModel,
        lane: Lane,
        stored: Mapping[str, Any],
        now: datetime,
    ) -> None:
        self.context, self.workspace, self.lane, self.now = context, workspace, lane, now
        self.board = Board(workspace, reading, model.key, lane.target, lane.enforces)
        self.versions = self.board.versions()
        offset = stored.get("offset")
        self.offset = offset if isinstance(offset, int) else 0
        self.told: dict[str, str] = _part(stored, "told")
        self.shown: dict[str, str] = _part(stored, "shown")
        self.seen: dict[str, int] = _part(stored, "seen")
        self.batch = self._standings()

    def _standings(self) -> list[Standing]:
        """Return where versions stand, newest first; of more than `VERSIONS_A_TICK` open ones the older ones take turns.

        For a superseded version nothing is decided; it is looked at for what was not told yet.
        """
        open_ = [version for version in self.versions if not self.board.settled(version)]
        start = self.offset % len(open_) if open_ else 0
        turn = set((open_[start:] + open_[:start])[:VERSIONS_A_TICK])
        self.offset = (start + len(turn)) % len(open_) if open_ else 0
        left_out = set(open_[VERSIONS_IN_TEXT:]) - turn
        return [self.board.standing(version, self.now) for version in self.versions if version not in left_out]

    def standing(self, version: str) -> Standing:
        """Return where one version stands, of this tick's or looked at now."""
        found = next((item for item in self.batch if item.version == version), None)
        return found or self.board.standing(version, self.now)

    def news(self, known: set[str]) -> list[Standing]:
        """Return the standings that changed since they were told last, or whose page a newer materialization covers.

        Oldest first, so that the newest observation of an asset is about its newest version; at most `NEWS_A_TICK`.
        """
        covered = self._materialized({self.lane.check.asset_key, self.lane.deployment})
        self.told = {version: mark for version, mark in self.told.items() if version not in covered}
        fresh = [
            found
            for found in reversed(self.batch)
            if found.version in known and self.told.get(found.version) != found.fingerprint
        ][:NEWS_A_TICK]
        self.told |= {found.version: found.fingerprint for found in fresh}
        return fresh

    def to_report(self, known: set[str], *, ready: bool) -> list[Standing]:
        """Return the standings whose sign-offs changed since the check was evaluated last.

        The run that builds a package evaluates it for a version that nobody signed, and the release run for one that is
        complete (unless `ready` asks for those too), so only what lies between needs a run of its own, and a deployment that
        a person launched without the check.
        """
        wanted = {WAITING, BLOCKED, LIVE, SUSPENDED, *([READY] if ready else [])}
        found = []
        for item in self.batch:
            mark, before = item.sign_off_mark, self.shown.get(item.version)
            if item.version not in known or mark == before:
                continue
            self.shown[item.version] = mark
            evaluated = before is None and (item.untouched or item.state == LIVE)
            if item.state in wanted and not evaluated:
                found.append(item)
        return found[:NEWS_A_TICK]

    def record_suspensions(self) -> None:
        """Put on record what is live and does not stand any more. What cannot be written now is tried at the next tick."""
        for found in self.batch:
            if found.state != SUSPENDED or found.live is None:
                continue
            try:
                seq = record_suspension(self.workspace, found.live)
            except (LedgerError, WorkspaceError, OSError) as error:
                self.context.log.error(f"the suspension of {found.version} could not be recorded: {error}")
                continue
            if seq is not None:
                self.context.log.warning(f"{found.text}. This is ledger entry {seq}")

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

    def cursor(self) -> dict[str, Any]:
        """Return the lane's part of the next cursor."""
        return {"offset": self.offset, "told": self.told, "shown": self.shown, "seen": self.seen}


def _events(ticks: Sequence[_Tick], known: set[str]) -> list[dg.AssetObservation]:
    """Return what to tell Dagster: one observation on a version's package for all targets, and one on each deployment."""
    first = ticks[0]
    news = [(tick, tick.news(known)) for tick in ticks]
    changed = {found.version for _, fresh in news for found in fresh}
    told: list[dg.AssetObservation] = []
    for version in reversed(first.versions):
        if version not in changed:
            continue
        others = [tick.standing(version) for tick in ticks[1:]]
        told.append(package_notice(first.board, first.standing(version), first.lane.check.asset_key, others))
        for tick, fresh in news:
            for found in fresh:
                notice = (
                    deployment_notice(tick.board, found, tick.lane.deployment) if found.version == version else None
                )
                told += [notice] if notice is not None else []
    return told


def _summary(board: Board, batch: Sequence[Standing], versions: int) -> str:
    """Say what waits for whom and what is live, newest version first; what was superseded is only counted."""
    adopted = board.unattested()
    before = [f"{adopted} is live on {board.target} since before this ledger: unattested"] if adopted else []
    if not versions:
        return "; ".join([*before, f"no version of {board.model} has a package yet"])
    lines = [found.text for found in batch if found.state != SUPERSEDED][:VERSIONS_IN_TEXT]
    superseded = sum(found.state == SUPERSEDED for found in batch)
    others = versions - len(lines) - superseded
    if others:
        lines.append(f"{others} more of {versions} versions are open: see `cognify status {board.model}`")
    if superseded:
        lines.append(f"superseded: {superseded}")
    return "; ".join([*lines, *before])


def _release(model: GovernedModel, found: Standing, lane: Lane) -> dg.RunRequest:
    """Request the check and then the deployment, once for each set of approvals."""
    decision = found.decision
    assert decision is not None  # only a version that was decided is releasable
    return dg.RunRequest(
        run_key=f"{model.key}/{decision.version}/{decision.target}/{decision.round}",
        partition_key=decision.version,
        asset_selection=[lane.deployment],
        asset_check_keys=[lane.check],
        tags={
            "cognify/release_round": decision.round[:16],
            "cognify/package": str(decision.package and decision.package.seq),
        },
    )


def _report(model: GovernedModel, found: Standing, lane: Lane) -> dg.RunRequest:
    """Request the check alone, to show what it says now."""
    return dg.RunRequest(
        run_key=f"{model.key}/{found.version}/{found.target}/sign_off/{found.sign_off_mark}",
        partition_key=found.version,
        asset_selection=[],
        asset_check_keys=[lane.check],
        tags={PURPOSE: REPORT},
    )


def read_cursor(text: str | None) -> dict[str, Any]:
    """Return what a cursor holds; nothing where it is not one of ours."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _part(cursor: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = cursor.get(name)
    return dict(value) if isinstance(value, dict) else {}
