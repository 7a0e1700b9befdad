"""The README's minimal example runs as it is printed."""

from __future__ import annotations

import os
import re
import runpy
from pathlib import Path

import dagster as dg
import pytest
import yaml

from cognify_dagster.governance import DEFAULT_POLICY_YAML, Founder, create_key, found_workspace, parse_policy
from cognify_dagster.records import DatasetSnapshot, TrainingRun
from cognify_dagster.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


def readme_block() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- example: .*?-->\n```python\n(.*?)```", text, re.DOTALL)
    assert found, "the README has no marked example"
    return found.group(1)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    key = create_key(tmp_path / "me.key.json", "person/me", "a long pass phrase")
    found_workspace(
        tmp_path / "project",
        origin="my-team.example/models",
        founders=[Founder(key, "Me", aliases=(f"os:{os.environ.get('USER', 'root')}",))],
        policy=parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)),
        policy_text=DEFAULT_POLICY_YAML,
        trial=True,
    )
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("COGNIFY_WORKSPACE", raising=False)
    return tmp_path / "project"


def test_the_minimal_example_records_data_and_model(project: Path) -> None:
    (project / "readme_example.py").write_text(readme_block(), encoding="utf-8")
    defs: dg.Definitions = runpy.run_path(str(project / "readme_example.py"))["defs"]
    with dg.instance_for_test() as instance:
        job = defs.resolve_implicit_global_asset_job_def()
        job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("clients")])
        instance.add_dynamic_partitions("churn_versions", ["v1"])
        job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("churn_model")], partition_key="v1", raise_on_error=True
        )
    reading = Workspace.open(project).read()
    snapshot = reading.latest(DatasetSnapshot, "dataset/clients")
    training = reading.latest(TrainingRun, "model/churn@v1")
    assert snapshot is not None
    assert training is not None
    assert snapshot.record.record_count == 200
    assert training.record.config == {"threshold": 4, "rows": 200}
    assert training.record.datasets[0].root == snapshot.record.root


def test_the_readme_names_the_workspace_as_init_does_and_says_how_to_add_a_version() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    printed = (ROOT / "cognify_dagster" / "cli" / "init.py").read_text(encoding="utf-8")
    used = set(re.findall(r'LedgerResource\(workspace="([^"]*)"\)', text))
    assert used == set(re.findall(r'LedgerResource\(workspace="([^"]*)"\)', printed)) == {".cognify"}
    for part in ("A minimal governed project", "Adopting it in a project you have"):
        section = text.split(f"## {part}")[1].split("\n## ")[0]
        assert 'add_dynamic_partitions("churn_versions", ["v' in section


def test_every_command_that_the_readme_prints_exists() -> None:
    import click

    from cognify_dagster.cli import main

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    calls = re.findall(r"^\$ cognify (\w+)", text, re.MULTILINE)
    assert calls
    assert set(calls) <= set(main.list_commands(click.Context(main)))
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)`|^\$ make ([a-z-]+)", text, re.MULTILINE)) <= {
        pair for target in targets for pair in ((target, ""), ("", target))
    }
