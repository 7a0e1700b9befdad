"""Signatures by single sign-on (S2): what an ID token must say and be signed with, what the ledger keeps, what groups narrow."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import KeySet

from cognify_dagster.cli.ledger.signatures import check_signatures
from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    Choice,
    GovernanceError,
    SignatureError,
    SignOffDenied,
    adopt_policy,
    archive_keys,
    claim_groups,
    decide,
    delegate,
    directory,
    enrol_person,
    enrol_workload,
    map_groups,
    mapping_in_force,
    parse_policy,
    propose,
    propose_act,
    read_mapping,
    revoke_key,
    rotated,
    submit,
)
from cognify_dagster.governance.people.groups import groups_mapping
from cognify_dagster.governance.signing.sso import (
    again_problem,
    identity_problem,
    key_set_digest,
    lifetime_problem,
    nonce_of,
    read_key_set,
    sso_public,
    sso_signature,
    verify_token,
)
from cognify_dagster.governance.signing.statements import PAYLOAD_TYPE, open_envelope, seal, statement_digest
from cognify_dagster.ledger import pae
from cognify_dagster.records import (
    Envelope,
    EnvelopeSignature,
    GroupsClaimed,
    GroupsMapped,
    IssuerKeysArchived,
    PublicKey,
    RecordError,
    SignOff,
    SignOffRefused,
    build,
    issuer_subject,
)
from cognify_dagster.workspace import Workspace
from tests.governance.issuer import CLIENT, ISSUER, FakeIssuer, b64, rsa_key
from tests.governance.world import MODEL, World, clone

SUBJECT = "248289761001"
NOW = datetime.now(timezone.utc)


def verified(issuer: FakeIssuer, token: str, nonce: str = "n", **other: Any) -> Any:
    wanted: dict[str, Any] = {"issuer": ISSUER, "client_id": CLIENT, "nonce": nonce}
    return verify_token(token, issuer.keys(), **(wanted | other))


# --- tokens --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_a_token_verifies_here_and_in_another_library(algorithm: str) -> None:
    issuer = FakeIssuer(algorithm)
    token = issuer.token(SUBJECT, "n")
    assert verified(issuer, token)["sub"] == SUBJECT
    second = jwt.decode(token, KeySet.import_key_set({"keys": [issuer.jwk()]}), algorithms=[algorithm])  # type: ignore[arg-type]
    assert second.claims["sub"] == SUBJECT


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"iss": "https://login.evil.example"}, "another issuer"),
        ({"iss": ISSUER + "/"}, "another issuer"),
        ({"aud": "other"}, "another client"),
        ({"aud": ["other"]}, "another client"),
        ({"aud": None}, "another client"),
        ({"aud": [CLIENT, "other"]}, "issued to another client"),
        ({"azp": "other"}, "issued to another client"),
        ({"nonce": "m"}, "another nonce"),
        ({"nonce": None}, "another nonce"),
        ({"sub": None}, "names nobody"),
        ({"sub": 7}, "names nobody"),
        ({"iat": None}, "no iat"),
        ({"exp": "soon"}, "no exp"),
        ({"exp": True}, "no exp"),
    ],
)
def test_claims_that_are_not_for_us_are_refused(change: dict[str, Any], text: str) -> None:
    issuer = FakeIssuer("EdDSA")
    with pytest.raises(SignatureError, match=text):
        verified(issuer, issuer.token(SUBJECT, "n", **change))


def test_several_audiences_need_the_authorized_party() -> None:
    issuer = FakeIssuer("EdDSA")
    assert verified(issuer, issuer.token(SUBJECT, "n", aud=[CLIENT, "other"], azp=CLIENT))


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"alg": "none"}, "signed with"),
        ({"alg": "HS256"}, "signed with"),
        ({"alg": "RS384"}, "signed with"),
        ({"alg": None}, "signed with"),
        ({"alg": ["EdDSA"]}, "signed with"),
        ({"alg": "RS256"}, "does not say with which key"),
        ({"kid": "other"}, "does not say with which key"),
        ({"kid": 7}, "not text"),
        ({"crit": ["b64"]}, "header that no ID token has"),
        ({"b64": False}, "header that no ID token has"),
        ({"typ": "at+jwt"}, "header that no ID token has"),
        ({"typ": "logout+jwt"}, "header that no ID token has"),
    ],
)
def test_a_header_cannot_choose_how_it_is_judged(header: dict[str, Any], text: str) -> None:
    issuer = FakeIssuer("EdDSA")
    with pytest.raises(SignatureError, match=text):
        verified(issuer, issuer.token(SUBJECT, "n", header=header))


def test_a_public_key_used_as_a_shared_secret_verifies_nothing() -> None:
    issuer = FakeIssuer("RS256")
    body = f"{b64(json.dumps({'alg': 'HS256', 'kid': 'k1'}).encode())}.{b64(json.dumps(issuer.claims(SUBJECT, 'n')).encode())}"
    forged = hmac.new(json.dumps(issuer.jwk()).encode(), body.encode(), hashlib.sha256).digest()
    with pytest.raises(SignatureError, match="signed with"):
        verified(issuer, f"{body}.{b64(forged)}")


def test_an_unsigned_token_verifies_nothing() -> None:
    issuer = FakeIssuer("RS256")
    header, claims, _ = issuer.token(SUBJECT, "n", header={"alg": "none"}).split(".")
    for token in (f"{header}.{claims}.", f"{header}.{claims}", f"{header}.{claims}.AA"):
        with pytest.raises(SignatureError):
            verified(issuer, token)


def test_a_key_that_the_token_brings_is_not_looked_at() -> None:
    issuer, stranger = FakeIssuer("ES256"), FakeIssuer("ES256")
    with pytest.raises(SignatureError, match="does not verify"):
        verified(issuer, stranger.token(SUBJECT, "n", header={"jwk": stranger.jwk(), "jku": "https://evil.example/k"}))


@given(at=st.integers(0, 10_000), bit=st.integers(0, 5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_changed_character_of_a_token_verifies(at: int, bit: int) -> None:
    issuer = _EDDSA
    index = at % len(_TOKEN)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    old = _TOKEN[index]
    new = alphabet[alphabet.index(old) ^ (1 << bit)] if old in alphabet else "A"
    with pytest.raises(SignatureError):
        verified(issuer, _TOKEN[:index] + new + _TOKEN[index + 1 :])


_EDDSA = FakeIssuer("EdDSA")
_TOKEN = _EDDSA.token(SUBJECT, "n")


@given(
    text=st.text(max_size=80)
    | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}", fullmatch=True)
)
@settings(max_examples=80, deadline=None)
def test_whatever_comes_as_a_token_is_refused_never_crashed_on(text: str) -> None:
    with pytest.raises(SignatureError):
        verified(_EDDSA, text)


@pytest.mark.parametrize(
    "claims",
    ['{"sub":"a","sub":"b"}', "[]", "NaN", '{"iat": NaN}', "[" * 5000, "é".encode("latin-1").decode("latin-1")],
)
def test_claims_that_are_no_plain_json_object_are_refused(claims: str) -> None:
    with pytest.raises(SignatureError):
        verified(_EDDSA, _EDDSA.sign(claims))


def test_of_a_key_set_only_keys_that_can_verify_are_kept() -> None:
    issuer = FakeIssuer("RS256")
    private = {**issuer.jwk(), "d": "AQAB", "x5c": ["x"]}
    weak = rsa_key("weak", 1024).public_key().public_numbers()
    others: list[Any] = [
        {"kty": "oct", "k": "AAAA"}, {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}, {"kty": ["RSA"]}, "x",
        {**issuer.jwk(), "kid": "enc", "use": "enc"}, {**issuer.jwk(), "kid": "hs", "alg": "HS256"},
        {"kty": "RSA", "kid": "weak", "n": b64(weak.n.to_bytes(128, "big")), "e": "AQAB"},
    ]  # fmt: skip
    kept = read_key_set({"keys": [*others, private]})
    assert kept == issuer.keys()
    assert "AQAB" not in {key.model_dump().get("d") for key in kept}
    for value in (None, {}, {"keys": others}, {"keys": [issuer.jwk()] * 51}):
        with pytest.raises(SignatureError):
            read_key_set(value)
    assert key_set_digest(kept) == key_set_digest(read_key_set({"keys": [private, *others]}))


def test_a_token_is_taken_within_its_time_only() -> None:
    claims = {"iat": NOW.timestamp(), "exp": NOW.timestamp() + 300}
    assert lifetime_problem(claims, NOW) is None
    assert "expired" in str(lifetime_problem(claims, NOW + timedelta(seconds=361)))
    assert "another time" in str(lifetime_problem(claims, NOW - timedelta(seconds=61)))
    assert "another time" in str(
        lifetime_problem({**claims, "exp": claims["exp"] + 9999}, NOW + timedelta(seconds=661))
    )
    assert "not valid yet" in str(lifetime_problem({**claims, "nbf": claims["iat"] + 100}, NOW))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"auth_time": None}, "must say when"),
        ({"auth_time": -121}, "signed in before"),
        ({"auth_time": 121}, "signed in before"),
        ({"auth_time": 601, "iat": 601}, "within ten minutes"),
        ({"auth_time": -121, "iat": -121}, "within ten minutes"),
        ({"recorded": 721}, "more than ten minutes old"),
        ({"exp": 60, "recorded": 181}, "had expired when it was recorded"),
        ({"exp": None}, "no exp"),
    ],
)
def test_a_signature_needs_that_the_person_signed_in_again(change: dict[str, Any], text: str) -> None:
    at = NOW.timestamp()
    claims: dict[str, Any] = {"auth_time": at, "iat": at, "exp": at + 3600}
    assert again_problem(claims, NOW, NOW) is None
    recorded = NOW + timedelta(seconds=change.get("recorded", 0))
    claims |= {name: None if value is None else at + value for name, value in change.items() if name != "recorded"}
    assert text in str(again_problem(claims, NOW, recorded))


# --- the enrolled identity -----------------------------------------------------------------------------------------------


def test_an_identity_is_what_its_bytes_say() -> None:
    key = sso_public(ISSUER, SUBJECT, CLIENT)
    assert identity_problem(key) is None
    assert key.oidc is not None
    other = key.model_copy(update={"oidc": key.oidc.model_copy(update={"subject": "other"})})
    assert identity_problem(other)
    for change in ({"strength": "S3"}, {"algorithm": "ed25519"}, {"oidc": None}):
        with pytest.raises(RecordError, match="single sign-on"):
            build(PublicKey, {**key.model_dump(), **change})
    with pytest.raises(SignatureError, match="no identity"):
        sso_public("login.bank.example", SUBJECT, CLIENT)


def test_a_key_enrolled_before_single_sign_on_existed_keeps_its_bytes(founded: World) -> None:
    assert set(founded.key("vera").public.model_dump()) == {"key_id", "algorithm", "public", "strength"}
    assert set(EnvelopeSignature(keyid="x", sig="y").model_dump()) == {"keyid", "sig"}


# --- signing off ---------------------------------------------------------------------------------------------------------


def identity(world: World, name: str, subject: str = SUBJECT, issuer: str = ISSUER) -> PublicKey:
    """Enrol a person's identity beside their keys, vouched for by an admin and a second person."""
    key = sso_public(issuer, subject, CLIENT)
    person = rotated(world.workspace.read(), f"person/{name}", key, False)
    enrol_person(world.workspace, person, world.key("ada"), world.key("finn"))
    return key


def weaker(world: World) -> None:
    """Adopt a policy whose first stage takes single sign-on."""
    text = yaml.safe_load(DEFAULT_POLICY_YAML)
    for stage in text["stages"].values():
        if stage.get("kind", "sign_off") == "sign_off":
            stage["min_strength"] = "S2"
    adopt_policy(world.workspace, parse_policy(text), "single sign-on counts", [world.key("ada"), world.key("finn")])


def signed(
    world: World, issuer: FakeIssuer, key: PublicKey, *, name: str = "vera", subject: str = SUBJECT,
    choice: Choice | None = None, nonce: str = "", keys: Any = None, **claims: Any,
) -> Envelope:  # fmt: skip
    """A statement as a person signs it by signing in again."""
    statement = propose(world.workspace.read(), MODEL, "1", f"person/{name}", key.key_id, choice or Choice("approve"))
    token = issuer.token(subject, nonce or nonce_of(pae(PAYLOAD_TYPE, statement)), **claims)
    return enveloped(statement, sso_signature(key, token, keys or issuer.keys()))


def enveloped(statement: bytes, signature: EnvelopeSignature) -> Envelope:
    return Envelope(payload=base64.b64encode(statement).decode(), payloadType=PAYLOAD_TYPE, signatures=(signature,))


@pytest.fixture
def issuer() -> FakeIssuer:
    return FakeIssuer("ES256")


@pytest.fixture(scope="module")
def sso_template(
    ready_template: World, tmp_path_factory: pytest.TempPathFactory
) -> tuple[World, FakeIssuer, PublicKey]:
    """Vera is enrolled with her identity, the policy takes S2, and the issuer's keys are archived."""
    world, issuer = clone(ready_template, tmp_path_factory.mktemp("sso") / "world"), FakeIssuer("ES256")
    weaker(world)
    key = identity(world, "vera")
    archive_keys(world.workspace, ISSUER, issuer.keys())
    return world, issuer, key


@pytest.fixture
def sso(sso_template: tuple[World, FakeIssuer, PublicKey], tmp_path: Path) -> tuple[World, FakeIssuer, PublicKey]:
    """A copy of it, which a test may change."""
    world, issuer, key = sso_template
    return clone(world, tmp_path / "world"), issuer, key


Sso = tuple[World, FakeIssuer, PublicKey]


def stage_done(world: World, name: str = "validation") -> bool:
    found = decide(world.workspace.read(), MODEL, "1", "production", datetime.now(timezone.utc))
    return any(state.done and state.signed for state in found.stages if state.stage.kind == "sign_off")


def test_a_sign_off_by_single_sign_on_counts_where_the_policy_takes_it(sso: Sso) -> None:
    world, issuer, key = sso
    receipt = submit(world.workspace, signed(world, issuer, key))
    found = world.workspace.read().find(SignOff, receipt.seq)
    assert found is not None
    assert found.record.strength == "S2"
    assert stage_done(world)
    result = check_signatures(world.workspace.ledger.store, world.workspace.ledger.size())
    assert (result.broken, result.ineffective) == ([], [])


def test_it_does_not_count_where_the_policy_wants_more(ready: World, issuer: FakeIssuer) -> None:
    key = identity(ready, "vera")
    archive_keys(ready.workspace, ISSUER, issuer.keys())
    with pytest.raises(SignOffDenied, match="needs a signature of strength S3; this one has S2"):
        submit(ready.workspace, signed(ready, issuer, key))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"nonce": "other"}, "another nonce"),
        ({"subject": "somebody"}, "names another person"),
        ({"aud": "other"}, "another client"),
        ({"iss": "https://other.example"}, "another issuer"),
        ({"auth_time": None}, "must say when"),
        ({"auth_time": int(time.time()) - 3600}, "signed in before"),
        ({"auth_time": int(time.time()) - 3600, "iat": int(time.time()) - 3600}, "within ten minutes"),
    ],
)
def test_what_is_not_a_fresh_sign_in_for_this_statement_is_refused_and_kept(
    sso: Sso, change: dict[str, Any], text: str
) -> None:
    world, issuer, key = sso
    with pytest.raises(SignOffDenied, match=text):
        submit(world.workspace, signed(world, issuer, key, **change))
    assert text in world.workspace.read().all(SignOffRefused)[-1].record.reasons[0]
    assert not stage_done(world)


def test_a_token_for_one_statement_signs_no_other(sso: Sso) -> None:
    world, issuer, key = sso
    envelope = signed(world, issuer, key)
    other = propose(world.workspace.read(), MODEL, "1", "person/vera", key.key_id, Choice("approve", comments="x"))
    with pytest.raises(SignOffDenied, match="another nonce"):
        submit(world.workspace, enveloped(other, envelope.signatures[0]))


def test_the_same_statement_counts_once(sso: Sso) -> None:
    world, issuer, key = sso
    envelope = signed(world, issuer, key)
    first = submit(world.workspace, envelope)
    assert submit(world.workspace, envelope).seq == first.seq


def test_a_stolen_token_cannot_be_recorded_later(sso: Sso, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past `submit`, by somebody who writes entries: when it was appended shows."""
    world, issuer, key = sso
    envelope = signed(world, issuer, key)
    late = Workspace.open(world.folder / "project", clock_us=lambda: time.time_ns() // 1000 + 1_000_000_000)
    monkeypatch.setattr(world, "workspace", late)
    world.force(envelope, strength="S2")
    assert not stage_done(world)


def test_keys_that_nobody_archived_verify_nothing(ready: World, issuer: FakeIssuer) -> None:
    weaker(ready)
    key = identity(ready, "vera")
    with pytest.raises(SignOffDenied, match="not archived"):
        submit(ready.workspace, signed(ready, issuer, key))
    seq = ready.force(signed(ready, issuer, key), strength="S2")
    archive_keys(ready.workspace, ISSUER, issuer.keys())
    assert not stage_done(ready), f"keys archived after entry {seq} do not verify it"


def test_a_forgers_key_set_does_not_count_under_the_digest_of_the_archived_one(sso: Sso) -> None:
    world, issuer, key = sso
    forger = FakeIssuer("ES256")
    with pytest.raises(SignOffDenied, match="not archived"):
        submit(world.workspace, signed(world, forger, key))
    forged = signed(world, forger, key, keys=issuer.keys())
    with pytest.raises(SignOffDenied, match="does not verify"):
        submit(world.workspace, forged)
    seq = world.force(forged, strength="S2")
    found = check_signatures(world.workspace.ledger.store, world.workspace.ledger.size())
    assert [at for at, _ in found.broken] == [seq], "`cognify ledger verify` finds what was written past every check"
    assert not stage_done(world)
    lying = IssuerKeysArchived(issuer=ISSUER, keys=forger.keys(), digest=key_set_digest(issuer.keys()))
    world.write(lying)
    assert submit(world.workspace, signed(world, issuer, key))


def test_keys_archived_by_a_workload_that_may_not_do_so_do_not_count(ready: World, issuer: FakeIssuer) -> None:
    weaker(ready)
    key = identity(ready, "vera")
    writer = ready.workspace.writer
    assert writer is not None
    known = [item for _, item in directory(ready.workspace.read()).workloads if item.key.key_id == writer.key_id][-1]
    kinds = tuple(kind for kind in known.kinds if kind != "issuer_keys_archived")
    enrol_workload(ready.workspace, known.model_copy(update={"kinds": kinds}), ready.key("ada"))
    archive_keys(ready.workspace, ISSUER, issuer.keys())
    with pytest.raises(SignOffDenied, match="not archived"):
        submit(ready.workspace, signed(ready, issuer, key))


def test_an_issuer_may_replace_its_keys(sso: Sso) -> None:
    world, issuer, key = sso
    submit(world.workspace, signed(world, issuer, key))
    later = FakeIssuer("EdDSA", kid="k2")
    archive_keys(world.workspace, ISSUER, later.keys())
    archive_keys(world.workspace, ISSUER, later.keys())
    assert len(world.workspace.read().all(IssuerKeysArchived, issuer_subject(ISSUER))) == 2
    assert stage_done(world), "what the older key signed still verifies"


def test_a_revoked_identity_signs_nothing(sso: Sso) -> None:
    world, issuer, key = sso
    envelope = signed(world, issuer, key)
    revoke_key(world.workspace, "person/vera", key.key_id, "left the company", world.key("ada"))
    with pytest.raises(SignOffDenied, match="no valid key"):
        submit(world.workspace, envelope)


def test_an_enrolled_identity_is_no_key_for_another_kind_of_signature(sso: Sso) -> None:
    world, _, key = sso
    statement = propose(world.workspace.read(), MODEL, "1", "person/vera", key.key_id, Choice("approve"))
    plain = seal(statement, key.key_id, world.key("vera").sign)
    with pytest.raises(SignOffDenied, match="comes with its ID token"):
        submit(world.workspace, plain)
    with pytest.raises(SignatureError, match="not archived"):
        open_envelope(signed(*sso), key)


def test_an_id_token_beside_the_signature_of_a_key_is_refused(sso: Sso) -> None:
    world, issuer, key = sso
    envelope = world.sign("vera")
    proof = signed(world, issuer, key).signatures[0].oidc
    with pytest.raises(SignatureError, match="has no ID token"):
        open_envelope(
            enveloped(base64.b64decode(envelope.payload), envelope.signatures[0].model_copy(update={"oidc": proof})),
            world.key("vera").public,
        )


def test_single_sign_on_signs_no_act(sso: Sso) -> None:
    """Whoever could sign in as an admin would otherwise say who is who."""
    world, issuer, key = sso
    from cognify_dagster.governance.signing.drafts import add_signature, check_signature, draft_statement

    finding = groups_mapping(world.workspace.read(), ISSUER, "groups", {}, "x", ["person/ada", "person/finn"])
    identity_of_ada = identity(world, "ada", "ada-at-idp")
    draft = propose_act(world.workspace.read(), finding, ())
    statement = draft_statement(draft, "person/ada", identity_of_ada.key_id)
    token = issuer.token("ada-at-idp", nonce_of(pae(PAYLOAD_TYPE, statement)))
    envelope = enveloped(statement, sso_signature(identity_of_ada, token, issuer.keys()))
    with pytest.raises(SignatureError, match="sign-offs only"):
        check_signature(world.workspace.read(), draft, envelope)
    assert add_signature(draft, envelope).missing()
    assert key.oidc is not None


def test_an_identity_belongs_to_one_person(sso: Sso) -> None:
    world, _, _ = sso
    with pytest.raises(GovernanceError, match="belongs to person/vera"):
        identity(world, "carl")


# --- groups --------------------------------------------------------------------------------------------------------------

GROUPS = {"Risk-Validation": ("model_validator",), "Risk-Admins": ("workspace_admin", "auditor")}


def mapped(world: World, groups: Any = GROUPS, reason: str = "as agreed") -> int:
    return map_groups(world.workspace, ISSUER, "groups", groups, reason, [world.key("ada"), world.key("finn")]).seq


def test_a_mapping_counts_once_two_admins_signed_it(founded: World) -> None:
    assert mapping_in_force(founded.workspace.read(), ISSUER) is None
    seq = mapped(founded)
    found = mapping_in_force(founded.workspace.read(), ISSUER)
    assert found is not None
    assert (found.seq, found.claim) == (seq, "groups")
    assert found.roles({"groups": ["Risk-Validation", "Other"]}) == {"model_validator"}
    assert mapping_in_force(founded.workspace.read(), "https://other.example") is None


@pytest.mark.parametrize("value", [None, 7, {"a": 1}, [1, None, ["Risk-Admins"]], "risk-validation", []])
def test_a_claim_that_lists_no_known_group_gives_no_role(founded: World, value: Any) -> None:
    mapped(founded)
    found = mapping_in_force(founded.workspace.read(), ISSUER)
    assert found is not None
    assert found.roles({"groups": value}) == frozenset()


@given(
    names=st.lists(st.sampled_from(["Risk-Validation", "Risk-Admins", "x"]) | st.text(max_size=5)),
    enrolled=st.frozensets(st.sampled_from(["model_validator", "auditor", "business_owner"])),
)
@settings(max_examples=40, deadline=None)
def test_groups_only_narrow(names: list[str], enrolled: frozenset[str]) -> None:
    from cognify_dagster.governance import GroupMapping

    roles = GroupMapping(1, "groups", GROUPS).roles({"groups": names})
    assert enrolled & roles <= enrolled
    assert roles <= {role for listed in GROUPS.values() for role in listed}


def test_one_admin_or_another_role_maps_nothing(founded: World) -> None:
    for names in (["ada"], ["ada", "vera"], ["carl", "olga"]):
        with pytest.raises(GovernanceError):
            map_groups(founded.workspace, ISSUER, "groups", GROUPS, "x", [founded.key(name) for name in names])
    with pytest.raises(GovernanceError, match="not in the policy"):
        mapped(founded, {"x": ("emperor",)})


def test_an_old_mapping_cannot_be_put_back_in_force_by_copying_it(founded: World) -> None:
    first, second = mapped(founded), mapped(founded, {})
    old = founded.workspace.read().find(GroupsMapped, first)
    assert old is not None
    founded.write(old.record)
    found = mapping_in_force(founded.workspace.read(), ISSUER)
    assert found is not None
    assert (found.seq, dict(found.groups)) == (second, {})
    assert "earlier entry" in found.problems[0][1] or "signed before" in found.problems[0][1]


def test_a_mapping_signed_before_another_one_replaced_it_does_not_count(founded: World) -> None:
    from cognify_dagster.governance import sign_draft, submit_draft

    reading = founded.workspace.read()
    names = ["person/ada", "person/finn"]
    draft = propose_act(reading, groups_mapping(reading, ISSUER, "groups", GROUPS, "late", names))
    mapped(founded, {})
    for name in ("ada", "finn"):
        draft = sign_draft(draft, founded.key(name))
    with pytest.raises(GovernanceError, match="sign it again"):
        submit_draft(founded.workspace, draft)


def test_a_mapping_that_cannot_be_read_gives_nobody_anything(founded: World) -> None:
    mapped(founded)
    seq = mapped(founded, {"Other": ("auditor",)})
    founded.erase(seq)
    found = mapping_in_force(founded.workspace.read(), ISSUER)
    assert found is not None
    assert found.roles({"groups": ["Risk-Validation", "Other"], "": ["Other"]}) == frozenset()


def test_a_sign_off_needs_a_group_for_its_role(sso: Sso) -> None:
    world, issuer, key = sso
    mapped(world)
    with pytest.raises(SignOffDenied, match="do not stand for the role model_validator"):
        submit(world.workspace, signed(world, issuer, key, groups=["Risk-Admins"]))
    with pytest.raises(SignOffDenied, match="do not stand for the role"):
        submit(world.workspace, signed(world, issuer, key))
    submit(world.workspace, signed(world, issuer, key, groups=["Risk-Validation"]))
    mapped(world, {})
    assert stage_done(world), "it is judged by the mapping of its time"


def test_a_delegated_role_needs_a_group_of_the_delegate_for_it_too(sso: Sso) -> None:
    """Else whoever was taken out of every group went on signing in whatever role somebody had delegated to them."""
    world, issuer, _ = sso
    until = datetime.now(timezone.utc) + timedelta(days=5)
    delegate(world.workspace, "person/olga", "model_validator", world.key("vera"), expires=until, reason="holiday")
    key = identity(world, "olga", "olga-at-idp")
    olga: dict[str, Any] = {"name": "olga", "subject": "olga-at-idp"}
    mapped(world)
    for groups in (None, [], ["Risk-Admins"]):
        envelope = signed(world, issuer, key, **olga, groups=groups)
        with pytest.raises(SignOffDenied, match="do not stand for the role model_validator that Vera delegated"):
            submit(world.workspace, envelope)
        world.force(envelope, strength="S2")
        assert not stage_done(world), "nor past every check of `submit`"
    submit(world.workspace, signed(world, issuer, key, **olga, groups=["Risk-Validation"]))
    assert stage_done(world)


def test_a_delegated_role_without_a_mapping_is_judged_by_the_delegation_alone(sso: Sso) -> None:
    world, issuer, _ = sso
    until = datetime.now(timezone.utc) + timedelta(days=5)
    delegate(world.workspace, "person/olga", "model_validator", world.key("vera"), expires=until, reason="holiday")
    key = identity(world, "olga", "olga-at-idp")
    submit(world.workspace, signed(world, issuer, key, name="olga", subject="olga-at-idp"))
    assert stage_done(world)


def test_groups_say_nothing_about_signatures_with_a_key(sso: Sso) -> None:
    world, _, _ = sso
    mapped(world, {})
    world.approve("vera")
    assert stage_done(world)


def test_each_change_of_what_groups_stand_for_is_an_entry(founded: World) -> None:
    ws = founded.workspace
    assert claim_groups(ws, "person/vera", ISSUER, {"groups": ["Risk-Admins"]}, "ab" * 32) is None
    mapped(founded)
    for groups, token in ((["Risk-Validation"], "ab"), (["Risk-Validation", "x"], "cd"), ([], "ef")):
        claim_groups(ws, "person/vera", ISSUER, {"groups": groups}, token * 32)
    found = [item.record for item in ws.read().all(GroupsClaimed, "person/vera")]
    assert [(item.roles, item.token_digest[:2]) for item in found] == [(("model_validator",), "ab"), ((), "ef")]


def test_a_mapping_file_is_read_strictly() -> None:
    text = f"issuer: {ISSUER}\nclaim: groups\ngroups:\n  Risk-Validation: [model_validator]\n"
    assert read_mapping(text).groups == {"Risk-Validation": ("model_validator",)}
    for wrong in (
        "",
        "x",
        f"issuer: {ISSUER}\n",
        text + "more: 1\n",
        text.replace("[model_validator]", "model_validator"),
        text + "claim: x\n",
        "a" * 300_000,
    ):
        with pytest.raises(GovernanceError, match=r"map\.yaml"):
            read_mapping(wrong, "map.yaml")


def test_statement_digest_of_single_sign_on_is_that_of_the_statement(sso: Sso) -> None:
    envelope = signed(*sso)
    assert statement_digest(envelope) == hashlib.sha256(base64.b64decode(envelope.payload)).hexdigest()
