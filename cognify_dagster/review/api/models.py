"""Models, their versions, decisions, packages and releases."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.package.building import read_package
from cognify_dagster.governance import directory
from cognify_dagster.records import (
    DeploymentCompleted,
    DeploymentFailed,
    EvidenceItem,
    FinalCopy,
    Package,
    ReleaseGranted,
    ReleaseRefused,
    ReleaseSuspended,
    SignOff,
)
from cognify_dagster.review.api.calls import ApiRoute, Call, call_of, needs
from cognify_dagster.review.api.names import names_of
from cognify_dagster.review.api.parameters import Cursor, Limit, ModelId, Target, VersionId
from cognify_dagster.review.api.problems import problems
from cognify_dagster.review.api.schemas import (
    ConditionOut,
    CountsOut,
    CoverageOut,
    DecisionOut,
    EvidenceOut,
    ModelDetail,
    ModelOut,
    PackageOut,
    Page,
    ReleaseOut,
    SignOffOut,
    VersionDetail,
    VersionOut,
)
from cognify_dagster.review.api.standing import (
    Standing,
    clock,
    condition_out,
    decision_out,
    model_out,
    standing_of,
    version_out,
    version_row,
    versions_of,
)
from cognify_dagster.review.api.tokens import Scope
from cognify_dagster.review.errors import Refused, not_found
from cognify_dagster.workspace import Reading, Recorded

router = APIRouter(route_class=ApiRoute)
Called = Annotated[Call, Depends(call_of)]
READ: dict[str, Any] = {
    "openapi_extra": needs(Scope.READ),
    "responses": {304: {"description": "It is what the caller has (If-None-Match)."}}
    | problems(401, 403, 404, 422, 500, 503),
}
LIST: dict[str, Any] = READ | {"responses": READ["responses"] | problems(400)}
_RELEASES = (ReleaseGranted, ReleaseRefused, DeploymentCompleted, DeploymentFailed, ReleaseSuspended)


@router.get("/models", response_model=Page[ModelOut], tags=["models"], **LIST)
def list_models(call: Called, cursor: Cursor = None, limit: Limit = 50) -> Response:
    """List the inventory: each model with owner, tier, what is live, next review and open findings."""
    return _models(call, cursor, limit, "models")


@router.get("/inventory", response_model=Page[ModelOut], tags=["models"], **LIST)
def inventory(call: Called, cursor: Cursor = None, limit: Limit = 50) -> Response:
    """List the inventory; the same as `/models`."""
    return _models(call, cursor, limit, "inventory")


def _models(call: Call, cursor: str | None, limit: int, name: str) -> Response:
    about = {"list": name}
    names = names_of(call.site, call.reading)
    reading, place = call.begin(cursor, about)
    found = [model for model in names.models_in(reading) if place is None or model > place.at]
    items = [_model(call, reading, model) for model in found[:limit]]
    more = call.next(reading, found[limit - 1], about) if len(found) > limit else None
    return call.answer(Page[ModelOut](items=items, size=reading.size, next_cursor=more), {"size", "next_cursor"})


def _model(call: Call, reading: Reading, model: str) -> ModelOut:
    names = names_of(call.site, call.reading)
    return model_out(reading, model, names.targets_of(reading, model), names.count(reading, model), call.visit.now)


@router.get("/models/{model}", response_model=ModelDetail, tags=["models"], **READ)
def get_model(call: Called, model: ModelId) -> Response:
    """Return one model."""
    call.model(model)
    found = _model(call, call.reading, model)
    return call.answer(ModelDetail(**found.model_dump(), size=call.reading.size), {"size"})


@router.get("/models/{model}/versions", response_model=Page[VersionOut], tags=["models"], **LIST)
def list_versions(
    call: Called, model: ModelId, target: Target = "production", cursor: Cursor = None, limit: Limit = 20
) -> Response:
    """List the versions of a model in the order in which they appeared, each with its state on a target."""
    call.model(model)
    about = {"list": "versions", "model": model, "target": target}
    reading, place = call.begin(cursor, about)
    versions = versions_of(reading, model)
    start = versions.index(place.at) + 1 if place is not None and place.at in versions else 0
    chosen = versions[start : start + limit]
    items = [version_out(reading, _standing(call, reading, model, version, target)) for version in chosen]
    more = call.next(reading, chosen[-1], about) if start + limit < len(versions) else None
    return call.answer(Page[VersionOut](items=items, size=reading.size, next_cursor=more), {"size", "next_cursor"})


@router.get("/models/{model}/versions/{version}", response_model=VersionDetail, tags=["models"], **READ)
def get_version(call: Called, model: ModelId, version: VersionId, target: Target = "production") -> Response:
    """Return one version and its state on a target."""
    call.version(model, version)
    found = _standing(call, call.reading, model, version, target)
    row = {**version_row(call.reading, found), "size": call.reading.size}
    return call.answer(VersionDetail.model_validate(row), {"size"})


@router.get("/models/{model}/versions/{version}/decision", response_model=DecisionOut, tags=["decisions"], **READ)
def get_decision(call: Called, model: ModelId, version: VersionId, target: Target = "production") -> Response:
    """Decide anew whether a version may be released to a target: stages, every reason against it, conditions, findings."""
    call.version(model, version)
    found = _standing(call, call.reading, model, version, target)
    return call.answer(decision_out(call.reading, found), {"size", "at"})


@router.get(
    "/models/{model}/versions/{version}/conditions", response_model=Page[ConditionOut], tags=["decisions"], **READ
)
def list_conditions(call: Called, model: ModelId, version: VersionId, target: Target = "production") -> Response:
    """List the open conditions of approvals, and open limits of reviews, of a version."""
    call.version(model, version)
    decision = _standing(call, call.reading, model, version, target).decision
    items = [condition_out(item, call.visit.now) for item in decision.conditions]
    return call.answer(Page[ConditionOut](items=items, size=call.reading.size), {"size"})


@router.get("/models/{model}/versions/{version}/sign-offs", response_model=Page[SignOffOut], tags=["decisions"], **READ)
def list_sign_offs(call: Called, model: ModelId, version: VersionId) -> Response:
    """List every sign-off of a version, oldest first, whether it counts or not."""
    call.version(model, version)
    subject, reading = f"model/{model}@{version}", call.reading
    call.unchanged_since(reading, subject)
    items = [sign_off_out(reading, item) for item in reading.all(SignOff, subject)]
    return call.answer(Page[SignOffOut](items=items, size=reading.size))


@router.get("/models/{model}/versions/{version}/packages", response_model=Page[PackageOut], tags=["packages"], **READ)
def list_packages(call: Called, model: ModelId, version: VersionId) -> Response:
    """List every recorded package of a version, oldest first."""
    call.version(model, version)
    subject, reading = f"model/{model}@{version}", call.reading
    call.unchanged_since(reading, subject)
    items = [_package(reading, item) for item in reading.all(Package, subject)]
    return call.answer(Page[PackageOut](items=items, size=reading.size))


@router.get("/models/{model}/versions/{version}/package", response_model=PackageOut, tags=["packages"], **READ)
def get_package(call: Called, model: ModelId, version: VersionId) -> Response:
    """Return the newest package of a version, without its content."""
    found = _newest(call, model, version)
    call.unchanged_since(call.reading, f"model/{model}@{version}")
    return call.answer(_package(call.reading, found))


_CONTENT = {
    "content": {"application/json": {"schema": {"type": "object"}}},
    "description": "The package's exact bytes.",
}


@router.get(
    "/models/{model}/versions/{version}/package/content",
    tags=["packages"],
    response_class=Response,
    openapi_extra=needs(Scope.PERSONAL),
    responses=READ["responses"] | {200: _CONTENT},
)
def get_package_content(call: Called, model: ModelId, version: VersionId) -> Response:
    """Return the bytes of the newest package, verified: SHA-256 over them is the digest that people sign. It names people."""
    found = _newest(call, model, version)
    digest = found.record.package.digest
    call.visit.detail = digest
    call.set_tag(digest)
    data = call.site.workspace.evidence.get(digest)
    return call.respond(data, "application/json", {"X-Cognify-Digest": digest, "X-Cognify-Entry": str(found.seq)})


_COVERAGE = READ | {"responses": READ["responses"] | problems(409)}


@router.get("/models/{model}/versions/{version}/coverage", response_model=CoverageOut, tags=["packages"], **_COVERAGE)
def get_coverage(call: Called, model: ModelId, version: VersionId) -> Response:
    """Return the newest package's coverage of each framework, requirement by requirement."""
    found = _newest(call, model, version)
    digest = found.record.package.digest
    call.unchanged_since(call.reading, f"model/{model}@{version}")
    try:
        content = read_package(call.site.workspace.evidence.get(digest))
    except DocumentError as error:
        raise Refused(409, f"the package of entry {found.seq} cannot be read: {error}", "unreadable") from error
    return call.answer(
        CoverageOut(
            model=model,
            version=version,
            package_digest=digest,
            package_entry=found.seq,
            frameworks=json.loads(json.dumps(content.get("coverage", []))),
        )
    )


@router.get("/models/{model}/releases", response_model=Page[ReleaseOut], tags=["decisions"], **READ)
def list_releases(call: Called, model: ModelId) -> Response:
    """List grants, refusals, deployments and suspensions of a model, oldest first."""
    call.model(model)
    reading = call.reading
    call.unchanged_since(reading, f"model/{model}")
    found: list[Recorded[Any]] = [item for kind in _RELEASES for item in reading.all(kind, f"model/{model}")]
    items = [_release(item, call.personal) for item in sorted(found, key=lambda item: item.seq)]
    return call.answer(Page[ReleaseOut](items=items, size=reading.size))


# --- parts ----------------------------------------------------------------------------------------------------------------


def _standing(call: Call, reading: Reading, model: str, version: str, target: str) -> Standing:
    return standing_of(reading, model, version, target, call.visit.now, call.site.workspace.config.frameworks)


def _newest(call: Call, model: str, version: str) -> Recorded[Package]:
    call.version(model, version)
    found = call.reading.latest(Package, f"model/{model}@{version}")
    if found is None:
        raise not_found(f"A package of {model} {version}")
    return found


def _file(item: EvidenceItem) -> EvidenceOut:
    return EvidenceOut(
        name=item.name, digest=item.digest, size=item.size, media_type=item.media_type, sensitivity=item.sensitivity
    )


def _package(reading: Reading, item: Recorded[Package]) -> PackageOut:
    record = item.record
    copies = reading.all(FinalCopy, f"model/{record.model}@{record.version}")
    final = [copy.record.final_copy for copy in copies if copy.record.package_digest == record.package.digest]
    return PackageOut(
        model=record.model,
        version=record.version,
        revision=record.revision,
        entry=item.seq,
        time=clock(item.time_us),
        leaf=item.leaf,
        digest=record.package.digest,
        size_bytes=record.package.size,
        review_copy=_file(record.review_copy) if record.review_copy else None,
        final_copy=_file(final[-1]) if final else None,
        model_card=_file(record.model_card),
        other=[_file(part) for part in record.other],
        model_digest=record.model_digest,
        training_entry=record.training_seq,
        evaluation_entry=record.evaluation_seq,
        dataset_entries=list(record.dataset_seqs),
        policy_digest=record.policy_digest,
        coverage=[CountsOut(**part.model_dump()) for part in record.coverage],
        built_by=record.built_by,
        built_from_size=record.built_from_size,
    )


def sign_off_out(reading: Reading, item: Recorded[SignOff]) -> SignOffOut:
    """Return a sign-off entry."""
    record = item.record
    return SignOffOut(
        entry=item.seq,
        time=clock(item.time_us),
        model=record.model,
        version=record.version,
        stage=record.stage,
        decision=record.decision,
        role=record.role,
        person=record.person,
        name=directory(reading).name(record.person),
        strength=record.strength,
        package_digest=record.package_digest,
        statement_digest=record.statement_digest,
        signed_at=record.signed_at,
    )


_EVENTS: dict[str, Any] = {
    "release_granted": "granted", "release_refused": "refused", "deployment_completed": "completed",
    "deployment_failed": "failed", "release_suspended": "suspended",
}  # fmt: skip


def _release(item: Recorded[Any], personal: bool) -> ReleaseOut:
    record = item.record
    granted = isinstance(record, ReleaseGranted)
    reasons = [getattr(part, "text", part) for part in getattr(record, "reasons", ())]
    if isinstance(record, DeploymentFailed):
        reasons = [record.reason] if personal else []  # an error's text may hold anything
    return ReleaseOut(
        entry=item.seq,
        time=clock(item.time_us),
        event=_EVENTS[record.kind],
        version=record.version,
        target=record.target,
        grant_entry=item.seq if granted else getattr(record, "grant_seq", None),
        purpose=record.purpose if granted else None,
        package_digest=record.package_digest if granted else None,
        supersedes=getattr(record, "supersedes", None),
        reasons=reasons,
    )
