"""`[[anchor]]` tables: what is wrong is named; receipts are kept, and never believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cognify_dagster.ledger.anchors import AnchorError
from cognify_dagster.workspace import Workspace, WorkspaceError, load_config
from cognify_dagster.workspace.anchoring import open_anchor, put, receipts, remembered


def configure(folder: Path, text: str) -> Path:
    path = folder / "cognify.toml"
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ("[anchor]\nkind = 'folder'\n", "written as tables"),
        ("[[anchor]]\n", "kind must be one of folder, rfc3161, s3"),
        ("[[anchor]]\nkind = 'tape'\n", "kind must be one of"),
        ("[[anchor]]\nkind = 'folder'\n", "path is missing"),
        ("[[anchor]]\nkind = 'folder'\npath = 3\n", "path must be of type str"),
        ("[[anchor]]\nkind = 'folder'\npath = 'x'\nwrite_once = 1\n", "write_once must be of type bool"),
        ("[[anchor]]\nkind = 'folder'\npath = 'x'\nbucket = 'y'\n", "unknown field 'bucket'"),
        ("[[anchor]]\nkind = 'rfc3161'\nurl = 'http://x'\n", "roots is missing"),
        ("[[anchor]]\nkind = 's3'\nbucket = 'b'\nretention_days = true\n", "retention_days must be of type int"),
        ("[[anchor]]\nkind = 'folder'\npath = 'x'\nname = '../up'\n", "name must be"),
        ("[[anchor]]\nkind = 'folder'\npath = 'x'\nname = 'a'\n" * 2, "two [[anchor]] tables"),
    ],
)
def test_a_wrong_table_is_named(folder: Path, table: str, part: str) -> None:
    with pytest.raises(WorkspaceError) as caught:
        load_config(configure(folder, "\n" + table))
    assert part in str(caught.value)


def test_paths_are_relative_to_the_file_and_names_are_given(folder: Path) -> None:
    config = load_config(configure(folder, "\n[[anchor]]\nkind = 'folder'\npath = 'vault'\n"))
    assert [(item.name, item.options["path"]) for item in config.anchors] == [("folder-1", str(folder / "vault"))]


def test_certificates_that_are_not_there_are_named(folder: Path) -> None:
    text = "\n[[anchor]]\nkind = 'rfc3161'\nurl = 'http://127.0.0.1:9'\nroots = 'absent.pem'\n"
    with pytest.raises(AnchorError, match=r"absent\.pem"):
        open_anchor(load_config(configure(folder, text)).anchors[0])


def test_a_receipt_is_kept_with_its_note_and_a_damaged_one_is_said(folder: Path) -> None:
    (folder / "vault").mkdir()
    configure(folder, "\n[[anchor]]\nkind = 'folder'\npath = 'vault'\nwrite_once = true\n")
    workspace = Workspace.open(folder)
    note = workspace.ledger.sign_checkpoint()
    (anchor,) = workspace.config.anchors
    receipt = put(workspace.config, anchor, note)
    assert list(receipts(workspace.config, anchor)) == [(receipt, note)]
    found = remembered(workspace.config, anchor, workspace.trust())
    assert (len(found.heads), len(found.anchored), found.failures, found.conflicts) == (1, 1, [], [])
    (kept,) = (folder / ".cognify" / "anchors" / "folder-1").iterdir()
    value = json.loads(kept.read_text())
    value["receipt"]["size"] += 1
    kept.write_text(json.dumps(value))
    assert any("another head" in text for text in remembered(workspace.config, anchor, workspace.trust()).failures)
    kept.write_text("{")
    assert any("cannot be read" in text for text in remembered(workspace.config, anchor, workspace.trust()).failures)
