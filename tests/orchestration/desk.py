"""`Desk`: one test's own copy of a workspace, its people, and a Dagster instance to run the tiny project on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from cognify_dagster.governance import Choice, PersonalKey, sign_off
from cognify_dagster.records import Record
from cognify_dagster.workspace import Recorded, Workspace
from tests.orchestration import project

R = TypeVar("R", bound=Record)
APPROVERS = ("vera", "carl", "olga")


@dataclass
class Ran:
    """What came of a run."""

    id: str
    success: bool
    events: list[dg.DagsterEvent] = field(repr=False)

    @property
    def failure(self) -> str:
        """The first message of the first failed step."""
        for event in self.events:
            data = event.event_specific_data
            if event.is_step_failure and getattr(data, "error", None) is not None:
                error = data.error
                if getattr(data, "user_failure_data", None) is not None and data.user_failure_data.description:
                    return str(data.user_failure_data.description)
                while error.cause is not None:
                    error = error.cause
                return str(error.message)
        return ""

    @property
    def materialized(self) -> dict[str, dict[str, Any]]:
        """Asset name to metadata, of what was materialized."""
        found = [event for event in self.events if event.is_step_materialization]
        return {
            event.asset_key.to_user_string(): dict(event.step_materialization_data.materialization.metadata)
            for event in found
        }

    @property
    def checks(self) -> dict[str, dg.AssetCheckEvaluation]:
        """Check name to its evaluation."""
        return {
            event.event_specific_data.check_name: event.event_specific_data
            for event in self.events
            if event.event_type_value == "ASSET_CHECK_EVALUATION"
        }

    def steps(self, kind: str) -> list[str]:
        """Keys of steps with an event such as STEP_START."""
        return [event.step_key for event in self.events if event.event_type_value == kind]


@dataclass
class Desk:
    """A workspace of its own with an instance."""

    folder: Path
    keys: dict[str, PersonalKey]
    instance: dg.DagsterInstance

    @property
    def workspace(self) -> Workspace:
        """The workspace, opened anew."""
        return Workspace.open(self.folder)

    def run(
        self,
        assets: Iterable[str],
        version: str | None = "v1",
        *,
        checks: Sequence[tuple[str, str]] | None = None,
        tags: dict[str, str] | None = None,
        user: str = "ben",
        definitions: dg.Definitions | None = None,
        instance: dg.DagsterInstance | None = None,
    ) -> Ran:
        """Run assets in this process as the UI's Materialize button would; `checks=()` leaves their checks out."""
        instance = instance or self.instance
        if version is not None:
            instance.add_dynamic_partitions("tiny_versions", [version])
        job = (definitions or project.defs).resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey(name) for name in assets]
        if checks is not None:
            selected = job.get_subset(
                asset_selection=set(keys),
                asset_check_selection={dg.AssetCheckKey(dg.AssetKey(asset), name) for asset, name in checks},
            )
        else:
            selected = job.get_subset(asset_selection=set(keys))
        result = selected.execute_in_process(
            instance=instance,
            partition_key=version,
            raise_on_error=False,
            tags={"user": user, **(tags or {})},
        )
        return Ran(result.run_id, result.success, list(result.all_events))

    def build(self, version: str = "v1") -> Ran:
        """Data, then training to package, as two runs; return the second."""
        first = self.run(project.DATA, None)
        assert first.success, first.failure
        second = self.run(project.BUILD, version)
        assert second.success, second.failure
        return second

    def approve(self, *names: str, version: str = "v1") -> None:
        """People sign, in order; all three unless named."""
        for name in names or APPROVERS:
            sign_off(self.workspace, "tiny", version, self.keys[name], Choice("approve"))

    def kinds(self) -> list[str]:
        """Kinds of all entries, in order."""
        return [item.entry.kind for item in self.workspace.read().view.entries]

    def all(self, kind: type[R], subject: str | None = None) -> list[Recorded[R]]:
        """Records of a kind."""
        return self.workspace.read().all(kind, subject)

    def entered(self, step: str) -> int:
        """How often a user function was entered."""
        path = self.folder / "entered.txt"
        return path.read_text().split().count(step) if path.exists() else 0

    def switch(self, name: str, value: str = "1") -> None:
        """Turn a switch of the project on."""
        path = self.folder / "switches" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(value)

    def assert_verifies(self) -> None:
        """The ledger holds, at level L1."""
        workspace = self.workspace
        report = workspace.ledger.verify(workspace.trust())
        assert not report.findings, report.findings
        assert report.level == "L1"
