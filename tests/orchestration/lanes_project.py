"""The tiny project with two targets: a canary that enforces caps, and production."""

import dagster as dg

import cognify_dagster as cg
from tests.orchestration.project import enter, place, tiny, tiny_eval, tiny_holdout, tiny_model, tiny_train


def _install(release: cg.Release, name: str) -> dict[str, str]:
    enter(name)
    path = place() / "live" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(release.model_path.read_bytes())
    caps = [item["limit"] for item in release.conditions if item["kind"] == "use_cap"]
    return {"location": str(path), "caps": str(caps), "purpose": release.purpose}


@cg.governed_deployment(tiny, target="canary", enforces=("use_cap",))
def tiny_canary(release: cg.Release) -> dict[str, str]:
    """A tenth of the traffic."""
    return _install(release, "canary")


@cg.governed_deployment(tiny, target="production")
def tiny_service(release: cg.Release) -> dict[str, str]:
    """All of it."""
    return _install(release, "production")


defs = dg.Definitions.merge(
    dg.Definitions(assets=[tiny_train, tiny_holdout], resources={"ledger": cg.LedgerResource()}),
    tiny.build_defs(assets=[tiny_model, tiny_eval, tiny_canary, tiny_service]),
)


@cg.governed_deployment(tiny, target="production", name="tiny_auto")
def _auto(release: cg.Release) -> dict[str, str]:
    """Released by an automation condition."""
    return _install(release, "auto")


automated = dg.Definitions.merge(
    dg.Definitions(assets=[tiny_train, tiny_holdout], resources={"ledger": cg.LedgerResource()}),
    tiny.build_defs(assets=[tiny_model, tiny_eval, _auto], release_by="automation"),
)
