"""One check a framework on the package: what the ledger shows for its requirements now.

Invariants: the check reads the ledger and nothing that Dagster says; it fails where a mandatory requirement needs work, as an error
only where the policy in force names the framework under `blocking_frameworks` of the model's tier, else as a warning; what waits
for a signature only, or can hold only after the release, is shown and fails nothing. A passed check is no release, and a failed
one not what stops it: the deployment's body compares the blocking frameworks anew, see `standing.held_back`.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from cognify_dagster.documents import collect, load_framework
from cognify_dagster.documents.coverage.consistency import Lost, consistency
from cognify_dagster.documents.coverage.engine import CoverageReport, assess_coverage
from cognify_dagster.documents.labels import STATUS_LABELS
from cognify_dagster.governance import policy_in_force
from cognify_dagster.orchestration._compat import partition_key, partitioned_checks, run_tags
from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.orchestration.metadata import PREFIX, command, table
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.notices import PURPOSE, REPORT
from cognify_dagster.orchestration.refusal import refuse_on
from cognify_dagster.orchestration.spaces import ledger_of
from cognify_dagster.workspace import Reading

_SHOWN = 100


def coverage_keys(model: GovernedModel) -> list[dg.AssetCheckKey]:
    """Return the keys of a model's coverage checks, in the order of its frameworks.

    Raises:
        UsageError: if two frameworks would have one check.
    """
    names = {framework: f"coverage_{re.sub('[^A-Za-z0-9_]', '_', framework)}" for framework in model.frameworks}
    if len(set(names.values())) != len(names):
        raise UsageError(f"model {model.key!r}: two of its frameworks differ in punctuation only; name them otherwise")
    return [dg.AssetCheckKey(model.package_key, name) for name in names.values()]


def blocking_keys(model: GovernedModel, reading: Reading) -> list[dg.AssetCheckKey]:
    """Return the keys of the checks of those frameworks that the policy in force lets block a release, in whatever tier."""
    tiers = policy_in_force(reading).policy.tiers.values()
    blocking = {name for tier in tiers for name in tier.blocking_frameworks}
    pairs = zip(dict.fromkeys(model.frameworks), coverage_keys(model), strict=True)
    return [key for name, key in pairs if name in blocking]


def coverage_checks(model: GovernedModel, *, lenient: bool = False) -> list[dg.AssetChecksDefinition]:
    """Return one partitioned check for each framework that the model's code names.

    Args:
        model: the governed model.
        lenient: pass where the policy does not block on the framework, though something is open. A release that Dagster's
            automation requests waits for every blocking check to pass, so a warning would hold it back.
    """
    pairs = zip(dict.fromkeys(model.frameworks), coverage_keys(model), strict=True)
    return [_check(model, framework, key, lenient) for framework, key in pairs]


def _check(model: GovernedModel, name: str, key: dg.AssetCheckKey, lenient: bool) -> dg.AssetChecksDefinition:
    with partitioned_checks():

        @dg.asset_check(
            asset=key.asset_key,
            name=key.name,
            blocking=True,
            partitions_def=model.partitions,
            required_resource_keys={model.ledger},
            description=(
                f"What the ledger shows for the requirements of {name}: evidence for a reader's judgement, and no verdict. Open "
                "work stops a release only where the policy says so (blocking_frameworks)."
            ),
        )
        def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            with refuse_on(context):
                version = partition_key(context)
                if version is None:
                    raise UsageError(f"{model.key}: launch this with a partition, the version")
                workspace = ledger_of(context, model).open()
                now = datetime.now(timezone.utc)
                reading = workspace.read()
                facts = collect(reading, model.key, version)
                report = assess_coverage(facts, load_framework(name, workspace.config.frameworks), now)
                tier = policy_in_force(reading).policy.tiers.get(facts.tier)
                blocks = tier is not None and name in tier.blocking_frameworks
                reported = run_tags(context).get(PURPOSE) == REPORT  # such a run only shows what the check says now
            return check_result(
                report,
                consistency(facts),
                command(workspace, f"coverage {model.key} {version} --framework {name}"),
                blocks=blocks,
                about=version,
                lenient=lenient,
                reported=reported,
            )

    return check


def check_result(
    report: CoverageReport,
    lost: Sequence[Lost],
    see: str,
    *,
    blocks: bool,
    about: str,
    lenient: bool = False,
    reported: bool = False,
) -> dg.AssetCheckResult:
    """Return what Dagster shows of a report.

    Args:
        report: the coverage.
        lost: what an earlier version had and this one lacks.
        see: the command that shows more.
        blocks: whether the policy stops a release on it.
        about: the version.
        lenient: see `coverage_checks`.
        reported: whether the run only shows the check: then it warns, and stops nothing.
    """
    to_do = report.to_do()
    return dg.AssetCheckResult(
        passed=not to_do or (lenient and not blocks),
        severity=dg.AssetCheckSeverity.ERROR if blocks and not reported else dg.AssetCheckSeverity.WARN,
        description=f"{about}: {_sentence(report, blocks)}",
        metadata={
            f"{PREFIX}version": about,
            f"{PREFIX}framework": f"{report.framework.id} {report.framework.version} ({report.framework.status})",
            f"{PREFIX}coverage": table(_counts(report)),
            f"{PREFIX}open": table(_rows(report)),
            f"{PREFIX}less_than_before": table(
                [{"version": item.version, "had": item.text, "entry": str(item.entry.seq)} for item in lost]
            ),
            f"{PREFIX}judged_on": report.as_of,
            f"{PREFIX}command": see,
        },
    )


def _sentence(report: CoverageReport, blocks: bool) -> str:
    if not report.scored:
        return f"{report.framework.id} is listed only: it is {report.framework.status} and its results do not count."
    if report.scope == "out_of_scope":
        return f"{report.framework.id} does not apply to this model by the facts that were stated."
    to_do = report.to_do()
    parts = []
    for force in ("law", "guidance"):
        satisfied, applicable = report.score(force)
        if applicable:
            parts.append(f"{force}: evidence and judgement for {satisfied} of {applicable} mandatory requirements")
    waiting = sum(line.open and line.requirement.mandatory for line in report.lines) - len(to_do)
    text = "; ".join(parts) or "no mandatory requirement applies"
    text += f". {waiting} wait for a signature or for the release" if waiting else ""
    if not to_do:
        return f"{text}. Nothing needs work before people sign."
    ids = ", ".join(line.requirement.id for line in to_do[:10]) + (" and more" if len(to_do) > 10 else "")
    stops = "the policy stops the release on this" if blocks else "the policy does not stop a release on this"
    return f"{text}. {len(to_do)} need work ({stops}): {ids}"


def _counts(report: CoverageReport) -> list[Mapping[str, Any]]:
    return [
        {"force": force, "status": STATUS_LABELS.get(status, status), "requirements": str(number)}
        for force in ("law", "guidance")
        for status, number in report.counts(force).items()
    ]


def _rows(report: CoverageReport) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = [
        {
            "requirement": line.requirement.id,
            "citation": line.requirement.citation,
            "status": STATUS_LABELS.get(line.status, line.status),
            "open": "; ".join(gap.text for gap in line.gaps),
            "who": "; ".join(dict.fromkeys(gap.who for gap in line.gaps)),
        }
        for line in report.lines
        if line.open
    ]
    return rows[:_SHOWN]
