"""The verifier as a file: short, alone, published by its digest; and what it says about what it does not know."""

from __future__ import annotations

import ast
import base64
import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.cli import main
from cognify_dagster.ledger import canonical_json, pae
from cognify_dagster.ledger import offline_verifier as ov
from tests.ledger import bundle_factory as bf

FILE = Path(ov.__file__)
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
UNPROVEN = ov.UNPROVEN


def test_it_can_be_read_in_one_sitting() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 950
    assert max(map(len, lines)) <= 120
    code = "\n".join(lines)
    assert not re.search(r";\s*$|;\s+\w+ =", code, re.M), "one statement to a line"
    for node in ast.walk(ast.parse(code)):
        assert not (
            isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("eval", "exec", "compile", "__import__")
        )


def test_its_digest_is_the_published_one() -> None:
    """After a change of the verifier, `make verifier-digest` writes its new SHA-256; each release publishes it."""
    published = (DOCS / "verifier.sha256").read_text(encoding="utf-8").split()
    assert published == [hashlib.sha256(FILE.read_bytes()).hexdigest(), "verify.py"]
    assert "verifier.sha256" in (DOCS / "by-hand.md").read_text(encoding="utf-8")
    assert "verifier.sha256" in (DOCS / "verifying.md").read_text(encoding="utf-8")


def test_the_command_prints_its_digest_and_make_writes_that(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == (DOCS / "verifier.sha256").read_text(encoding="utf-8")
    assert "verify --version > docs/verifier.sha256" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_it_imports_nothing_but_the_standard_library_and_no_network(tmp_path: Path) -> None:
    """Run alone, isolated and without site packages, from an empty folder: every module it loads is Python's own."""
    copy = tmp_path / "verify.py"
    copy.write_bytes(FILE.read_bytes())
    code = (
        f"import sys, runpy; sys.argv = ['verify.py', {str(tmp_path / 'absent')!r}]\n"
        f"try: runpy.run_path({str(copy)!r}, run_name='__main__')\n"
        "except SystemExit as stop: print('exit', stop.code)\n"
        "tops = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(tops - set(sys.stdlib_module_names) - {'__main__', '__mp_main__'}))\n"
        "print(sorted(tops & {'socket', '_socket', 'ssl', 'http', 'ctypes', 'pickle', 'subprocess', 'multiprocessing'}))"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={}, check=False, timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-3:] == ["exit 3", "[]", "[]"]


# --- what it does not know is unproven, never passed and never called forged


class Stronger(bf.SignOff):
    """A sign-off as a later release may write it: with a strength that is not known yet."""

    strength: Any = "S5"


def stronger(world: bf.World, package: int, monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        patch.setattr(bf, "SignOff", Stronger)
        return world.sign_off("val", package, record={"strength": "S5"})


def test_a_sign_off_of_an_unknown_strength_is_unproven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = bf.tell(tmp_path / "w", before_anchor=lambda w, p: stronger(w, p, monkeypatch))
    report = ov.verify_bundle(bf.export(world, tmp_path / "b"), world.trust())
    assert (report["exit_code"], report["level"]) == (UNPROVEN, "L1")
    assert [item["message"] for item in report["findings"]] == ["it is of an unknown strength"]
    assert len(report["sign_offs"]) == 3, "it is not counted among the sign-offs"


def test_a_release_on_a_sign_off_of_an_unknown_strength_is_unproven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def release_on_it(world: bf.World, package: int) -> None:
        world.grant(package, [stronger(world, package, monkeypatch)], target="staging")

    world = bf.tell(tmp_path / "w", before_anchor=release_on_it)
    report = ov.verify_bundle(bf.export(world, tmp_path / "b"), world.trust())
    assert report["exit_code"] == UNPROVEN
    assert [grant["target"] for grant in report["grants"]] == ["production"]


def enrolled(**changed: Any) -> ov.Verifier:
    verifier = ov.Verifier("", None)
    verifier.origin = bf.ORIGIN
    key = {
        "key_id": bf.key_id("val"),
        "public": base64.b64encode(bf.raw_public("val")).decode(),
        "algorithm": "ed25519",
    }
    item = {"person": "person/val", "name": "Val", "roles": ["model_validator"], "keys": [{**key, **changed}]}
    verifier.people = {"person/val": item}
    verifier._enrol(item, 3)
    return verifier


def act(**changed: Any) -> dict[str, Any]:
    predicate = {
        "ledger": bf.ORIGIN, "kind": "key_revoked", "meaning": "I mean it.", "person": "person/val", "key_id": bf.key_id("val"),
        "role": "model_validator", "checkpoint": {"size": 0, "root": hashlib.sha256(b"").hexdigest()}, "signed_at": bf.SIGNED_AT,
    }  # fmt: skip
    statement = canonical_json(
        {"_type": ov.STATEMENT_TYPE, "subject": [], "predicateType": ov.ACT_TYPE, "predicate": predicate}
    )
    signature = bf.private("val").sign(pae(ov.PAYLOAD_TYPE, statement))
    signed = {"keyid": bf.key_id("val"), "sig": base64.b64encode(signature).decode(), **changed}
    return {"payload": base64.b64encode(statement).decode(), "payloadType": ov.PAYLOAD_TYPE, "signatures": [signed]}


def test_a_key_of_an_unknown_algorithm_can_sign_nothing_here() -> None:
    assert enrolled()._statement(act(), ov.ACT_TYPE, 5)[1]["person"] == "person/val"
    for key_id in (bf.key_id("val"), "0" * 16):
        verifier = enrolled(algorithm="es256", key_id=key_id)
        with pytest.raises(ov.Bad, match="of a kind that this verifier does not know") as caught:
            verifier._accept(key_id, "person/val", 5, b"", b"")
        assert caught.value.outcome == UNPROVEN
    with pytest.raises(ov.Bad, match="is not that of its key"):
        enrolled(key_id="0" * 16)


def test_a_signature_with_further_members_is_unproven() -> None:
    with pytest.raises(ov.Bad, match="of a form that this verifier does not know") as caught:
        enrolled()._statement(act(cert=""), ov.ACT_TYPE, 5)
    assert caught.value.outcome == UNPROVEN


def test_what_it_cannot_check_is_printed(tmp_path: Path) -> None:
    world = bf.tell(tmp_path / "w")
    text = ov.report_text(ov.verify_bundle(bf.export(world, tmp_path / "b"), world.trust()))
    not_checked = text.split("Not checked:")[1]
    for word in ("PAdES", "RFC 3161", "separation of duties", "verify.py"):
        assert word in not_checked


def test_base64_has_one_form() -> None:
    for raw in (b"", b"a", b"ab", b"abc", bytes(range(256))):
        assert ov.unbase64(base64.b64encode(raw).decode(), "x") == raw
    for bad in ("YQ", "YR==", "YQ==\n", " YQ==", "YQ=", "YQ===", "YWJ=", "Y", "-_==", "YQ==YQ==", "ＹＱ=="):
        with pytest.raises(ov.Bad):
            ov.unbase64(bad, "x")


def test_besides_signatures_it_is_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller form of the benchmark `python -m benchmarks.ledger --only offline`."""
    world = bf.tell(tmp_path / "w", before_anchor=lambda w, p: [w.append(
        bf.GateResult(model=bf.MODEL, version=bf.VERSION, family="performance", status="pass", based_on=(n,)),
        "workload/pipeline") for n in range(200)])  # fmt: skip
    bundle = bf.export(world, tmp_path / "b")
    monkeypatch.setattr(ov, "ed25519_verify", lambda *_: True)
    best = 9.0
    for _ in range(3):
        start = time.thread_time()  # not by the clock: another process may have the core meanwhile
        report = ov.verify_bundle(bundle, world.trust())
        best = min(best, time.thread_time() - start)
    assert report["entries"] > 200
    assert best < 0.6
