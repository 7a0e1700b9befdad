"""`cognify objectives`, and `cognify retention propose`: a proposal that can be adopted as it stands."""

from __future__ import annotations

from pathlib import Path

import yaml

from cognify_dagster.governance import schedule_in_force
from cognify_dagster.workspace import Workspace
from tests.cli.conftest import Cognify, key_file
from tests.cli.test_cli_verify import add_config
from tests.governance.world import MODEL, World

TABLE = """
version: "1"
as_of: "2026-11-01"
disclaimer: Ours.
objectives:
  - id: collections
    family: credit
    title: Collections score
    metrics: ["collections_*"]
    objective: Ranks who pays late
    direction: higher
    supports: ["sr26-2:mrm.dev.testing"]
    threshold: {label: policy, text: ours}
"""


def own_folder(world: World, name: str, text: str) -> Path:
    folder = world.folder / "project" / "rules"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    add_config(world, 'frameworks = "rules"')
    return folder


# --- objectives


def test_it_needs_no_workspace_and_lists_what_a_framework_asks_for(cognify: Cognify) -> None:
    shown = cognify("objectives", "--framework", "fair-lending")
    assert shown.code == 0, shown.err
    assert "fair-lending:fl.screen" in shown.out
    assert "sr26-2" not in shown.out
    assert "not pass marks" in " ".join(shown.out.split())


def test_metrics_are_looked_up_and_unmapped_ones_named(cognify: Cognify) -> None:
    found = cognify("objectives", "auc", "mmlu.acc", "quokka", "--json").json
    assert found["metrics"] == {"auc": "auc", "mmlu.acc": "mmlu", "quokka": None}
    assert found["unmapped"] == ["quokka"]
    assert {item["id"] for item in found["objectives"]} == {"auc", "mmlu"}
    assert found["unresolved"] == []
    assert "Unmapped: quokka" in cognify("objectives", "quokka\x1b[31m").out.replace("<U+001B>[31m", "")


def test_a_framework_that_is_not_there_is_an_error_and_no_empty_table(cognify: Cognify) -> None:
    result = cognify("objectives", "--framework", "nope")
    assert (result.code, "there is no framework 'nope'; known: 21cfr11" in result.err) == (1, True)


def test_the_workspaces_own_table_comes_first_and_an_error_names_its_file(ready: World, cognify: Cognify) -> None:
    folder = own_folder(ready, "objectives.yaml", TABLE)
    assert cognify("objectives", "collections_30d", "--json", at=ready).json["metrics"] == {
        "collections_30d": "collections"
    }
    assert cognify("objectives", "collections_30d", "--folder", folder, "--json").json["unmapped"] == []
    (folder / "objectives.yaml").write_text(TABLE + "colour: red\n", encoding="utf-8")
    wrong = cognify("objectives", at=ready)
    assert wrong.code == 1
    assert "objectives.yaml: colour: is not a known field" in wrong.err


# --- retention propose


def adopt(cognify: Cognify, world: World, file: Path) -> None:
    keys = [word for name in ("carl", "ada") for word in ("--as", key_file(world, name))]
    done = cognify("retention", "adopt", file, *keys, "--reason", "schedule", "--yes", at=world)
    assert done.code == 0, done.err


def test_a_proposal_is_adopted_as_it_stands_and_keeps_what_was_in_force(ready: World, cognify: Cognify) -> None:
    file = ready.folder / "schedule.yaml"
    size = ready.workspace.ledger.size()
    done = cognify("retention", "propose", "--framework", "hipaa", "--fact", "broker_dealer=true", "-o", file, at=ready)
    assert done.code == 0, done.err
    assert ready.workspace.ledger.size() == size, "nothing is recorded by proposing"
    assert "sr26-2 names no term" in done.out
    assert "retention adopt" in done.out
    text = file.read_text(encoding="utf-8")
    assert f"# {MODEL}" in text
    rules = {item["id"]: item for item in yaml.safe_load(text)["rules"]}
    assert {"bank", "hipaa.hip.documentation", "fair-lending.fl.applications", "us.sec-17a-4", "mrm.life"} <= set(rules)
    assert (rules["hipaa.hip.documentation"]["months"], rules["hipaa.hip.documentation"]["starts"]) == (72, "use_ended")
    adopt(cognify, ready, file)
    schedule = schedule_in_force(Workspace.open(ready.workspace.config.path).read())
    assert {rule.id for rule in schedule.rules} == set(rules)
    shown = cognify("retention", "show", at=ready)
    assert "the end of use" in " ".join(shown.out.split())
    again = cognify(
        "retention", "propose", "--framework", "hipaa", "--fact", "broker_dealer=true", "--json", at=ready
    ).json
    assert {rule["id"] for rule in again["rules"]} == set(rules), "proposing again changes nothing"


def test_without_a_file_the_schedule_is_printed_and_can_be_read(ready: World, cognify: Cognify) -> None:
    done = cognify("retention", "propose", "--model", MODEL, at=ready)
    assert done.code == 0, done.err
    assert yaml.safe_load(done.out)["rules"]


def test_a_workspace_without_models_proposes_from_frameworks_that_are_named(founded: World, cognify: Cognify) -> None:
    assert "name frameworks with --framework" in cognify("retention", "propose", at=founded).err
    found = cognify(
        "retention",
        "propose",
        "--framework",
        "hipaa",
        "--fact",
        "hipaa_role=none,business_associate",
        "--json",
        at=founded,
    )
    reasons = {item["artefact"]: item["reason"] for item in found.json["models"][""]["artefacts"]}
    assert reasons["package"].startswith("72 months")
    assert "is open" not in reasons["package"], "a list of facts is understood"


def test_wrong_words_are_refused_and_no_file_is_overwritten(ready: World, cognify: Cognify) -> None:
    assert cognify("retention", "propose", "--fact", "broker_dealer", at=ready).code == 5
    assert "no such model" in cognify("retention", "propose", "--model", "nobody", at=ready).err
    assert "no framework" in cognify("retention", "propose", "--framework", "moon", at=ready).err
    file = ready.folder / "there.yaml"
    file.write_text("mine", encoding="utf-8")
    assert "not overwritten" in cognify("retention", "propose", "-o", file, at=ready).err
    assert file.read_text(encoding="utf-8") == "mine"


def test_an_own_retention_table_is_read_from_the_workspaces_folder(ready: World, cognify: Cognify) -> None:
    own_folder(
        ready,
        "retention.yaml",
        'version: "1"\nas_of: "2026-11-01"\nrules:\n  - {id: house, title: House, duty: keep, label: policy, artefacts: [logs], '
        "years: 30, citation: Schedule, basis: primary}\n",
    )
    rules = cognify("retention", "propose", "--json", at=ready).json["rules"]
    assert next(rule for rule in rules if rule["id"] == "house")["months"] == 360
