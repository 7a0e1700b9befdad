"""A bundle with a sign-off by single sign-on: the offline verifier says that it proves nothing of it, and calls nothing tampered with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from cognify_dagster.documents import export_bundle
from cognify_dagster.governance import Choice, archive_keys, enrol_person, propose, rotated, submit
from cognify_dagster.governance.signing.sso import nonce_of, sso_public, sso_signature
from cognify_dagster.governance.signing.statements import PAYLOAD_TYPE
from cognify_dagster.ledger import pae
from cognify_dagster.records import SignOff
from tests.documents.story import Story
from tests.documents.test_bundle import verify
from tests.governance.issuer import CLIENT, ISSUER, FakeIssuer
from tests.governance.test_sso import enveloped


def test_what_it_cannot_check_is_unproven_and_no_more(tmp_path: Path, frameworks: list[Any], now: Any) -> None:
    story, issuer = Story(_made(tmp_path / "project")), FakeIssuer("ES256")
    story.prepare_version("1")
    story.package(frameworks, now)
    story.sign_all()
    story.release()
    key = sso_public(ISSUER, "vera-at-idp", CLIENT)
    person = rotated(story.ws.read(), "person/vera", key, False)
    enrol_person(story.ws, person, story.keys["person/ada"], story.keys["person/otto"])
    archive_keys(story.ws, ISSUER, issuer.keys())
    choice = Choice("acknowledge", stage="validation", comments="seen")
    statement = propose(story.ws.read(), story.model, "1", "person/vera", key.key_id, choice)
    token = issuer.token("vera-at-idp", nonce_of(pae(PAYLOAD_TYPE, statement)))
    seq = submit(story.ws, enveloped(statement, sso_signature(key, token, issuer.keys()))).seq
    found = story.ws.read().find(SignOff, seq)
    assert found is not None
    assert found.record.strength == "S2"
    shutil.copy(tmp_path / "project" / "trust.txt", tmp_path / "trust.txt")
    export_bundle(story.ws, story.model, "1", tmp_path / "out", exported_by="person/ada")
    code, report = verify(tmp_path / "out", tmp_path / "trust.txt")
    assert code == 4, report
    bad = [item for item in report["findings"] if item["code"] != 0]
    assert [(item["where"], item["outcome"]) for item in bad] == [(f"entry {seq} (sign_off)", "unproven")], bad


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
