"""The container files: no engine runs here, so what they name is checked against what there is (docs/deploy.md: what was tried by hand)."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cognify_dagster.cli import main

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "deploy").glob("Dockerfile.*"))
ids = [path.suffix[1:] for path in FILES]


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return (instruction, arguments), continued lines joined, comments left out."""
    text = re.sub(r"\\\n", " ", path.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_there_is_one_for_site_code_and_witness() -> None:
    assert ids == ["dagster", "review", "witness"]


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_what_is_copied_is_there_and_what_is_installed_is_an_extra_pinned_by_the_constraints(path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name, arguments in instructions(path):
        if name == "COPY" and not arguments.startswith("--from"):
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists(), source
    installs = [command for name, text in instructions(path) if name == "RUN" for command in text.split("&&")]
    installs = [command for command in installs if "pip install" in command]
    assert len(installs) == 2
    for command in installs:
        words = shlex.split(command)
        assert words[words.index("-c") + 1] == "constraints.txt"
        for extra in re.findall(r"\[([a-z0-9,-]+)\]", command):
            assert set(extra.split(",")) <= set(extras)
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.search(r"^hatchling==", pinned, re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_it_runs_without_root_and_without_a_shell(path: Path) -> None:
    found = instructions(path)
    last_stage = found[max(at for at, (name, _) in enumerate(found) if name == "FROM") :]
    users = [arguments for name, arguments in last_stage if name == "USER"]
    assert users == ["10001:10001"]
    for name, arguments in last_stage:
        if name in ("CMD", "ENTRYPOINT"):
            assert isinstance(json.loads(arguments), list)
        assert name != "ADD"
        if name == "ENV":
            assert not re.search(r"(PASSWORD|SECRET|TOKEN|KEY)=", arguments)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_the_command_it_starts_knows_its_options(path: Path) -> None:
    found = dict(instructions(path))
    words = json.loads(found.get("ENTRYPOINT", "[]")) + json.loads(found["CMD"])
    if words[0] == "cognify":
        shown = CliRunner().invoke(main, [*words[1:3], "--help"]).output
    else:
        from dagster._cli import create_dagster_cli

        shown = CliRunner().invoke(create_dagster_cli(), [*words[1:3], "--help"]).output
    options = [word for word in words if word.startswith("-")]
    assert options
    for option in options:
        assert re.search(rf"(^|[\s,]){re.escape(option)}\b", shown), option


def test_the_compose_example_names_the_files_and_hardens_each_service() -> None:
    value = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    built = {service["image"] for service in value["services"].values() if "build" in service}
    for service in value["services"].values():
        build = service.get("build")
        assert build is None or (ROOT / build["dockerfile"]).is_file()
        assert service["image"] in built
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["user"] == "10001:10001"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_only_site_and_code_location_reach_the_workspace_and_each_by_its_own_login() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    reaches = {name for name, one in services.items() if any(":/workspace" in volume for volume in one["volumes"])}
    assert reaches == {"review", "code"}
    logins = {name: one["environment"].get("COGNIFY_LEDGER_URL", "") for name, one in services.items()}
    assert {name for name, url in logins.items() if url} == reaches
    assert logins["review"] != logins["code"]
    for name in ("webserver", "daemon"):
        assert services[name]["depends_on"] == {"code": {"condition": "service_healthy"}}
        assert services[name]["healthcheck"]["test"][0] == "CMD"


def test_dagsters_settings_are_ones_that_dagster_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster._config import validate_config
    from dagster._core.instance.config import dagster_instance_config_schema

    monkeypatch.setenv("DAGSTER_DATABASE", "postgresql+psycopg2://dagster@db/dagster")
    settings = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text(encoding="utf-8"))
    checked = validate_config(dagster_instance_config_schema(), settings)
    assert checked.success, checked.errors
    assert settings["run_coordinator"]["class"] == "ProxyUserRunCoordinator"
    assert settings["run_coordinator"]["config"]["missing"] == "refuse"
    places = yaml.safe_load((ROOT / "deploy" / "workspace.yaml").read_text(encoding="utf-8"))["load_from"]
    assert places == [{"grpc_server": {"host": "code", "port": 4000, "location_name": "credit_default"}}]


def test_the_build_is_given_what_it_takes_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "what is not named stays away: keys, ledgers, environments"
    given = {rule[1:] for rule in rules if rule.startswith("!")}
    taken = {
        source
        for path in FILES
        for name, arguments in instructions(path)
        if name == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    }
    assert given == taken | {".git"}
    assert rules[-1] == "**/__pycache__"


def test_the_code_location_holds_what_is_committed_and_its_history() -> None:
    text = (ROOT / "deploy" / "Dockerfile.dagster").read_text(encoding="utf-8")
    assert "COPY .git" not in text, "mounted for one step: its config may hold a token"
    assert "--mount=type=bind,source=.git" in text
    assert "safe.directory /project" in text, "without it git refuses, and the training record says unreadable"


def test_the_modules_of_the_files_are_in_the_repository() -> None:
    assert (ROOT / "definitions.py").is_file()
    assert "0.0.0.0" in (ROOT / "deploy" / "Dockerfile.review").read_text(encoding="utf-8")
