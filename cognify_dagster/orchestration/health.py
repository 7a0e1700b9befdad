"""What `cognify doctor` asks Dagster: daemon, sensors, run retries, and whether the code location has its ledger resource.

The code location is loaded in a process of its own (this file run as a script), so that user code can neither crash the
doctor nor print into its answer.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cognify_dagster.orchestration.names import POOL, SENSOR_ROLE, SPACE_METADATA, looks_like_ours

if TYPE_CHECKING:
    import dagster as dg

HEARTBEAT_FRESH_S = 120.0
LOAD_TIMEOUT_S = 120
_NEEDED_DAEMONS = ("SENSOR", "SCHEDULER")


@dataclass(frozen=True)
class HealthCheck:
    """One check: `status` is ok, warn or fail; `do` says what to do unless it is ok."""

    name: str
    status: str
    text: str
    do: str = ""


def dagster_checks(home: Path, project: Path) -> list[HealthCheck]:
    """Check a Dagster instance and the code location of a project.

    Args:
        home: DAGSTER_HOME.
        project: folder of the project, where `dagster dev` would be started.
    """
    import dagster as dg

    try:
        instance = dg.DagsterInstance.from_config(str(home))
    except Exception as error:
        text = f"{home}: the instance cannot be opened: {_line(error)}"
        return [HealthCheck("dagster instance", "fail", text, "mend dagster.yaml")]
    with instance:
        location = load_location(project)
        return [
            HealthCheck("dagster instance", "ok", f"Dagster {dg.__version__}, {home}"),
            retries_check(instance),
            daemon_check(instance, time.time()),
            *location_checks(location),
            sensor_check(instance, location),
            *pool_checks(instance, location),
        ]


def retries_check(instance: dg.DagsterInstance) -> HealthCheck:
    """Run retries must not repeat a run whose step failed on purpose, such as a refused deployment."""
    if not instance.run_retries_enabled:
        return HealthCheck("run retries", "ok", "off")
    if instance.run_retries_retry_on_asset_or_op_failure:
        return HealthCheck(
            "run retries",
            "warn",
            "on, also for failed steps: only crashes should be retried. Refused deployments are exempt by a run tag",
            "in dagster.yaml: run_retries: {enabled: true, retry_on_asset_or_op_failure: false}",
        )
    return HealthCheck("run retries", "ok", "on for crashed runs only")


def daemon_check(instance: dg.DagsterInstance, now: float) -> HealthCheck:
    """The daemon evaluates sensors and schedules; without it nothing is released on its own."""
    beats = instance.get_daemon_heartbeats()
    ages = {name: now - beats[name].timestamp for name in _NEEDED_DAEMONS if name in beats}
    start = "start `dagster dev`, or `dagster-daemon run` beside the webserver"
    if not ages:
        return HealthCheck("dagster daemon", "fail", "has never run: sensors and schedules are not evaluated", start)
    oldest = max(ages.values())
    if oldest > HEARTBEAT_FRESH_S:
        return HealthCheck("dagster daemon", "fail", f"last heartbeat {oldest:.0f} s ago", start)
    failing = [name for name in ages if beats[name].errors]
    if failing:
        return HealthCheck("dagster daemon", "warn", f"errors in {', '.join(failing)}", "see the daemon's log")
    return HealthCheck("dagster daemon", "ok", f"last heartbeat {max(oldest, 0):.0f} s ago")


def location_checks(location: Mapping[str, Any]) -> list[HealthCheck]:
    """Whether the code location loads and has the ledger resource."""
    if "error" in location:
        status = "warn" if location.get("absent") else "fail"
        return [HealthCheck("definitions", status, str(location["error"]), "see `dagster definitions validate`")]
    checks = [HealthCheck("definitions", "ok", f"{location['source']} loads")]
    found = [name for name, kind in location["resources"].items() if kind == "LedgerResource"]
    spaces = sorted({item["space"] for item in location.get("assets", ()) if item.get("role")}) or [""]
    for space in spaces:
        name = f"ledger_{space}" if space else "ledger"
        if name in found:
            checks.append(HealthCheck("ledger resource", "ok", f'resource "{name}" is a LedgerResource'))
            continue
        detail = f"only under {', '.join(found)}" if found else "missing"
        given = f'space="{space}", workspace=…' if space else 'workspace=".cognify"'
        do = f'dg.Definitions(resources={{"{name}": cg.LedgerResource({given})}})'
        checks.append(HealthCheck("ledger resource", "fail", f'resource "{name}" is {detail}', do))
    return checks


def sensor_check(instance: dg.DagsterInstance, location: Mapping[str, Any]) -> HealthCheck:
    """Whether the approval and reconciliation sensors are on, by their switch in the instance or their default."""
    from cognify_dagster.orchestration._compat import InstigatorStatus, InstigatorType

    states = {
        state.instigator_name: state.status
        for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    }
    declared = dict(location.get("sensors", {}))
    names = set(declared) or {name for name in states if looks_like_ours(name)}
    if not names:
        return HealthCheck(
            "sensors", "warn", "no approval or reconciliation sensor found", "use GovernedModel.build_defs()"
        )
    running = {InstigatorStatus.RUNNING, InstigatorStatus.AUTOMATICALLY_RUNNING}
    off = []
    for name in sorted(names):
        status = states.get(name, InstigatorStatus.DECLARED_IN_CODE)
        on = declared.get(name, True) if status == InstigatorStatus.DECLARED_IN_CODE else status in running
        if not on:
            off.append(name)
    if off:
        return HealthCheck(
            "sensors", "fail", f"switched off: {', '.join(off)}", "switch them on in the UI under Automation"
        )
    return HealthCheck("sensors", "ok", f"on: {', '.join(sorted(names))}")


def pool_checks(instance: dg.DagsterInstance, location: Mapping[str, Any]) -> list[HealthCheck]:
    """Whether two runs may deploy at once. On one host a lock keeps them apart, on several only the pools' limits do."""
    from cognify_dagster.orchestration._compat import pool_limit

    pools = list(location.get("pools", ()))
    if not pools:
        return []
    free = [name for name in pools if pool_limit(instance, name) != 1]
    if not free:
        return [HealthCheck("deployment pools", "ok", f"limit 1: {', '.join(pools)}")]
    text = f"no limit of 1 on {', '.join(free)}; enough if all deployments run on this host"
    commands = " && ".join(f"dagster instance concurrency set {name} 1" for name in free)
    return [HealthCheck("deployment pools", "ok", text, f"for several hosts: {commands}")]


def load_location(project: Path) -> dict[str, Any]:
    """Load a project's definitions in a separate process; return resources, governed models' sensors and pools, assets, or `error`."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "cognify_dagster.orchestration.health", str(project), str(answer)]
        path = os.pathsep.join(item for item in (os.environ.get("PYTHONPATH"), *_product_path()) if item)
        try:
            done = subprocess.run(
                command,
                cwd=project,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LOAD_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"loading took longer than {LOAD_TIMEOUT_S} s"}
        try:
            value: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            tail = done.stderr.decode(errors="replace").strip().splitlines()
            return {"error": f"the code location ended its process: {tail[-1] if tail else done.returncode}"}
        return value


def _product_path() -> Sequence[str]:
    """Where this package lies, for projects started from elsewhere."""
    return (str(Path(__file__).resolve().parents[2]),)


def describe_location(project: Path) -> dict[str, Any]:
    """Import a project's definitions in this process and describe them."""
    import dagster as dg

    target = _target(project)
    if target is None:
        return {
            "error": "no code location found (pyproject.toml [tool.dagster] or [tool.dg], workspace.yaml, definitions.py)",
            "absent": True,
        }
    source, kind, name, folders = target
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        module = importlib.import_module(name) if kind == "module" else _load_file(Path(name))
        defs = _definitions(module)
        if defs is None:
            return {"error": f"{source}: holds no Definitions object"}
        repository = defs.get_repository_def()
        ledgers = {str(item.space): _config(item) for item in (defs.resources or {}).values() if _is_ledger(item)}
        return {
            "source": source,
            "resources": {key: _kind(item) for key, item in (defs.resources or {}).items()},
            "sensors": {
                sensor.name: sensor.default_status == dg.DefaultSensorStatus.RUNNING
                for sensor in repository.sensor_defs
                if SENSOR_ROLE in sensor.tags
            },
            "pools": sorted(
                {str(spec.metadata[POOL]) for spec in defs.resolve_all_asset_specs() if POOL in spec.metadata}
            ),
            "assets": [_asset(spec, ledgers) for spec in defs.resolve_all_asset_specs()],
        }
    except BaseException as error:  # user code may raise anything, SystemExit included
        return {"error": f"{source} does not load: {_line(error)}"}


def _asset(spec: dg.AssetSpec, ledgers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What `resync` has to know of an asset. `ledgers`: the workspace of each space."""
    import dagster as dg

    versions = spec.partitions_def
    ledgers = ledgers or {}
    first = spec.key.path[0]  # an asset of the user's own that records to a space bears its name too
    space = str(spec.metadata.get(SPACE_METADATA, first if first in ledgers and len(spec.key.path) > 1 else ""))
    return {
        "space": space,
        "workspace": ledgers.get(space, ""),
        "key": list(spec.key.path),
        "role": str(spec.metadata.get("cognify/role", "")),
        "model": str(spec.metadata.get("cognify/model", "")),
        "target": str(spec.metadata.get("cognify/target", "")),
        "enforces": [str(kind) for kind in spec.metadata.get("cognify/enforces", ())],
        "code_version": spec.code_version,
        "deps": [list(item.asset_key.path) for item in spec.deps],
        "partitioned": versions is not None,
        "versions": versions.name if isinstance(versions, dg.DynamicPartitionsDefinition) else None,
    }


def _kind(resource: object) -> str:
    """The class of a resource; a subclass of ours counts as ours."""
    return "LedgerResource" if _is_ledger(resource) else type(resource).__name__


def _is_ledger(resource: object) -> bool:
    return "LedgerResource" in [base.__name__ for base in type(resource).__mro__]


def _config(resource: Any) -> str:
    """The configuration file of a resource's workspace; empty where there is none."""
    from cognify_dagster.workspace import WorkspaceError
    from cognify_dagster.workspace.config import find_config

    try:
        return str(find_config(resource.place).resolve())
    except (WorkspaceError, OSError):
        return ""


def _target(project: Path) -> tuple[str, str, str, list[Path]] | None:
    """Find what `dagster dev` would load: (source, "module" or "file", name, folders to import from)."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # pragma: no cover - Python 3.10
        import tomli as tomllib
    import yaml

    folders = [project, project / "src"]
    listed = project / "workspace.yaml"
    if listed.is_file():
        value = yaml.safe_load(listed.read_text(encoding="utf-8")) or {}
        for item in value.get("load_from", []):
            for key, kind in (("python_module", "module"), ("python_file", "file")):
                if key in item:
                    part = item[key] if isinstance(item[key], dict) else {}
                    name = str(part.get("module_name") or part.get("relative_path") or item[key])
                    return "workspace.yaml", kind, name if kind == "module" else str(project / name), folders
    config = project / "pyproject.toml"
    if config.is_file():
        tool = tomllib.loads(config.read_text(encoding="utf-8")).get("tool", {})
        module = tool.get("dagster", {}).get("module_name")
        root = tool.get("dg", {}).get("project", {}).get("root_module")
        if module or root:
            return "pyproject.toml", "module", str(module or f"{root}.definitions"), folders
    if (project / "definitions.py").is_file():
        return "definitions.py", "file", str(project / "definitions.py"), folders
    return None


def _load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _definitions(module: Any) -> Any:
    """Return the module's Definitions, resolving `@dg.definitions` functions."""
    import dagster as dg
    from dagster.components.definitions import LazyDefinitions

    for value in vars(module).values():
        if isinstance(value, dg.Definitions):
            return value
    for value in vars(module).values():
        if isinstance(value, LazyDefinitions):
            return value()
    return None


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(describe_location(Path(sys.argv[1]))), encoding="utf-8")
