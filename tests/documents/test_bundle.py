"""The bundle: layout, closure, disclosure, and an offline check with the standard library alone."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.documents import DocumentError, export_bundle, record_final_copy
from cognify_dagster.documents.package.bundle import closure
from cognify_dagster.ledger import Entry, ProofFile, TrustFile, canonical_json, payload_commitment
from cognify_dagster.records import BundleExported
from tests.documents.story import Story


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, frameworks: list, now: datetime) -> Story:
    """Version 1 released, version 2 signed and released; exported once to `out`."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "project").mkdir()
    story = Story(folder / "project")
    story.prepare_version("1")
    story.package(frameworks, now)
    story.sign_all()
    story.release()
    story.data("c")
    story.train("2")
    story.evaluate()
    story.package(frameworks, now, review_copy=b"%PDF-1.7 stand-in")
    story.sign_all()
    story.release()
    record_final_copy(story.ws, story.model, "2")
    story.trust = folder / "trust.txt"
    shutil.copy(folder / "project" / "trust.txt", story.trust)
    story.out = folder / "out"
    export_bundle(story.ws, story.model, "2", story.out, exported_by="person/ada")
    return story


def verify(bundle: Path, trust: Path) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-I", str(bundle / "verify.py") if bundle.is_dir() else str(bundle.parent / "out" / "verify.py"), str(bundle), "--trust", str(trust), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


def manifest(bundle: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((bundle / "bundle.json").read_bytes())
    return value


def test_an_outsider_verifies_it_offline(signed: Story) -> None:
    code, report = verify(signed.out, signed.trust)
    assert code == 0, report


def test_the_manifest_lists_every_file_but_itself(signed: Story) -> None:
    value = manifest(signed.out)
    assert (signed.out / "bundle.json").read_bytes() == canonical_json(value)
    there = {str(path.relative_to(signed.out)) for path in signed.out.rglob("*") if path.is_file()} - {"bundle.json"}
    assert [item["path"] for item in value["files"]] == sorted(there)
    for item in value["files"]:
        data = (signed.out / item["path"]).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (item["sha256"], item["size"])
    assert value["format"] == "cognify-bundle/v1"
    assert value["package_digest"] == signed.package_item.digest
    assert "trust.txt" not in there, "trust never comes from inside a bundle"


def test_entries_are_verbatim_and_proven_under_the_one_checkpoint(signed: Story) -> None:
    reading = signed.ws.read()
    note = (signed.out / "ledger" / "checkpoint.txt").read_text()
    keys = TrustFile.parse(signed.trust.read_text()).logs
    names = sorted((signed.out / "ledger" / "entries").iterdir())
    for path in names:
        data = path.read_bytes()
        entry = Entry.parse(data)
        assert data == reading.view.entries[entry.seq].entry.data
        proof = ProofFile.parse((signed.out / "ledger" / "proofs" / f"{entry.seq:08d}.tlog-proof").read_text())
        assert proof.checkpoint_note == note
        assert proof.verify(entry.leaf, keys).size == manifest(signed.out)["size"]


def test_the_whole_history_of_each_subject_is_there(signed: Story) -> None:
    reading = signed.ws.read()
    anchor = manifest(signed.out)["anchor_seq"]
    record = reading.at(anchor).record
    assert isinstance(record, BundleExported)
    wanted = {"policy", "people", "ledger", "dataset/loans_train", "dataset/loans_holdout", "gates/credit_gates"}
    wanted |= {"release/credit_default.production", "person/vera", "person/carl", "person/bea", "person/ben"}
    assert wanted <= set(record.relied_on)
    there = {int(path.stem) for path in (signed.out / "ledger" / "entries").iterdir()}
    for subject in record.subjects():  # an oracle that filters all entries instead of walking heads
        assert {
            e.entry.seq for e in reading.view.entries if subject in e.entry.subjects and e.entry.seq <= anchor
        } <= there
    assert there == {item.entry.seq for item in closure(reading, anchor)}


def test_payloads_are_those_of_the_version_its_data_and_governance(signed: Story) -> None:
    reading = signed.ws.read()
    shown = {int(path.stem) for path in (signed.out / "ledger" / "payloads").iterdir()}
    for path in (signed.out / "ledger" / "payloads").iterdir():
        value = json.loads(path.read_bytes())
        entry = reading.view.entries[int(path.stem)].entry
        assert payload_commitment(bytes.fromhex(value["salt"]), base64.b64decode(value["payload"])) == entry.commitment
    hidden = {int(path.stem) for path in (signed.out / "ledger" / "entries").iterdir()} - shown
    mine = "model/credit_default@2"
    for seq in hidden:
        entry = reading.view.entries[seq].entry
        assert mine not in entry.subjects
        assert "model/credit_default@1" in entry.subjects or entry.kind in ("dataset_snapshot", "overlap_checked")
    assert hidden, "the payloads of version 1 stay inside"


def test_confidential_evidence_stays_inside_and_is_named(tmp_path: Path, frameworks: list, now: datetime) -> None:
    (tmp_path / "p").mkdir()
    story = Story(tmp_path / "p")
    story.register()
    story.gates()
    story.data()
    secret = story.ws.put("weights.bin", b"secret weights", "application/octet-stream", "confidential")
    large = story.ws.put("series.bin", b"x" * (5 * 1024 * 1024 + 1), "application/octet-stream")
    story.train("1", artefacts=(secret, large))
    story.evaluate()
    story.package(frameworks, now)
    out = export_bundle(story.ws, story.model, "1", tmp_path / "out")
    register = {item["name"]: item for item in json.loads((out / "evidence" / "register.json").read_bytes())}
    assert register["weights.bin"]["included"] is False
    assert register["series.bin"]["included"] is False
    assert register["profile.json"]["included"] is True
    assert not (out / "evidence" / secret.digest[7:]).exists()
    assert b"secret weights" not in b"".join(p.read_bytes() for p in out.rglob("*") if p.is_file())
    assert verify(out, tmp_path / "p" / "trust.txt")[0] == 0


@pytest.mark.parametrize(
    "path", ["package/package.json", "package/model-card.md", "ledger/entries/00000000.json", "evidence/register.json"]
)
def test_one_changed_byte_is_found(signed: Story, tmp_path: Path, path: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(signed.out, copy)
    data = bytearray((copy / path).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / path).write_bytes(bytes(data))
    code, _ = verify(copy, signed.trust)
    assert code in (1, 2, 3)


def test_an_entry_left_out_is_found_even_with_a_new_manifest(signed: Story, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(signed.out, copy)
    reading = signed.ws.read()
    victim = next(
        e.entry.seq
        for e in reading.view.entries
        if e.entry.kind == "sign_off" and "model/credit_default@2" in e.entry.subjects
    )
    value = manifest(copy)
    gone = {
        f"ledger/entries/{victim:08d}.json",
        f"ledger/proofs/{victim:08d}.tlog-proof",
        f"ledger/payloads/{victim:08d}.json",
    }
    for name in gone:
        (copy / name).unlink()
    value["files"] = [item for item in value["files"] if item["path"] not in gone]
    (copy / "bundle.json").write_bytes(canonical_json(value))
    code, report = verify(copy, signed.trust)
    assert code == 1, report


def test_the_zip_holds_the_same_and_verifies(signed: Story) -> None:
    path = export_bundle(signed.ws, signed.model, "2", signed.out.parent / "b.zip", as_zip=True)
    with zipfile.ZipFile(path) as archive:
        assert "package/final-copy.pdf" in archive.namelist()
        assert archive.testzip() is None
    assert verify(path, signed.trust)[0] == 0


def test_nothing_is_overwritten_and_nothing_half_written(signed: Story, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "keep.txt").write_text("mine")
    size = signed.ws.ledger.size()
    with pytest.raises(DocumentError, match="not empty"):
        export_bundle(signed.ws, signed.model, "2", full)
    with pytest.raises(DocumentError, match="no such folder"):
        export_bundle(signed.ws, signed.model, "2", tmp_path / "a" / "b")
    with pytest.raises(DocumentError, match="has no version '99'; there are 1, 2"):
        export_bundle(signed.ws, signed.model, "99", tmp_path / "x")
    assert signed.ws.ledger.size() == size, "a refused export leaves no entry"
    assert [p.name for p in full.iterdir()] == ["keep.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert export_bundle(signed.ws, signed.model, "2", empty) == empty
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_missing_evidence_of_the_package_is_a_clear_error(tmp_path: Path, frameworks: list, now: datetime) -> None:
    (tmp_path / "p").mkdir()
    story = Story(tmp_path / "p")
    story.prepare_version()
    story.package(frameworks, now)
    hexes = story.package_item.digest[7:]
    for path in (tmp_path / "p" / ".cognify" / "evidence").rglob("*"):
        if path.is_file() and hexes in str(path).replace("/", ""):
            path.chmod(0o600)
            path.unlink()
    with pytest.raises(DocumentError, match=r"package\.json .* cannot be read"):
        export_bundle(story.ws, story.model, "1", tmp_path / "out")
    assert not (tmp_path / "out").exists()
