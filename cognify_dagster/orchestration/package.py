"""The package asset and its `sign_off` check.

The check is partitioned like the package. In a run that builds the package, or finds nothing new to build, it warns (people
have not signed yet), and so it does in a run that the approval sensor requests to show a new signature; in a release run it is
an error that stops the deployment before its body starts. Either way the body decides for itself.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from cognify_dagster.documents import BuiltPackage, build_and_record
from cognify_dagster.documents.labels import STATUS_LABELS
from cognify_dagster.governance import decide, directory
from cognify_dagster.orchestration._compat import (
    forbid_run_retries,
    partition_key,
    partitioned_checks,
    root_run_id,
    run_builds,
    run_tags,
)
from cognify_dagster.orchestration.attribution import identified, launcher
from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.orchestration.deployment import ENFORCES_METADATA, TARGET_METADATA, package_built_by
from cognify_dagster.orchestration.lanes import SIGN_OFF, Lane
from cognify_dagster.orchestration.metadata import (
    NOT_KEPT,
    PREFIX,
    command,
    entry_metadata,
    person,
    readable_copy,
    review_link,
    table,
)
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.notices import PURPOSE, REPORT, sign_off_now, sign_off_text
from cognify_dagster.orchestration.refusal import refuse_on
from cognify_dagster.orchestration.sections import record_sections
from cognify_dagster.orchestration.spaces import ledger_of
from cognify_dagster.orchestration.standing import SUSPENDED, Board
from cognify_dagster.orchestration.training import MODEL_METADATA
from cognify_dagster.orchestration.workflow import stage_table, workflow_fields
from cognify_dagster.records import Package, utc
from cognify_dagster.workspace import Recorded, Workspace

# The words of the PDF. It tells what must be judged from what must be written, which the counts of the ledger do not.
_LABELS = {**STATUS_LABELS, "needs_human": "a person must judge or write"}
_DESCRIPTION = """\
The compliance package: one canonical JSON that people sign, its PDF review copy and the model card, built from the ledger
alone. Building it again without anything new keeps the package and its signatures."""


def package_asset(
    model: GovernedModel, upstream: list[dg.AssetKey], target: str, enforces: Collection[str] = ()
) -> dg.AssetsDefinition:
    """Return the asset that builds the package of a version; its page tells of the release to `target`."""
    spec = model.spec(
        "package",
        f"{model.key}_package",
        description=_DESCRIPTION,
        code_version="1",
        deps=upstream,
        partitions_def=model.partitions,
        metadata={
            MODEL_METADATA: model.key,
            TARGET_METADATA: target,
            ENFORCES_METADATA: sorted(enforces),
        },
    )

    @dg.multi_asset(name=f"{model.name}_package", specs=[spec], required_resource_keys={model.ledger})
    def compute(context: dg.AssetExecutionContext) -> Any:
        with refuse_on(context):
            workspace = ledger_of(context, model).open()
            version = _version(context, model)
            record_sections(workspace, model.key, version, model.sections, context.log.info)
            built = build_and_record(
                workspace,
                model.key,
                version,
                run=root_run_id(context),
                built_by=launcher(context, directory(workspace.read())),
                now=datetime.now(timezone.utc),
                progress=context.log.info,
            )
            metadata = package_metadata(
                workspace,
                built.recorded,
                target,
                enforces=enforces,
                coverage=_coverage_rows(built),
                unchanged=built.unchanged,
                identified_by=identified(context, directory(workspace.read())),
            )
        yield dg.MaterializeResult(data_version=dg.DataVersion(built.recorded.record.package.digest), metadata=metadata)

    return compute


def package_metadata(
    workspace: Workspace,
    recorded: Recorded[Package],
    target: str,
    *,
    coverage: Sequence[Mapping[str, Any]],
    enforces: Collection[str] = (),
    unchanged: bool = False,
    now: datetime | None = None,
    identified_by: str = NOT_KEPT,
) -> dict[str, Any]:
    """What the UI shows about a package; copies for people lie under names they can open.

    `now` is when it was built, `identified_by` how the launcher of this run was told.
    """
    record = recorded.record
    model, version = record.model, record.version
    stem = f"{model}-{version}-r{record.revision}"
    paths = {}
    for item, name in (
        (record.review_copy, f"{stem}-review-copy.pdf"),
        (record.package, f"{stem}-package.json"),
        (record.model_card, f"{stem}-model-card.md"),
    ):
        if item is not None:
            data = workspace.evidence.get(item.digest)
            paths[name] = readable_copy(workspace, model, version, name, data)
    board = Board(workspace, workspace.read(), model, target, enforces)
    now = now or datetime.now(timezone.utc)
    found = board.standing(version, now)
    decision = decide(board.reading, model, version, target, now, enforces=enforces)
    pdf, json_path, card = [str(path) for path in paths.values()]
    return {
        f"{PREFIX}state": dg.MetadataValue.md(
            f"**Now: see Partitions → {version}**, the `{SIGN_OFF}` check, or "
            f"`{command(workspace, f'status {model} {version}')}`\n\nWhen it was built: {found.text}"
        ),
        **review_link(workspace, model, version),
        f"{PREFIX}pdf": dg.MetadataValue.path(pdf),
        f"{PREFIX}how_to_sign": dg.MetadataValue.md(
            f"`{command(workspace, f'sign {model} {version} --key YOUR.key.json')}`"
        ),
        f"{PREFIX}coverage": table(coverage),
        f"{PREFIX}stages_when_built": stage_table(decision),
        **{
            label: "pending when built" if value == "pending" else value
            for label, value in workflow_fields(decision).items()
        },
        f"{PREFIX}built_by": person(board.people, record.built_by),
        f"{PREFIX}identified_by": identified_by,
        f"{PREFIX}package_json": dg.MetadataValue.path(json_path),
        f"{PREFIX}model_card": dg.MetadataValue.path(card),
        f"{PREFIX}export_command": command(workspace, f"package export {model} {version} -o BUNDLE"),
        f"{PREFIX}package_digest": record.package.digest,
        f"{PREFIX}revision": record.revision,
        f"{PREFIX}unchanged": unchanged,
        **entry_metadata(workspace, recorded.seq, recorded.leaf),
    }


def _coverage_rows(built: BuiltPackage) -> list[dict[str, Any]]:
    rows = []
    for report in built.reports:
        for force in ("law", "guidance"):
            counts = report.counts(force)
            if counts:
                rows.append(coverage_row(report.framework.id, force, counts))
    return rows


def coverage_row(framework: str, force: str, counts: Mapping[str, int]) -> dict[str, Any]:
    """One row of the coverage table: how many requirements of a framework have each status."""
    text = ", ".join(f"{_LABELS.get(status, status)}: {number}" for status, number in counts.items())
    return {"framework": framework, "force": force, "requirements": text}


def sign_off_check(model: GovernedModel, package: dg.AssetsDefinition, lane: Lane) -> dg.AssetChecksDefinition:
    """Return the blocking, partitioned check that all stages of the tier are signed for the lane's target."""
    target = lane.target

    with partitioned_checks():

        @dg.asset_check(
            asset=package.key,
            name=lane.check.name,
            blocking=True,
            partitions_def=model.partitions,
            required_resource_keys={model.ledger},
            description=(
                f"Every stage that the model's risk tier demands is met by signatures on exactly this package, for {target}."
            ),
        )
        def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            with refuse_on(context):
                workspace = ledger_of(context, model).open()
                version = _version(context, model)
                reading = workspace.read()
                now = datetime.now(timezone.utc)
                decision = decide(reading, model.key, version, target, now, enforces=lane.enforces)
                found = Board(workspace, reading, model.key, target, lane.enforces).standing(version, now)
                open_reasons = [reason for reason in decision.reasons if reason.code != "already_released"]
                pending = run_builds(context, package.key) or package_built_by(
                    reading, model.key, version, root_run_id(context)
                )
                reported = run_tags(context).get(PURPOSE) == REPORT
                why = "; ".join(reason.text for reason in open_reasons)
            # what is live and does not stand any more is worth a red run, once; it stops nothing, so it is not repeated
            suspended = found.state == SUSPENDED and not pending
            if suspended:
                forbid_run_retries(context)
            return dg.AssetCheckResult(
                passed=not open_reasons and found.state != SUSPENDED,
                severity=dg.AssetCheckSeverity.WARN
                if (pending or reported) and not suspended
                else dg.AssetCheckSeverity.ERROR,
                description=sign_off_text(found)
                if pending or reported or not why
                else f"{why}. {sign_off_text(found)}",
                metadata={
                    **sign_off_now(workspace, found),
                    f"{PREFIX}stages": stage_table(decision),
                    **workflow_fields(decision),
                    f"{PREFIX}decided_on_size": str(decision.size),  # text: of numbers the UI draws a plot
                    f"{PREFIX}decided_at": utc(now),
                },
            )

    return check


def _version(context: Any, model: GovernedModel) -> str:
    version = partition_key(context)
    if version is None:
        raise UsageError(f"{model.key}: launch this with a partition, the version")
    return version
