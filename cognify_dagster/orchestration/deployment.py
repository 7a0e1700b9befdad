"""`@governed_deployment`: the asset whose body is entered only behind a verified release.

Invariants: nothing but `request_release` lets the body run, whatever launched it, and that only where no framework which the
policy lets block a release has open work; a refusal leaves an entry and is repeated
by neither op retries nor run retries; in a run that has just built the package the step ends without materializing, because
people have not had the chance to sign; a retry continues under the same grant; on one host one run at a time deploys a model
to a target.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg

from cognify_dagster.documents import record_final_copy
from cognify_dagster.governance import Grant, ReleaseBlocked, complete, directory, fail, request_release
from cognify_dagster.governance.oversight.conditions import ENFORCED
from cognify_dagster.governance.release.history import grant_of
from cognify_dagster.ledger import IdempotencyConflict, LedgerError
from cognify_dagster.orchestration._compat import partition_key, root_run_id, run_id
from cognify_dagster.orchestration.attribution import identified, launcher
from cognify_dagster.orchestration.calls import UsageError, compute_function, read_function
from cognify_dagster.orchestration.exclusive import one_at_a_time, pool_name
from cognify_dagster.orchestration.inputs import ModelVersion, Release
from cognify_dagster.orchestration.metadata import (
    NOT_KEPT,
    PREFIX,
    command,
    entry_metadata,
    person,
    place,
    readable_copy,
    refusal_table,
    review_link,
)
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.names import POOL
from cognify_dagster.orchestration.notices import refused_notice
from cognify_dagster.orchestration.refusal import refuse_on
from cognify_dagster.orchestration.resource import LedgerResource
from cognify_dagster.orchestration.standing import (
    Board,
    approved,
    conditions_of,
    due,
    final_copy_path,
    held_back,
    moment,
)
from cognify_dagster.orchestration.training import MODEL_METADATA
from cognify_dagster.orchestration.workflow import release_fields
from cognify_dagster.records import DeploymentCompleted, Package, ReleaseGranted, ReleaseRefused, SignOff, TrainingRun
from cognify_dagster.workspace import Reading, Recorded, Workspace

TARGET_METADATA = "cognify/target"
ENFORCES_METADATA = "cognify/enforces"


def governed_deployment(
    model: GovernedModel,
    *,
    target: str | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    pool: str | None = None,
    enforces: Collection[str] = (),
    name: str | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Make a deployment asset of a function that installs a released model.

    The function receives `release` (a `Release`) and may return where the model now is, or a mapping of details.

    Args:
        model: the governed model.
        target: deployment target; the model's unless given.
        retry_policy: for failures of the installation; it continues under the same grant. Refusals are never retried.
        pool: Dagster concurrency pool; `<key>_<target>_deployment` unless given. Set its limit to 1 where deployments may run
            on several hosts, so that two runs of one version wait for each other.
        enforces: kinds of condition that the function enforces, of "use_cap" and "population". An approval with a condition of
            such a kind releases nothing to a deployment that does not name it here; read them from `release.conditions`.
        name: asset name; the function's name unless given.
    """

    unknown = sorted(set(enforces) - set(ENFORCED))
    if unknown:
        raise UsageError(
            f"enforces: {unknown[0]!r} is no kind of condition to enforce; there are {', '.join(ENFORCED)}"
        )
    kinds = tuple(sorted(enforces))

    def wrap(function: Callable[..., Any]) -> dg.AssetsDefinition:
        user = read_function(function, dict.fromkeys(("release", "version")))
        asset = name or user.name
        where = target or model.target
        queue = pool or pool_name(model.name, where)
        spec = model.spec(
            "deployment",
            asset,
            description=user.description,
            code_version=user.code_version,
            deps=[model.package_key],
            partitions_def=model.partitions,
            skippable=True,
            metadata={
                MODEL_METADATA: model.key,
                TARGET_METADATA: where,
                ENFORCES_METADATA: list(kinds),
                POOL: queue,
            },
        )

        def body(context: Any, ledger: LedgerResource, passed: Mapping[str, Any]) -> Any:
            with refuse_on(context):
                workspace = ledger.open()
                try:
                    result = _deploy(context, workspace, model, user, passed, where, kinds)
                except ReleaseBlocked:
                    _tell_refusal(context, workspace, model, where, spec.key, kinds)
                    raise
            if result is not None:
                yield result

        step = model.where.named(asset)
        return dg.multi_asset(name=step, specs=[spec], retry_policy=retry_policy, pool=queue)(
            compute_function(user, body, name=step, space=model.where)
        )

    return wrap


def _deploy(
    context: Any,
    workspace: Workspace,
    model: GovernedModel,
    user: Any,
    passed: Mapping[str, Any],
    target: str,
    enforces: Collection[str],
) -> dg.MaterializeResult | None:
    version = partition_key(context)
    if version is None:
        raise UsageError(f"{model.key} is deployed one version at a time: launch it with a partition, the version")
    run = root_run_id(context)
    with one_at_a_time(context, workspace.home, model.key, target, run_id(context)):
        return _deploy_alone(context, workspace, model, version, run, user, passed, target, enforces)


def _tell_refusal(
    context: Any,
    workspace: Workspace,
    model: GovernedModel,
    target: str,
    deployment: dg.AssetKey,
    enforces: Collection[str],
) -> None:
    """Say on the partition's page why nothing was materialized. The refusal stands in the ledger whether or not this works."""
    try:
        board = Board(workspace, workspace.read(), model.key, target, enforces)
        found = board.standing(str(partition_key(context)), datetime.now(timezone.utc))
        context.log_event(refused_notice(board, found, deployment, _launched_by(context, board.reading)))
    except Exception as error:
        context.log.error(f"the refusal could not be shown on the page of the partition: {error}")


def _deploy_alone(
    context: Any,
    workspace: Workspace,
    model: GovernedModel,
    version: str,
    run: str,
    user: Any,
    passed: Mapping[str, Any],
    target: str,
    enforces: Collection[str],
) -> dg.MaterializeResult | None:
    reading = workspace.read()
    done = _completed_by(reading, model.key, version, target, run)
    if done is not None:
        context.log.info(f"this run deployed {version} before (entry {done})")
        copy = _final_copy(context, workspace, model.key, version)
        return deployment_result(workspace, workspace.read(), done, copy, _launched_by(context, reading))
    if package_built_by(reading, model.key, version, run):
        context.log.info(
            f"{model.key} {version}: the package was built in this run and waits for signatures; nothing is deployed. "
            f"The approval sensor releases it. See: {command(workspace, f'status {model.key} {version}')}"
        )
        return None
    who = launcher(context, directory(reading))
    grant = request_release(
        workspace,
        model.key,
        version,
        target,
        run,
        who,
        enforces=enforces,
        further=lambda size, decision: held_back(workspace, size, decision),
    )
    training = workspace.read().latest(TrainingRun, f"model/{model.key}@{version}")
    assert training is not None  # a grant exists only for a sealed run
    with ModelVersion(workspace, training) as released:
        details = _install(context, workspace, user, passed, Release(workspace, grant, released))
    try:
        seq = complete(
            workspace,
            grant,
            location=str(details.pop("location", "")),
            detail={**details, "run": run, "dagster_run": run_id(context)},
        )
    except IdempotencyConflict as error:
        raise UsageError(
            f"{model.key} {version} was deployed to {target} by another run at the same time, under the same grant (entry "
            f"{grant.seq}); this run changed nothing in the ledger. See: {command(workspace, f'status {model.key} {version}')}"
        ) from error
    copy = _final_copy(context, workspace, model.key, version)
    return deployment_result(workspace, workspace.read(), seq, copy, _launched_by(context, reading))


def _final_copy(context: Any, workspace: Workspace, model: str, version: str) -> Path | None:
    """Render the copy with the signature page. The release stands without it, so a failure is only logged."""
    try:
        copy = record_final_copy(workspace, model, version)
        if copy is None:
            return None
        name = final_copy_path(workspace, model, version).name
        data = workspace.evidence.get(copy.record.final_copy.digest)
        path = readable_copy(workspace, model, version, name, data)
        context.log.info(f"final copy with signatures: {path}")
        return path
    except Exception as error:
        context.log.error(f"the final copy could not be made; `cognify package export` makes it again: {error}")
        return None


def _install(
    context: Any, workspace: Workspace, user: Any, passed: Mapping[str, Any], release: Release
) -> dict[str, Any]:
    """Run the user's body under the grant; a failure is recorded and raised as it is, so that a retry may continue."""
    try:
        returned = user.call(context, passed, {"release": release, "version": release.version})
    except Exception as error:
        attempt = f"{run_id(context)}/{getattr(context, 'retry_number', 0)}"
        _record_failure(context, workspace, release.grant, attempt, f"{type(error).__name__}: {error}")
        raise
    if returned is None:
        return {}
    return dict(returned) if isinstance(returned, Mapping) else {"location": str(returned)}


def _record_failure(context: Any, workspace: Workspace, grant: Grant, attempt: str, reason: str) -> None:
    try:
        fail(workspace, grant, attempt=attempt, reason=reason)
    except (LedgerError, OSError) as second:
        context.log.error(f"the failed deployment could not be recorded: {second}")


def package_built_by(reading: Reading, model: str, version: str, run: str) -> bool:
    """Whether the newest package of the version was built by this run (or the run it retries)."""
    package = reading.latest(Package, f"model/{model}@{version}")
    return package is not None and package.record.observed.get("run") == run


def _completed_by(reading: Reading, model: str, version: str, target: str, run: str) -> int | None:
    """A crash between completing and returning must not deploy again: return what this run completed before."""
    for item in reading.all(DeploymentCompleted, f"model/{model}@{version}"):
        if item.record.target == target and item.record.detail.get("run") == run:
            return item.seq
    return None


def _launched_by(context: Any, reading: Reading) -> str:
    people = directory(reading)
    who = launcher(context, people)
    return f"{person(people, who) if who != 'unattributed' else 'no person'}; {identified(context, people)}"


def deployment_result(
    workspace: Workspace, reading: Reading, seq: int, copy: Path | None, launched_by: str = NOT_KEPT
) -> dg.MaterializeResult:
    """What the UI shows of a deployment: a record of the moment it went live. `launched_by`: who, and how that was told."""
    found = reading.at(seq)
    assert found is not None
    record = found.record
    assert isinstance(record, DeploymentCompleted)
    subject = f"model/{record.model}@{record.version}"
    people = directory(reading)
    refusals = [item for item in reading.all(ReleaseRefused, subject) if item.record.target == record.target]
    grant = grant_of(
        reading, Recorded(found.seq, found.time_us, found.leaf, found.actor, found.key_id, record, found.entry)
    )
    export = command(workspace, f"package export {record.model} {record.version} -o BUNDLE")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.model_digest),
        metadata={
            f"{PREFIX}state": dg.MetadataValue.md(
                f"**{record.version} went live** on {record.target} on {moment(found.time_us)} (entry {seq})\n\n"
                f"*What is live now: `{command(workspace, f'status {record.model}')}`*"
            ),
            **review_link(workspace, record.model, record.version),
            f"{PREFIX}who_approved": dg.MetadataValue.md(_approvers(reading, record)),
            **(release_fields(people, grant.record) if grant is not None else {}),
            f"{PREFIX}final_copy": dg.MetadataValue.path(str(copy)) if copy else export,
            f"{PREFIX}launched_by": launched_by,
            f"{PREFIX}refused_before": refusal_table(refusals, people),
            f"{PREFIX}supersedes": record.supersedes or "none",
            f"{PREFIX}location": place(record.location) if record.location else "not stated",
            f"{PREFIX}export_command": export,
            f"{PREFIX}model_digest": record.model_digest,
            f"{PREFIX}granted_by": f"ledger entry {record.grant_seq}",
            **entry_metadata(workspace, seq, found.leaf),
        },
    )


def _approvers(reading: Reading, record: DeploymentCompleted) -> str:
    grant = reading.at(record.grant_seq)
    if grant is None or not isinstance(grant.record, ReleaseGranted):
        return "the grant cannot be read"
    people = directory(reading)
    lines = []
    for seq in grant.record.sign_off_seqs:
        item = reading.at(seq)
        if item is not None and isinstance(item.record, SignOff):
            signed, conditions = item.record, conditions_of(item.record)
            lines.append(
                f"- **{people.name(signed.person)}** as {signed.role.replace('_', ' ')} on {signed.signed_at} (entry {seq})"
                + (f": **{approved(conditions)}**" if conditions else "")
            )
            lines += [f"    - {condition.text} (due {due(condition)})" for condition in conditions]
    return "\n".join(lines) or "automated gates only; this tier asks for no signatures"
