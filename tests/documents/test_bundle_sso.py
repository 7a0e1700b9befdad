"""Bundles with sign-offs by single sign-on (S2): what goes in, what the offline verifier makes of it, and governance beside it.

One ledger holds the honest sign-off and every forged one that we could think of, written past all checks as somebody would who
has the database and the site's workload key. Both verifiers must take the first and none of the others.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from cognify_dagster.cli import main
from cognify_dagster.documents import export_bundle
from cognify_dagster.documents.package import bundle
from cognify_dagster.governance import (
    Choice,
    archive_keys,
    directory,
    enrol_person,
    map_groups,
    propose,
    revoke_key,
    rotated,
    submit,
)
from cognify_dagster.governance.people.groups import groups_mapping
from cognify_dagster.governance.release.approvals import check_sign_off
from cognify_dagster.governance.signing.sso import nonce_of, read_key_set, sso_public, sso_signature
from cognify_dagster.governance.signing.statements import PAYLOAD_TYPE, read_sign_off, seal, sign_act
from cognify_dagster.ledger import canonical_json, pae
from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.records import (
    Envelope,
    EnvelopeSignature,
    IssuerKeysArchived,
    PublicKey,
    SignOff,
    issuer_subject,
)
from cognify_dagster.workspace import Workspace
from tests.documents.story import POLICY, Story
from tests.documents.test_bundle import verify
from tests.governance.issuer import CLIENT, ISSUER, FakeIssuer, b64
from tests.governance.provider import running_provider
from tests.governance.test_sso import enveloped
from tests.ledger.bundle_factory import reseal

OTHER = "https://login.other.example"
SUBJECT = "vera-at-idp"
POLICY_S2 = POLICY.replace("role: model_validator,", "role: model_validator, min_strength: S2,")


class Signing:
    """A story whose validator signs in to sign, and the issuer where she does."""

    def __init__(self, folder: Path, frameworks: list[Any], now: Any, algorithm: str = "RS256") -> None:
        folder.mkdir(parents=True)
        (folder / "project").mkdir()
        self.folder, self.issuer, self.out, self.seq = folder, FakeIssuer(algorithm), folder / "out", -1
        self.story = Story(folder / "project", policy=POLICY_S2)
        self.key = self.enrol("person/vera", SUBJECT)
        self.story.prepare_version("1")
        self.story.package(frameworks, now)
        archive_keys(self.ws, ISSUER, self.issuer.keys())

    @property
    def ws(self) -> Any:
        return self.story.ws

    @property
    def trust(self) -> str:
        return (self.folder / "project" / "trust.txt").read_text()

    def enrol(self, person: str, subject: str, issuer: str = ISSUER) -> PublicKey:
        key = sso_public(issuer, subject, CLIENT)
        told = rotated(self.ws.read(), person, key, False)
        enrol_person(self.ws, told, self.story.keys["person/ada"], self.story.keys["person/otto"])
        return key

    def statement(self, decision: Any = "acknowledge", comments: str = "", key: PublicKey | None = None) -> bytes:
        choice = Choice(decision, stage="validation", comments=comments)
        return propose(self.ws.read(), self.story.model, "1", "person/vera", (key or self.key).key_id, choice)

    def token(self, statement: bytes, /, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        claims = {"nonce": nonce_of(pae(PAYLOAD_TYPE, statement)), **claims}
        subject, nonce = claims.pop("sub", SUBJECT), claims.pop("nonce")
        return self.issuer.token(subject, nonce, header=header, **claims)

    def sealed(self, statement: bytes, token: str, keys: Any = None) -> Envelope:
        return enveloped(statement, sso_signature(self.key, token, keys or self.issuer.keys()))

    def sign(self, decision: Any = "approve", **claims: Any) -> int:
        statement = self.statement(decision)
        return submit(self.ws, self.sealed(statement, self.token(statement, **claims))).seq

    def force(self, envelope: Envelope, **changes: Any) -> int:
        """Write a sign-off past every check of `submit`."""
        said = read_sign_off(base64.b64decode(envelope.payload))
        names = ("model", "version", "stage", "decision", "role", "person", "key_id", "signed_at")
        record = SignOff(
            **{name: getattr(said, name) for name in names}, strength="S2",
            package_digest=said.package.digest, package_seq=said.package.entry_seq,
            statement_digest=hashlib.sha256(base64.b64decode(envelope.payload)).hexdigest(), envelope=envelope,
        )  # fmt: skip
        return self.story.put(record.model_copy(update=changes))

    def export(self, name: str = "out") -> Path:
        return export_bundle(self.ws, self.story.model, "1", self.folder / name, exported_by="person/ada")

    def judged(self, bundle: Path) -> dict[str, Any]:
        return ov.verify_bundle(bundle, self.trust)

    def by_governance(self, seq: int) -> str | None:
        """Why a sign-off does not count for decisions, or None."""
        reading = self.ws.read()
        found = reading.find(SignOff, seq)
        assert found is not None
        result = check_sign_off(found, reading, directory(reading))
        return result if isinstance(result, str) else None


def findings(report: dict[str, Any], seq: int | None = None) -> list[tuple[str, str]]:
    here = [item for item in report["findings"] if seq is None or item["where"] == f"entry {seq} (sign_off)"]
    return [(item["outcome"], item["message"]) for item in here]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, frameworks: list[Any], now: Any) -> Signing:
    """Released on a sign-off by single sign-on and two by key, exported to `out`."""
    signing = Signing(tmp_path_factory.mktemp("honest") / "s", frameworks, now)
    signing.seq = signing.sign()
    signing.story.sign("person/carl", "compliance")
    signing.story.sign("person/bea", "business")
    signing.story.release()
    signing.export()
    return signing


# --- the honest one ------------------------------------------------------------------------------------------------------


def test_it_is_proven_with_nothing_but_python(honest: Any) -> None:
    shutil.copy(honest.folder / "project" / "trust.txt", honest.folder / "trust.txt")
    code, report = verify(honest.out, honest.folder / "trust.txt")
    assert (code, report["level"], report["findings"]) == (0, "L1", [])
    strengths = {item["seq"]: item["strength"] for item in report["sign_offs"]}
    assert strengths[honest.seq] == "S2"
    assert sorted(strengths.values()) == ["S2", "S3", "S3"]
    assert honest.by_governance(honest.seq) is None
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(honest.out), "--trust", str(honest.folder / "trust.txt")])
    assert stop.value.code == 0


def test_the_report_says_whose_word_it_is(honest: Any) -> None:
    text = ov.report_text(honest.judged(honest.out))
    signed, unchecked = text.split("Sign-offs:")[1].split("Not checked:")
    assert (
        f"signed in again for it at {ISSUER}: the word of that service, checked with the keys that a workload" in signed
    )
    assert f"whether {ISSUER} signed in the right person" in unchecked
    assert SUBJECT not in text, "who they are at the issuer is nobody's business here"


def test_the_bundle_holds_what_is_needed_and_no_more(honest: Any) -> None:
    anchor = json.loads((honest.out / "bundle.json").read_bytes())["anchor_seq"]
    entry = json.loads((honest.out / f"ledger/entries/{anchor:08d}.json").read_bytes())
    issuers = [name for name in entry["body"]["subjects"] if name.startswith("issuer/")]
    assert issuers == [issuer_subject(ISSUER)]
    archived = [item.seq for item in honest.ws.read().all(IssuerKeysArchived, issuer_subject(ISSUER))]
    assert archived
    for seq in archived:
        for folder, ending in (("entries", "json"), ("proofs", "tlog-proof"), ("payloads", "json")):
            assert (honest.out / "ledger" / folder / f"{seq:08d}.{ending}").exists()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_its_nonce_can_be_checked_by_hand(honest: Any, tmp_path: Path) -> None:
    """With the commands of docs/by-hand.md: the record as it is disclosed, and what the signature covers."""
    text = (Path(__file__).parents[2] / "docs" / "by-hand.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"```bash sso\n(.*?)```", text, re.S)
    record = base64.b64decode(
        json.loads((honest.out / f"ledger/payloads/{honest.seq:08d}.json").read_bytes())["payload"]
    )
    (tmp_path / "record.json").write_bytes(record)
    envelope = json.loads(record)["facts"]["envelope"]
    for statement, said in ((base64.b64decode(envelope["payload"]), "somebody signed in for"), (b"{}", "DOES NOT FIT")):
        (tmp_path / "signed").write_bytes(pae(PAYLOAD_TYPE, statement))
        script = commands.replace("/tmp/", f"{tmp_path}/")
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout


@pytest.mark.parametrize("algorithm", ["PS256", "ES256", "EdDSA"])
def test_each_algorithm_is_proven(tmp_path: Path, frameworks: list[Any], now: Any, algorithm: str) -> None:
    signing = Signing(tmp_path / "s", frameworks, now, algorithm)
    seq = signing.sign()
    report = signing.judged(signing.export())
    assert (report["outcome"], findings(report)) == ("holds", [])
    assert [(item["seq"], item["strength"]) for item in report["sign_offs"]] == [(seq, "S2")]


# --- a ledger without one: nothing changes -------------------------------------------------------------------------------


def test_without_such_a_sign_off_nothing_about_an_issuer_goes_in(
    tmp_path: Path, frameworks: list[Any], now: Any
) -> None:
    """People may be enrolled so, keys archived and groups mapped: a bundle that does not rely on it has none of it."""
    signing = Signing(tmp_path / "s", frameworks, now)
    admins = [signing.story.keys["person/ada"], signing.story.keys["person/otto"]]
    mapped = map_groups(signing.ws, ISSUER, "groups", {"Secret-Group": ("model_validator",)}, "x", admins).seq
    signing.story.sign_all()
    out = signing.export()
    anchor = json.loads((out / "bundle.json").read_bytes())["anchor_seq"]
    assert not any(path.name == f"{mapped:08d}.json" for path in (out / "ledger" / "payloads").iterdir())
    body = json.loads((out / f"ledger/entries/{anchor:08d}.json").read_bytes())["body"]
    assert not any(name.startswith("issuer/") for name in body["subjects"])
    assert not any(
        b"Secret-Group" in base64.b64decode(json.loads(p.read_bytes())["payload"])
        for p in (out / "ledger/payloads").iterdir()
    )
    assert signing.judged(out)["outcome"] == "holds"


# --- forged ones ---------------------------------------------------------------------------------------------------------

Forge = Callable[[Any, bytes], Envelope]


def _token(**changes: Any) -> Forge:
    def forge(world: Any, statement: bytes) -> Envelope:
        return world.sealed(statement, world.token(statement, **changes))  # type: ignore[no-any-return]

    return forge


def _bit(at: int) -> Forge:
    def forge(world: Any, statement: bytes) -> Envelope:
        head, body, signature = world.token(statement).split(".")
        raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
        raw[at] ^= 1
        return world.sealed(statement, f"{head}.{body}.{b64(bytes(raw))}")  # type: ignore[no-any-return]

    return forge


def _shared_secret(world: Any, statement: bytes) -> Envelope:
    pem = world.issuer.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    claims = world.issuer.claims(SUBJECT, nonce_of(pae(PAYLOAD_TYPE, statement)))
    body = f"{b64(json.dumps({'alg': 'HS256', 'kid': 'k1'}).encode())}.{b64(json.dumps(claims).encode())}"
    made = hmac.new(pem, body.encode(), hashlib.sha256).digest()
    return world.sealed(statement, f"{body}.{b64(made)}")  # type: ignore[no-any-return]


def _other_signature_member(world: Any, statement: bytes) -> Envelope:
    good = sso_signature(world.key, world.token(statement), world.issuer.keys())
    return enveloped(statement, good.model_copy(update={"sig": base64.b64encode(bytes(256)).decode()}))


def _by(**changes: Any) -> Forge:
    """A token of another issuer with keys of its own, which name the digest of the archived set or their own."""

    def forge(world: Any, statement: bytes) -> Envelope:
        forger = FakeIssuer("RS256", name="forger")
        token = forger.token(SUBJECT, nonce_of(pae(PAYLOAD_TYPE, statement)))
        return world.sealed(statement, token, world.issuer.keys() if changes.get("claimed") else forger.keys())  # type: ignore[no-any-return]

    return forge


def _restated(key_id: str) -> Callable[[bytes], bytes]:
    def change(statement: bytes) -> bytes:
        value = json.loads(statement)
        value["predicate"]["key_id"] = key_id
        return canonical_json(value)

    return change


def _with_key(key: Callable[[Any], PublicKey], **claims: Any) -> Forge:
    def forge(world: Any, statement: bytes) -> Envelope:
        used = key(world)
        stated = _restated(used.key_id)(statement)
        return enveloped(stated, sso_signature(used, world.token(stated, **claims), world.issuer.keys()))

    return forge


def _no_token(world: Any, statement: bytes) -> Envelope:
    return seal(statement, world.key.key_id, world.story.keys["person/vera"].sign)


def _token_beside_a_key(world: Any, statement: bytes) -> Envelope:
    stated = _restated(world.story.keys["person/vera"].key_id)(statement)
    plain = seal(stated, world.story.keys["person/vera"].key_id, world.story.keys["person/vera"].sign)
    proof = sso_signature(world.key, world.token(stated), world.issuer.keys()).oidc
    return enveloped(stated, plain.signatures[0].model_copy(update={"oidc": proof}))


def _kept_by(which: str) -> Forge:
    """Signed with keys that are archived later, or were archived as those of another issuer."""

    def forge(world: Any, statement: bytes) -> Envelope:
        other = world.others[which]
        token = other.token(SUBJECT, nonce_of(pae(PAYLOAD_TYPE, statement)))
        return world.sealed(statement, token, other.keys())  # type: ignore[no-any-return]

    return forge


def _ago(seconds: int) -> int:
    return int(time.time()) - seconds


FORGED: dict[str, tuple[Forge, str, str]] = {
    "nonce": (_token(nonce="other"), "tampered", "another nonce"),
    "no nonce": (_token(nonce=None), "tampered", "another nonce"),
    "sub": (_token(sub="somebody-else"), "tampered", "another person"),
    "aud": (_token(aud="other-client"), "tampered", "another client"),
    "several aud": (_token(aud=[CLIENT, "other"]), "tampered", "another client"),
    "azp": (_token(azp="other-client"), "tampered", "another client"),
    "iss": (_token(iss=OTHER), "tampered", "another issuer"),
    "first bit of the signature": (_bit(0), "tampered", "does not verify"),
    "last bit of the signature": (_bit(-1), "tampered", "does not verify"),
    "alg none": (_token(header={"alg": "none"}), "unproven", "form that this verifier does not know"),
    "alg HS256 with the public key": (_shared_secret, "unproven", "form that this verifier does not know"),
    "alg of another kind of key": (_token(header={"alg": "ES256"}), "tampered", "do not say with which"),
    "alg that the key is not for": (_token(header={"alg": "PS256"}), "tampered", "do not say with which"),
    "critical header": (_token(header={"crit": ["b64"]}), "unproven", "form that this verifier does not know"),
    "access token": (_token(header={"typ": "at+jwt"}), "unproven", "form that this verifier does not know"),
    "other key id": (_token(header={"kid": "k9"}), "tampered", "do not say with which"),
    "keys that nobody archived": (_by(), "tampered", "not archived before it"),
    "a forger's key under the archived digest": (_by(claimed=True), "tampered", "does not verify"),
    "keys archived afterwards": (_kept_by("late"), "tampered", "not archived before it"),
    "keys archived for another issuer": (_kept_by("foreign"), "tampered", "not archived before it"),
    "signature member of something else": (_other_signature_member, "tampered", "not that of the ID token"),
    "expired": (_token(exp=_ago(600)), "unproven", "had expired"),
    "no expiry": (_token(exp=None), "unproven", "does not say when"),
    "old": (_token(iat=_ago(3600), auth_time=_ago(3600)), "unproven", "within ten minutes"),
    "had signed in before": (_token(auth_time=_ago(3600)), "unproven", "signed in before"),
    "no auth_time": (_token(auth_time=None), "unproven", "does not say when"),
    "auth_time of another form": (_token(auth_time=str(_ago(0))), "unproven", "does not say when"),
    "identity that was never enrolled": (
        _with_key(lambda world: sso_public(ISSUER, "a-stranger", CLIENT), sub="a-stranger"), "tampered", "never enrolled",
    ),
    "identity of somebody else": (_with_key(lambda world: world.carl, sub="carl-at-idp"), "tampered", "is the key of"),
    "no token": (_no_token, "tampered", "an ID token"),
    "a token beside a key's signature": (_token_beside_a_key, "tampered", "no other one has"),
}  # fmt: skip


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory, frameworks: list[Any], now: Any) -> Any:
    """A ledger with one honest sign-off and every forged one; `seqs` are their entries, `report` what the file says."""
    world: Any = Signing(tmp_path_factory.mktemp("forged") / "s", frameworks, now)
    world.carl = world.enrol("person/carl", "carl-at-idp")
    world.others = {name: FakeIssuer("ES256", kid=name) for name in ("late", "foreign")}
    archive_keys(world.ws, OTHER, world.others["foreign"].keys())
    world.enrol("person/vera", "vera-elsewhere", OTHER)
    world.key = sso_public(ISSUER, SUBJECT, CLIENT)
    world.good = world.sign("acknowledge")
    world.seqs = {}
    for name, (forge, _, _) in FORGED.items():
        envelope = forge(world, world.statement(comments=name))
        strength = "S3" if name == "a token beside a key's signature" else "S2"
        world.seqs[name] = world.force(envelope, strength=strength)
    archive_keys(world.ws, ISSUER, world.others["late"].keys())
    world.after = world.sign("acknowledge", acr="after all that")
    world.bundle = world.export()
    world.report = world.judged(world.bundle)
    return world


@pytest.mark.parametrize("name", FORGED)
def test_no_verifier_takes_a_forged_one(forged: Any, name: str) -> None:
    _, outcome, message = FORGED[name]
    seq = forged.seqs[name]
    found = findings(forged.report, seq)
    assert len(found) == 1, found
    assert found[0][0] == outcome, found
    assert message in found[0][1]
    assert seq not in {item["seq"] for item in forged.report["sign_offs"]}
    assert forged.by_governance(seq) is not None


def test_the_honest_ones_beside_them_stand(forged: Any) -> None:
    assert [item["seq"] for item in forged.report["sign_offs"]] == [forged.good, forged.after]
    assert findings(forged.report, forged.good) == findings(forged.report, forged.after) == []
    assert forged.by_governance(forged.good) is forged.by_governance(forged.after) is None
    known = {f"entry {seq} (sign_off)" for seq in forged.seqs.values()}
    assert {item["where"] for item in forged.report["findings"]} == known, "nothing else is wrong"


def test_a_revoked_identity_signs_nothing(tmp_path: Path, frameworks: list[Any], now: Any) -> None:
    world = Signing(tmp_path / "s", frameworks, now)
    statement = world.statement()
    envelope = world.sealed(statement, world.token(statement))
    revoke_key(world.ws, "person/vera", world.key.key_id, "left", world.story.keys["person/ada"])
    seq = world.force(envelope)
    report = world.judged(world.export())
    assert world.by_governance(seq) is not None
    assert "was revoked" in findings(report, seq)[0][1]


def test_a_stolen_token_recorded_later_is_unproven_and_so_is_a_release_on_it(
    tmp_path: Path, frameworks: list[Any], now: Any
) -> None:
    world = Signing(tmp_path / "s", frameworks, now)
    statement = world.statement("approve")
    envelope = world.sealed(statement, world.token(statement))
    world.story.ws = Workspace.open(world.folder / "project", clock_us=lambda: time.time_ns() // 1000 + 1_000_000_000)
    seq = world.force(envelope)
    report = world.judged(world.export())
    assert (report["outcome"], [item[0] for item in findings(report)]) == ("unproven", ["unproven"])
    assert "was more than ten minutes old" in findings(report, seq)[0][1]
    assert "more than ten minutes old" in str(world.by_governance(seq))


# --- what a bundle leaves out --------------------------------------------------------------------------------------------


def copied(world: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world.out, tmp_path / "copy"))


def test_a_bundle_without_the_issuers_history_is_unproven(honest: Any, tmp_path: Path) -> None:
    """The payload of an entry about the issuer is withheld: it might be keys, or a mapping of groups."""
    copy = copied(honest, tmp_path)
    (archived,) = (item.seq for item in honest.ws.read().all(IssuerKeysArchived))
    (copy / f"ledger/payloads/{archived:08d}.json").unlink()
    reseal(copy)
    report = honest.judged(copy)
    assert report["outcome"] == "unproven"
    assert findings(report, honest.seq) == [
        (
            "unproven",
            f"entry {archived} (issuer_keys_archived), about its issuer, is not disclosed, not proven or by a distrusted key",
        )
    ]
    release = [item for item in report["findings"] if "release_granted" in item["where"]]
    assert [item["outcome"] for item in release] == ["unproven"], "and so is what rests on it"


def test_leaving_the_archive_out_is_found(honest: Any, tmp_path: Path) -> None:
    copy = copied(honest, tmp_path)
    (archived,) = (item.seq for item in honest.ws.read().all(IssuerKeysArchived))
    for folder, ending in (("entries", "json"), ("proofs", "tlog-proof"), ("payloads", "json")):
        (copy / "ledger" / folder / f"{archived:08d}.{ending}").unlink()
    reseal(copy)
    report = honest.judged(copy)
    assert report["outcome"] == "tampered"
    assert any("not complete" in text for _, text in findings(report))


def test_a_bundle_of_an_older_release_is_unproven_as_before(
    tmp_path: Path, frameworks: list[Any], now: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a bundle does not pin the issuer's history; exporting it again mends that."""
    world = Signing(tmp_path / "s", frameworks, now)
    seq = world.sign("acknowledge")
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "_issuers", lambda *_: set())
        old = world.export("old")
    report = world.judged(old)
    assert report["outcome"] == "unproven"
    assert findings(report) == [("unproven", "its issuer's keys are not in the bundle: export it anew")]
    assert findings(report, seq)
    assert world.judged(world.export("new"))["outcome"] == "holds"


# --- groups --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory, frameworks: list[Any], now: Any) -> Any:
    """Groups of the issuer stand for roles, from the second sign-off on."""
    world: Any = Signing(tmp_path_factory.mktemp("grouped") / "s", frameworks, now)
    admins = [world.story.keys["person/ada"], world.story.keys["person/otto"]]
    world.before = world.sign("acknowledge")
    world.mapped = map_groups(
        world.ws, ISSUER, "groups", {"Val": ("model_validator",), "Biz": ("business_owner",)}, "x", admins
    ).seq
    world.inside = world.sign("acknowledge", groups=["x", "Val"])
    statement = world.statement(comments="outside")
    world.outside = world.force(world.sealed(statement, world.token(statement, groups=["Biz"])))
    statement = world.statement(comments="none")
    world.none = world.force(world.sealed(statement, world.token(statement)))
    map_groups(world.ws, ISSUER, "roles", {"Val": ("business_owner",)}, "other claim", admins)
    statement = world.statement(comments="old claim")
    world.old_claim = world.force(world.sealed(statement, world.token(statement, groups=["Val"])))
    world.out = world.export()
    world.report = world.judged(world.out)
    return world


def test_groups_that_do_not_stand_for_the_role_prove_nothing(grouped: Any) -> None:
    assert [item["seq"] for item in grouped.report["sign_offs"]] == [grouped.before, grouped.inside]
    for seq in (grouped.outside, grouped.none, grouped.old_claim):
        (found,) = findings(grouped.report, seq)
        assert found == ("unproven", "the groups in its ID token do not stand for the role model_validator")
        assert "do not stand for the role" in str(grouped.by_governance(seq))
    for seq in (grouped.before, grouped.inside):
        assert grouped.by_governance(seq) is None
    assert grouped.report["outcome"] == "unproven"


def test_a_mapping_that_is_withheld_leaves_what_follows_unproven(grouped: Any, tmp_path: Path) -> None:
    copy = copied(grouped, tmp_path)
    (copy / f"ledger/payloads/{grouped.mapped:08d}.json").unlink()
    reseal(copy)
    report = grouped.judged(copy)
    assert [item["seq"] for item in report["sign_offs"]] == [grouped.before]
    assert "about its issuer, is not disclosed" in findings(report, grouped.inside)[0][1]


def test_a_mapping_without_two_admins_counts_for_nothing(tmp_path: Path, frameworks: list[Any], now: Any) -> None:
    world = Signing(tmp_path / "s", frameworks, now)
    reading = world.ws.read()
    mapping = groups_mapping(
        reading, ISSUER, "groups", {"Val": ("business_owner",)}, "x", ["person/ada", "person/vera"]
    )
    signed = tuple(
        sign_act(mapping, world.story.keys[name], ledger=reading.origin, role="workspace_admin", meaning="x", head=reading.view.checkpoint())
        for name in ("person/ada", "person/vera")
    )  # fmt: skip
    lone = world.story.put(mapping.model_copy(update={"envelopes": signed}))
    seq = world.sign("acknowledge")
    report = world.judged(world.export())
    assert world.by_governance(seq) is None
    assert (report["outcome"], findings(report, seq)) == ("holds", [])
    assert any(f"entry {lone}" in line and "counts for nothing" in line for line in report["warnings"])


def test_a_mapping_by_a_key_that_was_not_to_be_trusted_then_is_unproven(
    tmp_path: Path, frameworks: list[Any], now: Any
) -> None:
    """A later revocation with effect from before the mapping takes it away for governance; the file does not guess what stands."""
    world = Signing(tmp_path / "s", frameworks, now)
    admins = [world.story.keys["person/ada"], world.story.keys["person/otto"]]
    mapped = map_groups(world.ws, ISSUER, "groups", {"Val": ("model_validator",)}, "x", admins).seq
    seq = world.sign("acknowledge", groups=["Val"])
    revoke_key(world.ws, "person/otto", admins[1].key_id, "copied", admins[0], effective_from=mapped)
    report = world.judged(world.export())
    assert "distrusted key" in findings(report, seq)[0][1]
    assert report["outcome"] == "unproven"


# --- a real provider -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with running_provider() as address:
        yield address


def test_a_token_of_a_real_provider_is_proven(provider: str, tmp_path: Path, frameworks: list[Any], now: Any) -> None:
    world = Signing(tmp_path / "s", frameworks, now)
    world.key = world.enrol("person/vera", SUBJECT, provider)
    found = httpx.get(f"{provider}/.well-known/openid-configuration").json()
    keys = read_key_set(httpx.get(found["jwks_uri"]).json())
    archive_keys(world.ws, provider, keys)
    statement = world.statement("approve")
    back = "http://localhost/oidc/callback"
    asked = {
        "client_id": CLIENT, "redirect_uri": back, "response_type": "code", "scope": "openid", "state": "s",
        "nonce": nonce_of(pae(PAYLOAD_TYPE, statement)), "prompt": "login", "max_age": "0",
    }  # fmt: skip
    answer = httpx.post(found["authorization_endpoint"], params=asked, data={"sub": SUBJECT})
    code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
    grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
    token = httpx.post(found["token_endpoint"], data=grant, auth=(CLIENT, "secret")).json()["id_token"]
    member = sso_signature(world.key, token, keys)
    assert isinstance(member, EnvelopeSignature)
    seq = submit(world.ws, enveloped(statement, member)).seq
    report = world.judged(world.export())
    assert (report["outcome"], findings(report)) == ("holds", [])
    assert [(item["seq"], item["strength"]) for item in report["sign_offs"]] == [(seq, "S2")]
