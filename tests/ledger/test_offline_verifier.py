"""The offline verifier against bundles built by hand: what holds, and that every forgery we could think of is caught."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.ledger import Checkpoint, ProofFile, TrustFile, VerifierKey, canonical_json, leaf_hash, sign_note
from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.ledger.merkle import inclusion_proof, merkle_root, root_at
from cognify_dagster.ledger.mldsa import private_key
from cognify_dagster.ledger.note import COSIGNATURE
from cognify_dagster.ledger.quorum import cosign, cosigner_key
from cognify_dagster.records import Workload
from tests.ledger import bundle_factory as bf

HOLDS, TAMPERED, ROLLED_BACK, UNREADABLE, UNPROVEN, USAGE = range(6)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> bf.World:
    world = bf.tell(tmp_path_factory.mktemp("world"))
    bf.export(world, world.folder / "bundle")
    return world


@pytest.fixture
def bundle(world: bf.World, tmp_path: Path) -> Path:
    """A fresh copy of the honest bundle."""
    return Path(shutil.copytree(world.folder / "bundle", tmp_path / "bundle"))


def code(bundle: Path, trust: str | None) -> int:
    return int(ov.verify_bundle(bundle, trust)["exit_code"])


def findings(report: dict[str, Any]) -> str:
    return "\n".join(f"{item['outcome']} {item['where']}: {item['message']}" for item in report["findings"])


def judged(tmp_path: Path, **steps: Any) -> dict[str, Any]:
    """Tell the story with a deviation, export honestly, verify."""
    world = bf.tell(tmp_path / "w", **steps)
    return ov.verify_bundle(bf.export(world, tmp_path / "b"), world.trust())


# --- what holds ---


def test_an_honest_bundle_holds_at_l1_and_says_who_approved_what(world: bf.World, bundle: Path) -> None:
    report = ov.verify_bundle(bundle, world.trust())
    assert (report["outcome"], report["exit_code"], report["level"]) == ("holds", HOLDS, "L1"), findings(report)
    assert [(item["person"], item["role"], item["decision"]) for item in report["sign_offs"]] == [
        ("person/val", "model_validator", "approve"),
        ("person/com", "compliance_officer", "approve"),
        ("person/biz", "business_owner", "approve"),
    ]
    assert report["grants"][0]["target"] == "production"
    assert report["deployments"][0]["version"] == "1"
    text = ov.report_text(report)
    assert "Val (person/val) as model_validator" in text
    assert "I reviewed this package and approve it." in text
    assert "PAdES" in text
    assert "RFC 3161" in text
    assert "TRIAL" not in text


def test_without_a_trust_file_nothing_is_proven_but_consistency_is_checked(bundle: Path) -> None:
    report = ov.verify_bundle(bundle, None)
    assert (report["exit_code"], report["level"]) == (UNPROVEN, "L0")
    (bundle / "package/package.json").write_bytes(b"{}")
    assert code(bundle, None) == TAMPERED


@pytest.mark.parametrize("prefix", ["", "credit_default-1/"])
def test_a_zip_is_as_good_as_the_folder(world: bf.World, bundle: Path, tmp_path: Path, prefix: str) -> None:
    assert code(bf.zipped(bundle, tmp_path / "b.zip", prefix), world.trust()) == HOLDS


def test_it_opens_no_socket(world: bf.World, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert code(bundle, world.trust()) == HOLDS


def test_the_copy_in_the_bundle_runs_alone_without_site_packages(world: bf.World, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "trust.txt").write_text(world.trust())
    alone = tmp_path / "elsewhere" / "verify.py"
    alone.parent.mkdir()
    shutil.copy(bundle / "verify.py", alone)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", str(alone), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={}, timeout=60, check=False)

    held = run("bundle", "--trust", "trust.txt")
    assert (held.returncode, held.stderr) == (HOLDS, "")
    assert "Result: HOLDS  (level L1)" in held.stdout
    report = json.loads(run("bundle", "--trust", "trust.txt", "--json").stdout)
    assert report["format"] == "cognify-verification/v1"
    assert run("bundle").returncode == UNPROVEN
    assert run("nothing-here", "--trust", "trust.txt").returncode == UNREADABLE
    assert run("bundle", "--trust", "missing.txt").returncode == UNREADABLE
    assert run().returncode == USAGE
    assert run("bundle", "--frobnicate").returncode == USAGE
    shutil.copy(tmp_path / "trust.txt", bundle / "trust.txt")
    inside = run("bundle", "--trust", "bundle/trust.txt")
    assert inside.returncode == USAGE
    assert "cannot vouch for itself" in inside.stderr


def test_the_verifier_imports_only_the_standard_library() -> None:
    source = Path(ov.__file__).read_text(encoding="utf-8")
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in found if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module).split(".")[0] for node in found if isinstance(node, ast.ImportFrom)}
    assert names <= set(sys.stdlib_module_names)
    assert not names & {"socket", "ssl", "http", "urllib", "subprocess", "pickle", "ctypes"}


# --- bytes changed ---


def test_a_flipped_byte_in_any_file_is_caught(world: bf.World, bundle: Path) -> None:
    trust, missed, total = world.trust(), [], 0
    for number, path in enumerate(sorted(p for p in bundle.rglob("*") if p.is_file())):
        original = path.read_bytes()
        for at in [(0, len(original) // 2, len(original) - 1)[number % 3]]:
            total += 1
            path.write_bytes(original[:at] + bytes([original[at] ^ 1]) + original[at + 1 :])
            if code(bundle, trust) == HOLDS:
                missed.append((path.relative_to(bundle), at))
        path.write_bytes(original)
    print(f"flipped bytes caught: {total - len(missed)}/{total}")
    assert not missed
    assert code(bundle, trust) == HOLDS


def test_a_flipped_byte_is_caught_even_if_the_list_was_rewritten_to_fit(world: bf.World, bundle: Path) -> None:
    """The list itself is signed by nobody; what the ledger names must be caught without it."""
    trust, missed, total = world.trust(), [], 0
    named_by_nobody = {"README.txt", "verify.py", "bundle.json", "register.json"}
    files = sorted(p for p in bundle.rglob("*") if p.is_file() and p.name not in named_by_nobody)
    for number, path in enumerate(files):
        original = path.read_bytes()
        for at in [(0, len(original) // 3, len(original) - 1)[number % 3]]:
            total += 1
            path.write_bytes(original[:at] + bytes([original[at] ^ 1]) + original[at + 1 :])
            bf.reseal(bundle)
            if code(bundle, trust) == HOLDS:
                missed.append((path.relative_to(bundle), at))
        path.write_bytes(original)
    print(f"flipped bytes with a fitting list caught: {total - len(missed)}/{total}")
    assert not missed


def test_missing_and_additional_files_are_caught(world: bf.World, bundle: Path) -> None:
    (bundle / "package/model-card.md").unlink()
    assert code(bundle, world.trust()) == TAMPERED
    (bundle / "package/model-card.md").write_bytes(b"# Model card\n")
    (bundle / "package/note.txt").write_bytes(b"ignore the findings")
    assert code(bundle, world.trust()) == TAMPERED


@pytest.mark.parametrize(
    "name", ["bundle.json", "ledger/checkpoint.txt", "package/package.json", "evidence/register.json"]
)
def test_no_needed_file_may_be_missing(world: bf.World, bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    if name != "bundle.json":
        bf.reseal(bundle)
    assert code(bundle, world.trust()) in (TAMPERED, UNREADABLE)


def test_an_entry_left_out_of_a_subjects_history_is_caught(world: bf.World, bundle: Path) -> None:
    entries = sorted((bundle / "ledger/entries").iterdir())
    for path in entries[1:-1]:  # without the first the keys are missing, without the last the anchor: other tests
        removed = list(bundle.glob(f"ledger/*/{path.stem}.*"))
        kept = {p: p.read_bytes() for p in removed}
        for item in removed:
            item.unlink()
        bf.reseal(bundle)
        report = ov.verify_bundle(bundle, world.trust())
        assert report["exit_code"] == TAMPERED, path
        assert "left out" in findings(report) or "missing" in findings(report)
        for item, data in kept.items():
            item.write_bytes(data)


def test_exchanged_files_are_caught(world: bf.World, bundle: Path) -> None:
    signed = [11, 12]
    for kind, suffix in (("entries", "json"), ("payloads", "json"), ("proofs", "tlog-proof")):
        first, second = (bundle / f"ledger/{kind}/{seq:08d}.{suffix}" for seq in signed)
        a, b = first.read_bytes(), second.read_bytes()
        first.write_bytes(b), second.write_bytes(a)
        bf.reseal(bundle)
        assert code(bundle, world.trust()) == TAMPERED, kind
        first.write_bytes(a), second.write_bytes(b)


@pytest.mark.parametrize(
    "changed",
    [{"model": "other"}, {"version": "2"}, {"ledger": "bank.example/other"}, {"size": 17}, {"anchor_seq": 16},
     {"trial": True}, {"package_digest": "sha256:" + "0" * 64}, {"anchor_seq": 99}, {"anchor_seq": -1}],
)  # fmt: skip
def test_bundle_json_cannot_tell_another_story(world: bf.World, bundle: Path, changed: dict[str, Any]) -> None:
    bf.reseal(bundle, **changed)
    assert code(bundle, world.trust()) == TAMPERED


def test_an_unknown_bundle_format_is_unreadable_not_fine(world: bf.World, bundle: Path) -> None:
    bf.reseal(bundle, format="cognify-bundle/v2")
    assert code(bundle, world.trust()) == UNREADABLE


# --- checkpoints, trust files, witnesses ---


def test_an_older_checkpoint_does_not_cover_the_anchor(tmp_path: Path) -> None:
    world = bf.tell(tmp_path / "w")
    old = world.ledger.sign_checkpoint()
    bundle = bf.export(world, tmp_path / "b")
    (bundle / "ledger/checkpoint.txt").write_text(old)
    bf.reseal(bundle)
    assert code(bundle, world.trust()) == TAMPERED
    bf.reseal(bundle, size=17)
    report = ov.verify_bundle(bundle, world.trust())
    assert report["exit_code"] == TAMPERED
    assert "does not cover" in findings(report)


def test_wrong_trust_files(world: bf.World, bundle: Path) -> None:
    other_key = VerifierKey(bf.ORIGIN, bf.raw_public("somebody"))
    other_name = VerifierKey("bank.example/other", world.signer.verifier.public)
    assert code(bundle, world.trust(logs=(other_key,))) == UNPROVEN
    assert code(bundle, world.trust(logs=(other_name,))) == UNPROVEN
    assert code(bundle, world.trust(genesis=b"\0" * 32)) == ROLLED_BACK
    assert code(bundle, world.trust(genesis=None)) == UNPROVEN
    assert code(bundle, "") == UNREADABLE
    assert code(bundle, world.trust().replace("+", "-")) == UNREADABLE


def test_the_trust_file_of_another_ledger_proves_nothing_and_is_named(world: bf.World, bundle: Path) -> None:
    """Its first entry differs too, but that is no fork of a ledger that it does not know."""
    elsewhere = VerifierKey("bank.example/other", bf.raw_public("somebody"))
    report = ov.verify_bundle(bundle, world.trust(logs=(elsewhere,), genesis=b"\0" * 32))
    assert report["exit_code"] == UNPROVEN
    assert report["level"] == "L0"
    assert f"it is for the ledger bank.example/other; this bundle comes from the ledger {bf.ORIGIN}" in findings(report)
    same_name = VerifierKey(bf.ORIGIN, bf.raw_public("somebody"))
    report = ov.verify_bundle(bundle, world.trust(logs=(same_name,), genesis=b"\0" * 32))
    assert report["exit_code"] == UNPROVEN
    assert "another ledger of that name, or a forged one" in findings(report)


def test_what_cannot_be_read_is_named_and_nothing_is_said_about_a_version(
    world: bf.World, bundle: Path, tmp_path: Path
) -> None:
    absent = ov.verify_bundle(tmp_path / "absent", world.trust())
    assert absent["exit_code"] == UNREADABLE
    assert f"{tmp_path / 'absent'}: there is no such folder or zip file" in ov.report_text(absent)
    damaged = ov.verify_bundle(bundle, world.trust().replace("+", "-"))
    assert damaged["exit_code"] == UNREADABLE
    assert "unreadable: trust file: line " in ov.report_text(damaged)
    for report in (absent, damaged):
        assert "None" not in ov.report_text(report)
        assert "bundle: " not in ov.report_text(report)


def test_evidence_that_is_not_in_the_bundle_is_named_with_the_reason(world: bf.World, bundle: Path) -> None:
    path = bundle / "evidence/register.json"
    register = json.loads(path.read_text())
    inside = {path.name for path in (bundle / "evidence").iterdir()} - {"register.json"}
    missing = {item["digest"]: item for item in register if item["digest"][7:] not in inside}
    assert len(missing) >= 2, "the story has evidence that does not leave"
    first, second, *others = missing.values()
    first["sensitivity"], second["sensitivity"], second["size"] = "personal", "internal", 6 << 20
    path.write_bytes(canonical_json(register))
    bf.reseal(bundle)
    report = ov.verify_bundle(bundle, world.trust())
    assert {item["digest"] for item in report["evidence_not_included"]} == set(missing)
    text = ov.report_text(report)
    reasons = ["it is personal", f"it has {6 << 20} bytes; ask unless over {5 << 20}"]
    reasons += [f"it has {item['size']} bytes; ask unless over {5 << 20}" for item in others]
    for item, reason in zip([first, second, *others], reasons, strict=True):
        expected = f"evidence not in the bundle: {item['name']} ({item['digest']}, entry {item['entry_seq']}): {reason}"
        assert expected in text
    assert f"{len(inside)} of {len(inside) + len(missing)} evidence files" in text


def test_a_checkpoint_with_a_bad_signature_by_the_known_key_is_tampered(world: bf.World, bundle: Path) -> None:
    path = bundle / "ledger/checkpoint.txt"
    text = path.read_text()
    head, line = text.rsplit(" ", 1)
    blob = bytearray(base64.b64decode(line))
    blob[-1] ^= 1
    path.write_text(f"{head} {base64.b64encode(bytes(blob)).decode()}\n")
    bf.reseal(bundle)
    assert code(bundle, world.trust()) == TAMPERED


def test_an_invented_ledger_with_its_own_keys_is_not_believed(world: bf.World, tmp_path: Path) -> None:
    """An attacker may rebuild everything, also keys in the genesis entry: the trust file does not know it."""
    forged = bf.tell(tmp_path / "forged")
    bundle = bf.export(forged, tmp_path / "b")
    own = forged.trust(logs=(VerifierKey(bf.ORIGIN, bf.raw_public("auditor knows another")),))
    assert code(bundle, own) == UNPROVEN
    assert code(bundle, world.trust(genesis=hashlib.sha256(b"the true genesis").digest())) == ROLLED_BACK


def witnessed(world: bf.World, quorum: str) -> str:
    keys = [(name, VerifierKey(f"{name}.example/w", bf.raw_public(name), COSIGNATURE)) for name in ("w1", "w2", "w3")]
    trust = TrustFile(
        (world.signer.verifier,),
        world.ledger.view(1).entries[0].entry.leaf,
        tuple(keys),
        (("two", 2, ("w1", "w2", "w3")),),
        quorum,
    )
    assert TrustFile.parse(trust.text()) == trust
    return trust.text()


def test_witness_quorum(tmp_path: Path) -> None:
    world = bf.tell(tmp_path / "w")
    anchor = world.anchor()
    note = world.ledger.sign_checkpoint()
    trust = witnessed(world, "two")
    one = bf.cosign(note, "w1.example/w", "w1")
    two = bf.cosign(one, "w3.example/w", "w3")
    twice = bf.cosign(one, "w1.example/w", "w1", 1_760_000_200)
    stranger = bf.cosign(one, "w9.example/w", "w9")
    for text, expected, level in (
        (note, UNPROVEN, "L1"),
        (one, UNPROVEN, "L1"),
        (twice, UNPROVEN, "L1"),
        (stranger, UNPROVEN, "L1"),
        (two, HOLDS, "L2"),
    ):
        report = ov.verify_bundle(bf.export(world, tmp_path / "b", anchor_seq=anchor, note=text), trust)
        assert (report["exit_code"], report["level"]) == (expected, level)
    forged = bf.cosign(one, "w2.example/w", "w1").rsplit("—", 1)[0] + "— w2.example/w " + base64.b64encode(
        VerifierKey("w2.example/w", bf.raw_public("w2"), COSIGNATURE).key_id + b"\0" * 72
    ).decode() + "\n"  # fmt: skip
    assert code(bf.export(world, tmp_path / "b", anchor_seq=anchor, note=forged), trust) == TAMPERED


def post_quantum(note: str, name: str, seed: bytes, time_s: int = 1_760_000_100) -> tuple[str, VerifierKey]:
    """Add an ML-DSA-44 cosignature to a note; return the note and the witness's key."""
    text = note[: note.rindex("\n\n") + 1]
    secret = private_key(seed)
    return note + cosign(text, name, secret, time_s), cosigner_key(name, secret)


def test_an_ml_dsa_cosignature_is_said_not_to_be_checked_and_never_counts(tmp_path: Path) -> None:
    pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mldsa")
    world = bf.tell(tmp_path / "w")
    anchor = world.anchor()
    note = world.ledger.sign_checkpoint()
    both, key = post_quantum(bf.cosign(note, "w1.example/w", "w1"), "pq.example/w", b"q" * 32)
    head, tail = both.rsplit("— pq.example/w ", 1)
    flipped = bytearray(base64.b64decode(tail))
    flipped[400] ^= 1
    forged = f"{head}— pq.example/w {base64.b64encode(bytes(flipped)).decode()}\n"
    short = f"{head}— pq.example/w {base64.b64encode(bytes(flipped[:76])).decode()}\n"
    w1 = VerifierKey("w1.example/w", bf.raw_public("w1"), COSIGNATURE)
    logs, genesis = (world.signer.verifier,), world.ledger.view(1).entries[0].entry.leaf
    groups = {"either": (("either", 1, ("w1", "pq")),), "each": (("each", 2, ("w1", "pq")),)}

    def report(text: str, quorum: str, named: bool = True) -> dict[str, Any]:
        witnesses = (("w1", w1), ("pq", key)) if named else (("w1", w1),)
        trust = TrustFile(logs, genesis, witnesses, groups.get(quorum, ()), quorum).text()
        return ov.verify_bundle(bf.export(world, tmp_path / "b", anchor_seq=anchor, note=text), trust)

    said = "the ML-DSA-44 cosignature of pq.example/w"
    for text in (both, forged, short):
        for quorum, level, expected in (
            ("none", "L1", HOLDS),
            ("w1", "L2", HOLDS),
            ("either", "L2", HOLDS),
            ("each", "L1", UNPROVEN),
            ("pq", "L1", UNPROVEN),
        ):
            got = report(text, quorum)
            assert (got["exit_code"], got["level"]) == (expected, level), (quorum, got["findings"])
            assert got["not_checked"].count(said) == 1
            assert [item["witness"] for item in got["checkpoint"]["witnesses"]] == ["w1"]
            if expected:
                (finding,) = got["findings"]
                assert finding["message"] == f"the witness quorum {quorum!r} is not met without ML-DSA"
    assert f"  - {said}\n" in ov.report_text(report(both, "w1"))
    unknown = report(both, "w1", named=False)  # of a witness that the trust file does not name: said all the same
    assert (unknown["exit_code"], unknown["not_checked"].count(said)) == (HOLDS, 1)
    assert said not in report(note, "none")["not_checked"]


def test_a_classic_cosignature_is_checked_whatever_its_length(tmp_path: Path) -> None:
    """A line of a known Ed25519 key cannot pass for one that is not checked."""
    world = bf.tell(tmp_path / "w")
    anchor = world.anchor()
    note = world.ledger.sign_checkpoint()
    identity = VerifierKey("w2.example/w", bf.raw_public("w2"), COSIGNATURE).key_id
    text = f"{note}— w2.example/w {base64.b64encode(identity + bytes(2428)).decode()}\n"
    assert code(bf.export(world, tmp_path / "b", anchor_seq=anchor, note=text), witnessed(world, "two")) == TAMPERED


@pytest.mark.parametrize("cut", [1, 1280])
def test_an_ml_dsa_key_of_another_length_is_no_key(tmp_path: Path, cut: int) -> None:
    world = bf.tell(tmp_path / "w")
    raw = bytes([6]) + b"k" * (1312 - cut)
    identity = hashlib.sha256(b"pq.example/w\n" + raw).digest()[:4].hex()
    line = f"witness pq pq.example/w+{identity}+{base64.b64encode(raw).decode()}\n"
    trust = world.trust().replace("quorum none", line + "quorum none")
    assert line in trust
    assert code(bf.export(world, tmp_path / "b", anchor_seq=world.anchor()), trust) == UNREADABLE


# --- people, keys, policy ---


def test_a_signature_by_a_revoked_key_is_caught(tmp_path: Path) -> None:
    report = judged(tmp_path, before_sign=lambda w, p: w.revoke("com"))
    assert report["exit_code"] == TAMPERED
    assert "was revoked by entry" in findings(report)


def test_a_key_revoked_between_signature_and_release_is_caught(tmp_path: Path) -> None:
    report = judged(tmp_path, before_grant=lambda w, p: w.revoke("com"))
    assert "whose key was revoked before the release" in findings(report)
    assert report["exit_code"] == TAMPERED


def test_a_key_revoked_after_the_release_does_not_undo_it(tmp_path: Path) -> None:
    report = judged(tmp_path, before_anchor=lambda w, p: w.revoke("com"))
    assert report["exit_code"] == HOLDS, findings(report)


def _self_vouched(world: bf.World, package: int) -> None:
    world.enrol(bf.person("ada", "workspace_admin", "business_owner", key="ada2"), voucher="ada")


def _vouched_by_nobody_special(world: bf.World, package: int) -> None:
    world.enrol(bf.person("eve", "business_owner"), voucher="val")


def _vouched_in_anothers_name(world: bf.World, package: int) -> None:
    world.enrol(bf.person("eve", "business_owner"), voucher="ada", vouched_by="bo")


def _vouched_with_a_stolen_name(world: bf.World, package: int) -> None:
    world.enrol(bf.person("eve", "business_owner"), voucher="ada", key="eve")


def _vouched_for_another_ledger(world: bf.World, package: int) -> None:
    world.enrol(bf.person("eve", "business_owner"), voucher="ada", ledger="bank.example/other")


def _took_anothers_key(world: bf.World, package: int) -> None:
    world.enrol(bf.person("eve", "business_owner", key="val"), voucher="ada")


def _vouched_before_the_voucher_was_enrolled(world: bf.World, package: int) -> None:
    world.enrol(bf.person("late", "workspace_admin"), voucher="late", person="person/late")


def _policy_by_one(world: bf.World, package: int) -> None:
    old = world.policy_digest
    world.adopt_policy({"version": 1, "adopters": ["workspace_admin"], "policy_quorum": 1}, "ada")
    world.policy_digest = old


def _workload_by_a_non_admin(world: bf.World, package: int) -> None:
    world.enrol_workload(Workload(workload="workload/rogue", key=bf.public("rogue"), kinds=bf.ALL_KINDS), by="val")


def _revoked_by_a_stranger(world: bf.World, package: int) -> None:
    world.revoke("ada", by="biz")


def _written_by_a_workload_that_may_not(world: bf.World, package: int) -> None:
    world.enrol_workload(Workload(workload="workload/small", key=bf.public("small"), kinds=("training_run",)))
    record = bf.ModelRegistered(model=bf.MODEL, owner="team:other", risk_tier="low")
    world.append(record, "workload/small", writer="small")


def _written_by_an_unknown_key(world: bf.World, package: int) -> None:
    world.append(bf.ModelRegistered(model=bf.MODEL, owner="x", risk_tier="low"), "workload/x", writer="nobody")


def _another_package_in_the_statement(world: bf.World, package: int) -> None:
    other = world.prepare(package=b'{"model":"credit_default","other":true}')
    facts = world.ledger.view().entries[package].payload
    assert facts is not None
    world.sign_off("val", other, record={"package_digest": facts["facts"]["package"]["digest"], "package_seq": package})


def _another_leaf_in_the_statement(world: bf.World, package: int) -> None:
    said = world.statement("val", package)["predicate"]["package"]
    world.sign_off("val", package, **{"package": {**said, "entry_leaf": "00" * 32}})


def _another_persons_statement(world: bf.World, package: int) -> None:
    world.sign_off("val", package, record={"person": "person/com"})


def _signed_with_another_key(world: bf.World, package: int) -> None:
    world.sign_off("val", package, key="com")


def _decision_changed_in_the_record(world: bf.World, package: int) -> None:
    world.sign_off("val", package, decision="reject", record={"decision": "approve"})


def _statement_of_another_ledger(world: bf.World, package: int) -> None:
    world.sign_off("val", package, ledger="bank.example/other")


def _statement_with_an_unknown_member(world: bf.World, package: int) -> None:
    world.sign_off("val", package, escape_clause="except on Fridays")


def _statement_of_another_model_file(world: bf.World, package: int) -> None:
    world.sign_off("val", package, model_digest="sha256:" + "1" * 64)


def _statement_under_another_policy(world: bf.World, package: int) -> None:
    world.sign_off("val", package, policy_digest="sha256:" + "2" * 64)


def _statement_that_saw_the_future(world: bf.World, package: int) -> None:
    world.sign_off("val", package, checkpoint={"size": 10_000, "root": "00" * 32})


def _reference_to_nothing(world: bf.World, package: int) -> None:
    world.sign_off("val", package, decision="withdraw", reference={"entry_seq": package, "entry_leaf": "00" * 32})


FORGERIES = [
    _self_vouched,
    _vouched_by_nobody_special,
    _vouched_in_anothers_name,
    _vouched_with_a_stolen_name,
    _vouched_for_another_ledger,
    _took_anothers_key,
    _vouched_before_the_voucher_was_enrolled,
    _policy_by_one,
    _workload_by_a_non_admin,
    _revoked_by_a_stranger,
    _written_by_a_workload_that_may_not,
    _written_by_an_unknown_key,
    _another_package_in_the_statement,
    _another_leaf_in_the_statement,
    _another_persons_statement,
    _signed_with_another_key,
    _decision_changed_in_the_record,
    _statement_of_another_ledger,
    _statement_with_an_unknown_member,
    _statement_of_another_model_file,
    _statement_under_another_policy,
    _statement_that_saw_the_future,
    _reference_to_nothing,
]


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda f: f.__name__.strip("_"))
def test_forged_entries_are_caught_although_the_log_signed_them(tmp_path: Path, forgery: bf.Step) -> None:
    report = judged(tmp_path, before_grant=forgery)
    assert report["exit_code"] == TAMPERED, findings(report)
    assert report["level"] is None


def test_a_signer_who_saw_another_history_shows_a_fork(tmp_path: Path) -> None:
    report = judged(tmp_path, before_grant=lambda w, p: w.sign_off("val", p, checkpoint={"size": 5, "root": "00" * 32}))
    assert report["exit_code"] in (TAMPERED, ROLLED_BACK)
    assert "saw another history" in findings(report)


def test_a_genesis_that_a_founder_did_not_sign_is_caught(tmp_path: Path) -> None:
    world = bf.World(tmp_path / "w")
    world.found(signers=("ada",))
    world.append(bf.ModelRegistered(model=bf.MODEL, owner="x", risk_tier="low"), "person/ada")
    report = ov.verify_bundle(bf.export(world, tmp_path / "b"), world.trust())
    assert "is not signed by person/bo" in findings(report)


def test_a_policy_signed_by_enough_adopters_is_the_one_to_name(tmp_path: Path) -> None:
    policy = {"version": 1, "adopters": ["workspace_admin"], "policy_quorum": 2, "title": "Second"}
    report = judged(tmp_path, before_sign=lambda w, p: w.adopt_policy(policy, "ada", "bo"))
    assert report["exit_code"] == HOLDS, findings(report)


def test_a_trial_ledger_is_loud(tmp_path: Path) -> None:
    report = judged(tmp_path, trial=True)
    assert report["exit_code"] == HOLDS, findings(report)
    assert report["trial"] is True
    assert ov.report_text(report).startswith("*** TRIAL LEDGER")


# --- releases ---


def test_a_release_on_a_withdrawn_sign_off_is_caught(tmp_path: Path) -> None:
    def withdraw(world: bf.World, package: int) -> None:
        seq = world.ledger.size() - 1
        leaf = world.ledger.view().entries[seq].entry.leaf.hex()
        world.sign_off("biz", package, decision="withdraw", reference={"entry_seq": seq, "entry_leaf": leaf})

    report = judged(tmp_path, before_grant=withdraw)
    assert report["exit_code"] == TAMPERED
    assert "was withdrawn by entry" in findings(report)


@pytest.mark.parametrize("decision", ["block", "reject"])
def test_a_release_under_a_block_or_rejection_is_caught(tmp_path: Path, decision: str) -> None:
    report = judged(tmp_path, before_grant=lambda w, p: w.sign_off("com", p, decision=decision))
    assert f"stands under the {decision}" in findings(report)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"role": "workspace_admin"}, "did not hold the role"),
        ({"target_environments": ["sandbox"]}, "for other targets"),
        ({"expires": "2025-01-01T00:00:00Z"}, "had expired"),
    ],
)
def test_a_release_on_an_approval_that_does_not_fit_is_caught(
    tmp_path: Path, changed: dict[str, Any], text: str
) -> None:
    def release_on_it(world: bf.World, package: int) -> None:
        world.grant(
            package,
            [world.sign_off("val", package, **changed)],
            target="staging" if "expires" not in changed else "production",
        )

    report = judged(tmp_path, before_grant=release_on_it)
    assert text in findings(report)
    assert report["exit_code"] == TAMPERED


def test_a_block_that_was_withdrawn_does_not_count(tmp_path: Path) -> None:
    def block_and_withdraw(world: bf.World, package: int) -> None:
        seq = world.sign_off("com", package, decision="block")
        leaf = world.ledger.view().entries[seq].entry.leaf.hex()
        world.sign_off("com", package, decision="withdraw", reference={"entry_seq": seq, "entry_leaf": leaf})

    report = judged(tmp_path, before_grant=block_and_withdraw)
    assert report["exit_code"] == HOLDS, findings(report)


def test_a_withdrawal_after_the_release_is_shown(tmp_path: Path) -> None:
    def withdraw(world: bf.World, package: int) -> None:
        leaf = world.ledger.view().entries[12].entry.leaf.hex()
        world.sign_off("com", package, decision="withdraw", reference={"entry_seq": 12, "entry_leaf": leaf})

    report = judged(tmp_path, before_anchor=withdraw)
    assert report["exit_code"] == HOLDS, findings(report)
    assert "was withdrawn by entry" in ov.report_text(report)


@pytest.mark.parametrize(
    "changed",
    [{"sign_off_seqs": (0,)}, {"sign_off_seqs": (999,)}, {"model_digest": "sha256:" + "3" * 64}, {"version": "2"},
     {"decided_on_size": 3}, {"policy_digest": "sha256:" + "4" * 64}, {"package_seq": 9}, {"gate_seqs": (999,)}],
)  # fmt: skip
def test_a_release_that_contradicts_the_ledger_is_caught(tmp_path: Path, changed: dict[str, Any]) -> None:
    report = judged(tmp_path, before_anchor=lambda w, p: w.grant(p, [11, 12, 13], **changed))
    if "version" in changed:  # another version's release is another bundle's business, but may not pass for this one
        assert [grant["version"] for grant in report["grants"]] == ["1"]
    else:
        assert report["exit_code"] == TAMPERED


def test_a_deployment_without_its_release_is_caught(tmp_path: Path) -> None:
    assert judged(tmp_path, before_anchor=lambda w, p: w.deploy(12))["exit_code"] == TAMPERED
    other = judged(tmp_path / "2", before_anchor=lambda w, p: w.deploy(14, model_digest="sha256:" + "5" * 64))
    assert other["exit_code"] == TAMPERED


# --- what the exporter may hide ---


@pytest.mark.parametrize(
    "subject", ["people", "policy", "ledger", "person/com", "dataset/loans", "release/credit_default.production"]
)
def test_an_anchor_that_leaves_a_subject_out_proves_nothing(tmp_path: Path, subject: str) -> None:
    world = bf.tell(tmp_path / "w")
    anchor = world.anchor(leave_out=(subject,))
    report = ov.verify_bundle(bf.export(world, tmp_path / "b", anchor_seq=anchor), world.trust())
    assert report["exit_code"] in (UNPROVEN, TAMPERED)
    assert report["outcome"] != "holds"


@pytest.mark.parametrize("seq", [0, 2, 10, 11, 14])
def test_a_payload_that_matters_may_not_be_withheld(world: bf.World, bundle: Path, seq: int) -> None:
    (bundle / f"ledger/payloads/{seq:08d}.json").unlink()
    bf.reseal(bundle)
    assert code(bundle, world.trust()) == UNPROVEN


# --- an insider who holds the log key ---


def rewritten(bundle: Path, change: Callable[[int, dict[str, Any]], None]) -> None:
    """Change entries of a complete bundle, recompute chain, tree and proofs, and sign with the log's key."""
    paths = sorted((bundle / "ledger/entries").iterdir())
    leaves: list[bytes] = []
    for seq, path in enumerate(paths):
        value = json.loads(path.read_bytes())
        value["prev"] = leaves[-1].hex() if leaves else "0" * 64
        change(seq, value)
        path.write_bytes(canonical_json(value))
        leaves.append(leaf_hash(path.read_bytes()))
    root = merkle_root(leaves)

    def node(level: int, index: int) -> bytes:
        return merkle_root(leaves[index << level : (index + 1) << level])

    assert root_at(len(leaves), node) == root
    note = sign_note(Checkpoint(bf.ORIGIN, len(leaves), root).text(), bf.ORIGIN, bf.private("log"))
    (bundle / "ledger/checkpoint.txt").write_text(note)
    for seq in range(len(leaves)):
        proof = ProofFile(seq, tuple(inclusion_proof(seq, len(leaves), node)), note)
        (bundle / f"ledger/proofs/{seq:08d}.tlog-proof").write_text(proof.text())
    bf.reseal(bundle)


def test_the_insider_simulation_is_faithful(world: bf.World, bundle: Path) -> None:
    rewritten(bundle, lambda seq, value: None)
    assert code(bundle, world.trust()) == HOLDS


def _skip_head(seq: int, value: dict[str, Any]) -> None:
    if seq == 15:
        value["heads"][bf.MINE] = 12


def _turn_back_time(seq: int, value: dict[str, Any]) -> None:
    if seq == 15:
        value["time_us"] -= 10**9


def _edit_signed_body(seq: int, value: dict[str, Any]) -> None:
    if seq == 15:
        value["body"]["actor"] = "workload/other"


def _edit_history_before_the_signatures(seq: int, value: dict[str, Any]) -> None:
    if seq == 5:
        value["time_us"] += 1


def _new_genesis(seq: int, value: dict[str, Any]) -> None:
    if seq == 0:
        value["time_us"] += 1


def _break_chain(seq: int, value: dict[str, Any]) -> None:
    if seq == 16:
        value["prev"] = "1" * 64


def _other_ledger(seq: int, value: dict[str, Any]) -> None:
    if seq == 16:
        value["ledger"] = "bank.example/other"


INSIDER = [_skip_head, _turn_back_time, _edit_signed_body, _edit_history_before_the_signatures, _new_genesis, _break_chain,
           _other_ledger]  # fmt: skip


@pytest.mark.parametrize("change", INSIDER, ids=lambda f: f.__name__.strip("_"))
def test_even_the_log_keys_holder_cannot(
    world: bf.World, bundle: Path, change: Callable[[int, dict[str, Any]], None]
) -> None:
    rewritten(bundle, change)
    assert code(bundle, world.trust()) in (TAMPERED, ROLLED_BACK)


# --- hostile containers ---


def hostile_zip(path: Path, name: str, data: bytes = b"x", mode: int = 0o644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, data, compress_type=zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize(
    "name", ["../bundle.json", "/bundle.json", "a/../../b", "C:\\x", "a\\b", ".hidden", "a//b", "x" * 300, "ü"]
)
def test_zip_paths_that_leave_the_bundle_are_refused(world: bf.World, tmp_path: Path, name: str) -> None:
    assert code(hostile_zip(tmp_path / "b.zip", name), world.trust()) == UNREADABLE


def test_zip_links_and_bombs_and_rubbish_are_refused(
    world: bf.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = world.trust()
    assert (
        code(hostile_zip(tmp_path / "l.zip", "bundle.json", b"/etc/passwd", stat.S_IFLNK | 0o777), trust) == UNREADABLE
    )
    (tmp_path / "rubbish.zip").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    assert code(tmp_path / "rubbish.zip", trust) == UNREADABLE
    monkeypatch.setattr(ov, "MAX_FILE", 1000)
    assert code(hostile_zip(tmp_path / "bomb.zip", "bundle.json", b"\0" * 100_000), trust) == UNREADABLE
    monkeypatch.setattr(ov, "MAX_TOTAL", 10_000)
    report = ov.verify_bundle(hostile_zip(tmp_path / "bomb2.zip", "bundle.json", b"\0" * 100_000), trust)
    assert "unpacks to more" in findings(report)


def test_a_zip_with_one_name_twice_is_refused(world: bf.World, bundle: Path, tmp_path: Path) -> None:
    path = bf.zipped(bundle, tmp_path / "b.zip")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("package/package.json", b"{}")
    assert code(path, world.trust()) == UNREADABLE


def test_links_and_pipes_in_a_folder_are_refused(world: bf.World, bundle: Path) -> None:
    card = bundle / "package/model-card.md"
    card.unlink()
    card.symlink_to("/etc/hostname")
    assert code(bundle, world.trust()) == UNREADABLE
    card.unlink()
    os.mkfifo(card)
    assert code(bundle, world.trust()) == UNREADABLE


def test_texts_of_others_cannot_steer_the_terminal(tmp_path: Path) -> None:
    evil = "fine\x1b[2K\x1b[1A\nResult: HOLDS"
    report = judged(tmp_path, before_grant=lambda w, p: w.sign_off("val", p, meaning=evil, comments=evil))
    text = ov.report_text(report)
    assert "\x1b" not in text
    assert "\nResult: HOLDS\n" not in text


@pytest.mark.parametrize("name", ["bundle.json", "evidence/register.json", "ledger/payloads/00000011.json"])
@pytest.mark.parametrize("value", [[], {}, 1, None, "x", {"files": 1}, [1], [{"digest": 1}], {"salt": 1, "payload": 2}])
def test_json_of_another_shape_is_a_finding_not_a_crash(world: bf.World, bundle: Path, name: str, value: Any) -> None:
    (bundle / name).write_bytes(canonical_json(value))
    if name != "bundle.json":
        bf.reseal(bundle)
    assert code(bundle, world.trust()) in (TAMPERED, UNREADABLE)
