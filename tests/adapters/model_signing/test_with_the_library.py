"""Bundles made here are verified by the real `model_signing` command, and the other way round."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from cognify_dagster.instrument.model_signing import (
    ModelSignatureError,
    export_model,
    record_bundle,
    sealed_run,
    sign_path,
    sign_version,
    signatures,
    verify_folder,
    verify_version,
)
from cognify_dagster.training import digest_files
from tests.governance.conftest import founded, founded_template, ready, ready_template
from tests.governance.world import MODEL, World
from tests.instrument.model_signing.bundles import new_key, public, write_key

__all__ = ["founded", "founded_template", "ready", "ready_template"]


def tool(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "model_signing", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    key = new_key()
    (tmp_path / "signing.pub").write_bytes(public(key))
    return write_key(key, tmp_path / "signing.pem"), tmp_path / "signing.pub"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as save_pretrained leaves it, with what the library would leave out by itself."""
    path = tmp_path / "model"
    (path / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json", ".gitattributes"):
        (path / name).write_text(name)
    return path


def with_folder_model(world: World, folder: Path, version: str = "7") -> None:
    """Seal a version whose model is a folder, as the training room records it."""
    ws, found = world.workspace, digest_files(folder)
    world.train(
        version,
        model_file=ws.put("model", found.listing(), "application/vnd.cognify.files+json"),
        model_files=tuple(ws.put(f.path, folder / f.path, "application/octet-stream") for f in found.files),
    )


def test_a_versions_bundle_is_verified_by_the_command(ready: World, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, pub = keys
    ready.train("1")
    receipt = sign_version(ready.workspace, MODEL, "1", private)
    assert sign_version(ready.workspace, MODEL, "1", private).seq == receipt.seq, "signing twice records one entry"
    (entry,) = signatures(ready.workspace, MODEL, "1")
    assert entry.record.tool.startswith("model-signing 1.")
    run = sealed_run(ready.workspace, MODEL, "1").record
    path = export_model(ready.workspace, run, tmp_path / "out")
    (tmp_path / "model.sig").write_bytes(ready.workspace.evidence.get(entry.record.bundle.digest))
    words = ("verify", "key", path, "--signature", tmp_path / "model.sig", "--public_key", pub)
    done = tool(*words)
    assert done.returncode == 0, done.stderr
    assert [problem for _, problem in verify_version(ready.workspace, MODEL, "1", pub.read_bytes())] == [""]
    path.write_bytes(b"other")
    assert tool(*words).returncode != 0


def test_the_commands_sign_verify_and_export_as_the_docs_say(ready: World, tmp_path: Path) -> None:
    key = new_key()
    form = serialization.PrivateFormat.TraditionalOpenSSL  # what `openssl ecparam -genkey` writes
    private, pub = tmp_path / "signing.pem", tmp_path / "signing.pub"
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    private.chmod(0o600)
    pub.write_bytes(public(key))
    ready.train("1")

    def cognify(*words: object) -> subprocess.CompletedProcess[str]:
        at = ("--workspace", ready.folder / "project", "model-signature")
        line = [sys.executable, "-m", "cognify_dagster.cli", *map(str, (*at, *words))]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    done = cognify("sign", MODEL, "1", "--key", private)
    assert done.returncode == 0, done.stderr
    done = cognify("verify", MODEL, "1", "--public-key", pub)
    assert done.returncode == 0, done.stderr
    done = cognify("export", MODEL, "1", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    path = out / "model" / "model.bin"
    done = tool("verify", "key", path, "--signature", out / "model.sig", "--public_key", pub)
    assert done.returncode == 0, done.stderr


def test_a_folder_model_is_signed_whole(ready: World, keys: tuple[Path, Path], folder: Path, tmp_path: Path) -> None:
    private, pub = keys
    with_folder_model(ready, folder)
    sign_version(ready.workspace, MODEL, "7", private)
    (entry,) = signatures(ready.workspace, MODEL, "7")
    assert entry.record.file_count == 4
    out = export_model(ready.workspace, sealed_run(ready.workspace, MODEL, "7").record, tmp_path / "out")
    signature = tmp_path / "model.sig"
    signature.write_bytes(ready.workspace.evidence.get(entry.record.bundle.digest))
    done = tool("verify", "key", out, "--signature", signature, "--public_key", pub, "--no-ignore-git-paths")
    assert done.returncode == 0, done.stderr
    (out / "extra.py").write_text("import os")
    assert tool("verify", "key", out, "--signature", signature, "--public_key", pub, "--no-ignore-git-paths").returncode
    with pytest.raises(ModelSignatureError, match=r"surplus: extra.py"):
        verify_folder(out, signature.read_bytes(), pub.read_bytes())


def test_a_bundle_of_the_command_is_verified_and_recorded(
    ready: World, keys: tuple[Path, Path], folder: Path, tmp_path: Path
) -> None:
    private, pub = keys
    (folder / ".gitattributes").unlink()
    with_folder_model(ready, folder)
    signature = tmp_path / "their.sig"
    done = tool("sign", "key", folder, "--signature", signature, "--private_key", private, "--no-ignore-git-paths")
    assert done.returncode == 0, done.stderr
    verify_folder(folder, signature.read_bytes(), pub.read_bytes())
    receipt = record_bundle(ready.workspace, MODEL, "7", signature.read_bytes(), pub.read_bytes())
    assert [entry.seq for entry, problem in verify_version(ready.workspace, MODEL, "7") if not problem] == [receipt.seq]


def test_a_key_with_a_pass_phrase_signs_only_with_it(folder: Path, tmp_path: Path) -> None:
    key = new_key()
    private = write_key(key, tmp_path / "locked.pem", "a long pass phrase")
    data = sign_path(folder, private, password="a long pass phrase")
    verify_folder(folder, data, public(key))
    for wrong in (None, "another"):
        with pytest.raises(ModelSignatureError, match="signing failed"):
            sign_path(folder, private, password=wrong)
