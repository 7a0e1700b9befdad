"""Tags on model versions of an MLflow registry: written from the ledger, once for each change, and never read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from cognify_dagster import LedgerResource
from cognify_dagster.orchestration import registry
from cognify_dagster.orchestration.memory import Memory
from cognify_dagster.orchestration.registry import News, Place, linked, registry_is_set
from cognify_dagster.records import TrainingRun
from tests.orchestration import project
from tests.orchestration.desk import Desk

ASSETS = [project.tiny_model, project.tiny_eval, project.tiny_service]


class Fake:
    """A registry that keeps tags, and fails for some models."""

    def __init__(self, *failing: str) -> None:
        self.failing, self.tags = failing, dict[tuple[str, str], dict[str, str]]()

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        if name in self.failing:
            raise OSError(f"http://user:secret@registry.example refused {name}")
        self.tags.setdefault((name, version), {})[key] = value


class Ticks:
    """The registry sensor of a project that is loaded where a registry is set, over several ticks."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.defs = dg.Definitions.merge(
            dg.Definitions(assets=[project.tiny_train, project.tiny_holdout], resources={"ledger": LedgerResource()}),
            project.tiny.build_defs(assets=ASSETS),
        )
        self.cursor: str | None = None

    def tick(self) -> str:
        context = dg.build_sensor_context(
            instance=self.instance,
            instance_ref=self.instance.get_ref(),
            definitions=self.defs,
            resources={"ledger": LedgerResource()},
            cursor=self.cursor,
        )
        data = self.defs.resolve_sensor_def("tiny_registry_sensor").evaluate_tick(context)
        self.cursor = data.cursor or self.cursor
        assert data.run_requests == []
        return str(data.skip_message)


@pytest.fixture
def uri(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    found = f"sqlite:///{tmp_path}/registry.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found)
    return found


def test_without_a_registry_there_is_no_sensor_and_mlflow_is_not_asked_for(monkeypatch: pytest.MonkeyPatch):
    for name in registry.URIS:
        monkeypatch.delenv(name, raising=False)
    assert not registry_is_set()
    names = {sensor.name for sensor in project.tiny.build_defs(assets=ASSETS).sensors or ()}
    assert not any("registry" in name for name in names)


def test_a_real_registry_shows_what_the_ledger_says(new_desk: Desk, own_instance: dg.DagsterInstance, uri: str):
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("tiny-model")
    made = client.create_model_version("tiny-model", source="file:///nowhere", run_id=None)
    new_desk.switch("mlflow", f'{{"model": "tiny-model", "version": {made.version}}}')
    new_desk.instance = own_instance
    new_desk.build()
    # somebody says in the registry that it is live: nothing believes it, and the next tick says what is true
    client.set_model_version_tag("tiny-model", made.version, "cognify.state", "live")

    def shown() -> dict[str, str]:
        tags: dict[str, str] = client.get_model_version("tiny-model", made.version).tags
        return {key.removeprefix("cognify."): value for key, value in tags.items()}

    sensor = Ticks(own_instance)
    assert sensor.tick() == "1 model versions were tagged"
    found = shown()
    assert found["state"] == "waiting"
    assert found["state_text"].startswith("v1 waits for Vera")
    assert (found["validation_status"], found["business_approval"]) == ("pending", "pending")
    assert (found["deployment_tier"], found["security_scan"][:7]) == ("high", "no gate")
    assert (found["model"], found["version"], found["ledger"]) == ("tiny", "v1", new_desk.workspace.origin)
    assert sensor.tick() == "the registry says what the ledger says"
    new_desk.approve("vera")
    assert sensor.tick() == "1 model versions were tagged"
    assert (shown()["validation_status"], shown()["compliance_review"]) == ("signed", "pending")
    new_desk.approve("carl", "olga")
    ran = new_desk.run([project.SERVICE])
    assert ran.success, ran.failure
    assert sensor.tick() == "1 model versions were tagged"
    assert (shown()["state"], shown()["business_approval"]) == ("live", "signed")
    assert shown()["on_production"].startswith("v1 is live on production")
    # a sensor that lost its memory tells again and decides nothing
    sensor.cursor = None
    assert sensor.tick() == "1 model versions were tagged"
    assert sensor.tick() == "the registry says what the ledger says"


def test_a_version_that_names_no_entry_of_the_registry_is_left_out(
    desk: Desk, own_instance: dg.DagsterInstance, uri: str
):
    assert linked(desk.workspace.read(), "tiny", "v1") is None
    assert Ticks(own_instance).tick() == "the registry says what the ledger says"
    assert not Path(uri.removeprefix("sqlite:///")).exists()  # MLflow was not even opened


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({"model": "m", "version": "3"}, Place("m", "3")),
        ({"model": "m", "version": 3}, Place("m", "3")),
        ({"model": "m", "version": True}, None),
        ({"model": "m", "version": "latest"}, None),
        ({"model": "", "version": "3"}, None),
        ({"model": "x" * 251, "version": "3"}, None),
        ({"version": "3"}, None),
        ("m/3", None),
    ],
)
def test_only_a_name_and_a_number_link_a_version(said: object, place: Place | None):
    training = SimpleNamespace(record=SimpleNamespace(extra={"mlflow": said}))

    class Read:
        def latest(self, kind: Any, subject: str) -> Any:
            assert (kind, subject) == (TrainingRun, "model/tiny@v1")
            return training

    assert linked(Read(), "tiny", "v1") == place  # type: ignore[arg-type]


def news(*names: str) -> list[News]:
    return [
        News(name, Place(name, "1"), {"cognify.state": "waiting"}, {"production": f"mark-{name}"}) for name in names
    ]


def write(found: list[News], memory: Memory, fake: Fake) -> tuple[str, list[str]]:
    log: list[str] = []
    context = SimpleNamespace(log=SimpleNamespace(error=log.append))
    return registry._write(context, found, memory, lambda: fake), log  # type: ignore[arg-type]


def test_what_one_version_fails_at_holds_up_no_other_and_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://user:secret@registry.example")
    memory, fake = Memory("0" * 16, 0), Fake("b")
    said, log = write(news("a", "b", "c"), memory, fake)
    assert said.startswith(
        "2 model versions were tagged; 1 could not be: b 1 (b): OSError: $MLFLOW_REGISTRY_URI refused b"
    )
    assert not any("secret" in text for text in (said, *log))
    assert set(fake.tags) == {("a", "1"), ("c", "1")}
    assert [memory.get("production", name).told for name in "abc"] == ["mark-a", "", "mark-c"]
    said, _ = write(news(*"abcdef"), Memory("0" * 16, 0), Fake(*"abcdef"))
    assert said.startswith("0 model versions were tagged; 3 could not be")
    assert said.endswith("3 wait for the next tick")


def test_where_mlflow_is_not_installed_the_sensor_says_so(monkeypatch: pytest.MonkeyPatch):
    def absent() -> Any:
        raise ImportError("mlflow")

    context = SimpleNamespace(log=SimpleNamespace(error=print))
    said = registry._write(context, news("a"), Memory("0" * 16, 0), absent)  # type: ignore[arg-type]
    assert said.startswith("nothing is told: MLflow is not installed")
