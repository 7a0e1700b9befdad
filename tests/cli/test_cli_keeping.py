"""Erasure, legal holds, retention, garbage among evidence, archives."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from cognify_dagster.ledger import SqliteStore
from cognify_dagster.workspace import Workspace
from tests.cli.conftest import Cognify, Outcome, key_file
from tests.cli.test_cli_verify import add_config, grow
from tests.governance.world import MODEL, World

LATER = "2099-01-01"
RULES = """
rules:
  - {id: short, title: Snapshots, months: 1, kinds: [dataset_snapshot]}
  - {id: long, title: Everything, months: 2, source: house rule}
"""


@pytest.fixture
def ready(ready: World) -> World:
    ready.workspace.ledger.sign_checkpoint()
    return ready


def erase(cognify: Cognify, world: World, *words: object, by: tuple[str, ...] = ("carl", "ada")) -> Outcome:
    keys = [word for name in by for word in ("--as", key_file(world, name))]
    return cognify("erase", *words, *keys, "--basis", "request 114", "--yes", at=world)


# --- erasure ---


def test_two_people_erase_a_payload_and_the_ledger_still_holds(ready: World, cognify: Cognify) -> None:
    seq = ready.data["train"]
    done = erase(cognify, ready, "--seq", seq)
    assert done.code == 0, done.err
    assert "dataset_snapshot" in done.out
    reading = Workspace.open(ready.workspace.config.path).read()
    assert reading.view.entries[seq].payload is None
    report = cognify("ledger", "verify", "--json", at=ready).json
    assert (report["exit_code"], report["erased_payloads"]) == (0, 1)
    again = erase(cognify, ready, "--seq", seq)
    assert again.code == 0
    assert "recorded before" in again.out
    assert cognify("erase", "--resume", "--json", at=ready).json == {"erased": []}


def test_one_person_alone_and_what_decisions_need_are_refused(ready: World, cognify: Cognify) -> None:
    seq = ready.data["train"]
    alone = erase(cognify, ready, "--seq", seq, by=("carl",))
    assert alone.code == 1
    assert "2 different people" in alone.err
    size = ready.workspace.ledger.size()
    refused = erase(cognify, ready, "--seq", 0, "--seq", ready.data["gates"])
    assert refused.code == 1
    assert refused.err.count("can never be erased") == 2
    assert "the attempt is recorded" not in refused.err
    assert "nothing was destroyed and nothing recorded" in refused.err
    assert ready.workspace.ledger.size() == size


def test_an_erasure_that_was_cut_off_is_resumed_without_new_signatures(
    ready: World, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    seq = ready.data["train"]

    def killed(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "erase", killed)
        assert erase(cognify, ready, "--seq", seq).code == 3
    unfinished = cognify("ledger", "verify", at=ready)
    assert unfinished.code == 4
    assert "cognify erase --resume" in unfinished.out
    assert cognify("erase", "--resume", "--json", at=ready).json == {"erased": [seq]}
    assert cognify("ledger", "verify", at=ready).code == 0
    assert cognify("erase", "--resume", "--seq", 3, at=ready).code == 5
    assert cognify("erase", "--seq", 3, at=ready).code == 5


# --- holds ---


def test_a_hold_stops_erasure_until_two_people_lift_it(ready: World, cognify: Cognify) -> None:
    seq = ready.data["train"]
    placed = cognify(
        "hold", "place", "case-17", "--seq", seq, "--subject", f"model/{MODEL}", "--reason", "suit",
        "--as", key_file(ready, "carl"), "--yes", at=ready,
    )  # fmt: skip
    assert placed.code == 0, placed.err
    listed = cognify("hold", "list", "--json", at=ready).json
    assert [(item["hold"], item["entries"], item["placed_by"]) for item in listed["holds"]] == [
        ("case-17", [seq], "person/carl")
    ]
    assert "case-17" in cognify("hold", "list", at=ready).out
    refused = erase(cognify, ready, "--seq", seq)
    assert refused.code == 1
    assert "case-17" in refused.err
    words = ("hold", "lift", "case-17", "--reason", "settled", "--yes", "--as", key_file(ready, "carl"))
    assert cognify(*words, at=ready).code == 1
    assert cognify(*words, "--as", key_file(ready, "ada"), at=ready).code == 0
    assert "No legal hold stands" in cognify("hold", "list", at=ready).out
    assert erase(cognify, ready, "--seq", seq).code == 0
    gone = cognify(*words, "--as", key_file(ready, "ada"), at=ready)
    assert "cognify hold list" in gone.err


def test_a_person_without_the_role_places_no_hold(ready: World, cognify: Cognify) -> None:
    result = cognify(
        "hold",
        "place",
        "mine",
        "--subject",
        "ledger",
        "--reason",
        "x",
        "--as",
        key_file(ready, "ben"),
        "--yes",
        at=ready,
    )
    assert result.code == 1
    assert "compliance_officer" in result.err


# --- retention ---


def test_rules_are_shown_adopted_and_say_what_is_due(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    seq = ready.data["train"]
    assert "built in" in cognify("retention", "show", at=ready).out
    (tmp_path / "r.yaml").write_text(RULES)
    words = ("retention", "adopt", tmp_path / "r.yaml", "--reason", "2027", "--yes", "--as", key_file(ready, "carl"))
    assert cognify(*words, at=ready).code == 1
    adopted = cognify(*words, "--as", key_file(ready, "ada"), "--json", at=ready)
    assert adopted.json["rules"] == ["short", "long"]
    shown = cognify("retention", "show", "--json", at=ready).json
    assert shown["entry"] == adopted.json["entry"]
    one = cognify("retention", "show", "--seq", seq, "--json", at=ready).json
    assert [rule["id"] for rule in one["rules"]] == ["long", "short"], "the longest first"
    assert cognify("retention", "due", "--json", at=ready).json["due"] == []
    due = cognify("retention", "due", "--at", LATER, "--json", at=ready).json["due"]
    assert {item["entry"]: item["erasable"] for item in due}[seq] is True
    assert {item["entry"]: item["erasable"] for item in due}[0] is False
    early = erase(cognify, ready, "--seq", seq)
    assert early.code == 1
    assert "must be kept until" in early.err
    assert "rule 'long'" in early.err


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("rules: []", "a list of rules is expected"),
        ("other: 1", "a list of rules is expected"),
        ("rules: [{id: a, title: b, months: 0}]", "rule 1"),
        ("rules: [{id: a, title: b, months: 3, month: 2}]", "rule 1"),
        ("rules: [3]", "rule 1"),
        ("- 3", "a list"),
    ],
)
def test_a_malformed_rule_file_is_named(text: str, part: str, ready: World, cognify: Cognify, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    result = cognify(
        "retention", "adopt", tmp_path / "r.yaml", "--reason", "x", "--as", key_file(ready, "carl"), "--yes", at=ready
    )
    assert result.code == 3
    assert part in result.err


# --- garbage among evidence ---


def test_evidence_nobody_names_is_moved_and_what_is_named_stays(ready: World, cognify: Cognify) -> None:
    workspace = ready.workspace
    orphan = workspace.put("x.txt", b"of a run that was killed", "text/plain").digest
    old = time.time() - 40 * 86_400
    for path in Path(workspace.config.evidence).rglob("*"):
        if path.is_file():
            os.utime(path, (old, old))
    trial = cognify("evidence", "collect", "--dry-run", "--json", at=ready).json
    assert trial["moved"] == [orphan]
    assert workspace.evidence.exists(orphan)
    done = cognify("evidence", "collect", "--json", at=ready).json
    assert (done["moved"], done["removed"]) == ([orphan], [])
    assert not workspace.evidence.exists(orphan)
    assert cognify("evidence", "collect", at=ready).code == 0
    assert cognify("ledger", "verify", at=ready).code == 0
    assert cognify("evidence", "collect", "--grace-days", "0.1", at=ready).code == 5


# --- archives ---


def test_segments_leave_the_database_and_come_back(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    grow(ready, 520)
    cognify("ledger", "checkpoint", at=ready)
    folder = tmp_path / "archive"
    folder.mkdir()
    before = cognify("ledger", "verify", "--json", at=ready).json
    made = cognify("ledger", "archive", folder, "--cut", 256, "--keep", 10, "--json", at=ready)
    assert made.code == 0, made.err
    assert [(item["start"], item["end"]) for item in made.json["written"]] == [(0, 256), (256, 512)]
    assert len(cognify("ledger", "archive", folder, "--cut", 256, "--json", at=ready).json["already_there"]) == 2
    refused = cognify("ledger", "detach", folder, "--yes", at=ready)
    assert refused.code == 1
    assert "archives = " in refused.err
    add_config(ready, f'archives = ["{folder}"]\n')
    done = cognify("ledger", "detach", folder, "--yes", "--location", "vault 3", "--json", at=ready)
    assert done.code == 0, done.err
    assert [item["start"] for item in done.json["segments"]] == [0, 256]
    assert len(Workspace.open(ready.workspace.config.path).ledger.store.segments()) == 2
    after = cognify("ledger", "verify", "--json", at=ready).json
    assert (after["exit_code"], after["size"]) == (0, before["size"] + 2)
    assert cognify("ledger", "show", 17, at=ready).code == 0
    assert cognify("ledger", "prove", 17, at=ready).code == 0
    backup = cognify("ledger", "backup", tmp_path / "b.sqlite", at=ready)
    assert backup.code == 0, backup.err
    proof = cognify("ledger", "restore", tmp_path / "b.sqlite", "--to", tmp_path / "p.sqlite", at=ready)
    assert proof.code == 0, proof.err
    copied = cognify("ledger", "copy", "--to", tmp_path / "whole.sqlite", at=ready)
    assert copied.code == 0, copied.err
    folder.rename(tmp_path / "elsewhere")
    lost = cognify("ledger", "verify", at=ready)
    assert lost.code == 3
    assert "were moved into an archive" in lost.out + lost.err
    assert cognify("ledger", "attach", tmp_path / "elsewhere", at=ready).code == 0
    assert cognify("ledger", "attach", tmp_path / "elsewhere", "--all", at=ready).code == 0
    assert Workspace.open(ready.workspace.config.path).ledger.store.segments() == []
    assert cognify("ledger", "attach", tmp_path / "elsewhere", at=ready).code == 1
    assert cognify("ledger", "verify", at=ready).code == 0


def test_a_changed_archive_is_not_detached(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    grow(ready, 260)
    cognify("ledger", "checkpoint", at=ready)
    folder = tmp_path / "archive"
    folder.mkdir()
    assert cognify("ledger", "archive", tmp_path / "absent", at=ready).code == 5
    assert cognify("ledger", "archive", folder, "--cut", 300, at=ready).code == 3
    assert "Nothing new" in cognify("ledger", "archive", folder, at=ready).out
    cognify("ledger", "archive", folder, "--cut", 256, at=ready)
    add_config(ready, f'archives = ["{folder}"]\n')
    (tile,) = [path for path in (folder / "000000000000" / "tile" / "entries").rglob("*") if path.is_file()]
    good = shutil.copy(tile, tmp_path / "good")
    data = bytearray(tile.read_bytes())
    data[100] ^= 1
    tile.chmod(0o600)
    tile.write_bytes(data)
    assert cognify("ledger", "detach", folder, "--yes", at=ready).code == 1
    shutil.copy(good, tile)
    assert cognify("ledger", "detach", folder, "--yes", at=ready).code == 0
