"""ID tokens judged twice: by governance, with `cryptography`, and by the offline verifier, with the standard library alone.

Each says on its own whether a token proves that the enrolled person signed in again for a statement; here they have to agree.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from datetime import datetime, timezone
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cognify_dagster.governance import SignatureError
from cognify_dagster.governance.signing.sso import (
    AGAIN_S,
    MAX_TOKEN,
    STATEMENT_S,
    again_problem,
    nonce_of,
    sso_public,
    sso_signature,
    verify_sso,
)
from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.ledger import pae
from cognify_dagster.records import EnvelopeSignature, IssuerKey, OidcProof
from tests.governance.issuer import CLIENT, ISSUER, FakeIssuer, b64, number, rsa_key

EXAMPLES = int(os.environ.get("COGNIFY_FUZZ_EXAMPLES", "150"))
SUBJECT, AT = "vera-at-idp", 1_790_000_000
MESSAGE = pae("application/vnd.in-toto+json", b'{"a":"statement"}')
NONCE = nonce_of(MESSAGE)
KEY = sso_public(ISSUER, SUBJECT, CLIENT)
TIMES = {"iat": AT, "exp": AT + 300, "auth_time": AT}
ISSUERS = {name: FakeIssuer(name) for name in ("RS256", "PS256", "ES256", "EdDSA")}
STRANGER = FakeIssuer("RS256", name="stranger")


def by_governance(token: str, keys: tuple[IssuerKey, ...], recorded: float = AT, signed_at: int = AT) -> str | None:
    """Why the product does not count the token, or None."""
    try:
        member = sso_signature(KEY, token, keys)
        raw = base64.b64decode(member.sig)
        claims = verify_sso(KEY, member, raw, MESSAGE, lambda *_: keys)
    except SignatureError as error:
        return str(error)
    moments = (datetime.fromtimestamp(at, timezone.utc) for at in (signed_at, recorded))
    return again_problem(claims, *moments)


def offline(token: str, keys: tuple[IssuerKey, ...], recorded: float = AT, signed_at: int = AT) -> str | None:
    """Why the offline verifier does not count it, or None."""
    listed = [key.model_dump(mode="json") for key in keys]
    assert all(ov.texts(key, ov.JWK) for key in listed), "this is how an archive holds them"
    assert KEY.oidc is not None
    try:
        ov.verify_id_token(token, listed, KEY.oidc.model_dump(), MESSAGE, signed_at, recorded)
    except ov.Bad as error:
        return str(error)
    return None


def agreed(token: str, keys: tuple[IssuerKey, ...], *times: Any) -> bool:
    """Whether the token counts; both have to say the same."""
    first, second = by_governance(token, keys, *times), offline(token, keys, *times)
    assert (first is None) == (second is None), f"governance: {first}; offline: {second}"
    return first is None


def token(issuer: FakeIssuer, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
    return issuer.token(SUBJECT, NONCE, header=header, **(TIMES | claims))


def changed(keys: tuple[IssuerKey, ...], change: dict[str, str]) -> tuple[IssuerKey, ...]:
    return tuple(key.model_copy(update=change) for key in keys)


@pytest.mark.parametrize("name", ISSUERS)
def test_both_take_what_the_issuer_says(name: str) -> None:
    issuer = ISSUERS[name]
    assert agreed(token(issuer), issuer.keys())
    assert agreed(token(issuer, header={"kid": None, "typ": None}), issuer.keys())
    assert agreed(token(issuer, header={"typ": "id_token+JWT"}, aud=[CLIENT, "other"], azp=CLIENT), issuer.keys())
    without = changed(issuer.keys(), {"alg": "", "kid": ""})
    assert agreed(token(issuer, header={"kid": None}), without), "an issuer may not say for which algorithm a key is"


@pytest.mark.parametrize(
    "change",
    [
        {"iss": ISSUER + "/"}, {"iss": [ISSUER]}, {"iss": None}, {"sub": "other"}, {"sub": None}, {"sub": [SUBJECT]},
        {"aud": "other"}, {"aud": [CLIENT, "other"]}, {"aud": []}, {"aud": None}, {"aud": {CLIENT: 1}}, {"azp": "other"},
        {"aud": [CLIENT, CLIENT]}, {"nonce": "other"}, {"nonce": None}, {"nonce": [NONCE]}, {"nonce": NONCE + "="},
        {"iat": None}, {"iat": str(AT)}, {"iat": True}, {"exp": None}, {"exp": 2**40}, {"auth_time": None}, {"auth_time": -1},
    ],
)  # fmt: skip
def test_claims_that_are_not_for_this_statement(change: dict[str, Any]) -> None:
    assert not agreed(token(ISSUERS["EdDSA"], **change), ISSUERS["EdDSA"].keys())


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"}, {"alg": None}, {"alg": ["EdDSA"]}, {"alg": "RS256"}, {"alg": "ED25519"}, {"kid": "k2"}, {"kid": ""},
        {"kid": 1}, {"crit": []}, {"b64": True}, {"typ": "at+jwt"}, {"typ": ""}, {"typ": 1},
    ],
)  # fmt: skip
def test_headers_that_no_id_token_has(header: dict[str, Any]) -> None:
    assert not agreed(token(ISSUERS["EdDSA"], header=header), ISSUERS["EdDSA"].keys())


def test_the_key_says_for_what_it_is_and_not_the_token() -> None:
    """The same RSA key may be for RS256, for PS256, or for both; a token for the other one is refused."""
    pkcs, pss = ISSUERS["RS256"], ISSUERS["PS256"]
    assert pkcs.jwk()["n"] == pss.jwk()["n"]
    assert not agreed(token(pkcs), pss.keys())
    assert not agreed(token(pss), pkcs.keys())
    assert not agreed(token(pkcs, header={"alg": "PS256"}), pkcs.keys())
    both = changed(pkcs.keys(), {"alg": ""})
    assert agreed(token(pkcs), both)
    assert agreed(token(pss), both)
    assert not agreed(token(pkcs, header={"alg": "PS256"}), both)


def test_two_keys_that_could_have_signed_are_one_too_many() -> None:
    issuer, other = ISSUERS["ES256"], FakeIssuer("ES256")
    assert not agreed(token(issuer), (*issuer.keys(), *other.keys()))
    renamed = changed(other.keys(), {"kid": "k2"})
    assert agreed(token(issuer), (*issuer.keys(), *renamed))
    assert not agreed(token(issuer, header={"kid": None}), (*issuer.keys(), *renamed))
    mixed = (*issuer.keys(), *ISSUERS["RS256"].keys(), *ISSUERS["EdDSA"].keys())
    assert agreed(token(issuer, header={"kid": None}), mixed), "the kind of its algorithm says which"


@pytest.mark.parametrize("bits", [1024, 2047, 2049, 2056, 3072])
def test_rsa_keys_of_odd_sizes(bits: int) -> None:
    private = rsa_key(f"odd {bits}", bits)
    public = private.public_key().public_numbers()
    for name in ("RS256", "PS256"):
        issuer = FakeIssuer(name)
        issuer.private = private
        keys = (IssuerKey(kty="RSA", kid="k1", alg=name, n=number(public.n), e=number(public.e)),)
        assert agreed(token(issuer), keys) is (bits >= 2048)


@pytest.mark.parametrize("salt", [0, 20, 31, 32, 33, 64])
@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA1(), hashes.SHA384()])
def test_ps256_has_one_form(salt: int, digest: Any) -> None:
    """SHA-256 in both places and a salt as long as it (RFC 7518 §3.5); other forms of PSS are other algorithms."""
    issuer = ISSUERS["PS256"]
    for mask in (hashes.SHA256(), digest):
        body = token(issuer).rpartition(".")[0]
        made = issuer.private.sign(body.encode(), padding.PSS(padding.MGF1(mask), salt), digest)
        right = (salt, digest.name, mask.name) == (32, "sha256", "sha256")
        assert agreed(f"{body}.{b64(made)}", issuer.keys()) is right


def test_ps256_refuses_blocks_that_are_nearly_right() -> None:
    issuer = ISSUERS["PS256"]
    numbers, public = issuer.private.private_numbers(), issuer.private.public_key().public_numbers()
    body, _, signature = token(issuer).rpartition(".")
    block = pow(int.from_bytes(base64.urlsafe_b64decode(signature + "=="), "big"), public.e, public.n)
    for bit in (2047, 2046, 2040, 300, 264, 200, 8, 7, 0):  # the zero in front, padding, salt, digest and the last byte
        changed = block ^ (1 << bit)
        made = pow(changed, numbers.d, public.n).to_bytes(256, "big")
        assert not agreed(f"{body}.{b64(made)}", issuer.keys())
    zero_padded = b64(b"\0" + base64.urlsafe_b64decode(signature + "=="))
    assert not agreed(f"{body}.{zero_padded}", issuer.keys())


@pytest.mark.parametrize("exponent", [0, 1, 2, 4, 65536, 2**32 + 1, 2**64 + 13])
def test_rsa_keys_with_another_exponent(exponent: int) -> None:
    issuer = ISSUERS["RS256"]
    key = issuer.keys()[0].model_copy(update={"e": number(exponent) if exponent else "AA"})
    assert not agreed(token(issuer), (key,))
    even = int.from_bytes(base64.urlsafe_b64decode(key.n + "=="), "big") + 1
    assert not agreed(token(issuer), (issuer.keys()[0].model_copy(update={"n": number(even)}),))


def test_an_even_modulus_is_no_key_though_its_signatures_come_out_right() -> None:
    private = ISSUERS["RS256"].private.private_numbers()
    n, e = 2 * private.p * private.q, 65537
    d = pow(e, -1, (private.p - 1) * (private.q - 1))
    body = token(ISSUERS["RS256"]).rpartition(".")[0]
    info = bytes.fromhex("003031300d060960864801650304020105000420") + hashlib.sha256(body.encode()).digest()
    block = int.from_bytes(b"\0\1".ljust(257 - len(info), b"\xff") + info, "big")
    signature = pow(block, d, n)
    assert pow(signature, e, n) == block
    key = ISSUERS["RS256"].keys()[0].model_copy(update={"n": number(n)})
    assert not agreed(f"{body}.{b64(signature.to_bytes(257, 'big'))}", (key,))


def test_a_public_key_as_a_shared_secret_and_no_signature_at_all() -> None:
    issuer = ISSUERS["RS256"]
    pem = issuer.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = b64(json.dumps({"alg": "HS256", "kid": "k1"}).encode())
    body = f"{head}.{b64(json.dumps(issuer.claims(SUBJECT, NONCE, **TIMES)).encode())}"
    keys = issuer.keys()
    for secret in (pem, pem.strip(), json.dumps(issuer.jwk()).encode(), base64.urlsafe_b64decode(keys[0].n + "==")):
        assert not agreed(f"{body}.{b64(hmac.new(secret, body.encode(), hashlib.sha256).digest())}", keys)
    unsigned = token(issuer, header={"alg": "none"}).rpartition(".")[0]
    for bad in (f"{unsigned}.", unsigned, f"{unsigned}.AA", f"{unsigned}.AA.AA"):
        assert not agreed(bad, keys)
    assert not agreed(f"{body}.AA", tuple(key.model_copy(update={"alg": "HS256"}) for key in keys))


def test_a_key_that_the_token_brings_or_points_to_is_not_looked_at() -> None:
    header = {"jwk": STRANGER.jwk(), "jku": "https://evil.example/keys", "x5u": "https://evil.example/x"}
    assert not agreed(token(STRANGER, header=header), ISSUERS["RS256"].keys())
    assert agreed(token(ISSUERS["RS256"], header=header), ISSUERS["RS256"].keys())


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("value", [0, 1, ov.P256_N, ov.P256_N - 1, 2**256 - 1])
def test_es256_signatures_that_no_one_makes(half: int, value: int) -> None:
    issuer = ISSUERS["ES256"]
    body, _, signature = token(issuer).rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    halves = [raw[:32], raw[32:]]
    halves[half] = value.to_bytes(32, "big")
    assert not agreed(f"{body}.{b64(b''.join(halves))}", issuer.keys())
    for bad in (raw[1:], raw + b"\0", b"\0" + raw, raw[:32], raw[:32] + b"\0" + raw[32:]):
        assert not agreed(f"{body}.{b64(bad)}", issuer.keys())


def test_points_that_are_none() -> None:
    issuer = ISSUERS["ES256"]
    key = issuer.keys()[0]
    padded = b64(b"\0" + base64.urlsafe_b64decode(key.y + "=="))
    for change in (
        {"y": key.x},
        {"y": padded},
        {"x": ""},
        {"x": key.x + "AA"},
        {"x": "A" * 43, "y": "A" * 43},
        {"crv": "P-384"},
    ):
        assert not agreed(token(issuer), (key.model_copy(update=change),))
    edwards = ISSUERS["EdDSA"]
    for change in ({"x": "AA"}, {"crv": "Ed448"}, {"x": edwards.keys()[0].x[:-1] + "_"}, {"x": "_" * 43}):
        assert not agreed(token(edwards), (edwards.keys()[0].model_copy(update=change),))


def test_a_token_has_one_form_of_base64() -> None:
    """Else one signature could be written in many ways."""
    for number_ in range(20):
        made = token(ISSUERS["RS256"], number=number_)
        head, _, signature = made.rpartition(".")
        others = {signature.replace("-", "+"), signature.replace("_", "/"), signature + "==", signature + "\n"} - {
            signature
        }
        assert not any(agreed(f"{head}.{other}", ISSUERS["RS256"].keys()) for other in others)


def test_it_is_bounded() -> None:
    issuer = ISSUERS["EdDSA"]
    plain = len(token(issuer, filler=""))
    for more in range(-8, 8):
        length = (MAX_TOKEN - plain) * 3 // 4 + more
        made = token(issuer, filler="x" * length)
        assert agreed(made, issuer.keys()) is (len(made) <= MAX_TOKEN)
    deep = issuer.sign('{"a":' + "[" * 5000 + "]" * 5000 + "}")
    assert not agreed(deep, issuer.keys())


# --- time ----------------------------------------------------------------------------------------------------------------

EDGES = sorted(
    {
        sign * edge + d
        for edge in (0, AGAIN_S, STATEMENT_S, STATEMENT_S + AGAIN_S)
        for sign in (1, -1)
        for d in (-1, 0, 1)
    }
)


@given(
    iat=st.sampled_from(EDGES), auth_time=st.sampled_from(EDGES), exp=st.sampled_from(EDGES),
    recorded=st.sampled_from(EDGES), fraction=st.sampled_from([0.0, 0.25, 0.999999]),
)  # fmt: skip
@settings(max_examples=EXAMPLES, deadline=None)
@example(iat=0, auth_time=0, exp=0, recorded=AGAIN_S, fraction=0.0)
@example(iat=0, auth_time=0, exp=0, recorded=AGAIN_S, fraction=0.25)
@example(iat=0, auth_time=0, exp=STATEMENT_S + AGAIN_S, recorded=STATEMENT_S + AGAIN_S, fraction=0.25)
@example(iat=0, auth_time=-AGAIN_S, exp=STATEMENT_S, recorded=STATEMENT_S + AGAIN_S, fraction=0.0)
def test_they_agree_on_every_edge_of_time(iat: int, auth_time: int, exp: int, recorded: int, fraction: float) -> None:
    issuer = ISSUERS["EdDSA"]
    made = token(issuer, iat=AT + iat, auth_time=AT + auth_time, exp=AT + exp)
    when = recorded + fraction
    fresh = abs(iat - auth_time) <= AGAIN_S and -AGAIN_S <= auth_time <= STATEMENT_S
    fresh = fresh and when <= iat + STATEMENT_S + AGAIN_S and when <= exp + AGAIN_S
    assert agreed(made, issuer.keys(), AT + when) is fresh


# --- anything ------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
CLAIMS = ("iss", "sub", "aud", "azp", "nonce", "iat", "exp", "auth_time", "nbf", "acr")
HEADER = ("alg", "kid", "typ", "crit", "b64", "jwk", "cty")
LIKELY = st.sampled_from(
    [
        ISSUER,
        SUBJECT,
        CLIENT,
        NONCE,
        [CLIENT],
        [CLIENT, "x"],
        [CLIENT, CLIENT],
        [],
        "",
        AT,
        AT + 0.5,
        -1,
        2**40,
        True,
        None,
    ]
)
LIKELY_HEADER = st.sampled_from(
    ["RS256", "PS256", "ES256", "EdDSA", "Ed25519", "HS256", "none", "k1", "k2", "", "JWT", "jwt", "at+jwt", 1, None]
)


@st.composite
def mutated(draw: Any) -> tuple[str, tuple[IssuerKey, ...]]:
    """A token and a key set that began as right ones."""
    issuer = ISSUERS[draw(st.sampled_from(sorted(ISSUERS)))]
    claims = issuer.claims(SUBJECT, NONCE, **TIMES)
    header: dict[str, Any] = {"alg": issuer.algorithm, "kid": issuer.kid, "typ": "JWT"}
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(CLAIMS))
        if draw(st.integers(0, 4)):
            claims[name] = draw(LIKELY | JSON)
        else:
            claims.pop(name, None)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        name = draw(st.sampled_from(HEADER))
        if draw(st.integers(0, 3)):
            header[name] = draw(LIKELY_HEADER | JSON)
        else:
            header.pop(name, None)
    text = json.dumps(claims, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 9)) == 0:
        text = draw(st.sampled_from([text[:-1] + ',"sub":"x"}', text + " ", "\ufeff" + text, text[:-1], f"[{text}]"]))
    signer = STRANGER if draw(st.integers(0, 9)) == 0 else issuer
    try:
        body = f"{b64(json.dumps(header).encode())}.{b64(text.encode())}"
    except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8
        body = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    made = f"{body}.{b64(signer._signature(body.encode()))}"
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(made) - 1))
        made = made[:at] + draw(st.sampled_from(["A", "_", "-", "", ".", "=", "+", "é", "\n", "AA"])) + made[at + 1 :]
    keys = list(issuer.keys())
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        change = draw(st.sampled_from(["kid", "alg", "kty", "more", "none", "twice", "x", "e"]))
        if change == "none":
            keys = []
        elif change in ("more", "twice"):
            keys += draw(st.sampled_from(list(ISSUERS.values()))).keys() if change == "more" else keys[:1]
        elif keys:
            value = {
                "kty": ["RSA", "EC", "OKP"],
                "kid": ["", "k1", "k2"],
                "x": ["", "AA"],
                "e": ["AQAB", "Aw", "", "AAEAAQ"],
            }
            chosen = draw(st.sampled_from(value.get(change, ["", "RS256", "PS256", "ES256", "EdDSA", "Ed25519", "x"])))
            keys[0] = keys[0].model_copy(update={change: chosen})
    return made, tuple(keys)


@given(made=mutated(), recorded=st.sampled_from([0, 60, AGAIN_S + STATEMENT_S + 1]))
@settings(max_examples=EXAMPLES * 2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_they_agree_on_whatever_comes_as_a_token(made: tuple[str, tuple[IssuerKey, ...]], recorded: int) -> None:
    agreed(*made, AT + recorded)


@given(at=st.integers(0, 10_000), bit=st.integers(0, 5), name=st.sampled_from(sorted(ISSUERS)))
@settings(max_examples=EXAMPLES, deadline=None)
def test_no_changed_character_of_a_token_counts(at: int, bit: int, name: str) -> None:
    made, alphabet = TOKENS[name], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    index = at % len(made)
    new = alphabet[alphabet.index(made[index]) ^ (1 << bit)] if made[index] in alphabet else "A"
    assert not agreed(made[:index] + new + made[index + 1 :], ISSUERS[name].keys())


TOKENS = {name: token(issuer) for name, issuer in ISSUERS.items()}


@given(
    text=st.text(max_size=60)
    | st.from_regex(r"[A-Za-z0-9_-]{0,30}\.[A-Za-z0-9_-]{0,30}\.[A-Za-z0-9_-]{0,30}", fullmatch=True)
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_rubbish_is_refused_never_crashed_on(text: str) -> None:
    assert offline(text, ISSUERS["RS256"].keys()) is not None
    assert by_governance(text, ISSUERS["RS256"].keys()) is not None


def test_the_signature_member_is_that_of_the_token() -> None:
    issuer = ISSUERS["ES256"]
    member = sso_signature(KEY, token(issuer), issuer.keys())
    assert isinstance(member, EnvelopeSignature)
    assert isinstance(member.oidc, OidcProof)
    assert ov.unbase64url(member.oidc.id_token.rpartition(".")[2]) == base64.b64decode(member.sig)
