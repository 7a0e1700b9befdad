"""`cognify model-signature`: bundles over a version's files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cognify_dagster.instrument.model_signing import recorded_files, sealed_run
from tests.cli.conftest import Cognify
from tests.governance.world import MODEL, World
from tests.instrument.model_signing.bundles import bundle, new_key, public, statement, write_key


@pytest.fixture
def signed(ready: World, tmp_path: Path) -> Path:
    """A bundle over version 1 that was made elsewhere, with its public key beside it."""
    ready.train("1")
    key = new_key()
    files = recorded_files(sealed_run(ready.workspace, MODEL, "1").record)
    (tmp_path / "signing.pub").write_bytes(public(key))
    (tmp_path / "other.pub").write_bytes(public(new_key()))
    (tmp_path / "their.sig").write_bytes(bundle(key, statement(files)))
    write_key(key, tmp_path / "signing.pem")
    return tmp_path / "their.sig"


def test_a_bundle_is_added_verified_and_exported(ready: World, signed: Path, cognify: Cognify) -> None:
    done = cognify("model-signature", "add", MODEL, "1", signed, "--public-key", "signing.pub", at=ready)
    assert done.code == 0, done.err
    done = cognify("model-signature", "verify", MODEL, "1", "--public-key", "signing.pub", "--json", at=ready)
    assert done.code == 0
    assert [(item["holds"], item["key_given"]) for item in done.json] == [(True, True)]
    done = cognify("model-signature", "verify", MODEL, "1", at=ready)
    assert done.code == 0
    assert "Whose they are is not shown" in done.out
    done = cognify("model-signature", "export", MODEL, "1", "-o", "out", at=ready)
    assert done.code == 0
    assert Path("out/model/model.bin").read_bytes() == b"model 1"
    assert Path("out/model.sig").read_bytes() == signed.read_bytes()
    assert "model_signing verify key" in done.out


def test_another_key_and_other_files_are_refused(ready: World, signed: Path, cognify: Cognify) -> None:
    done = cognify("model-signature", "add", MODEL, "1", signed, "--public-key", "other.pub", at=ready)
    assert done.code == 1
    assert "names the key" in done.err
    ready.train("2")
    done = cognify("model-signature", "add", MODEL, "2", signed, "--public-key", "signing.pub", at=ready)
    assert done.code == 1
    assert "not over the sealed files" in done.err
    done = cognify("model-signature", "verify", MODEL, "1", at=ready)
    assert done.code == 1
    assert "no signature over its files is recorded" in done.err


def test_signing_without_the_extra_says_what_to_install(
    ready: World, signed: Path, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    done = cognify("model-signature", "sign", MODEL, "1", "--key", "signing.pem", at=ready)
    assert done.code == 1
    assert "cognify-dagster[model-signing]" in done.err


def test_an_export_without_a_signature_says_how_to_make_one(ready: World, signed: Path, cognify: Cognify) -> None:
    done = cognify("model-signature", "export", MODEL, "1", "-o", "out", at=ready)
    assert done.code == 0
    assert not Path("out/model.sig").exists()
    assert "model-signature add" in done.out
