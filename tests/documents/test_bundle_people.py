"""A bundle of a ledger with passkeys, delegations, other acts and an emergency release: disclosed, complete, judged as governance does."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.documents import export_bundle
from cognify_dagster.documents.package.recording import signature_rows, waived_stages
from cognify_dagster.governance import (
    Choice,
    PersonalKey,
    break_glass,
    classify_model,
    delegate,
    directory,
    enrol_person,
    open_finding,
    propose,
    recover_person,
    resolve_finding,
    submit,
)
from cognify_dagster.governance.signing.passkeys import passkey_public
from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.ledger import pae
from cognify_dagster.records import Envelope, Passkey, Person, ReleaseGranted, SignOff, utc
from tests.documents.story import POLICY, Story

RP, ORIGIN = "review.example.org", "https://review.example.org"
GLASS = "break_glass: {enabled: true, roles: [business_owner, compliance_officer], quorum: 2}\n"
FIXED = ec.derive_private_key(4711, ec.SECP256R1())


def cose() -> bytes:
    point = FIXED.public_key().public_numbers()
    head = bytes.fromhex("a5010203262001215820")
    return head + point.x.to_bytes(32, "big") + bytes.fromhex("225820") + point.y.to_bytes(32, "big")


def by_passkey(statement: bytes, key_id: str) -> Envelope:
    """What a browser and an authenticator answer."""
    challenge = hashlib.sha256(pae("application/vnd.in-toto+json", statement)).digest()
    text = base64.urlsafe_b64encode(challenge).decode().rstrip("=")
    client = json.dumps({"type": "webauthn.get", "challenge": text, "origin": ORIGIN}).encode()
    data = hashlib.sha256(RP.encode()).digest() + b"\x05" + (1).to_bytes(4, "big")
    raw = FIXED.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
    parts = {"authenticator_data": data, "client_data_json": client}
    member: dict[str, Any] = {"keyid": key_id, "sig": base64.b64encode(raw).decode()}
    member["webauthn"] = {name: base64.b64encode(part).decode() for name, part in parts.items()}
    return Envelope.model_validate(
        {
            "payload": base64.b64encode(statement).decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [member],
        }
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, frameworks: list[Any], now: datetime) -> Story:
    """Recovered, rotated to a passkey, delegated; released by broken glass without the business sign-off."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "p").mkdir()
    story = Story(folder / "p", policy=POLICY + GLASS)
    ws, keys = story.ws, story.keys
    public = passkey_public(cose(), Passkey(credential_id="AAAA", rp_id=RP, origins=(ORIGIN,)))
    vera = Person(person="person/vera", name="Vera Marković", roles=("model_validator",), keys=(public,))
    enrol_person(ws, vera, keys["person/ada"], keys["person/vera"])
    fresh = PersonalKey("person/ben", Ed25519PrivateKey.generate())
    ben = Person(person="person/ben", name="Ben Okafor", roles=("ml_engineer",), keys=(fresh.public,))
    recover_person(ws, ben, "the laptop was stolen", [keys["person/ada"], keys["person/otto"]])
    dora = PersonalKey("person/dora", Ed25519PrivateKey.generate())
    enrol_person(
        ws,
        Person(person="person/dora", name="Dora Kim", roles=("auditor",), keys=(dora.public,)),
        keys["person/ada"],
        keys["person/carl"],
    )
    ends = datetime.now(timezone.utc) + timedelta(days=5)
    delegate(ws, "person/dora", "compliance_officer", keys["person/carl"], expires=ends, reason="leave")
    story.register()
    story.keys["person/vera"], keep = keys["person/carl"], keys["person/vera"]
    story.gates()
    story.keys["person/vera"] = keep
    classify_model(
        ws, [keys["person/carl"]], model=story.model, tier="high", owner="person/bea", rationale="many accounts"
    )
    story.data()
    story.train("1")
    story.evaluate()
    story.package(frameworks, now)
    found = open_finding(ws, keys["person/carl"], model=story.model, severity="low", title="typo", text="in the card")
    resolve_finding(
        ws, keys["person/carl"], model=story.model, finding_seq=found.seq, outcome="closed", reason="corrected"
    )
    statement = propose(
        ws.read(), story.model, "1", "person/vera", public.key_id, Choice("approve", stage="validation")
    )
    submit(ws, by_passkey(statement, public.key_id))
    story.keys["person/dora"] = dora
    story.sign("person/dora", "compliance")
    soon = utc(datetime.now(timezone.utc) + timedelta(hours=5))
    break_glass(
        ws, [keys["person/carl"], keys["person/bea"]], model=story.model, version="1", target="production",
        waived=("business",), reason="the old model is down", expires=soon,
    )  # fmt: skip
    story.release()
    story.trust = folder / "p" / "trust.txt"
    story.out = export_bundle(ws, story.model, "1", folder / "out")
    return story


def verified(story: Story) -> dict[str, Any]:
    return ov.verify_bundle(story.out, story.trust.read_text())


def test_the_offline_verifier_judges_it_as_governance_does(told: Story) -> None:
    report = verified(told)
    assert report["exit_code"] == 0, report["findings"]
    assert report["warnings"] == []
    assert [(s["person"], s["strength"], s["role_held"]) for s in report["sign_offs"]] == [
        ("person/vera", "S4", True),
        ("person/dora", "S3", True),
    ]
    text = ov.report_text(report)
    assert "on behalf of person/carl (by entry " in text
    assert "by break_glass_opened of entry " in text
    assert "the old model is down" in text
    assert "without the sign-off of: business" in text


def test_acts_on_the_model_are_disclosed_and_listed(told: Story) -> None:
    kinds = {item["kind"]: item["counts"] for item in verified(told)["acts"]}
    assert kinds == dict.fromkeys(
        ("model_classified", "finding_opened", "finding_resolved", "break_glass_opened"), True
    )


@pytest.mark.parametrize(
    "kind",
    ["person_recovered", "delegated", "person_enrolled", "model_classified", "finding_resolved", "break_glass_opened"],
)
def test_what_it_relies_on_may_not_be_withheld(told: Story, kind: str, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(told.out, tmp_path / "copy"))
    manifest = json.loads((copy / "bundle.json").read_bytes())
    seq = max(
        entry.entry.seq for entry in told.ws.read().view.entries if entry.entry.kind == kind
    )  # the newest of its kind
    name = f"ledger/payloads/{seq:08d}.json"
    (copy / name).unlink()
    manifest["files"] = [item for item in manifest["files"] if item["path"] != name]
    (copy / "bundle.json").write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    assert ov.verify_bundle(copy, told.trust.read_text())["exit_code"] == ov.UNPROVEN


def test_the_signature_page_shows_strength_delegation_and_what_was_waived(told: Story) -> None:
    reading = told.ws.read()
    subject = f"model/{told.model}@1"
    rows = signature_rows(reading, list(reading.all(SignOff, subject)), directory(reading))
    assert [(row["level"], row["method"]) for row in rows] == [
        ("S4", "passkey (WebAuthn)"),
        ("S3", "personal software key (Ed25519)"),
    ]
    assert rows[0]["on_behalf_of"] is None
    assert rows[1]["on_behalf_of"]["name"] == "Carl Jönsson"
    waived = waived_stages(reading.all(ReleaseGranted, subject))
    assert list(waived) == ["business"]
    assert "waived by the break-glass act of entry" in waived["business"]


def test_an_assertion_is_checked_by_hand_as_the_page_says(told: Story, tmp_path: Path) -> None:
    import re
    import subprocess

    page = (Path(__file__).parents[2] / "docs/by-hand.md").read_text(encoding="utf-8")
    script = re.findall(r"```bash passkey\n(.*?)```", page, re.S)[0].replace("/tmp/", f"{tmp_path}/")
    reading = told.ws.read()
    seq = reading.all(SignOff, f"model/{told.model}@1")[0].seq
    payload = base64.b64decode(json.loads((told.out / f"ledger/payloads/{seq:08d}.json").read_bytes())["payload"])
    envelope = json.loads(payload)["facts"]["envelope"]
    (tmp_path / "record.json").write_bytes(payload)
    (tmp_path / "signed").write_bytes(pae("application/vnd.in-toto+json", base64.b64decode(envelope["payload"])))

    def run() -> str:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=True)
        return done.stdout

    assert "the passkey signed this statement" in run()
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    FIXED.public_key().verify(signature, (tmp_path / "asserted").read_bytes(), ec.ECDSA(hashes.SHA256()))
    (tmp_path / "signed").write_bytes(b"another statement")
    assert "DOES NOT FIT" in run()
