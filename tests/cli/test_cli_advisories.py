"""`cognify advisories`: importing a snapshot, what is in use, and judging a version by hand."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from datetime import datetime, timezone
from pathlib import Path

import pytest

from cognify_dagster.records import EnvironmentRef, GateResult
from tests.cli.conftest import Cognify
from tests.governance.world import MODEL, World


def snapshot(folder: Path, *affected: str, day: str | None = None) -> Path:
    """Advisories of today about some versions of `demo`."""
    head = {
        "cognify_advisories": 1,
        "date": day or datetime.now(timezone.utc).date().isoformat(),
        "partial": True,
        "source": "a test",
    }
    row = {
        "id": "GHSA-1111-2222-3333",
        "aliases": ["CVE-2026-1"],
        "modified": "2026-01-01T00:00:00Z",
        "summary": "bad \u202e thing",
        "database_specific": {"severity": "HIGH"},
        "affected": [{"package": {"ecosystem": "PyPI", "name": "demo"}, "versions": [*affected, "0.0.1"]}],
    }
    path = folder / f"advisories{len(affected)}{day}.jsonl"
    path.write_text(json.dumps(head) + "\n" + json.dumps(row) + "\n")
    return path


@pytest.fixture
def trained(founded: World) -> World:
    """Version 1 was trained with `demo` 1.0 and evaluated."""
    lines = "demo==1.0\n"
    detail = json.dumps({"packages": [{"name": "demo", "version": "1.0"}]}).encode()
    environment = EnvironmentRef(
        python="3.11.7",
        platform="Linux",
        packages_digest=hashlib.sha256(lines.encode()).hexdigest(),
        gpu="absent",
        container_image="none",
        detail=founded.workspace.put("environment.json", detail, "application/json"),
    )
    founded.train("1", environment=environment)
    founded.evaluate("1")
    return founded


def test_the_sample_is_in_use_until_something_is_imported(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    shown = cognify("advisories", "show", at=founded)
    assert shown.code == 0
    assert "None were imported" in shown.out
    assert "partial sample" in shown.out
    assert "cognify advisories import" in shown.out
    done = cognify("advisories", "import", snapshot(tmp_path, "1.0"), "--json", at=founded)
    assert done.code == 0
    after = cognify("advisories", "show", "--json", at=founded).json
    assert after["digest"] == done.json["digest"]
    assert (after["imported"], after["age_days"], after["partial"]) == (True, 0, True)


def test_an_unusable_or_older_file_is_refused_and_nothing_changes(
    founded: World, cognify: Cognify, tmp_path: Path
) -> None:
    assert cognify("advisories", "import", snapshot(tmp_path, "1.0"), at=founded).code == 0
    before = cognify("advisories", "show", "--json", at=founded).json
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"PK\x03\x04 no zip")
    refused = cognify("advisories", "import", bad, at=founded)
    assert refused.code == 3
    assert "bad.zip" in refused.err
    older = snapshot(tmp_path, day="2026-01-01")
    refused = cognify("advisories", "import", older, at=founded)
    assert refused.code == 3
    assert "--allow-older" in refused.err
    assert cognify("advisories", "show", "--json", at=founded).json == before
    assert cognify("advisories", "import", older, "--allow-older", at=founded).code == 0


def test_a_scan_names_the_vulnerability_and_writes_nothing(trained: World, cognify: Cognify, tmp_path: Path) -> None:
    assert cognify("advisories", "import", snapshot(tmp_path, "1.0"), at=trained).code == 0
    size = trained.workspace.ledger.size()
    found = cognify("advisories", "scan", MODEL, "1", at=trained)
    assert found.code == 1
    assert "CVE-2026-1" in found.out
    assert "Gate security: fail" in found.out
    assert "\u202e" not in found.out  # foreign text is made safe
    assert trained.workspace.ledger.size() == size
    result = cognify("advisories", "scan", MODEL, "1", "--json", at=trained)
    assert [item["id"] for item in result.json["findings"]] == ["CVE-2026-1"]
    assert result.json["passed"] is False


def test_a_recorded_scan_is_the_version_s_gate_result(trained: World, cognify: Cognify, tmp_path: Path) -> None:
    cognify("advisories", "import", snapshot(tmp_path), at=trained)
    done = cognify("advisories", "scan", MODEL, "1", "--record", "--json", at=trained)
    assert (done.code, done.json["passed"]) == (0, True)
    result = trained.workspace.read().all(GateResult, trained.subject("1"))[-1]
    assert (result.seq, result.record.family, result.record.status) == (done.json["entry"], "security", "pass")


def test_requirements_are_judged_too(trained: World, cognify: Cognify, tmp_path: Path) -> None:
    cognify("advisories", "import", snapshot(tmp_path, "2.0"), at=trained)
    file = tmp_path / "constraints.txt"
    file.write_text("demo==2.0\nother>=1\n")
    found = cognify("advisories", "scan", MODEL, "1", "--requirements", file, "--json", at=trained)
    assert [(item["version"], item["origins"]) for item in found.json["findings"]] == [("2.0", ["requirements"])]
    messages = " ".join(item["message"] for item in found.json["outcomes"])
    assert "other>=1" in messages


def test_a_version_that_was_not_evaluated_cannot_be_judged(founded: World, cognify: Cognify) -> None:
    refused = cognify("advisories", "scan", MODEL, "1", at=founded)
    assert refused.code == 1
    assert "train and evaluate" in refused.err


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            '{"dependencies": [{"name": "demo", "version": "1.0", "vulns": [{"id": "PYSEC-9", "aliases": []}]}]}',
            "PYSEC-9",
        ),
        (
            '{"dependencies": [{"name": "demo", "vulns": [{"id": "X", "aliases": ["CVE-2026-1"]}]}]}',
            "all of them found here",
        ),
        ("no json", "no readable answer"),
    ],
)
def test_pip_audit_is_asked_only_where_it_is_installed_and_changes_no_verdict(
    trained: World, cognify: Cognify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, says: str
) -> None:
    cognify("advisories", "import", snapshot(tmp_path, "1.0"), at=trained)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    without = cognify("advisories", "scan", MODEL, "1", "--pip-audit", "--json", at=trained)
    assert without.json["pip_audit"] == ["not installed; nothing was compared"]
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "pip-audit"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    os.chmod(program, stat.S_IRWXU)
    asked = cognify("advisories", "scan", MODEL, "1", "--pip-audit", "--json", at=trained)
    assert says in " ".join(asked.json["pip_audit"])
    assert asked.json["passed"] is without.json["passed"] is False
