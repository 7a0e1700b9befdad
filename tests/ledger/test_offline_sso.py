"""Single sign-on in bundles that are written straight from the format page, sharing no code with governance.

What only somebody with the database could write: keys archived by whom it is not for, identities that are not what they say, entries
of a later release. Tokens themselves are judged in `tests/governance/test_sso_offline.py`, whole bundles in `tests/documents`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cognify_dagster.ledger import canonical_json, pae
from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.records import (
    GroupsMapped,
    IssuerKey,
    IssuerKeysArchived,
    PersonEnrolled,
    Record,
    SignOff,
    Workload,
)
from tests.ledger import bundle_factory as bf

ISSUER, CLIENT, SUBJECT = "https://login.bank.example", "review", "val-at-idp"
OTHER = "https://login.other.example"
PRIVATE, FORGER = (ec.derive_private_key(number, ec.SECP256R1()) for number in (4711, 4712))
KINDS = ("groups_mapped", "issuer_keys_archived", "issuer_retired")


def about(issuer: str) -> str:
    return "issuer/" + hashlib.sha256(issuer.encode()).hexdigest()[:32]


ABOUT = about(ISSUER)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def jwk(private: ec.EllipticCurvePrivateKey = PRIVATE) -> dict[str, str]:
    point = private.public_key().public_numbers()
    x, y = (b64(value.to_bytes(32, "big")) for value in (point.x, point.y))
    return {"kty": "EC", "kid": "k1", "alg": "ES256", "crv": "P-256", "n": "", "e": "", "x": x, "y": y}


KEYS_DIGEST = bf.digest(canonical_json([jwk()]))


def signed_token(claims: dict[str, Any], private: ec.EllipticCurvePrivateKey) -> tuple[str, bytes]:
    body = f"{b64(json.dumps({'alg': 'ES256', 'kid': 'k1'}).encode())}.{b64(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(private.sign(body.encode(), ec.ECDSA(hashes.SHA256())))
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return f"{body}.{b64(raw)}", raw


def identity(**changed: Any) -> dict[str, Any]:
    """The enrolled key of who signs in, as it stands in the ledger; `changed` are members of it."""
    of = {"issuer": ISSUER, "subject": SUBJECT, "client_id": CLIENT}
    public = canonical_json(of)
    key = {
        "key_id": hashlib.sha256(public).hexdigest()[:16], "algorithm": "oidc", "public": base64.b64encode(public).decode(),
        "strength": "S2", "oidc": of,
    }  # fmt: skip
    return key | changed


KEY_ID = identity()["key_id"]


class Bent:
    """A record with other facts in it than today's model takes."""

    def __init__(self, record: Record, **facts: Any) -> None:
        self.record, self.changed = record, facts

    def __getattr__(self, name: str) -> Any:
        return getattr(self.record, name)

    def facts(self) -> dict[str, Any]:
        return {**self.record.facts(), **self.changed}

    def payload(self) -> bytes:
        return canonical_json({"facts": self.facts(), "observed": {}})

    def facts_digest(self) -> str:
        return hashlib.sha256(canonical_json(self.facts())).hexdigest()


class Site(bf.World):
    """A world with a workload for the review site, which archives keys."""

    def start(self, *, key: dict[str, Any] | None = None, kinds: tuple[str, ...] = KINDS) -> int:
        """Enrol the workload, and Val's identity beside her key; return the entry of the latter."""
        self.enrol_workload(Workload(workload="workload/site", key=bf.public("site"), kinds=kinds))
        person = bf.person("val", "model_validator").model_dump(mode="json")
        person["keys"].append(key or identity())
        witnesses = () if self.trial else ("bo",)
        return self.signed(
            PersonEnrolled(
                person=bf.person("val", "model_validator"), vouched_by="person/ada", envelope=bf.PLACEHOLDER,
                witnesses=tuple(f"person/{name}" for name in witnesses),
            ), "ada", *witnesses, person=person,
        )  # fmt: skip

    def signed(self, record: Record, first: str, *others: str, writer: str = "pipeline", **facts: Any) -> int:
        """Append an act with other facts than its model takes, signed as it then stands; `first` alone where it has one envelope."""
        signed: dict[str, Any] = {}
        bent: Any = Bent(record, **facts)
        dumped = [self.act(bent, name).model_dump(mode="json") for name in (first, *others)]
        if "envelope" in type(record).model_fields:
            signed["envelope"], dumped = dumped[0], dumped[1:]
        return self.append(Bent(record, **facts, **signed, envelopes=dumped), "person/ada", writer=writer)  # type: ignore[arg-type]

    def archive(self, *, writer: str | None = "site", issuer: str = ISSUER, digest: str = KEYS_DIGEST) -> int:
        record = IssuerKeysArchived(issuer=issuer, keys=(IssuerKey(**jwk()),), digest=digest)
        return self.append(record, "workload/site", writer=writer)

    def sign_in(
        self,
        package: int,
        *,
        proof: dict[str, Any] | None = None,
        private: Any = PRIVATE,
        states: dict[str, Any] | None = None,
        claims: dict[str, Any] | None = None,
        **record: Any,
    ) -> int:
        """Append a sign-off by single sign-on of this moment."""
        now = (self.now + 60_000_000) // 1_000_000
        when = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        statement = self.statement("val", package, key_id=KEY_ID, signed_at=when, **(states or {}))
        payload, said = canonical_json(statement), statement["predicate"]
        nonce = b64(hashlib.sha256(pae("application/vnd.in-toto+json", payload)).digest())
        whose = {"iss": ISSUER, "sub": SUBJECT, "aud": CLIENT, "nonce": nonce, **(claims or {})}
        token, raw = signed_token({**whose, "iat": now, "exp": now + 300, "auth_time": now}, private)
        members = {"id_token": token, "keys": KEYS_DIGEST, **(proof or {})}
        envelope = {
            "payload": base64.b64encode(payload).decode(), "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"keyid": KEY_ID, "sig": base64.b64encode(raw).decode(), "oidc": members}],
        }  # fmt: skip
        names = ("model", "version", "stage", "decision", "role", "person", "key_id", "signed_at")
        fields: dict[str, Any] = {
            **{name: said[name] for name in names}, "strength": "S2", "package_digest": said["package"]["digest"],
            "package_seq": package, "statement_digest": hashlib.sha256(payload).hexdigest(), **record,
        }  # fmt: skip
        bent: Any = Bent(SignOff(**fields, envelope=bf.PLACEHOLDER), envelope=envelope)
        return self.append(bent, "person/val")


class Retired(Record):
    """An entry about an issuer of a kind that a later release may have."""

    kind: ClassVar[str] = "issuer_retired"
    issuer: str

    def subjects(self) -> tuple[str, ...]:
        return (ABOUT,)


def told(folder: Path, step: Any, *, policy: dict[str, Any] | None = None, trial: bool = False) -> tuple[Site, int]:
    """The story up to its package, then a step that returns a sign-off."""
    world = Site(folder, trial=trial)
    world.found(policy=policy)
    for name, (_, role) in bf.STAGES.items():
        world.enrol(bf.person(name, role), "ada", *([] if trial else ["bo"]))
    package = world.prepare()
    return world, step(world, package)


def judged(world: Site, folder: Path, *pinned: str) -> dict[str, Any]:
    anchor = world.anchor(also=pinned or (ABOUT,))
    bundle = bf.export(world, folder, anchor_seq=anchor)
    (bundle / "package" / "final-copy.pdf").unlink()  # none was made in this story
    bf.reseal(bundle)
    return ov.verify_bundle(bundle, world.trust())


def said(report: dict[str, Any], seq: int) -> list[tuple[str, str]]:
    found = [item for item in report["findings"] if item["where"].startswith(f"entry {seq} ")]
    return [(item["outcome"], item["message"]) for item in found]


def honest(world: Site, package: int) -> int:
    world.start()
    world.archive()
    return world.sign_in(package)


def test_the_format_page_is_enough_to_write_one(tmp_path: Path) -> None:
    world, seq = told(tmp_path / "w", honest)
    report = judged(world, tmp_path / "b")
    assert (report["outcome"], report["findings"]) == ("holds", [])
    assert [(item["seq"], item["strength"]) for item in report["sign_offs"]] == [(seq, "S2")]


def test_an_export_that_does_not_pin_the_issuers_history_is_unproven(tmp_path: Path) -> None:
    world, seq = told(tmp_path / "w", honest)
    report = judged(world, tmp_path / "b", about(OTHER))
    assert report["outcome"] == "unproven"
    assert said(report, seq) == [("unproven", "its issuer's keys are not in the bundle: export it anew")]


@pytest.mark.parametrize("writer", ["val", None])
def test_keys_that_no_workload_archived_count_for_nothing(tmp_path: Path, writer: str | None) -> None:
    """Whoever signs off, or anybody with the database, could else archive keys of their own."""

    def step(world: Site, package: int) -> int:
        world.start()
        world.archive(writer=writer)
        return world.sign_in(package)

    world, seq = told(tmp_path / "w", step)
    report = judged(world, tmp_path / "b")
    assert said(report, seq) == [("tampered", "its issuer's keys are not archived before it")]
    assert any("no workload that may write it signed it" in line for line in report["warnings"])
    assert report["sign_offs"] == []


def test_nor_do_those_that_a_workload_without_the_right_archived(tmp_path: Path) -> None:
    def step(world: Site, package: int) -> int:
        world.start(kinds=("groups_claimed",))
        world.archive()
        return world.sign_in(package)

    world, seq = told(tmp_path / "w", step)
    report = judged(world, tmp_path / "b")
    assert said(report, seq - 1) == [("tampered", "its writer may not write issuer_keys_archived entries")]
    assert said(report, seq) == [("tampered", "its issuer's keys are not archived before it")]


@pytest.mark.parametrize("change", [{"digest": bf.digest(b"other")}, {"issuer": OTHER}])
def test_keys_under_another_digest_or_for_another_issuer_do_not_count(tmp_path: Path, change: dict[str, str]) -> None:
    def step(world: Site, package: int) -> int:
        world.start()
        world.archive(**change)  # type: ignore[arg-type]
        world.archive(issuer=OTHER)
        return world.sign_in(package)

    world, seq = told(tmp_path / "w", step)
    report = judged(world, tmp_path / "b", ABOUT, about(OTHER))
    if "issuer" in change:
        assert said(report, seq) == [("tampered", "its issuer's keys are not archived before it")]
    assert report["outcome"] == "tampered"
    assert report["sign_offs"] == []


def test_other_keys_under_the_digest_of_the_issuers_do_not_count(tmp_path: Path) -> None:
    def step(world: Site, package: int) -> int:
        world.start()
        lying = IssuerKeysArchived(issuer=ISSUER, keys=(IssuerKey(**jwk(FORGER)),), digest=KEYS_DIGEST)
        world.append(lying, "workload/site", writer="site")
        return world.sign_in(package, private=FORGER)

    world, seq = told(tmp_path / "w", step)
    report = judged(world, tmp_path / "b")
    assert said(report, seq) == [("tampered", "its issuer's keys are not archived before it")]


@pytest.mark.parametrize("subject", [ABOUT, None])
def test_an_archive_is_about_the_issuer_that_it_names(tmp_path: Path, subject: str | None) -> None:
    """Else it would hide from the history of the issuer whose keys it claims to hold."""

    def step(world: Site, package: int) -> int:
        world.start()
        record = IssuerKeysArchived(issuer=ISSUER, keys=(IssuerKey(**jwk()),), digest=KEYS_DIGEST)
        world.append(record, "workload/site", writer="site", subjects=(subject or about(OTHER),))
        return world.sign_in(package)

    world, seq = told(tmp_path / "w", step)
    report = judged(world, tmp_path / "b", ABOUT, about(OTHER))
    assert report["outcome"] == ("holds" if subject else "tampered")
    assert bool(said(report, seq)) is (subject is None)


def test_keys_archived_after_the_sign_off_do_not_count(tmp_path: Path) -> None:
    def step(world: Site, package: int) -> int:
        world.start()
        seq = world.sign_in(package)
        world.archive()
        return seq

    world, seq = told(tmp_path / "w", step)
    assert said(judged(world, tmp_path / "b"), seq) == [("tampered", "its issuer's keys are not archived before it")]


def test_an_entry_about_the_issuer_of_an_unknown_kind_leaves_it_unproven(tmp_path: Path) -> None:
    """A later release may let people say that an issuer's keys are not to be trusted."""

    def step(world: Site, package: int) -> int:
        world.start()
        world.archive()
        world.append(Retired(issuer=ISSUER), "workload/site", writer="site")
        return world.sign_in(package)

    world, seq = told(tmp_path / "w", step)
    report = judged(world, tmp_path / "b")
    assert report["outcome"] == "unproven"
    assert "about its issuer, is not disclosed, not proven" in said(report, seq)[0][1]


def test_a_proof_with_further_members_is_unproven(tmp_path: Path) -> None:
    def step(world: Site, package: int) -> int:
        world.start()
        world.archive()
        return world.sign_in(package, proof={"access_token": "x"})

    world, seq = told(tmp_path / "w", step)
    message = "its ID token is of a form that this verifier does not know"
    assert said(judged(world, tmp_path / "b"), seq) == [("unproven", message)]


def test_a_sign_off_that_claims_more_strength_than_its_key_has_is_found(tmp_path: Path) -> None:
    def step(world: Site, package: int) -> int:
        world.start()
        world.archive()
        return world.sign_in(package, strength="S3")

    world, seq = told(tmp_path / "w", step)
    message = "it claims the strength S3, the key has S2"
    assert said(judged(world, tmp_path / "b"), seq) == [("tampered", message)]


POLICY = {"version": 1, "adopters": ["workspace_admin"], "policy_quorum": 2, "title": "Test", "people": {"vouchers": 2}}


@pytest.mark.parametrize(("least", "outcome"), [("S2", "holds"), ("S3", "tampered"), (None, "tampered")])
def test_a_release_needs_the_strength_that_its_stage_demands(tmp_path: Path, least: str | None, outcome: str) -> None:
    """A stage that says nothing takes S3 and more, as governance reads it."""

    def step(world: Site, package: int) -> int:
        world.start()
        world.archive()
        return world.grant(package, [world.sign_in(package)])

    stage = {"min_strength": least} if least else {}
    world, seq = told(tmp_path / "w", step, policy={**POLICY, "stages": {"validation": stage}})
    report = judged(world, tmp_path / "b")
    assert report["outcome"] == outcome, report["findings"]
    assert ("of less strength than S3" in str(said(report, seq))) is (outcome == "tampered")


def test_an_identity_has_the_bytes_that_it_names(tmp_path: Path) -> None:
    other = {"issuer": ISSUER, "subject": "somebody-else", "client_id": CLIENT}
    world, seq = told(tmp_path / "w", lambda world, _: world.start(key=identity(oidc=other)))
    (found,) = said(judged(world, tmp_path / "b"), seq)
    assert found == ("tampered", f"the key id {KEY_ID!r} is not that of its key, or of the identity that it names")


@pytest.mark.parametrize("more", [{"tenant": "x"}, {"client_id": 7}])
def test_an_identity_of_another_form_proves_nothing(tmp_path: Path, more: dict[str, Any]) -> None:
    of = {"issuer": ISSUER, "subject": SUBJECT, "client_id": CLIENT, **more}

    def step(world: Site, package: int) -> int:
        world.start(key=identity(oidc=of))
        world.archive()
        return world.sign_in(package)

    world, seq = told(tmp_path / "w", step)
    message = f"the key {KEY_ID} is of a kind that this verifier does not know"
    assert said(judged(world, tmp_path / "b"), seq) == [("unproven", message)]


def test_it_signs_no_act() -> None:
    verifier: Any = ov.Verifier("", None)
    verifier.origin = bf.ORIGIN
    verifier._enrol({"person": "person/val", "keys": [identity()]}, 3)
    predicate = {
        "ledger": bf.ORIGIN, "kind": "key_revoked", "meaning": "I mean it.", "person": "person/val", "key_id": KEY_ID,
        "role": "model_validator", "checkpoint": {"size": 0, "root": "0" * 64}, "signed_at": bf.SIGNED_AT,
    }  # fmt: skip
    payload = canonical_json(
        {"_type": ov.STATEMENT_TYPE, "subject": [], "predicateType": ov.ACT_TYPE, "predicate": predicate}
    )
    member = {"keyid": KEY_ID, "sig": "", "oidc": {"id_token": "a.b.c", "keys": KEYS_DIGEST}}
    envelope = {"payload": base64.b64encode(payload).decode(), "payloadType": ov.PAYLOAD_TYPE, "signatures": [member]}
    with pytest.raises(ov.Bad, match="signs sign-offs only"):
        verifier._statement(envelope, ov.ACT_TYPE, 5)


# --- groups --------------------------------------------------------------------------------------------------------------


REFUSED = [("unproven", "the groups in its ID token do not stand for the role model_validator")]


def mapping(world: Site, groups: dict[str, Any], *signers: str) -> int:
    names = tuple(f"person/{name}" for name in sorted(signers))
    record = GroupsMapped(issuer=ISSUER, claim="groups", groups={}, reason="x", signers=names)
    return world.signed(record, *signers, writer="site", groups=groups)


@pytest.mark.parametrize(("trial", "signers"), [(False, ("ada", "bo")), (True, ("ada",))])
def test_a_mapping_narrows_once_enough_admins_signed_it(tmp_path: Path, trial: bool, signers: tuple[str, ...]) -> None:
    def step(world: Site, package: int) -> int:
        world.start()
        world.archive()
        mapping(world, {"Val": ["model_validator"]}, *signers)
        return world.sign_in(package)

    world, seq = told(tmp_path / "w", step, trial=trial)
    assert said(judged(world, tmp_path / "b"), seq) == REFUSED


def test_a_delegation_widens_no_group(tmp_path: Path) -> None:
    def step(world: Site, package: int) -> int:
        world.start()
        world.archive()
        mapping(world, {}, "ada", "bo")
        behalf = {"person": "person/com", "delegation": {"entry_seq": 1, "entry_leaf": "0" * 64}}
        return world.sign_in(package, states={"on_behalf_of": behalf})

    world, seq = told(tmp_path / "w", step)
    assert said(judged(world, tmp_path / "b"), seq) == REFUSED


def test_who_lost_a_group_may_still_withdraw(tmp_path: Path) -> None:
    def step(world: Site, package: int) -> int:
        world.start()
        world.archive()
        first = world.sign_in(package)
        mapping(world, {}, "ada", "bo")
        leaf = world.ledger.view().entries[first].entry.leaf.hex()
        return world.sign_in(
            package, states={"decision": "withdraw", "reference": {"entry_seq": first, "entry_leaf": leaf}}
        )

    world, seq = told(tmp_path / "w", step)
    report = judged(world, tmp_path / "b")
    assert report["outcome"] == "holds", report["findings"]
    assert report["sign_offs"][0]["undone"] == f"was withdrawn by entry {seq}"


@pytest.mark.parametrize("again", [False, True])
def test_a_mapping_that_was_signed_before_another_one_stood_changes_nothing(tmp_path: Path, again: bool) -> None:
    """An old mapping, or a copy of it, does not come back in force."""

    def step(world: Site, package: int) -> int:
        world.start()
        world.archive()
        names = ("person/ada", "person/bo")
        old = GroupsMapped(issuer=ISSUER, claim="groups", groups={}, reason="old", signers=names)
        signed = old.model_copy(update={"envelopes": tuple(world.act(old, name) for name in ("ada", "bo"))})
        if again:
            world.append(signed, "workload/site", writer="site")
        mapping(world, {"": ["model_validator"]}, "ada", "bo")
        world.append(signed, "workload/site", writer="site")
        return world.sign_in(package, claims={"groups": ""})

    world, seq = told(tmp_path / "w", step)
    report = judged(world, tmp_path / "b")
    assert (report["outcome"], said(report, seq)) == ("holds", [])
    assert any("replaced the mapping" in line for line in report["warnings"])


def test_a_mapping_stands_in_the_history_of_its_issuer(tmp_path: Path) -> None:
    def step(world: Site, package: int) -> int:
        world.start()
        world.archive()
        names = ("person/ada", "person/bo")
        record = GroupsMapped(issuer=ISSUER, claim="groups", groups={}, reason="x", signers=names)
        signed = record.model_copy(update={"envelopes": tuple(world.act(record, name) for name in ("ada", "bo"))})
        world.append(signed, "workload/site", writer="site", subjects=(about(OTHER), *names))
        return world.sign_in(package)

    world, seq = told(tmp_path / "w", step)
    report = judged(world, tmp_path / "b", ABOUT, about(OTHER))
    assert (report["outcome"], said(report, seq)) == ("holds", [])
    assert any("names other people, or another issuer" in line for line in report["warnings"])


def test_a_mapping_whose_roles_are_text_is_not_read_as_a_list(tmp_path: Path) -> None:
    """`"model_validator" in "not model_validator"` must not pass for a role."""

    def step(world: Site, package: int) -> int:
        world.start()
        world.archive()
        mapping(world, {"Val": "not model_validator"}, "ada", "bo")
        return world.sign_in(package)

    world, seq = told(tmp_path / "w", step)
    report = judged(world, tmp_path / "b")
    assert [outcome for outcome, _ in said(report, seq - 1)] == ["unproven"]
    assert "about its issuer, is not disclosed, not proven" in said(report, seq)[0][1]
