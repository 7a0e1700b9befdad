"""Signing: here, from another machine, and every way it is refused."""

from __future__ import annotations

import base64
import json
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from cognify_dagster.cli import statement as shown_statement
from cognify_dagster.governance import SignOffPredicate, open_finding, read_sign_off
from cognify_dagster.records import Package, SignOff, SignOffRefused
from tests.cli.conftest import Cognify, at_terminal, key_file
from tests.governance.world import MODEL, PASSPHRASE, World


def test_shows_the_statement_signs_and_gives_a_receipt(ready: World, cognify: Cognify) -> None:
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, "vera"), "--comments", "checked", "--yes", at=ready)
    assert result.code == 0, result.err
    signed = ready.workspace.read().all(SignOff)[-1]
    for part in (
        "approve",
        "I validated this model version",
        signed.record.package_digest,
        "evidence get",
        "checked",
        f"Entry      {signed.seq}, leaf {signed.leaf}",
        signed.record.statement_digest,
        "waits for Carl",
    ):
        assert part in result.out
    assert signed.record.person == "person/vera"


def test_json_receipt(ready: World, cognify: Cognify) -> None:
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes", "--json", at=ready)
    assert result.json["stage"] == "validation"
    assert result.json["waiting_for"] == ["Carl"]
    assert result.json["released"] is False


def test_last_signature_says_that_the_version_may_be_released(ready: World, cognify: Cognify) -> None:
    ready.approve("vera")
    ready.approve("carl")
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, "olga"), "--yes", at=ready)
    assert "the approval sensor releases it to production" in result.out


def test_asks_before_signing_and_signs_nothing_without_an_answer(ready: World, cognify: Cognify) -> None:
    size = ready.workspace.ledger.size()
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, "vera"), at=ready)
    assert result.code == 5
    assert "--yes" in result.err
    assert "I validated" in result.out
    assert ready.workspace.ledger.size() == size


@pytest.mark.parametrize("who", ["ben", "olga", "finn"])
def test_who_may_not_sign_is_refused_and_the_attempt_is_recorded(who: str, ready: World, cognify: Cognify) -> None:
    """Ben built it; Olga's stage is not open yet; Finn holds no role that signs."""
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, who), "--yes", at=ready)
    assert result.code == 1
    assert "refused; the attempt is recorded" in result.err
    refusals = ready.workspace.read().all(SignOffRefused)
    assert refusals[-1].record.person == f"person/{who}"
    for reason in refusals[-1].record.reasons:
        assert reason in result.err


def test_wrong_role_for_a_named_stage(ready: World, cognify: Cognify) -> None:
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, "carl"), "--stage", "validation", "--yes", at=ready)
    assert result.code == 1
    assert "is signed by a model_validator" in result.err


def test_unknown_person(ready: World, cognify: Cognify) -> None:
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, "mallory"), "--yes", at=ready)
    assert result.code == 1
    assert "person/mallory is not enrolled" in result.err


def test_wrong_pass_phrase(ready: World, cognify: Cognify) -> None:
    size = ready.workspace.ledger.size()
    result = cognify(
        "sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes", passphrase="wrong horse battery", at=ready
    )
    assert result.code == 1
    assert "the pass phrase is wrong" in result.err
    assert "wrong horse" not in result.out + result.err
    assert result.out == "", "who reads the statement must not learn afterwards that it cannot be signed"
    assert ready.workspace.ledger.size() == size


def test_pass_phrase_file_must_be_private(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSPHRASE + "\n")
    secret.chmod(0o644)
    words = ("sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes", "--passphrase-file", secret)
    refused = cognify(*words, passphrase=None, at=ready)
    assert refused.code == 1
    assert "others can read this pass phrase; run `chmod 600" in refused.err
    assert refused.out == ""
    secret.chmod(0o600)
    secret.write_text("")
    assert cognify(*words, passphrase=None, at=ready).code == 3
    secret.write_text(PASSPHRASE + "\n")
    secret.chmod(0o600)
    assert cognify(*words, passphrase=None, at=ready).code == 0


def test_no_pass_phrase_and_no_terminal(ready: World, cognify: Cognify) -> None:
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes", passphrase=None, at=ready)
    assert result.code == 5
    assert "--passphrase-file" in result.err


def test_at_a_terminal_it_asks_for_the_pass_phrase_whether_the_document_was_read_and_whether_to_sign(
    ready: World,
) -> None:
    answers = [
        (b"Pass phrase of person/vera", b"\n"),
        (b"Pass phrase of person/vera", PASSPHRASE.encode() + b"\n"),
        (f"Have you read {MODEL}-1-review.pdf (sha256:".encode(), b"y\n"),
        (b"Sign this statement?", b"y\n"),
    ]
    where = {"COGNIFY_WORKSPACE": str(ready.folder / "project")}
    code, shown = at_terminal(where, ["sign", MODEL, "1", "--key", str(key_file(ready, "vera"))], answers)
    assert code == 0, shown
    assert "Nothing was typed." in shown
    assert PASSPHRASE not in shown
    assert ready.workspace.read().all(SignOff)[-1].record.person == "person/vera"


def test_who_has_not_read_the_document_signs_nothing(ready: World) -> None:
    answers = [(b"Pass phrase of person/vera", PASSPHRASE.encode() + b"\n"), (b"Have you read", b"n\n")]
    where = {"COGNIFY_WORKSPACE": str(ready.folder / "project")}
    code, shown = at_terminal(where, ["sign", MODEL, "1", "--key", str(key_file(ready, "vera"))], answers)
    assert code == 1
    assert "Stopped; nothing was written." in shown
    assert ready.workspace.read().all(SignOff) == []


def test_conditions_comments_expiry_and_links(ready: World, cognify: Cognify) -> None:
    result = cognify(
        "sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes",
        "--decision", "approve-with-conditions",
        "--condition", "Monitor drift; monthly; due=2030-01-31",
        "--condition", "Report to the board",
        "--link", "https://bank.example/report", "--expires", "2030-06-01T00:00:00Z", at=ready,
    )  # fmt: skip
    assert result.code == 0, result.err
    envelope = ready.workspace.read().all(SignOff)[-1].record.envelope
    predicate = read_sign_off(base64.b64decode(envelope.payload))
    assert [(c.text, c.due) for c in predicate.conditions] == [
        ("Monitor drift; monthly", "2030-01-31T23:59:59Z"),
        ("Report to the board", None),
    ]
    assert predicate.expires == "2030-06-01T00:00:00Z"
    assert predicate.links == ("https://bank.example/report",)


def test_conditions_that_a_program_can_check(ready: World, cognify: Cognify) -> None:
    result = cognify(
        "sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes", "--json",
        "--condition", "watch drift", "--condition", "tell the board", "--condition-due", "2030-01-31", "--condition-due", "none",
        "--use-cap", "per_day=100, per_year=20000", "--population", "region=TW,min_age=18; adults in Taiwan",
        "--population", "people who asked", "--ends", "2030-06-30T00:00:00Z",
        "--remediate-by", "2030-02-01", "publish reason codes", "--monitor-by", "2030-03-01", "drift weekly",
        at=ready,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert (result.json["decision"], result.json["strength"]) == ("approve_with_conditions", "S3")
    found = [
        (item["kind"], item["text"], item["due"], item["limit"])
        for item in cognify("status", MODEL, "1", "--json", at=ready).json["stages"][1]["signed"][0]["conditions"]
        for item in [{"kind": "text", "limit": {}, **item}]
    ]
    assert found == [
        ("text", "watch drift", "2030-01-31T23:59:59Z", {}),
        ("text", "tell the board", None, {}),
        (
            "use_cap",
            "Use is capped: per day at most 100, per year at most 20000",
            None,
            {"per_day": 100, "per_year": 20000},
        ),
        ("population", "adults in Taiwan", None, {"region": "TW", "min_age": 18}),
        ("population", "Only for: people who asked", None, {"only": "people who asked"}),
        ("expiry", "This approval ends 2030-06-30T00:00:00Z", None, {"until": "2030-06-30T00:00:00Z"}),
        ("monitoring", "drift weekly", "2030-03-01T23:59:59Z", {}),
        ("remediation", "publish reason codes", "2030-02-01T23:59:59Z", {}),
    ]
    shown = cognify("status", MODEL, "1", at=ready).out
    assert "[use cap, per_day=100, per_year=20000]" in shown
    assert "the deployment has to enforce it" in shown


def test_a_delegate_signs_on_behalf_and_is_told_so(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    ready.approve("vera")
    ready.enrol("dora", "auditor")
    words = (
        "people",
        "delegate",
        "person/dora",
        "--role",
        "compliance_officer",
        "--until",
        "+",
        "--reason",
        "on leave",
    )
    until = (datetime.now(timezone.utc) + timedelta(days=20)).strftime("%Y-%m-%d")
    given = [until if word == "+" else word for word in words]
    assert cognify(*given, "--as", key_file(ready, "carl"), "--yes", at=ready).code == 0
    assert "# Dora on behalf of Carl" in cognify("status", MODEL, "1", at=ready).out
    draft, signed = tmp_path / "todo.json", tmp_path / "signed.json"
    exported = cognify("sign", MODEL, "1", "--export", draft, "--person", "person/dora", at=ready)
    assert "ON BEHALF OF Carl (person/carl)" in exported.out
    dora = ("--key", key_file(ready, "dora"))
    away = cognify("sign", "--statement", draft, *dora, "--out", signed, "--yes")
    assert "On behalf of  person/carl, by the delegation in ledger entry" in away.out
    assert "strength S3 (personal key)" in away.out
    late = cognify("sign", "--statement", draft, *dora, "--out", tmp_path / "x", "--decision", "reject", "--yes")
    assert late.code == 5
    here = cognify("sign", "--import", signed, at=ready)
    assert here.code == 0, here.err
    assert "Dora on behalf of Carl: approve is recorded" in here.out
    assert "Dora on behalf of Carl" in " ".join(cognify("status", MODEL, "1", at=ready).out.split())


def test_a_finding_is_acknowledged_by_its_entry(ready: World, cognify: Cognify) -> None:
    found = open_finding(ready.workspace, ready.key("vera"), model=MODEL, version="1", severity="low", title="typo")
    words = ("sign", MODEL, "1", "--key", key_file(ready, "carl"), "--acknowledge", found.seq, "--yes")
    result = cognify(*words, at=ready)
    assert result.code == 0, result.err
    assert f"About        ledger entry {found.seq}" in result.out
    assert "Taken note of by Carl" in cognify("finding", "show", found.seq, at=ready).out
    ready.ready("2")
    other = cognify("sign", MODEL, "2", *words[3:], at=ready)
    assert other.code == 5
    assert "about another model or version" in other.err


@pytest.mark.parametrize(
    "words",
    [
        ("--decision", "approve-with-conditions"),
        ("--decision", "approve", "--condition", "late"),
        ("--decision", "approve-with-conditions", "--condition", "x; due=soon"),
        ("--condition", "a", "--condition", "b", "--condition-due", "2030-01-31"),
        ("--condition", "a; due=2030-01-31", "--condition-due", "2030-01-31"),
        ("--condition", "a", "--condition-due", "soon"),
        ("--use-cap", "a hundred"),
        ("--use-cap", "per_day=many"),
        ("--population", " "),
        ("--ends", "soon"),
        ("--remediate-by", "2030-01-31", " "),
        ("--acknowledge", "1"),
        ("--acknowledge", "99999"),
        ("--acknowledge", "5", "--decision", "reject", "--comments", "x"),
        ("--decision", "reject"),
        ("--decision", "block"),
        ("--entry", "3"),
        ("--person", "person/vera"),
        ("--out", "x"),
        ("--decision", "withdraw"),
    ],
)
def test_choices_that_make_no_sense_are_wrong_usage(words: tuple[str, ...], ready: World, cognify: Cognify) -> None:
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes", *words, at=ready)
    assert result.code == 5, result.err


def test_reject_and_block_with_a_reason(ready: World, cognify: Cognify) -> None:
    rejected = cognify(
        "sign",
        MODEL,
        "1",
        "--key",
        key_file(ready, "vera"),
        "--yes",
        "--decision",
        "reject",
        "--comments",
        "weak",
        at=ready,
    )
    assert rejected.code == 0, rejected.err
    blocked = cognify(
        "sign",
        MODEL,
        "1",
        "--key",
        key_file(ready, "carl"),
        "--yes",
        "--decision",
        "block",
        "--comments",
        "stop",
        at=ready,
    )
    assert blocked.code == 0, blocked.err
    status = cognify("status", MODEL, "1", "--json", at=ready).json
    assert {"rejected", "blocked"} <= {reason["code"] for reason in status["reasons"]}


def test_withdraw_names_the_newest_own_sign_off(ready: World, cognify: Cognify) -> None:
    seq = ready.approve("vera")
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes", "--decision", "withdraw", at=ready)
    assert result.code == 0, result.err
    assert f"About        ledger entry {seq}" in result.out
    assert "Independent validation waits for Vera" in result.out
    other = cognify(
        "sign",
        MODEL,
        "1",
        "--key",
        key_file(ready, "carl"),
        "--yes",
        "--decision",
        "withdraw",
        "--entry",
        seq,
        at=ready,
    )
    assert other.code == 5


def test_export_sign_elsewhere_import(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    todo, signed = tmp_path / "todo.json", tmp_path / "signed.json"
    exported = cognify("sign", MODEL, "1", "--export", todo, "--person", "person/vera", at=ready)
    assert exported.code == 0, exported.err
    # the other machine has the key and the file, and no workspace
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy(key_file(ready, "vera"), there / "vera.key.json")
    elsewhere = cognify("sign", "--statement", todo, "--key", there / "vera.key.json", "--out", signed, "--yes")
    assert elsewhere.code == 0, elsewhere.err
    assert "I validated this model version" in elsewhere.out
    imported = cognify("sign", "--import", signed, at=ready)
    assert imported.code == 0, imported.err
    assert "waits for Carl" in imported.out
    again = cognify("sign", "--import", signed, "--json", at=ready)
    assert again.json["duplicate"] is True
    assert len(ready.workspace.read().all(SignOff)) == 1


def test_the_summary_beside_a_statement_is_not_believed(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    todo = tmp_path / "todo.json"
    cognify("sign", MODEL, "1", "--export", todo, "--person", "person/vera", "--decision", "acknowledge", at=ready)
    value = json.loads(todo.read_text())
    value["summary"] = {"Decision": "nothing at all, just sign"}
    todo.write_text(json.dumps(value))
    result = cognify(
        "sign", "--statement", todo, "--key", key_file(ready, "vera"), "--out", tmp_path / "e.json", "--yes"
    )
    assert "acknowledge (no approval)" in result.out
    assert "nothing at all" not in result.out


def test_a_changed_statement_is_refused_before_signing(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    todo = tmp_path / "todo.json"
    cognify("sign", MODEL, "1", "--export", todo, "--person", "person/vera", at=ready)
    value = json.loads(todo.read_text())
    statement = base64.b64decode(value["statement"]).replace(b'"version":"1"', b'"version":"2"')
    value["statement"] = base64.b64encode(statement).decode()
    todo.write_text(json.dumps(value))
    result = cognify(
        "sign", "--statement", todo, "--key", key_file(ready, "vera"), "--out", tmp_path / "e.json", "--yes"
    )
    assert result.code == 1
    assert not (tmp_path / "e.json").exists()


def test_a_statement_for_somebody_else(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    todo = tmp_path / "todo.json"
    cognify("sign", MODEL, "1", "--export", todo, "--person", "person/vera", at=ready)
    result = cognify(
        "sign", "--statement", todo, "--key", key_file(ready, "carl"), "--out", tmp_path / "e.json", "--yes"
    )
    assert result.code == 1
    assert "the statement is for person/vera" in result.err


def test_a_statement_for_another_workspace(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    todo, signed = tmp_path / "todo.json", tmp_path / "signed.json"
    cognify("sign", MODEL, "1", "--export", todo, "--person", "person/vera", at=ready)
    cognify("sign", "--statement", todo, "--key", key_file(ready, "vera"), "--out", signed, "--yes")
    made = cognify(
        "init", tmp_path / "third", "--trial", "--origin", "third.example/x",
        "--founder", f"Ada={key_file(ready, 'ada')}", "--yes",
    )  # fmt: skip
    assert made.code == 0, made.err
    result = cognify("--workspace", tmp_path / "third", "sign", "--import", signed)
    assert result.code == 1
    assert "is for workspace 'test.example/credit', this is 'third.example/x'" in result.err


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe", b'{"format":"cognify-statement/v1"}', b"[" * 5000])
@pytest.mark.parametrize("mode", ["--statement", "--import"])
def test_files_that_are_no_statement(content: bytes, mode: str, ready: World, cognify: Cognify, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_bytes(content)
    more = ("--key", key_file(ready, "vera"), "--out", tmp_path / "o", "--yes") if mode == "--statement" else ()
    result = cognify("sign", mode, file, *more, at=ready)
    assert result.code == 3
    assert str(file) in result.err
    assert "Usage:" not in result.err


def test_export_needs_an_enrolled_person_and_a_valid_key(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    assert cognify("sign", MODEL, "1", "--export", out, "--person", "person/nobody", at=ready).code == 1
    wrong = cognify("sign", MODEL, "1", "--export", out, "--person", "person/vera", "--key-id", "0" * 16, at=ready)
    assert wrong.code == 1
    assert "has no valid key" in wrong.err
    assert not out.exists()


def test_nothing_to_sign_yet(founded: World, cognify: Cognify) -> None:
    result = cognify("sign", MODEL, "1", "--key", key_file(founded, "vera"), "--yes", at=founded)
    assert result.code == 1
    assert "has no package yet" in result.err


def _signed(world: World) -> SignOffPredicate:
    return read_sign_off(base64.b64decode(world.workspace.read().all(SignOff)[-1].record.envelope.payload))


def _document(world: World) -> str:
    package = world.workspace.read().all(Package)[-1].record
    return (package.review_copy or package.package).digest


def test_nothing_is_called_viewed_that_was_not_opened(ready: World, cognify: Cognify) -> None:
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes", at=ready)
    assert result.code == 0, result.err
    assert _signed(ready).viewed is None
    assert "Viewed" not in result.out
    assert "Refers to" in result.out
    assert f"evidence get {_document(ready)}" in result.out
    report = cognify("status", MODEL, "1", "--json", at=ready).json
    assert report["stages"][1]["done"] is True, "such a statement counts"


def test_open_writes_checks_and_opens_the_document_and_only_then_the_statement_says_so(
    ready: World, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(shown_statement, "open_file", lambda path: bool(opened.append(path) or True))
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes", "--open", at=ready)
    assert result.code == 0, result.err
    name = f"{MODEL}-1-review.pdf"
    assert opened == [name]
    assert Path(name).read_bytes() == ready.workspace.evidence.get(_document(ready))
    viewed = _signed(ready).viewed
    assert viewed is not None
    assert viewed.digest == _document(ready)
    assert f"To read it  {Path(name).resolve()}" in result.out


def test_open_without_a_desktop_says_so_and_claims_nothing(
    ready: World, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown_statement, "open_file", lambda path: False)
    result = cognify("sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes", "--open", at=ready)
    assert result.code == 0
    assert "There is no desktop here" in result.err
    assert _signed(ready).viewed is None


def test_another_document_than_the_packages_is_not_opened(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    other = tmp_path / "other.pdf"
    other.write_bytes(b"%PDF-1.7 something else")
    words = ("sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes", "--review-copy", other)
    result = cognify(*words, at=ready)
    assert result.code == 1
    assert f"{other}: not the document that the statement is about" in result.err
    assert ready.workspace.read().all(SignOff) == []


def test_a_key_that_others_can_read_signs_nothing(ready: World, cognify: Cognify) -> None:
    key = key_file(ready, "vera")
    key.chmod(0o644)
    result = cognify("sign", MODEL, "1", "--key", key, "--yes", at=ready)
    assert result.code == 1
    assert "others can read this key (mode 0644)" in result.err
    assert "chmod 600" in result.err
    assert result.out == ""


def _later(monkeypatch: pytest.MonkeyPatch, **after: int) -> datetime:
    moment = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(**after)
    monkeypatch.setattr("cognify_dagster.cli.sign_away.now", lambda: moment)
    return moment


def test_an_exported_statement_is_dated_when_it_is_signed(
    ready: World, cognify: Cognify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo, signed = tmp_path / "todo.json", tmp_path / "signed.json"
    exported = cognify("sign", MODEL, "1", "--export", todo, "--person", "person/vera", at=ready)
    assert "Prepared at" in exported.out
    assert "Dated" not in exported.out
    assert f"evidence get {_document(ready)} -o {MODEL}-1-review.pdf" in exported.out
    assert "Findings" in exported.out
    when = _later(monkeypatch, minutes=3)
    there = cognify("sign", "--statement", todo, "--key", key_file(ready, "vera"), "--out", signed, "--yes")
    assert there.code == 0, there.err
    text = when.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert f"Dated        {text}" in there.out
    assert f"bring {MODEL}-1-review.pdf" in there.out
    assert "the exported file says so, it is not part of what you sign" in there.out
    predicate = read_sign_off(base64.b64decode(json.loads(signed.read_text())["payload"]))
    assert predicate.signed_at == text
    assert predicate.viewed is None


@pytest.mark.parametrize(("after", "part"), [({"days": 15}, "over 14 days ago"), ({"hours": -1}, "clock says")])
def test_a_statement_too_old_or_from_the_future_is_not_signed(
    after: dict[str, int], part: str, ready: World, cognify: Cognify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo, signed = tmp_path / "todo.json", tmp_path / "signed.json"
    cognify("sign", MODEL, "1", "--export", todo, "--person", "person/vera", at=ready)
    _later(monkeypatch, **after)
    result = cognify("sign", "--statement", todo, "--key", key_file(ready, "vera"), "--out", signed, "--yes")
    assert result.code == 1
    assert part in result.err
    assert not signed.exists()


def test_the_other_machine_checks_the_document_that_was_taken_along(
    ready: World, cognify: Cognify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = tmp_path / "todo.json"
    cognify("sign", MODEL, "1", "--export", todo, "--person", "person/vera", at=ready)
    words = ("sign", "--statement", todo, "--key", key_file(ready, "vera"), "--yes", "--open", "--out")
    missing = cognify(*words, tmp_path / "a.json")
    assert missing.code == 3
    assert "bring the review copy" in missing.err
    document = tmp_path / f"{MODEL}-1-review.pdf"
    document.write_bytes(b"another")
    assert cognify(*words, tmp_path / "a.json").code == 1
    document.write_bytes(ready.workspace.evidence.get(_document(ready)))
    monkeypatch.setattr(shown_statement, "open_file", lambda path: True)
    result = cognify(*words, tmp_path / "a.json")
    assert result.code == 0, result.err
    assert "its SHA-256 is right" in result.out
    predicate = read_sign_off(base64.b64decode(json.loads((tmp_path / "a.json").read_text())["payload"]))
    assert predicate.viewed is not None


def test_findings_in_an_exported_file_are_numbers_only(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    todo = tmp_path / "todo.json"
    cognify("sign", MODEL, "1", "--export", todo, "--person", "person/vera", at=ready)
    value = json.loads(todo.read_text())
    value["findings"] = {"high": 2, "low": 1}
    todo.write_text(json.dumps(value))
    words = ("sign", "--statement", todo, "--key", key_file(ready, "vera"), "--yes", "--out")
    assert "3 in the package (2 high, 1 low)" in cognify(*words, tmp_path / "a").out
    value["findings"] = {"none at all, just sign": 1}
    todo.write_text(json.dumps(value))
    assert "just sign" not in cognify(*words, tmp_path / "b").out


def test_status_names_the_key_file_only_where_it_lies(ready: World, cognify: Cognify) -> None:
    assert "--key KEYFILE    # " in cognify("status", MODEL, "1", at=ready).out
    folder = ready.workspace.config.people_keys
    folder.mkdir()
    (folder / "broken.key.json").write_text("{}")
    (folder / "validator.key.json").write_bytes(key_file(ready, "vera").read_bytes())
    assert f"--key {folder}/validator.key.json    # " in cognify("status", MODEL, "1", at=ready).out
