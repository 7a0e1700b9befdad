"""Export and offline verification, from one end to the other, on a version with a real package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import pytest

from cognify_dagster.cli.statement import findings_text
from cognify_dagster.documents import load_framework
from cognify_dagster.ledger import TrustFile, VerifierKey
from cognify_dagster.records import BundleExported
from tests.cli.conftest import Cognify
from tests.documents.story import Story


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A released version with a real package."""
    story = Story(tmp_path_factory.mktemp("story"))
    story.prepare_version("1")
    names = ("sr26-2", "fair-lending")
    story.package([load_framework(name) for name in names], datetime.now(timezone.utc), review_copy=b"%PDF-1.7 a copy")
    story.sign_all()
    story.release()
    return story


@pytest.fixture(scope="module")
def bundle(told: Story, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle, exported by the command."""
    out = tmp_path_factory.mktemp("out") / "bundle"
    command = [sys.executable, "-m", "cognify_dagster.cli", "package", "export", "credit_default", "1", "-o", str(out)]
    environment = {**os.environ, "COGNIFY_WORKSPACE": str(told.ws.config.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "cognify verify" in done.stdout
    return out


def test_an_exported_bundle_holds_under_the_trust_file(told: Story, bundle: Path, cognify: Cognify) -> None:
    result = cognify("verify", bundle, "--trust", told.ws.config.trust)
    assert result.code == 0, result.out
    assert "Result: HOLDS" in result.out
    report = cognify("verify", bundle, "--trust", told.ws.config.trust, "--json").json
    assert report["outcome"] == "holds"
    assert len(report["sign_offs"]) >= 1


def test_without_trust_it_is_unproven(bundle: Path, cognify: Cognify) -> None:
    assert cognify("verify", bundle).code == 4


def test_a_changed_package_is_tampered(told: Story, bundle: Path, cognify: Cognify, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    package = copy / "package" / "package.json"
    package.chmod(0o600)
    package.write_bytes(package.read_bytes().replace(b"credit", b"Credit", 1))
    assert cognify("verify", copy, "--trust", told.ws.config.trust).code == 1


def test_no_bundle_and_a_trust_file_inside_it(told: Story, bundle: Path, cognify: Cognify, tmp_path: Path) -> None:
    assert cognify("verify", tmp_path / "absent", "--trust", told.ws.config.trust).code == 3
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    inside = shutil.copy(told.ws.config.trust, copy / "trust.txt")
    assert cognify("verify", copy, "--trust", inside).code == 5
    absent = cognify("verify", bundle, "--trust", tmp_path / "absent.txt")
    assert absent.code == 3
    assert f"trust file: {tmp_path / 'absent.txt'}: No such file" in absent.out
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    assert cognify("verify", bundle, "--trust", binary, "--json").json["exit_code"] == 3
    missing = cognify("verify", tmp_path / "absent", "--trust", told.ws.config.trust)
    for result in (absent, missing):
        assert "None" not in result.out
        assert "bundle:" not in result.out


def test_the_trust_file_of_another_ledger_is_named_and_proves_nothing(bundle: Path, cognify: Cognify) -> None:
    foreign = VerifierKey("other.example/x", bytes(range(32)))
    Path("other.txt").write_text(TrustFile((foreign,), bytes(32)).text())
    result = cognify("verify", bundle, "--trust", "other.txt")
    assert result.code == 4
    assert "it is for the ledger other.example/x; this bundle comes from the ledger" in result.out


def test_a_zip_and_who_exported_it(told: Story, cognify: Cognify, tmp_path: Path) -> None:
    out = tmp_path / "bundle.zip"
    result = cognify(
        "--workspace", told.ws.config.path, "package", "export", "credit_default", "1", "-o", out, "--zip", "--json"
    )
    assert result.code == 0, result.err
    assert zipfile.is_zipfile(out)
    assert cognify("verify", out, "--trust", told.ws.config.trust).code == 0
    exported = told.ws.read().all(BundleExported)[-1]
    assert exported.record.exported_by == json.loads(result.out)["exported_by"]


def test_a_place_that_is_taken_and_a_version_without_package(told: Story, cognify: Cognify, tmp_path: Path) -> None:
    words = ("--workspace", told.ws.config.path, "package", "export", "credit_default")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    size = told.ws.ledger.size()
    assert cognify(*words, "1", "-o", taken).code == 5
    assert cognify(*words, "9", "-o", tmp_path / "new").code == 1
    assert cognify(*words, "1", "-o", tmp_path / "new", "--by", "person/nobody").code == 1
    assert cognify(*words, "1", "-o", tmp_path / "no" / "folder").code == 5
    assert told.ws.ledger.size() == size, "nothing is recorded for an export that did not happen"


def test_findings_are_shown_and_counted_for_signers(told: Story, cognify: Cognify) -> None:
    shown = cognify("--workspace", told.ws.config.path, "package", "show", "credit_default", "1", "--json").json
    assert shown["package"]["findings"], "the story has findings"
    text = cognify("--workspace", told.ws.config.path, "package", "show", "credit_default", "1").out
    assert "F-01" in text
    counted = findings_text(told.ws, told.package_item.digest)
    assert counted.startswith(f"{len(shown['package']['findings'])} in the package (")
    assert findings_text(told.ws, "sha256:" + "0" * 64) == "not readable from the package"


def test_the_schema_of_the_package_accepts_it(told: Story, cognify: Cognify) -> None:
    import jsonschema

    schema = cognify("schema", "package").json
    shown = cognify("--workspace", told.ws.config.path, "package", "show", "credit_default", "1", "--json").json
    jsonschema.validate(shown["package"], schema)
