"""`cognify seal`: made once, named in cognify.toml, used for the final copy, checked offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cognify_dagster.workspace import WorkspaceError, load_config
from tests.cli.conftest import Cognify
from tests.documents.test_seal import SOURCE


def test_a_seal_is_made_and_a_sealed_file_checked(cognify: Cognify, tmp_path: Path) -> None:
    from cognify_dagster.documents.pdf.rendering import run_typst
    from cognify_dagster.documents.pdf.seal import Seal, seal_pdf

    key, certificate = tmp_path / "seal.pem", tmp_path / "seal.crt"
    words = ("seal", "create", "--name", "Example Bank", "--key", key, "--certificate", certificate)
    made = cognify(*words, "--json")
    assert made.code == 0, made.err
    assert key.stat().st_mode & 0o077 == 0
    again = cognify(*words)
    assert again.code != 0
    assert "exists" in again.err

    sealed = tmp_path / "sealed.pdf"
    sealed.write_bytes(seal_pdf(run_typst({"package.typ": SOURCE}, {}, 0) + b"\n", Seal(key, certificate)))
    held = cognify("seal", "check", sealed, "--certificate", certificate, "--json")
    assert held.code == 0, held.out
    assert json.loads(held.out)["fingerprint"] == json.loads(made.out)["sha256"]
    sealed.write_bytes(sealed.read_bytes() + b"\n")
    broken = cognify("seal", "check", sealed, "--certificate", certificate)
    assert broken.code == 1
    assert "does NOT hold" in broken.out


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('[seal]\nkey = "a"\n', "certificate must name"),
        ('[seal]\nkey = "a"\ncertificate = "b"\ncolour = "red"\n', "has the fields"),
        ('[seal]\nkey = "a"\ncertificate = "b"\ntsa = "ftp://x"\n', "time-stamping"),
        ('[seal]\nkey = "a"\ncertificate = "b"\nchain = "c"\n', "list of PEM files"),
        ("seal = 3\n", "has the fields"),
    ],
)
def test_a_wrong_table_is_named(table: str, words: str, tmp_path: Path) -> None:
    base = '[workspace]\norigin = "bank.example/x"\n'
    text = table + base if table.startswith("seal") else base + table
    (tmp_path / "cognify.toml").write_text(text)
    with pytest.raises(WorkspaceError, match=words):
        load_config(tmp_path / "cognify.toml")
