"""Signatures over a version's files: only the sealed files, only under the key that is asked for, and no part of a release."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.evidence import EvidenceCorrupt
from cognify_dagster.governance.custody.erasure import erasable
from cognify_dagster.instrument.model_signing import (
    ModelSignatureError,
    differences,
    export_model,
    record_bundle,
    recorded_files,
    sealed_run,
    sign_path,
    signatures,
    verify_bundle,
    verify_folder,
    verify_version,
)
from cognify_dagster.records import ModelSignature
from tests.governance.world import MODEL, World
from tests.instrument.model_signing.bundles import bundle, new_key, public, statement, write_key

KEY = new_key()
FILES = {"config.json": "ab" * 32, "weights/model.safetensors": "cd" * 32}


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_a_bundle_holds_under_its_key_on_every_curve(curve: ec.EllipticCurve) -> None:
    key = new_key(curve)
    signed = verify_bundle(bundle(key, statement(FILES)), public(key))
    assert dict(signed.files) == FILES
    assert signed.key_hint == hashlib.sha256(public(key)).hexdigest()


def test_another_key_is_refused_even_where_the_bundle_names_none() -> None:
    data = bundle(KEY, statement(FILES))
    with pytest.raises(ModelSignatureError, match="the bundle names the key"):
        verify_bundle(data, public(new_key()))
    value = json.loads(data)
    value["verificationMaterial"]["publicKey"]["hint"] = ""
    with pytest.raises(ModelSignatureError, match="does not hold under this key"):
        verify_bundle(json.dumps(value).encode(), public(new_key()))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_changed_statement_does_not_hold(data: st.DataObject) -> None:
    value = json.loads(bundle(KEY, statement(FILES)))
    payload = bytearray(base64.b64decode(value["dsseEnvelope"]["payload"]))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    value["dsseEnvelope"]["payload"] = base64.b64encode(bytes(payload)).decode()
    with pytest.raises(ModelSignatureError):
        verify_bundle(json.dumps(value).encode(), public(KEY))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"predicateType": "https://slsa.dev/provenance/v1"}, "not https://model_signing/signature"),
        ({"subject": [{"name": "m", "digest": {"sha256": "00" * 32}}]}, "digest of the whole"),
        ({"subject": []}, "not understood"),
        ({"predicate": {"serialization": {"method": "shards", "hash_type": "sha256"}, "resources": []}}, "whole files"),
        (
            {"predicate": {"serialization": {"method": "files", "hash_type": "sha256", "ignore_paths": ["x"]}, "resources": []}},
            "leaves out x",
        ),
    ],
    ids=["predicate", "digest", "subject", "shards", "ignored"],
)  # fmt: skip
def test_a_signed_statement_of_another_kind_is_refused(changes: dict, part: str) -> None:
    with pytest.raises(ModelSignatureError, match=part):
        verify_bundle(bundle(KEY, statement(FILES, **changes)), public(KEY))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_bundle_are_refused(data: bytes) -> None:
    with pytest.raises(ModelSignatureError):
        verify_bundle(data, public(KEY))


def test_a_key_of_another_kind_is_refused() -> None:
    with pytest.raises(ModelSignatureError, match="none of the curves"):
        verify_bundle(bundle(KEY, statement(FILES)), public(ed25519.Ed25519PrivateKey.generate()))
    with pytest.raises(ModelSignatureError, match="no PEM text"):
        verify_bundle(bundle(KEY, statement(FILES)), b"nonsense")


def test_missing_surplus_and_altered_files_are_named() -> None:
    lines = differences({"a": "1", "b": "2"}, {"b": "3", "c": "4"})
    assert [line.partition(":")[0] for line in lines] == ["missing", "surplus", "altered"]


def test_a_folder_is_compared_file_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"a")
    files = {"a.bin": hashlib.sha256(b"a").hexdigest()}
    data = bundle(KEY, statement(files))
    assert dict(verify_folder(folder, data, public(KEY)).files) == files
    (folder / "model.sig").write_bytes(data)
    verify_folder(folder, data, public(KEY))
    (folder / "a.bin").write_bytes(b"b")
    (folder / "new").write_bytes(b"c")
    with pytest.raises(ModelSignatureError, match=r"surplus: new .*altered: a.bin"):
        verify_folder(folder, data, public(KEY))


def sealed_bundle(world: World, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    return bundle(key, statement(recorded_files(sealed_run(world.workspace, MODEL, "1").record)))


def test_a_bundle_over_the_sealed_files_is_recorded_once_and_verified(approved: World) -> None:
    ws = approved.workspace
    data = sealed_bundle(approved)
    receipt = record_bundle(ws, MODEL, "1", data, public(KEY), tool="model-signing 1.1.1")
    assert record_bundle(ws, MODEL, "1", data, public(KEY), tool="model-signing 1.1.1").seq == receipt.seq
    (entry,) = signatures(ws, MODEL, "1")
    assert entry.record.subjects() == (f"model/{MODEL}", f"model/{MODEL}@1")
    assert ws.evidence.get(entry.record.bundle.digest) == data
    assert [problem for _, problem in verify_version(ws, MODEL, "1", public(KEY))] == [""]
    assert [problem for _, problem in verify_version(ws, MODEL, "1")] == [""]


def test_a_signature_decides_nothing(approved: World) -> None:
    before = approved.decide()
    record_bundle(approved.workspace, MODEL, "1", sealed_bundle(approved), public(KEY))
    after = approved.decide()
    assert before.released
    assert after.released


def test_a_bundle_over_other_files_is_never_recorded(approved: World) -> None:
    size = approved.workspace.ledger.size()
    for files in ({".": "00" * 32}, {"other": "00" * 32}):
        with pytest.raises(ModelSignatureError, match="not over the sealed files"):
            record_bundle(approved.workspace, MODEL, "1", bundle(KEY, statement(files)), public(KEY))
    with pytest.raises(ModelSignatureError, match="no sealed training run"):
        record_bundle(approved.workspace, MODEL, "9", sealed_bundle(approved), public(KEY))
    assert approved.workspace.ledger.size() == size


def test_only_signatures_of_the_key_that_is_asked_for_count(approved: World) -> None:
    record_bundle(approved.workspace, MODEL, "1", sealed_bundle(approved), public(KEY))
    with pytest.raises(ModelSignatureError, match="no recorded signature is of the key"):
        verify_version(approved.workspace, MODEL, "1", public(new_key()))


def test_an_entry_about_another_model_file_does_not_hold(approved: World) -> None:
    record_bundle(approved.workspace, MODEL, "1", sealed_bundle(approved), public(KEY))
    (entry,) = signatures(approved.workspace, MODEL, "1")
    approved.write(entry.record.model_copy(update={"model_digest": "sha256:" + "0" * 64}))
    other = bundle(new_key(), statement({".": "0" * 64}))
    item = approved.workspace.put("model.sig", other, "application/json")
    approved.write(entry.record.model_copy(update={"bundle": item}))
    problems = [problem for _, problem in verify_version(approved.workspace, MODEL, "1", public(KEY))]
    assert problems[0] == ""
    assert problems[1] == "it is about another sealed run"
    assert "names the key" in problems[2]


def test_a_damaged_model_in_the_evidence_store_is_found(approved: World) -> None:
    record_bundle(approved.workspace, MODEL, "1", sealed_bundle(approved), public(KEY))
    digest = sealed_run(approved.workspace, MODEL, "1").record.model_file.digest.removeprefix("sha256:")
    (path,) = [item for item in Path(approved.workspace.config.path.parent).rglob(f"*{digest[4:]}*") if item.is_file()]
    path.chmod(0o600)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(EvidenceCorrupt):
        verify_version(approved.workspace, MODEL, "1", public(KEY))


def test_a_models_files_are_written_out_and_never_over_others(approved: World, tmp_path: Path) -> None:
    run = sealed_run(approved.workspace, MODEL, "1").record
    path = export_model(approved.workspace, run, tmp_path / "out")
    assert path.read_bytes() == b"model 1"
    with pytest.raises(ModelSignatureError, match="exists already"):
        export_model(approved.workspace, run, tmp_path / "out")
    evil = run.model_copy(update={"model_file": run.model_file.model_copy(update={"name": "../evil"})})
    with pytest.raises(ModelSignatureError, match="would leave the folder"):
        export_model(approved.workspace, evil, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_key_that_others_can_read_signs_nothing(tmp_path: Path) -> None:
    path = write_key(KEY, tmp_path / "key.pem")
    path.chmod(0o644)
    with pytest.raises(ModelSignatureError, match="others can read this key"):
        sign_path(tmp_path, path)


def test_the_record_is_kept_as_long_as_releases_are() -> None:
    assert not erasable(ModelSignature.kind)
