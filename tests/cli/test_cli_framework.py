"""`cognify framework`: shipped frameworks and one's own, found through the settings or --folder; wrong files are named to the field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cognify_dagster.documents import framework_ids
from tests.cli.conftest import Cognify
from tests.documents.test_frameworks_own import EXTENDS
from tests.documents.test_frameworks_shipped import rows, sample
from tests.governance.world import MODEL, World


def own(folder: Path, text: str = EXTENDS, name: str = "bank-lending") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def setting(world: World, value: str) -> None:
    """Name a folder of frameworks in cognify.toml."""
    path = world.workspace.config.path
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[workspace]\n", f'[workspace]\nframeworks = "{value}"\n'), encoding="utf-8")


def test_the_shipped_frameworks_are_listed_without_a_workspace(cognify: Cognify) -> None:
    result = cognify("framework", "list")
    assert result.code == 0, result.err
    assert "fair-lending" in result.out
    assert "superseded" in result.out
    value = cognify("framework", "list", "--json").json
    assert [item["id"] for item in value["frameworks"]] == framework_ids()
    assert {item["origin"] for item in value["frameworks"]} == {"shipped"}
    assert all(item["digest"].startswith("sha256:") for item in value["frameworks"])


def test_a_framework_is_shown_with_facts_evidence_and_sources(cognify: Cognify) -> None:
    result = cognify("framework", "show", "fair-lending")
    assert result.code == 0, result.err
    for part in (
        "credit_decision",
        "fl.screen",
        "judged by the compliance officer",
        "12 CFR 1002.9(b)(2)",
        "no verdict",
    ):
        assert part in result.out, part
    value = cognify("framework", "show", "fair-lending", "--json").json
    assert value["sections"][0]["requirements"][0]["id"] == "fl.scope"


def test_an_unknown_framework_is_an_error_that_names_those_there_are(cognify: Cognify) -> None:
    result = cognify("framework", "show", "gdpr-2030")
    assert result.code == 1
    assert "fair-lending" in result.err


def test_a_folder_is_found_by_the_option_and_by_the_setting(cognify: Cognify, founded: World, tmp_path: Path) -> None:
    own(tmp_path / "mine")
    by_option = cognify("framework", "list", "--folder", tmp_path / "mine", "--json").json
    assert "bank-lending" in [item["id"] for item in by_option["frameworks"]]
    project = founded.workspace.config.path.parent
    own(project / "frameworks", yaml.safe_dump({**sample(), "id": "fair-lending"}), "fair-lending")
    setting(founded, "frameworks")
    shown = cognify("framework", "list", "--json", at=founded).json
    assert shown["folder"] == str(project / "frameworks")
    (item,) = [item for item in shown["frameworks"] if item["id"] == "fair-lending"]
    assert item["origin"] == "your own, in place of the shipped one"
    assert "A sample" in cognify("framework", "show", "fair-lending", at=founded).out
    assert "ECOA" in cognify("framework", "show", "fair-lending").out


def test_a_setting_that_names_no_folder_is_an_error(cognify: Cognify, founded: World) -> None:
    setting(founded, "no-such-folder")
    result = cognify("framework", "list", at=founded)
    assert result.code == 1
    assert "no-such-folder" in result.err


def test_a_wrong_file_in_the_folder_does_not_hide_the_others(cognify: Cognify, tmp_path: Path) -> None:
    own(tmp_path / "mine", "id: broken\n", "broken")
    result = cognify("framework", "list", "--folder", tmp_path / "mine")
    assert result.code == 1
    assert "fair-lending" in result.out
    assert "broken.yaml" in result.err


def test_a_sound_file_and_the_shipped_folder_pass_the_check(cognify: Cognify, tmp_path: Path) -> None:
    result = cognify("framework", "check", own(tmp_path / "mine"))
    assert result.code == 0, result.out
    assert "no errors, 14 requirements" in result.out
    assert "citations were not checked" in result.out
    value = cognify("framework", "check", tmp_path / "mine", "--json").json
    assert [(item["id"], [problem["level"] for problem in item["problems"]]) for item in value] == [
        ("bank-lending", ["note"])
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda d: rows(d)[1]["evidence"].update(checks=["vibes"]),
            "(s.data).evidence: auto:dataset has no check 'vibes'",
        ),
        (lambda d: rows(d)[1].update(citation="Act 9"), "s.data: citation: 'Act 9' is not in the list"),
        (lambda d: d.update(effective_from="2030-01-01"), "status: in_force needs an effective_from"),
        (lambda d: rows(d)[1].update(cross_refs=["hipaa:hip.nothing"]), "s.data: cross_refs: hipaa has no requirement"),
        (lambda d: d["disclaimer"] and d.update(disclaimer="All of it unconfirmed."), "unconfirmed"),
    ],
)
def test_the_check_names_file_requirement_and_field(
    cognify: Cognify, tmp_path: Path, change: object, words: str
) -> None:
    data = sample()
    change(data)  # type: ignore[operator]
    path = own(tmp_path / "mine", yaml.safe_dump(data), "sample")
    (tmp_path / "mine" / "headings").mkdir()
    (tmp_path / "mine" / "headings" / "sample.txt").write_text(
        "Act 1\tscope\nAct 2(a)\tdata\nAct 2(b)\tlicence\n", encoding="utf-8"
    )
    result = cognify("framework", "check", path)
    assert result.code == 1
    assert "sample.yaml: 1 error" in result.out
    assert words in result.out


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[1, 2]", b"a: b: c", b"x" * 1_000_001])
def test_what_is_no_framework_file_is_said_so(cognify: Cognify, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sample.yaml"
    path.write_bytes(content)
    result = cognify("framework", "check", path)
    assert result.code == 1
    assert "1 error" in result.out


def test_a_place_without_framework_files_is_unreadable(cognify: Cognify, tmp_path: Path) -> None:
    assert cognify("framework", "check", tmp_path / "missing.yaml").code == 3
    assert cognify("framework", "check", tmp_path).code == 3
    assert cognify("framework", "check").code == 5
    assert cognify("framework", "list", "--folder", tmp_path / "missing").code == 5


def test_the_schema_is_printed(cognify: Cognify) -> None:
    assert cognify("framework", "schema").json["title"] == "Framework file"


def test_help_has_an_example_everywhere(cognify: Cognify) -> None:
    for words in ((), ("list",), ("show",), ("check",), ("schema",)):
        result = cognify("framework", *words, "--help")
        assert result.code == 0
        assert "Example:" in result.out
    assert MODEL not in cognify("framework", "--help").out
