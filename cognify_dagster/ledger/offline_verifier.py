#!/usr/bin/env python3
"""Verify an exported bundle offline: one file, Python 3.10+ and its standard library only, no network, no product.
    python -I verify.py BUNDLE --trust trust.txt [--json]
BUNDLE is the exported folder or a zip of it. The trust file must reach you apart from the bundle: keys inside a bundle
are never trusted. Without it only internal consistency (L0) is checked and the result is "unproven".
Exit codes: 0 holds, 1 tampered, 2 rolled back or forked, 3 unreadable, 4 unproven, 5 wrong usage.
Invariants: nothing is trusted that does not follow from the trust file (log key, witness keys, first entry); every byte
is bounded before it is read; no socket is opened; what was not checked is said. Formats: docs/ledger-format.md.
Dense, for one sitting: begin with `Verifier._bundle`, it names the checks in order. `need(condition, message)` checks.
"""

# fmt: off
# ruff: noqa: E401, E701, E702, E704, I001, SIM905
import argparse, base64, datetime, decimal, hashlib, json, os, re, stat, sys, types, zipfile
from pathlib import Path; from typing import Any
HOLDS, TAMPERED, ROLLED_BACK, UNREADABLE, UNPROVEN, USAGE = range(6)
OUTCOMES, SHOWN = ("holds", "tampered", "rolled_back", "unreadable", "unproven", "usage"), ("public", "internal")
MAX_FILES, MAX_FILE, MAX_TOTAL, MAX_NOTE, MAX_ENTRY = 50_000, 64 << 20, 1 << 30, 1_000_000, 65_535
STATEMENT_TYPE, PAYLOAD_TYPE = "https://in-toto.io/Statement/v1", "application/vnd.in-toto+json"
BODY_TYPE, SIGN_OFF_TYPE = "application/vnd.cognify.entry-body+json", "urn:cognify:predicate:sign-off:v1"
ACT_TYPE, ADMIN, APPROVALS = "urn:cognify:predicate:act:v1", "workspace_admin", ("approve", "approve_with_conditions")
ABOUT, NEVER, RECOVERY = ("model", "version", "model_digest"), 2**63, "recovery"
STRENGTHS = {"oidc": "S2", "ed25519": "S3", "webauthn": "S4"}  # of a key, by its algorithm
ARCHIVED, MAPPED = SSO = "issuer_keys_archived", "groups_mapped"  # about an issuer of single sign-on
ACTS = _, REVOCATION, CLOCK = ("log_key_rotated", "log_key_revoked", "clock_floor_corrected")  # two admins sign these
AUTHORITY, OVERSIGHT = ({kind: who.split("+") * bool(who) for kind, who in (item.split(":") for item in text.split())}
                        for text in (  # what people sign: the members that name who did. First, whose signature counts
    "genesis: policy_adopted: person_enrolled:vouched_by+witnesses workload_enrolled:enrolled_by delegated:delegator "
    "key_revoked:revoked_by delegation_ended:ended_by person_recertified:recertified_by person_recovered:recovery_keys "
    "entry_disregarded:signers+recovery_keys",  # then a model's oversight, the last two by machines
    "model_classified:signers finding_opened:raised_by finding_resolved:resolved_by condition_closed:closed_by "
    "block_lifted:lifted_by change_plan_adopted:signers change_plan_ended:ended_by break_glass_opened:signers "
    "rollback_ordered:ordered_by model_adopted:adopted_by review_completed:reviewed_by model_event:reported_by "
    "finding: release_suspended:"))
SIGNERS = {**AUTHORITY, **OVERSIGHT, **{kind: ["approvers"] for kind in ACTS}, "gate_set_adopted": ["adopted_by"],
           MAPPED: ["signers"]}
RELYING = ("release_granted", "bundle_exported")  # have what they rely on as subjects, and change nothing about it
WAYS = {"rollback": "rollback_ordered", "break_glass": "break_glass_opened"}  # purpose of a release: what ordered it
MAY = {"model_classified": "classifiers", "block_lifted": "blockers", "rollback_ordered": "rollback_roles",
       "review_completed": "review_roles"}  # the member of the policy that names the roles for it
COPIES = {"package/package.json": "package", "package/review-copy.pdf": "review_copy",
          "package/model-card.md": "model_card", "package/final-copy.pdf": "final_copy"}  # the members that name them
TITLES = ("Version", "Shown", "Sign-offs", "Exposure", "Released", "Deployed", "Other acts", "Notes", "Not checked")
NOT_CHECKED = (
    "seals (PAdES) and the look of PDF copies: only SHA-256; time stamps (RFC 3161): times are the writers' claims",
    "the release decision: tier, stages, quorums, separation of duties, gates, findings, targets, age of approvals, "
    "scope of change plans (`cognify status` replays it); roles for findings, conditions, events and change plans",
    "subject heads against the whole ledger: only with each other; a full `cognify ledger verify` recomputes all",
    "README.txt and verify.py of the bundle: the ledger does not name them; use a verifier you got elsewhere")
class Bad(Exception):  # a check failed: why, and the exit code that it leads to
    outcome = property(lambda self: (*self.args, TAMPERED)[1])
    def __str__(self) -> str: return str(self.args[0])
def need(condition: object, message: str, outcome: int = TAMPERED) -> Any:  # raise `Bad` unless it is true; return it
    if not condition: raise Bad(message, outcome)
    return condition
HEX64, SAFE = "[0-9a-f]{64}", r"(?=.{1,200}\Z)[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,4}"  # of a file
SUBJECT = r"[a-z][a-z0-9_]{0,39}(/[A-Za-z0-9_.+-]{1,120}(@[A-Za-z0-9_.+-]{1,60})?)?"
BODY = {"actor": SUBJECT, "evidence": [f"sha256:{HEX64}"], "idem": HEX64, "key": "([0-9a-f]{16})?", "payload": HEX64,
        "kind": "[a-z][a-z0-9_]{0,59}", "schema": int, "sig": str, "subjects": [SUBJECT]}  # a list: sorted, each once
ENTRY = {"body": dict, "heads": dict, "ledger": r"[A-Za-z0-9][A-Za-z0-9._/-]{2,199}", "prev": HEX64, "seq": int,
         "time_us": int, "v": int}
ACT_KEYS = {"ledger", "kind", "meaning", "person", "key_id", "role", "checkpoint", "signed_at"}
SIGN_OFF_KEYS = {*"model version package model_digest decision stage links comments conditions viewed expires".split(),
                 *(ACT_KEYS - {"kind"}), "target_environments", "policy_digest", "printed_name", "reference"}
def check(value: Any, shape: dict[str, Any], where: str) -> None:  # exactly these members, of such a form or type
    need(isinstance(value, dict) and value.keys() == shape.keys(), f"{where}: it has not the members that it must have")
    for name, form in shape.items():
        (of,), found = (form, value[name]) if type(form) is type(value[name]) is list else ([form], [value[name]])
        fits = all(re.fullmatch(of, it) if type(of) is type(it) is str else type(it) is of for it in found)
        need(fits and (len(found) < 2 or found == sorted({*found})), f"{where}: {name} has not the form it must have")
BASE64 = "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?"
SCALAR = json.JSONEncoder(ensure_ascii=False).encode
def canonical(value: Any, depth: int = 0) -> bytes:  # return the RFC 8785 bytes of a parsed JSON value
    if isinstance(value, float):  # ECMAScript has the same shortest digits as Python, but lays them out differently
        text = repr(value + 0.0)  # no negative zero
        if -7 < int(text.partition("e")[2] or 0) < 21: text = format(decimal.Decimal(text), "f").removesuffix(".0")
        return text.replace("e-0", "e-").encode()
    if not isinstance(value, (dict, list)): return SCALAR(value).encode()
    need(depth < 64, "JSON nested more than 64 levels deep")
    if isinstance(value, list): return b"[" + b",".join([canonical(item, depth + 1) for item in value]) + b"]"
    names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
    return b"{" + b",".join([canonical(name) + b":" + canonical(value[name], depth + 1) for name in names]) + b"}"
def parse_canonical(data: bytes, where: str, shape: Any = None, *, exact: bool = True) -> Any:  # `exact`: RFC 8785
    try:  # beyond 2^53-1 a number is a double; int of a word raises the ValueError that it deserves
        value = json.loads(data.decode(), parse_constant=int, object_pairs_hook=lambda pairs:
                           dict(pairs) if len(dict(pairs)) == len(pairs) else int("a member is named twice"),
                           parse_int=lambda text: int(text) if abs(float(text)) < 2**53 else float(text))
        need(not exact or canonical(value) == data, "the bytes are not in canonical form")
    except (Bad, ValueError, RecursionError) as error: raise Bad(f"{where}: not canonical JSON ({error})") from None
    if shape: check(value, shape, where)
    return value
def unbase64(text: str, of: str) -> bytes: return base64.b64decode(need(re.fullmatch(BASE64, text), f"{of}: base64")[0])
def sha256(data: bytes) -> str: return hashlib.sha256(data).hexdigest()
def pae(kind: str, body: bytes) -> bytes: return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(body), body)
def utc(text: str) -> float: return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()
def condition(it: Any) -> str:  # of an approval, in words
    return f"{it['text']} ({it.get('kind', 'text')} {it.get('limit') or ''}, due {it.get('due') or 'not dated'})"
def plain(text: Any) -> str: return "".join(c if c.isprintable() else "?" for c in str(text))  # fit to print
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # Ed25519 (RFC 8032), then P-256 and RSA (RFC 8017)
D, ROOT_M1, ZERO = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P), (0, 1, 1, 0)
def _sum(add: Any, zero: Any, a: int, p: Any, b: int, q: Any) -> Any:  # a·p + b·q on a curve, bit by bit
    table, result = (zero, p, q, add(p, q)), zero
    for bit in range(max(a.bit_length(), b.bit_length()) - 1, -1, -1):
        result = add(result, result)
        if pick := (a >> bit & 1) + 2 * (b >> bit & 1): result = add(result, table[pick])
    return result
def _ed_add(p: Any, q: Any) -> Any:  # extended coordinates; right also for doubling and the neutral point
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2]
    return (b - a) * (d - c) % P, (d + c) * (b + a) % P, (d - c) * (d + c) % P, (b - a) * (b + a) % P
def _ed_decode(raw: bytes) -> Any:  # decode a point; None if it is not on the curve or not in canonical form
    sign, y = divmod(int.from_bytes(raw, "little"), 1 << 255)
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    x = x * ROOT_M1 % P if (v * x * x - u) % P else x
    if y >= P or (v * x * x - u) % P or (x == 0 and sign): return None
    return (x := P - x if x & 1 != sign else x), y, 1, x * y % P
BASE = _ed_decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
def ed25519_verify(public: bytes, message: bytes, signature: bytes) -> bool:  # strict: canonical, s < L, no cofactor
    a, s = _ed_decode(public), int.from_bytes(signature[32:], "little")
    if (len(public), len(signature)) != (32, 64) or a is None or s >= L or _sum(_ed_add, ZERO, 8, a, 0, a)[0] == 0:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    x, y, z, _ = _sum(_ed_add, ZERO, s, BASE, h, (P - a[0], a[1], 1, P - a[3]))
    x, y = x * pow(z, -1, P) % P, y * pow(z, -1, P) % P
    return bool((y | (x & 1) << 255).to_bytes(32, "little") == signature[:32])
P256, P256_N = 2**256 - 2**224 + 2**192 + 2**96 - 1, 2**256 - 2**224 + 2**192 - 0x4319055258E8617B0C46353D039CDAAF
P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
P256_BASE = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
             0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)
def _p256_add(p: Any, q: Any) -> Any:  # add affine points; None is the neutral point
    if p is None or q is None: return q if p is None else p
    if p[0] == q[0] and (p[1] + q[1]) % P256 == 0: return None
    top, below = (3 * p[0] * p[0] - 3, 2 * p[1]) if p == q else (q[1] - p[1], q[0] - p[0])
    slope = top * pow(below, -1, P256) % P256
    return (x := (slope * slope - p[0] - q[0]) % P256), (slope * (p[0] - x) - p[1]) % P256
def es256_verify(x: int, y: int, message: bytes, signature: bytes) -> bool:  # ECDSA on P-256; of DER only the one form
    if not 8 <= len(signature) <= 72: return False
    end = 4 + signature[3]
    pair = int.from_bytes(signature[4:end], "big"), int.from_bytes(signature[end + 2 :], "big")
    der = b"".join(bytes([2, n.bit_length() // 8 + 1]) + n.to_bytes(n.bit_length() // 8 + 1, "big") for n in pair)
    return signature == bytes([0x30, len(der)]) + der and _p256_verify(x, y, message, *pair)
def _p256_verify(x: int, y: int, message: bytes, r: int, s: int) -> bool:
    on_curve = (y * y - x**3 + 3 * x - P256_B) % P256 == 0 and 0 <= min(x, y) <= max(x, y) < P256
    if not (on_curve and 0 < r < P256_N and 0 < s < P256_N): return False
    u, v = (number * pow(s, -1, P256_N) % P256_N for number in (int(sha256(message), 16), r))
    point = _sum(_p256_add, None, u, P256_BASE, v, (x, y))
    return point is not None and point[0] % P256_N == r
def _rsa_block(n: int, e: int, signature: bytes) -> bytes:  # what the private key signed; empty if that cannot be
    size, number = (n.bit_length() + 7) // 8, int.from_bytes(signature, "big")
    fits = 2048 <= n.bit_length() <= 8192 and 3 <= e < 2**32 and n & e & 1 and len(signature) == size and number < n
    return pow(number, e, n).to_bytes(size, "big") if fits else b""
def rs256_verify(n: int, e: int, message: bytes, signature: bytes) -> bool:  # by building the one block that it must be
    found = _rsa_block(n, e, signature)
    block = bytes.fromhex("003031300d060960864801650304020105000420") + hashlib.sha256(message).digest()
    return found != b"" and found == b"\0\1".ljust(len(found) - len(block), b"\xff") + block
def ps256_verify(n: int, e: int, message: bytes, signature: bytes) -> bool:  # PSS: SHA-256 twice, 32 bytes of salt
    if not (found := _rsa_block(n, e, signature)): return False
    bits = n.bit_length() - 1  # of the block; what is before them is zero
    block = found[-((bits + 7) // 8) :]
    masked, seed = block[:-33], block[-33:-1]
    mask = b"".join(hashlib.sha256(seed + i.to_bytes(4, "big")).digest() for i in range(len(masked) // 32 + 1))
    inner = int.from_bytes(masked, "big") ^ int.from_bytes(mask[: len(masked)], "big")
    one, salt = divmod(inner % 2 ** (bits - 264), 2**256)  # zeros, a one, the salt
    digest = hashlib.sha256(bytes(8) + hashlib.sha256(message).digest() + salt.to_bytes(32, "big")).digest()
    return (int.from_bytes(found, "big") >> bits, one, seed, block[-1]) == (0, 1, digest, 0xBC)
COSE = (b"\xa4\1\1\3' \6!X (.{32})", b"\xa5\1\2\3& \1!X (.{32})\"X (.{32})", b"\xa4\1\3\x039\1\0 Y(..)(.+)!C(...)")
def _cose_verify(cose_key: bytes, message: bytes, signature: bytes) -> bool:  # of passkeys: RFC 9053 as in CTAP2
    ed, es, rs = (re.fullmatch(form, cose_key, re.DOTALL) for form in COSE)
    if ed: return ed25519_verify(ed[1], message, signature)
    found = es or need(rs, "this verifier does not know the kind of the passkey's key", UNPROVEN)
    *size, n, e = [int.from_bytes(group, "big") for group in found.groups()]
    if es: return es256_verify(n, e, message, signature)
    return [len(found[2])] == size and rs256_verify(n, e, message, signature)
def verify_assertion(cose_key: bytes, data: bytes, client_json: bytes, signature: bytes, challenge: bytes, rp_id: str,
                     origin: str | list[str]) -> None:  # the challenge is the SHA-256 of a PAE
    client, wanted = parse_canonical(client_json, "client data", exact=False), base64.urlsafe_b64encode(challenge)
    need(isinstance(client, dict) and client.get("type") == "webauthn.get", "the client data are not an assertion's")
    need(client.get("challenge") == wanted.decode().rstrip("="), "it signed another challenge: not this statement")
    here = client.get("origin") in ([origin] if isinstance(origin, str) else origin)
    need(here and client.get("crossOrigin", False) is False, "the passkey signed elsewhere")
    here = data[:32] == hashlib.sha256(rp_id.encode()).digest() and len(data) >= 37
    flags = need(here, "the passkey belongs to another site, or its data are cut off") and data[32]
    need(flags & 0x80 == 0, "it has extension data, which this verifier does not read", UNPROVEN)
    need(flags & 0x05 == 0x05, "the passkey did not verify its user")
    need(flags & 0x40 == 0 and flags & 0x18 != 0x10 and len(data) == 37, "flags that no assertion has, or more data")
    need(_cose_verify(cose_key, data + hashlib.sha256(client_json).digest(), signature), "signature does not verify")
# An ID token as a signature (ledger-format.md §9.7): OpenID Connect Core §3.1.3.7, RFC 7515, 7517, 7518, 8037
IDENTITY, JWK = {"issuer", "subject", "client_id"}, {*"kty kid alg crv n e x y".split()}  # texts; "" for none
TOKEN_KEYS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP", "Ed25519": "OKP"}  # kind of key for each
MAX_TOKEN, AGAIN_S, SIGNING_S = 16_384, 120, 600  # clocks may differ by AGAIN_S; within SIGNING_S people sign
def texts(value: Any, names: set[str]) -> bool:  # whether it has just these members, each a text of bounded length
    fits = type(value) is dict and value.keys() == names
    return fits and all(type(text) is str and len(text) <= 2_000 for text in value.values())
def issuer_subject(issuer: str) -> str: return "issuer/" + sha256(issuer.encode())[:32]
def unbase64url(text: str) -> bytes:  # without padding; each text has one value, each value one text
    need(re.fullmatch("[A-Za-z0-9_-]+", text), "a part of the ID token or key is not base64url")
    return unbase64(text.translate({45: 43, 95: 47}) + "=" * (-len(text) % 4), "ID token or key")
def _jws_verify(key: Any, algorithm: str, message: bytes, signature: bytes) -> bool:  # with an archived key
    if key["kty"] == "RSA":
        n, e = (int.from_bytes(unbase64url(key[name]), "big") for name in "ne")
        return (rs256_verify if algorithm == "RS256" else ps256_verify)(n, e, message, signature)
    point = b"".join(unbase64url(key[name]) for name in ("x" if key["kty"] == "OKP" else "xy"))
    if key["kty"] == "OKP": return bool(key["crv"] == "Ed25519" and ed25519_verify(point, message, signature))
    x, y, r, s = (int.from_bytes(half, "big") for pair in (point, signature) for half in (pair[:32], pair[32:]))
    return bool(key["crv"] == "P-256" and len(point) == len(signature) == 64 and _p256_verify(x, y, message, r, s))
def verify_id_token(token: str, keys: Any, identity: Any, message: bytes, signed_at: float, recorded: float) -> Any:
    # That the enrolled person signed in again, for this message (a PAE) and in time; returns the claims
    parts = token.split(".") if len(token) <= MAX_TOKEN else []
    need(len(parts) == 3, "the ID token is not a signed one in compact form")
    header, claims = (parse_canonical(unbase64url(part), "ID token", exact=False) for part in parts[:2])
    need(type(header) is type(claims) is dict, "a part of the ID token is not a JSON object")
    algorithm, kid, typ = header.get("alg"), header.get("kid"), str(header.get("typ", "JWT")).lower()
    kind = TOKEN_KEYS.get(algorithm) if isinstance(algorithm, str) else None
    fits = kind and typ in ("jwt", "id_token+jwt") and not {"crit", "b64"} & {*header}
    need(fits, f"the ID token ({str(algorithm)[:20]!r}) is of a form that this verifier does not know", UNPROVEN)
    fitting = [key for key in keys if (key["kty"], key["alg"] or algorithm) == (kind, algorithm)]
    fitting = [key for key in fitting if kid in (None, key["kid"])]
    need(len(fitting) == 1, "the issuer's archived keys do not say with which one the ID token is signed")
    fits = _jws_verify(fitting[0], algorithm, f"{parts[0]}.{parts[1]}".encode(), unbase64url(parts[2]))
    need(fits, "the ID token's signature does not verify with the issuer's archived key")
    need(claims.get("iss") == identity["issuer"], "the ID token is of another issuer")
    need(claims.get("sub") == identity["subject"], "the ID token names another person")
    given, client = claims.get("aud"), identity["client_id"]
    several = given if isinstance(given, list) else [given]
    fits = client in several and claims.get("azp", client) == client and (len(several) == 1 or "azp" in claims)
    need(fits, "the ID token is for another client")
    nonce = base64.urlsafe_b64encode(hashlib.sha256(message).digest()).decode().rstrip("=")
    need(claims.get("nonce") == nonce, "the ID token has another nonce: it is not for this statement")
    times = signed_in, issued, expires = [claims.get(name) for name in ("auth_time", "iat", "exp")]
    fits = all(type(time) in (int, float) and 0 <= time < 2**40 for time in times)
    need(fits, "the ID token does not say when the person signed in, or when it was issued and expires", UNPROVEN)
    need(abs(issued - signed_in) <= AGAIN_S, "the person had signed in before, not again for this", UNPROVEN)
    fits = -AGAIN_S <= signed_in - signed_at <= SIGNING_S
    need(fits, "the person did not sign in within ten minutes after the statement was made", UNPROVEN)
    fits = recorded <= min(issued + SIGNING_S, expires) + AGAIN_S
    need(fits, "the ID token had expired, or was more than ten minutes old, when it was recorded", UNPROVEN)
    return claims
def _node(left: bytes, right: bytes) -> bytes: return hashlib.sha256(b"\x01" + left + right).digest()
def tree_root(leaves: list[bytes]) -> bytes:  # over leaf hashes (RFC 9162 §2.1)
    row = leaves or [hashlib.sha256(b"").digest()]
    while len(row) > 1: row = [_node(*p) if p[1:] else p[0] for p in (row[i : i + 2] for i in range(0, len(row), 2))]
    return row[0]
def check_inclusion(index: int, size: int, leaf: bytes, path: list[bytes], root: bytes) -> None:  # RFC 9162 §2.1.3.2
    need(0 <= index < size, f"the proof is for entry {index} of {size}")
    inner, fits = (index ^ (size - 1)).bit_length(), all(len(sibling) == 32 for sibling in path)
    need(fits and len(path) == inner + (index >> inner).bit_count(), "the inclusion proof has the wrong shape")
    for level, sibling in enumerate(path):  # above `inner` the entry lies on the right border of the tree
        leaf = _node(sibling, leaf) if level >= inner or index >> level & 1 else _node(leaf, sibling)
    need(leaf == root, "the inclusion proof does not lead to the checkpoint's root")
def parse_note(text: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:  # C2SP note: text; name, key id, signature
    head, _, tail = text.rpartition("\n\n")
    fits = len(text) <= MAX_NOTE and not re.search(r"[\x00-\x09\x0b-\x1f]", text) and tail.endswith("\n")
    lines = [re.fullmatch(r"— ([^\s+]+) ([A-Za-z0-9+/]{7}[A-Za-z0-9+/=]+)", line) for line in tail[:-1].split("\n")]
    need(fits and head and all(lines) and len(lines) <= 100, "it is not a signed note")
    return head + "\n", [(line[1], (raw := unbase64(line[2], "signature"))[:4], raw[4:]) for line in lines if line]
def parse_checkpoint(text: str) -> tuple[str, int, bytes]:  # read checkpoint text: origin, size, root
    found = re.match(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n", text)
    origin, size, root = need(found, "the checkpoint is malformed").groups()
    return origin, int(size), unbase64(root, "checkpoint root")
def _vkey(text: str, *kinds: int) -> tuple[str, bytes, bytes]:
    name, key_id, encoded = [*text.split("+", 2), "", ""][:3]
    true_id = hashlib.sha256(name.encode() + b"\n" + (raw := unbase64(encoded, "verifier key"))).digest()[:4]
    fits = name and raw[:1] and raw[0] in kinds and len(raw) == 33 + 1280 * (raw[0] == 6) and true_id.hex() == key_id
    return need(fits, f"{name!r} is no key of type {kinds}, or has another id") and (name, true_id, raw[1:])
class Trust:  # a trust file, with the leaf hash of the first entry in a comment
    def __init__(self, text: str) -> None:
        self.logs, self.witnesses, self.groups, self.vkeys = (dict[Any, Any]() for _ in range(4))
        self.genesis, self.quorum, self._names = "", "", {"none": True}  # names in use; true: in a group, or never can
        for number, line in enumerate(text.split("\n"), 1):
            try: self._line(line.strip(), line.split() or ["#"])
            except (Bad, ValueError) as error: raise Bad(f"line {number}: {error}", UNREADABLE) from None
        need(len(text) <= MAX_NOTE and self.logs and self.quorum, "no log or quorum line: no trust file", UNREADABLE)
    def _line(self, line: str, words: list[str]) -> None:
        kind, *rest = words
        if kind in ("witness", "group"): need(rest[:1] and rest[0] not in self._names, "a name is missing or taken")
        if line.startswith("# cognify-genesis "):
            self.genesis = need(not self.genesis and re.fullmatch(HEX64, rest[1]), "it is malformed, or there twice")[0]
        elif kind == "log" and len(rest) in (1, 2):
            name, key_id, public = _vkey(rest[0], 1)
            self.logs[name, key_id], self.vkeys[name, key_id] = public, rest[0]
        elif kind == "quorum" and len(rest) == 1:
            self.quorum = need(not self.quorum and rest[0] in self._names and rest[0], "no such quorum, or two of them")
        elif kind == "witness" and len(rest) in (2, 3):
            name, key_id, public = _vkey(rest[1], 4, 6)  # 6: ML-DSA-44, whose cosignatures are not checked here
            need(public not in [known for _, known in self.witnesses.values()], "two witnesses have one key")
            self.witnesses[name, key_id], self._names[rest[0]] = (rest[0], public), False
        elif kind == "group" and len(rest) > 2:
            (name, many, *members), fits = rest, all(self._names.get(member) is False for member in rest[2:])
            k = {"all": len(members), "any": 1}.get(many) or int(many)
            need(fits and len({*members}) == len(members) >= k >= 1, "a member is unknown or used twice, or k is wrong")
            self.groups[name], self._names = (k, members), {**self._names, **dict.fromkeys(members, True), name: False}
        else: need(kind.startswith("#"), "not a line of a trust file")
    def met(self, name: str, seen: set[str]) -> bool:  # whether witness or group `name` has witnessed
        k, members = self.groups.get(name, (1, []))
        return sum(self.met(member, seen) for member in members) >= k if members else name in seen
class Files:  # a bundle's files, read once under bounds. Bytes are kept only where they are parsed; digests of all
    def __init__(self, path: str) -> None:
        self.kept, self.digests, total = dict[str, bytes](), dict[str, tuple[str, int]](), 0
        need(os.path.isdir(path) or os.path.isfile(path), "there is no such folder or zip file", UNREADABLE)
        for name, mode, stream in self._folder(Path(path)) if os.path.isdir(path) else self._zip(path):
            fits = re.fullmatch(SAFE, name) and name not in self.digests and stat.S_IFMT(mode) in (0, stat.S_IFREG)
            need(fits, f"{plain(name[:80])} is a link, a special file, a bad name or there twice", UNREADABLE)
            with stream() as opened: data = opened.read(MAX_FILE + 1)
            total, self.digests[name] = total + len(data), (sha256(data), len(data))
            fits = len(data) <= MAX_FILE and total <= MAX_TOTAL and len(self.digests) <= MAX_FILES
            need(fits, f"{name}: the bundle is larger than any bundle may be", UNREADABLE)
            if name.startswith("ledger/") or name in ("bundle.json", "evidence/register.json"): self.kept[name] = data
    def _folder(self, root: Path) -> Any:
        for full in sorted(root.rglob("*")):
            if not stat.S_ISDIR(mode := full.lstat().st_mode):
                yield full.relative_to(root).as_posix(), mode, lambda full=full: full.open("rb")
    def _zip(self, path: str) -> Any:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            need(sum(info.file_size for info in infos) <= MAX_TOTAL, "it unpacks to more than a bundle may", UNREADABLE)
            tops = {info.filename.partition("/")[0] if "/" in info.filename else "" for info in infos}
            top = min(tops) + "/" if len(tops) == 1 and re.fullmatch(SAFE, min(tops)) else ""  # all lies in one folder
            for info in infos:
                yield info.filename[len(top) :], info.external_attr >> 16, lambda info=info: archive.open(info)
    def bytes(self, name: str) -> bytes:
        need(name in self.kept, f"{name} is missing", TAMPERED if "bundle.json" in self.kept else UNREADABLE)
        return self.kept[name]
    def under(self, folder: str) -> list[str]:  # names of the files in a folder, by length: numbers in their order
        return sorted((name for name in self.digests if name.startswith(folder)), key=lambda name: (len(name), name))
class Entry:  # read strictly from its bytes
    facts: Any = None  # of its payload, if the bundle discloses it
    def __init__(self, data: bytes, where: str) -> None:
        value = need(len(data) <= MAX_ENTRY, f"{where}: longer than any entry") and parse_canonical(data, where, ENTRY)
        check(body := value["body"], BODY, where)
        self.seq, self.heads, self.ledger, self.prev, self.time_us, version = (
            value[name] for name in ("seq", "heads", "ledger", "prev", "time_us", "v"))
        self.kind, self.subjects, self.evidence, self.key, self.commitment = (
            body[name] for name in ("kind", "subjects", "evidence", "key", "payload"))
        self.sig, self.leaf = unbase64(body["sig"], where), hashlib.sha256(b"\x00" + data).digest()
        unsigned = {k: body[k] for k in body if k != "sig"}
        self.signed = pae(BODY_TYPE, canonical({"body": unsigned, "ledger": self.ledger}))
        fits = version == 1 and min(self.seq, self.time_us) >= 0 and 1 <= body["schema"] <= 10_000
        need(fits and len(self.sig) == (64 if self.key else 0), f"{where}: a number or the signature is out of range")
        fits = all(type(head) is int and -1 <= head < self.seq for head in self.heads.values())
        need(fits and {*self.heads} == {*self.subjects} and 0 < len(self.heads) <= 64, f"{where}: heads are malformed")
        moment = datetime.datetime.fromtimestamp(min(self.time_us // 10**6, 253402300799), datetime.timezone.utc)
        self.time, self.where = f"{moment:%Y-%m-%dT%H:%M:%SZ}", f"entry {self.seq} ({self.kind})"
class Verifier(types.SimpleNamespace):  # of one bundle: findings are collected, checks run as far as others allow
    def __init__(self, path: str, trust_text: str | None) -> None:
        super().__init__(
            **{name: {} for name in ("anchor left_out entries keys people policies policy roots acts recovery grants "
                                     "delegations sign_offs revoked issuers groups sign_ins").split()},
            path=path, trust_text=trust_text,
            **{name: [] for name in "findings warnings proven signers cosigners deployments gaps".split()}, origin="",
            **{name: set() for name in "used unproven back lifted log_keys".split()}, size=0, root=b"", trial=False,
            mine="", manifest={}, level=0, signatures=0, present=0, absent=TAMPERED)  # UNPROVEN if keys are hidden
    def expect(self, fits: object, where: str, message: str, outcome: int = TAMPERED) -> None:  # HOLDS: a warning
        finding = {"outcome": OUTCOMES[outcome], "code": outcome, "where": where, "message": plain(message)}
        if not fits: (self.findings if outcome else self.warnings).append(finding)
    def attempt(self, where: str, step: Any, *arguments: Any) -> Any:  # what fails in a step becomes a finding
        try: return step(*arguments)
        except Exception as e:
            text = str(e) if isinstance(e, Bad) else f"it cannot be read ({type(e).__name__}: {e})"
            text = f"{e.filename}: {e.strerror}" if isinstance(e, OSError) else text
            self.expect(False, where, text, outcome := getattr(e, "outcome", UNREADABLE))
            return outcome
    def run(self) -> dict[str, Any]:  # run every check and return the report
        trust = None if self.trust_text is None else self.attempt("trust file", Trust, self.trust_text)
        self.files = self.findings or self.attempt(self.path, Files, self.path)
        if not self.findings: self.attempt("bundle", self._bundle, trust)
        self.expect(self.trust_text is not None, "trust", "without a trust file nothing can be trusted", UNPROVEN)
        return self.report()
    def _bundle(self, trust: Trust | None) -> None:
        self._manifest()
        for step in (self._checkpoint, self._entries, self._closure): step(trust)
        for entry in self.closure:
            if self.attempt(entry.where, self._judge, entry) == UNPROVEN: self.unproven.add(entry.seq)
        for finish in (self._acts, self._coverage, self._copies, self._evidence): finish()
    def _manifest(self) -> None:
        manifest = parse_canonical(self.files.bytes("bundle.json"), "bundle.json")
        need(manifest["format"] == "cognify-bundle/v1", "bundle.json: unknown format; use a newer verifier", UNREADABLE)
        self.manifest, self.mine = manifest, f"model/{manifest['model']}@{manifest['version']}"
        listed = {item["path"]: (item["sha256"], item["size"]) for item in manifest["files"]}
        found = {path: known for path, known in self.files.digests.items() if path != "bundle.json"}
        self.expect([item["path"] for item in manifest["files"]] == sorted(listed), "bundle.json", "it is unsorted")
        for path in sorted({*listed, *found}):
            wrong = "not in the bundle's list" if path not in listed else "changed" if path in found else "missing"
            self.expect(listed.get(path) == found.get(path), path, f"it is {wrong}")
    def _checkpoint(self, trust: Trust | None) -> None:  # signed by the log, cosigned by the quorum
        where, told, self.whole = "ledger/checkpoint.txt", self.manifest, f"oversight/{self.manifest.get('model')}"
        self.note = self.files.bytes(where).decode("utf-8", "replace")
        text, lines = parse_note(self.note)
        self.origin, self.size, self.root = parse_checkpoint(text)
        for name, key_id, signature in lines if trust else []:
            if log := trust.logs.get((name, key_id)):  # type: ignore[union-attr]
                need(ed25519_verify(log, text.encode(), signature), f"the signature of {plain(name)} does not verify")
                self.signers.append(name)
                if trust and name == self.origin: self.log_keys.add(trust.vkeys[name, key_id])
            if len((witness := trust.witnesses.get((name, key_id), ("", b"")))[1]) == 32:  # type: ignore[union-attr]
                time = int.from_bytes(signature[:8], "big")
                fits = ed25519_verify(witness[1], f"cosignature/v1\ntime {time}\n{text}".encode(), signature[8:])
                need(fits and time < 2**63, f"the cosignature of {plain(name)} does not verify")
                self.cosigners.append({"witness": witness[0], "time": time})
            elif witness[1] or len(signature) == 2428: self.gaps.append(f"the ML-DSA-44 cosignature of {plain(name)}")
        if trust and self.origin in self.signers:
            met = trust.quorum != "none" and trust.met(trust.quorum, {item["witness"] for item in self.cosigners})
            self.level, wrong = 2 if met else 1, f"the witness quorum {trust.quorum!r} is not met"
            self.expect(trust.quorum == "none" or met, where, wrong + " without ML-DSA" * bool(self.gaps), UNPROVEN)
        elif trust:
            wrong = "its key is not the one that signed: it is for another ledger of that name, or a forged one"
            if self.origin not in (known := sorted({log for log, _ in trust.logs})):
                wrong = f"it is for the ledger {', '.join(known)}; this bundle comes from the ledger {self.origin}"
            self.expect(False, "trust file", wrong, UNPROVEN)
        self.expect((self.origin, self.size) == (told["ledger"], told["size"]), where, "bundle.json names another one")
        self.expect(0 <= told["anchor_seq"] < self.size, where, f"its size {self.size} does not cover the anchor")
    def _entries(self, trust: Trust | None) -> None:
        newest = dict[str, int]()
        for name in self.files.under("ledger/entries/"):
            entry = self.attempt(name, self._entry, name, newest)
            if isinstance(entry, Entry): newest |= dict.fromkeys(entry.subjects, entry.seq)
        spare = {*self.files.under("ledger/payloads/")} - {f"ledger/payloads/{seq:08d}.json" for seq in self.entries}
        self.expect(not spare, ", ".join(sorted(spare)), "payloads without an entry in the bundle")
        first, pinned = self.entries.get(0), trust.genesis if trust else ""
        self.absent = TAMPERED if first else UNPROVEN
        self.expect((first and pinned) or not trust, "trust", "no genesis is pinned, or entry 0 is missing", UNPROVEN)
        forked = first and pinned and self.level and first.leaf.hex() != pinned  # without a known log: another ledger
        self.expect(not forked, "entry 0", "the ledger begins otherwise than the trust file says", ROLLED_BACK)
    def _entry(self, name: str, newest: dict[str, int]) -> Entry:  # its form, proof, predecessors, payload
        seq = (entry := Entry(self.files.bytes(name), name)).seq
        before, earlier = (self.entries.get(at) for at in (seq - 1, max(self.entries, default=-1)))
        fits, self.entries[seq] = (name, entry.ledger) == (f"ledger/entries/{seq:08d}.json", self.origin), entry
        need(fits, f"its bytes say entry {seq} of {entry.ledger}")
        proof, payload = f"ledger/proofs/{seq:08d}.tlog-proof", f"ledger/payloads/{seq:08d}.json"
        head, _, note = self.files.bytes(proof).decode("utf-8", "replace").partition("\n\n")
        fits = head.split("\n")[:2] == ["c2sp.org/tlog-proof@v1", f"index {seq}"] and note == self.note
        need(fits, f"{proof} is for another entry, or leads to another checkpoint than ledger/checkpoint.txt")
        check_inclusion(seq, self.size, entry.leaf, [unbase64(x, proof) for x in head.split("\n")[2:]], self.root)
        need(not before or entry.prev == before.leaf.hex(), "its previous-leaf hash is not that of the one before")
        need((seq == 0) == (entry.prev == "0" * 64), "only the first entry has no previous leaf")
        if earlier and entry.time_us < earlier.time_us:
            self.back.add(need(entry.kind == CLOCK and seq, "its time lies before that of an earlier entry"))
        skips = [subject for subject, head in entry.heads.items() if newest.get(subject, -1) > head]
        need(not skips, f"its heads skip an earlier entry about {', '.join(skips)}")
        if payload in self.files.kept:
            value = parse_canonical(self.files.bytes(payload), payload, {"salt": HEX64, "payload": str})
            salted = b"cognify/payload/v1\x00" + bytes.fromhex(value["salt"]) + unbase64(value["payload"], payload)
            need(sha256(salted) == entry.commitment, f"{payload} is not the payload that the entry commits to")
            entry.facts = dict(parse_canonical(salted[51:], payload)["facts"])
        return entry
    def _closure(self, _: Any) -> None:  # walk the heads of all the anchor's subjects back to their beginning
        anchor: Any = self.entries.get(self.manifest["anchor_seq"])
        need(anchor and anchor.kind == "bundle_exported", "the anchor entry (kind bundle_exported) is missing")
        self.anchor, found = {"seq": anchor.seq, "time": anchor.time}, {anchor.seq: anchor}
        for subject in anchor.subjects:
            at = anchor
            while at and (head := at.heads[subject]) >= 0:
                at = self.entries[head] if head in self.entries and subject in self.entries[head].heads else None
                self.expect(at, f"entry {head}", f"the history of {subject} is not complete: this entry is left out")
                found |= {head: at} if at else {}
        self.expect(len(self.entries) == len(found), "bundle", "entries are not in the anchored history", HOLDS)
        self.closure = [found[seq] for seq in sorted(found)]
    def _judge(self, entry: Entry) -> None:  # what it says, against the entries before it
        facts, kind, topics = entry.facts, entry.kind, {*entry.subjects}
        rules = {"sign_off": self._sign_off, "release_granted": self._release, "deployment_completed": self._deployed}
        need(entry.seq == 0 or kind != "genesis", "a ledger has one genesis record, its first entry")
        self.absent = UNPROVEN if facts is None and kind in AUTHORITY else self.absent
        if facts is not None and kind == "genesis": self._authority(entry, facts)  # it brings the key of its own writer
        self.expect(entry.key, entry.where, "its writer did not sign it", HOLDS)
        if entry.key and (kind not in AUTHORITY or not entry.seq):  # acts about authority count whoever wrote them
            kinds = self._accept(entry.key, None, entry.seq, entry.signed, entry.sig)["kinds"]
            need(kinds is None or entry.seq == 0 or kind in kinds, f"its writer may not write {kind} entries")
        shared = {"people", "policy", self.whole} & topics if kind not in RELYING else set()
        if facts is None:
            self._end(self.keys, entry.seq, lambda key: key["holder"] in topics and kind in AUTHORITY)  # it may say so
            needed = kind in AUTHORITY or kind in ACTS or self.mine in topics or shared
            need(not needed, "its payload, about people, keys, policy or this version, is not disclosed", UNPROVEN)
            return
        known = AUTHORITY if shared & {"people", "policy"} else {*OVERSIGHT, "model_registered"}
        need(kind in known or not shared, "this verifier does not know what entries of its kind mean", UNPROVEN)
        about = f"model/{facts.get('model')}@{facts['version']}" if facts.get("version") else ""
        need(about in ("", *topics), f"its payload is about {about}, its subjects are not")
        if kind in (*ACTS, MAPPED) or (kind in OVERSIGHT and topics & {self.mine, self.whole}): self._act(entry, facts)
        elif kind == ARCHIVED: self._archived(entry, facts)
        elif (kind in AUTHORITY and entry.seq) or kind == "gate_set_adopted": self._authority(entry, facts)
        elif kind in rules and about == self.mine: rules[kind](entry, facts)  # not all of other versions is disclosed
    def _accept(self, key_id: str, holder: str | None, seq: int, message: bytes, signature: bytes,
                assertion: Any = None, sign_in: Any = None) -> dict[str, Any]:  # the one place that accepts a signature
        key: Any = (self.recovery if holder == RECOVERY else self.keys).get(key_id)
        of = need(key, f"the key {key_id} was never enrolled", self.absent)["holder"]
        need(holder is None or holder == of in {*self.people, RECOVERY}, f"it is the key of {of}, not of {holder}")
        need(key["until"] >= seq, f"the key {key_id} was revoked by entry {key['until']}", self.absent)
        need(key["since"] < seq or seq == 0, f"the key {key_id} was enrolled later, by entry {key['since']}")
        need(key["public"], f"the key {key_id} is of a kind that this verifier does not know", UNPROVEN)
        fits = (bool(key["passkey"]), bool(key["oidc"])) == (bool(assertion), bool(sign_in))
        need(fits, "a passkey's signature has an assertion, one by single sign-on an ID token, no other one has")
        if assertion:
            data, client = (unbase64(assertion[name], name) for name in ("authenticator_data", "client_data_json"))
            challenge, site = hashlib.sha256(message).digest(), need(len(assertion) == 2, "its form") and key["passkey"]
            verify_assertion(key["public"], data, client, signature, challenge, site["rp_id"], [*site["origins"]])
        if sign_in: self._signed_in(key["oidc"], sign_in, seq, message, signature)
        fits = assertion or sign_in or ed25519_verify(key["public"], message, signature)
        need(fits, f"the signature of {of} does not verify")
        self.signatures += 1
        return dict(key)
    def _signed_in(self, identity: Any, sign_in: Any, seq: int, message: bytes, raw: bytes) -> None:  # single sign-on
        (proof, signed_at), issuer = sign_in, identity["issuer"]
        token, subject = proof.get("id_token"), issuer_subject(issuer)
        fits = proof.keys() == {"id_token", "keys"} and type(token) is str
        need(fits, "its ID token is of a form that this verifier does not know", UNPROVEN)
        need(subject in self.closure[-1].subjects, "its issuer's keys are not in the bundle: export it anew", UNPROVEN)
        late = [(it.facts["key_id"], it.facts.get("effective_from") or NEVER)  # perhaps later: distrusted from where
                for it in self.closure if it.kind == "key_revoked" and it.facts]
        for it in (it for it in self.closure if it.seq < seq and subject in it.subjects and it.kind not in RELYING):
            by = {one["keyid"] for envelope in (it.facts or {}).get("envelopes", []) for one in envelope["signatures"]}
            fits = it.facts is not None and it.kind in SSO and it.seq not in self.unproven
            fits = fits and not any(key_id in by and since <= it.seq for key_id, since in late)
            need(fits, f"{it.where}, about its issuer, is not disclosed, not proven or by a distrusted key", UNPROVEN)
        keys, at = need(self.issuers.get((issuer, proof["keys"])), "its issuer's keys are not archived before it")
        times = utc(signed_at), self.entries[seq].time_us / 10**6
        claims = verify_id_token(token, keys, identity, message, *times)
        need(unbase64url(token.rpartition(".")[2]) == raw, "the signature is not that of the ID token")
        self.sign_ins[seq] = {"issuer": issuer, "claims": claims, "archived": at}
    def _archived(self, entry: Entry, facts: Any) -> None:  # an issuer's keys; they count for later entries
        keys, issuer = facts["keys"], facts["issuer"]
        fits = type(keys) is list and 0 < len(keys) <= 50 and all(texts(key, JWK) for key in keys)
        need(fits, "the issuer's keys in it are of a form that this verifier does not know", UNPROVEN)
        fits = facts["digest"] == "sha256:" + sha256(canonical(keys)) and issuer_subject(issuer) in entry.subjects
        fits = fits and entry.kind in (self.keys.get(entry.key, {}).get("kinds") or [])  # a workload that may, no other
        wrong = "it counts for nothing: the keys in it have another digest, or no workload that may write it signed it"
        self.expect(fits, entry.where, wrong, HOLDS)
        if fits: self.issuers.setdefault((issuer, facts["digest"]), (keys, entry.seq))
    def _grouped(self, seq: int, said: Any) -> bool:  # whether the groups in the token stand for the role, where mapped
        sign_in = self.sign_ins[seq]
        mapping = self.groups.get(sign_in["issuer"])
        if not mapping or said["decision"] == "withdraw": return True
        given = sign_in["claims"].get(mapping["claim"])
        listed = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        names = [name for name in listed[:2_000] if isinstance(name, str)]
        return any(said["role"] in mapping["groups"].get(name, []) for name in names)
    def _statement(self, envelope: Any, kind: str, seq: int) -> tuple[Any, Any, bytes]:  # of a DSSE envelope
        payload, (signature,) = unbase64(envelope["payload"], "statement"), envelope["signatures"]
        value, (assertion, proof) = parse_canonical(payload, "statement"), map(signature.get, ("webauthn", "oidc"))
        types = (envelope["payloadType"], value["_type"], value["predicateType"], len(envelope), len(value))
        need(types == (PAYLOAD_TYPE, STATEMENT_TYPE, kind, 3, 4), f"it is not an in-toto Statement v1 of type {kind}")
        said, size, seen = (it := value["predicate"]), it["checkpoint"]["size"], it["checkpoint"]["root"]
        wanted = ACT_KEYS if kind == ACT_TYPE else {*SIGN_OFF_KEYS, *["on_behalf_of"] * bool(said.get("on_behalf_of"))}
        fits = said.keys() == wanted and signature["keyid"] == said["key_id"] and said["ledger"] == self.origin
        need(fits, "the statement has other members, names another key or belongs to another ledger")
        fits = signature.keys() == {"keyid", "sig", *["webauthn"] * bool(assertion), *["oidc"] * bool(proof)}
        need(fits, "its signature is of a form that this verifier does not know", UNPROVEN)
        need(not proof or kind == SIGN_OFF_TYPE, "single sign-on signs sign-offs only, no act")
        raw, sign_in = unbase64(signature["sig"], "signature"), (proof, said["signed_at"]) if proof else None
        self._accept(said["key_id"], said["person"], seq, pae(PAYLOAD_TYPE, payload), raw, assertion, sign_in)
        need(0 <= size <= seq, f"the signer claims to have seen {size} entries, but this is entry {seq}")
        need(sha256(payload) not in self.used, "the same statement stands in an earlier entry; it counts once")
        if size not in self.roots:  # it can be compared if all entries before it are in the bundle
            leaves = [self.entries[at].leaf for at in range(size) if at in self.entries]
            self.roots[size] = tree_root(leaves).hex() if len(leaves) == size else None
        need(self.roots[size] in (None, seen), f"the signer saw another history of {size} entries", ROLLED_BACK)
        return value, said, payload
    def _signed(self, entry: Entry, facts: Any) -> tuple[set[str], int, set[str]]:  # signers, fewest seen, digests
        content = {k: v for k, v in facts.items() if k not in ("envelope", "envelopes") and (k != "extra" or v)}
        wanted = (entry.kind, [{"name": entry.kind, "digest": {"sha256": sha256(canonical(content))}}])
        signers, seen, used = list[str](), entry.seq, set[str]()
        for envelope in [*filter(None, [facts.get("envelope")]), *facts.get("envelopes", [])]:
            value, said, payload = self._statement(envelope, ACT_TYPE, entry.seq)
            need((said["kind"], value["subject"]) == wanted, "the statement signs something else")
            signers.append(said["key_id" if said["person"] == RECOVERY else "person"])  # recovery keys by their id
            seen, used = min(seen, said["checkpoint"]["size"]), used | {sha256(payload)}
        members = [facts.get(name) or [] for name in SIGNERS[entry.kind]]
        named = sorted(name for found in members for name in ([found] if isinstance(found, str) else found))
        fits = len({*signers}) == len(signers) and (named == sorted(signers) or not SIGNERS[entry.kind])
        need(fits, "it names other people than those who signed, or one of them twice")
        return {*signers}, seen, used
    def _rules(self, name: str) -> Any: return self.policy.get(name, {})
    def _roles(self, person: str, entry: Entry) -> set[str]:  # that count for a signature in an entry
        item, days = self.people.get(person, {"roles": [], "confirmed": 0}), self._rules("people").get("recertify_days")
        return set() if days and entry.time_us > item["confirmed"] + days * 86_400_000_000 else {*item["roles"]}
    def _holding(self, signers: Any, roles: Any, entry: Entry) -> int:  # how many hold one of these roles; None: any
        return sum(bool((held := self._roles(who, entry)) & {*(held if roles is None else roles)}) for who in signers)
    def _keys_of(self, holder: str, until: int = 0) -> set[str]:  # all that ever were, or those that count until then
        return {key_id for key_id, key in self.keys.items() if key["holder"] == holder and key["until"] >= until}
    def _end(self, items: Any, seq: int, which: Any) -> None:  # keys or delegations end with an entry
        for item in items.values(): item["until"] = min(item["until"], seq if which(item) else NEVER)
    def _enrol(self, item: Any, seq: int) -> set[str]:  # take in keys of a person or workload, for later entries
        holder, keys = item[sort := "person" if "person" in item else "workload"], item.get("keys", [item.get("key")])
        new = need(holder.split("/")[0] in (sort, RECOVERY), f"{holder} is not the id of a {sort}") and dict[str, Any]()
        for key in keys:
            key_id, public, passkey = key["key_id"], unbase64(key["public"], "public key"), key.get("passkey")
            oidc, algorithm = key.get("oidc"), key["algorithm"]
            form = "ed25519" if sort == "workload" else "webauthn" if passkey else "oidc" if oidc else "ed25519"
            ours = algorithm == form and (form != "oidc" or texts(oidc, IDENTITY))
            fits = sha256(public)[:16] == key_id and (form != "oidc" or public == canonical(oidc))
            need(not ours or fits, f"the key id {key_id!r} is not that of its key, or of the identity that it names")
            known = self.keys.get(key_id, {"holder": holder})
            need(known["holder"] == holder and key_id not in new, f"{key_id} belongs to {known['holder']} already")
            new[key_id] = {"holder": holder, "public": public if ours else b"", "passkey": passkey,
                           "oidc": oidc if form == "oidc" else None, "strength": STRENGTHS[form], "since": seq,
                           "until": NEVER, **known, "kinds": item.get("kinds")}
        self.keys |= new
        return {*new}
    def _act(self, entry: Entry, facts: Any) -> None:  # one that counts for nothing is no flaw of the ledger, but said
        kind, at, rule = entry.kind, entry.seq, {"roles": [], "extra_role": 0, "quorum": 2} | self._rules("break_glass")
        said = ", ".join(f"{k}: {v}" for k, v in facts.items() if v not in (None, "", [], {}) and "envelope" not in k)
        row = {"seq": entry.seq, "time": entry.time, "kind": kind, "counts": False, "facts": facts, "said": said}
        self.acts |= {at: row | {"signers": []}} if kind in OVERSIGHT else {}
        try:
            by_machine = not SIGNERS[kind] or (kind == "model_event" and not facts["envelope"])
            signers, seen = (set[str](), at) if by_machine else self._signed(entry, facts)[:2]
            roles, least = self.policy.get(MAY.get(kind, "")), 2 if kind in (*ACTS, MAPPED, "block_lifted") else 1
            if kind in (*ACTS, MAPPED): roles = [ADMIN]
            if kind == "break_glass_opened":
                roles, least, extra = [*rule["roles"], rule["extra_role"]], rule["quorum"], rule["extra_role"]
                need(self._holding(signers, [extra], entry), f"no {extra} signed it", self.absent)
            able = by_machine and not str(facts.get("reported_by")).startswith("person/")
            able = able or self._holding(signers, roles, entry) >= (1 if self.trial else least)
            need(able, f"it is not signed by {least} who hold a role for it", self.absent)
            self.acts |= {at: row | {"signers": sorted(signers), "counts": True}} if kind in OVERSIGHT else {}
            about = {"ledger", "clock" if kind == CLOCK else "log_key"} if kind in ACTS else set[str]()
            about |= {issuer_subject(facts["issuer"])} if kind == MAPPED else set()
            need(signers | about == {*entry.subjects} or kind in OVERSIGHT, "it names other people, or another issuer")
            if kind == MAPPED:  # it replaces the mapping before it, which all who signed had seen
                last, fits = self.groups.get(facts["issuer"], {"seq": -1})["seq"], type(facts["claim"]) is str
                fits = fits and all(type(roles) is list for roles in facts["groups"].values())
                need(fits, "it is of a form that this verifier does not know", UNPROVEN)
                need(seen > last, f"it was signed before entry {last} replaced the mapping")
                self.groups[facts["issuer"]] = {**facts, "seq": at}
            elif kind == CLOCK:
                before = getattr(self.entries.get(at - 1), "time_us", facts["wrong_us"])
                need(before == facts["wrong_us"] and entry.time_us >= facts["floor_us"], "it is for another place")
                self.back.discard(at)
                self.expect(False, entry.where, "it corrects the clock: an earlier entry has a later time", HOLDS)
            elif kind == REVOCATION:
                self.revoked[facts["vkey"]] = min(facts["last_good_size"], self.revoked.get(facts["vkey"], NEVER))
        except Exception as e:
            raise Bad(f"counts for nothing: {e}", UNPROVEN if getattr(e, "outcome", 0) == UNPROVEN else HOLDS) from None
    def _acts(self) -> None:  # what disregarded entries and revoked log keys lead to
        lifted = [item for item in self.findings if item["where"] in self.lifted and item["code"] == TAMPERED]
        self.findings: Any = [item for item in self.findings if item not in lifted]
        for item in lifted: self.expect(False, item["where"], f"{item['message']} (no effect; disregarded)", HOLDS)
        for seq in self.back:
            self.expect(False, f"entry {seq}", "its time goes back", UNPROVEN if seq in self.unproven else TAMPERED)
        bad = {k for k in self.log_keys & {*self.revoked} if self.size > self.revoked[k] or self.level < 2}
        for key in bad:
            wrong = f"the log key {key} was revoked: it counts for witnessed heads up to size {self.revoked[key]}"
            self.expect(False, "ledger/checkpoint.txt", wrong, HOLDS if bad < self.log_keys else UNPROVEN)
        self.level = 0 if bad and bad == self.log_keys else self.level
    def _authority(self, entry: Entry, facts: Any) -> None:  # a record about authority, and what follows
        kind, at, founders, item = entry.kind, entry.seq, facts.get("founders", []), facts.get("person")
        if kind == "genesis":  # the founders' keys stand in the record that they sign
            fits: Any = facts["origin"] == self.origin and facts["trial"] is self.manifest["trial"]
            need(fits, "it is of another ledger, or bundle.json hides or invents that this is a TRIAL ledger")
            self.trial, self.threshold = facts["trial"], max(facts["recovery_threshold"], 2 - facts["trial"])
            self._enrol({"person": RECOVERY, "keys": facts["recovery_keys"]}, 0)
            self.recovery, vars(self)["keys"] = self.keys, {}  # a founder's key may be one of them, too
            for item in [*founders, *facts["workloads"]]: self._stand(item, entry)
        signers, seen, used = self._signed(entry, facts)
        adopters, quorum = self.policy.get("adopters", [ADMIN]), self.policy.get("policy_quorum", 2)
        admins, fits = self._holding(signers, [ADMIN], entry), True
        recovers = signers <= {*self.recovery} and len(signers) >= self.threshold
        if kind == "genesis":
            missing = ", ".join(sorted({person["person"] for person in founders} - signers))
            need(not missing and len(signers) >= 2 - self.trial, f"it is not signed by {missing or 'two founders'}")
            self.proven.append(f"{len(signers)} founder(s) signed the ledger's first entry, keys and policy")
        elif kind == "policy_adopted": fits = self._holding(signers, adopters, entry) >= (self.trial or max(1, quorum))
        elif kind == "person_enrolled": self._vouched(entry, facts, signers)
        elif kind == "workload_enrolled":
            fits, item = admins, {name: facts["workload"][name] for name in ("workload", "key", "kinds")}
        elif kind == "person_recovered":  # new keys, and only such
            who, listed = item["person"], {key["key_id"] for key in item["keys"]}
            fits = recovers and listed and not listed & self._keys_of(who)
            self._end(self.delegations, at, lambda given: fits and given["delegator"] == who)
        elif kind == "key_revoked":
            key = facts["key_id"] in self._keys_of(facts["holder"]) and self.keys[facts["key_id"]]
            fits = key and (admins or signers == {facts["holder"]})
            self._end(self.keys, at, lambda other: fits and other is key)
        elif kind == "delegated":
            who, to, days = facts["delegator"], facts["delegate"], self._rules("people").get("max_delegation_days", 30)
            fits = who != to and self._keys_of(to, at) and facts["role"] in self._roles(who, entry) - {ADMIN}
            fits = fits and 0 < utc(facts["expires"]) - utc(facts["starts"]) <= days * 86_400
            self.delegations |= {at: {**facts, "leaf": entry.leaf.hex(), "until": NEVER}} if fits else {}
        elif kind == "delegation_ended":
            given, sides = self.delegations.get(facts["delegation_seq"], {"until": 0}), ("delegator", "delegate")
            fits = given["until"] == NEVER and all(given[name] == facts[name] for name in sides)
            fits = fits and (admins or signers & {given[name] for name in sides})
            given["until"] = at if fits else given["until"]
        elif kind == "person_recertified":  # an admin's own recertification may be overdue: somebody has to begin
            known = self.people.get(item, {"roles": [None], "since": NEVER, "confirmed": 0})
            fits = seen > known["since"] and {*known["roles"]} == {*facts["roles"]}
            fits = fits and any(ADMIN in self.people[who]["roles"] for who in signers - {item})
            known["confirmed"] = entry.time_us if fits else known["confirmed"]
        elif kind == "entry_disregarded":
            old = self.entries.get(facts["seq"])
            of, least = (adopters, max(2, quorum)) if old and "policy" in old.subjects else ([ADMIN], 2)
            able = self._holding(signers, of, entry) >= (self.trial or least)
            fits = 0 < facts["seq"] < at and (recovers or (able and not (old and signers & {*old.subjects})))
            self.lifted |= {old.where} if fits and old and old.kind in AUTHORITY else set()
        need(fits, "it does not fit what stands before it, or others must sign (ledger-format.md §9.3)", self.absent)
        if kind in ("person_enrolled", "person_recovered", "workload_enrolled"): self._stand(item, entry, seen)
        self._end(self.delegations, at, lambda given: not self._keys_of(given["delegator"], NEVER) or
                  given["role"] not in self.people[given["delegator"]]["roles"])
        self.used |= used
        if kind in ("genesis", "policy_adopted"):
            fits = facts["policy_digest"] == "sha256:" + sha256(canonical(facts["policy"]))
            need(fits, "the policy's digest is not that of the policy")
            vars(self)["policy"], self.policies[at] = facts["policy"], facts["policy_digest"]
    def _stand(self, item: Any, entry: Entry, seen: int = NEVER) -> None:  # a new state: keys that it does not list end
        who, taken = item.get("person"), {a.lower(): p for p, it in self.people.items() for a in it.get("aliases", [])}
        need(seen > self.people.get(who, {"since": -1})["since"], "it was signed before this person changed")
        need({taken.get(a.lower(), who) for a in item.get("aliases", [])} <= {who}, "an alias belongs to somebody else")
        gone = self._keys_of(who or "") - self._enrol(item, entry.seq)
        self._end({key_id: self.keys[key_id] for key_id in gone}, entry.seq, bool)
        if who: self.people[who] = {**item, "since": entry.seq, "confirmed": entry.time_us}
    def _vouched(self, entry: Entry, facts: Any, signers: set[str]) -> None:  # enrolments, see ledger-format.md §9.3
        item, who, admin = facts["person"], facts["person"]["person"], facts["vouched_by"]
        before, added = self.people.get(who), {key["key_id"] for key in item["keys"]} - self._keys_of(who)
        named = [[of.get("name"), of.get("title"), sorted(of.get("aliases", []))] for of in (item, before or {})]
        less = before is not None and named[0] == named[1] and {*item["roles"]} <= {*before["roles"]}
        selfless = who not in signers or (less and added and (admin != who or (self.trial and signers == {who})))
        need(selfless, f"{who} cannot vouch for themselves")
        able = ADMIN in self._roles(admin, entry) and all(self._roles(one, entry) for one in signers - {who})
        need(able, f"{admin} is no {ADMIN}, or a witness holds no role that counts", self.absent)
        rule = self.policy.get("people")
        least = 1 if self.trial or rule is None or (less and not added) else rule.get("vouchers", 2)
        need(len(signers) >= least, f"{len(signers)} of {least} people vouched for {who}")
        self.expect(rule or len(signers) > 1 or self.trial, entry.where, "one vouched: no number in the policy", HOLDS)
    def _in_force(self, digest: str, *sizes: int) -> None:
        found = {policy for size in sizes for policy in [self.policies[at] for at in self.policies if at < size][-1:]}
        need(digest in found, "the policy named was not in force", self.absent)
    def _package(self, seq: int, digest: str, about: dict[str, Any], before: int) -> Any:  # the entry of it
        package: Any = self.entries.get(seq)
        need(package and package.kind == "package" and seq < before, f"entry {seq} is not an earlier package entry")
        of = need(seq not in self.unproven and package.facts, f"the package in entry {seq} is not proven", UNPROVEN)
        same = of["package"]["digest"] == digest and all(of[name] == about[name] for name in ABOUT)
        return need(same, f"entry {seq} is another package, or about another version or model file") and package
    def _sign_off(self, entry: Entry, facts: Any) -> None:
        strength = facts["strength"]
        need(strength in STRENGTHS.values(), "it is of an unknown strength", UNPROVEN)
        value, said, payload = self._statement(facts["envelope"], SIGN_OFF_TYPE, entry.seq)
        of, who, behalf = said["package"], said["person"], said.get("on_behalf_of")
        true = self.keys[said["key_id"]]["strength"]
        ref = need(strength == true, f"it claims the strength {strength}, the key has {true}") and said["reference"]
        grouped = true != "S2" or self._grouped(entry.seq, said)
        need(grouped, f"the groups in its ID token do not stand for the role {said['role']}", UNPROVEN)
        package = self._package(of["entry_seq"], of["digest"], said, entry.seq)
        need(package.leaf.hex() == of["entry_leaf"], "the statement names another package entry")
        same = {k: said[k] for k in ("model", "version", "stage", "decision", "role", "person", "key_id", "signed_at")}
        same |= {"package_digest": of["digest"], "package_seq": package.seq, "statement_digest": sha256(payload)}
        wrong = ", ".join(sorted(name for name in same if facts.get(name) != same[name]))
        need(not wrong, f"the record and the signed statement differ in {wrong}")
        subject = [{"name": f"{self.mine}/{name}", "digest": {"sha256": digest[7:]}}
                   for name, digest in (("package", of["digest"]), ("model-file", said["model_digest"]))]
        need(value["subject"] == subject and who in entry.subjects, "its subjects are not those that it names")
        self._in_force(said["policy_digest"], entry.seq, said["checkpoint"]["size"])
        leaves = [item.leaf.hex() for item in self.entries.values() if ref and item.seq == ref["entry_seq"] < entry.seq]
        need(ref is None or ref["entry_leaf"] in leaves, "the entry that it refers to is not the one in the ledger")
        held, named = self._held(entry, said, behalf), self.people[who]["name"] == said["printed_name"]
        self.expect(held, entry.where, f"{who} did not hold the role {said['role']} then, nor by a delegation", HOLDS)
        self.expect(named, entry.where, f"the printed name is not the one {who} was enrolled with", HOLDS)
        words = [f"      “{said['meaning']}”  Comments: {said['comments'] or 'none'}"]
        if behalf: words.append(f"      on behalf of {behalf['person']} (by entry {behalf['delegation']['entry_seq']})")
        if it := self.sign_ins.get(entry.seq):
            issuer, archived = it["issuer"], f"the keys that a workload archived in entry {it['archived']}"
            words.append(f"      signed in again for it at {issuer}: the word of that service, checked with {archived}")
            self.gaps.append(f"single sign-on (S2, entry {entry.seq}): whether {issuer} signed in the right person, "
                             f"and whether {archived} are its keys")
        words += ["      Condition: " + condition(item) for item in said["conditions"]]
        ends = [said["expires"], *[c["limit"]["until"] for c in said["conditions"] if c.get("kind") == "expiry"], "~"]
        self.used.add(sha256(payload))
        self.sign_offs[entry.seq] = {
            **said, "name": said["printed_name"], "package_digest": of["digest"], "seq": entry.seq, "time": entry.time,
            "role_held": held, "words": words, "strength": strength, "ends": min(filter(None, ends))}
    def _held(self, entry: Entry, said: Any, behalf: Any) -> bool:  # whether the signer had the role, or by delegation
        if not behalf: return said["role"] in self._roles(said["person"], entry)
        given = self.delegations.get(behalf["delegation"]["entry_seq"], {"leaf": "", "until": 0})
        if given["leaf"] != behalf["delegation"]["entry_leaf"] or given["until"] < entry.seq: return False
        fits = all(not given[name + "s"] or said[name] in given[name + "s"] for name in ("model", "stage"))
        fits &= (given["delegator"], given["delegate"]) == (behalf["person"], said["person"])
        fits &= utc(given["starts"]) <= entry.time_us / 10**6 < utc(given["expires"])
        return bool(fits and said["role"] == given["role"] in self._roles(given["delegator"], entry))
    def _undone(self, seq: int, until: int) -> str | None:  # what undoes a sign-off before entry `until`
        mine, approves = self.sign_offs[seq], self.sign_offs[seq]["decision"] in APPROVALS
        for act in (act for act in self.acts.values() if seq < act["seq"] < until and act["counts"]):
            lifts = (act["kind"], act["facts"].get("sign_off_seq"), mine["decision"]) == ("block_lifted", seq, "block")
            if lifts or (approves and act["facts"].get("event") in self.policy.get("voids", [])):
                return f"was undone by the {act['kind']} of entry {act['seq']}"
        for other in (item for item in self.sign_offs.values() if item["seq"] < until):
            withdraws = (other["decision"], other["person"]) == ("withdraw", mine["person"]) and other["reference"]
            if withdraws and other["reference"]["entry_seq"] == seq: return f"was withdrawn by entry {other['seq']}"
            same = other["decision"] == "block" or other["package_digest"] == mine["package_digest"]
            if approves and same and other["decision"] in ("block", "reject") and not self._undone(other["seq"], until):
                return f"stands under the {other['decision']} of entry {other['seq']}"
        return None
    def _release(self, entry: Entry, facts: Any) -> None:
        at, target, based_on, now = entry.seq, facts["target"], facts["sign_off_seqs"], facts["decided_at"]
        self._package(facts["package_seq"], facts["package_digest"], facts, at)
        need(facts["decided_on_size"] == at, "it claims to be decided on another number of entries")
        self._in_force(facts["policy_digest"], at)
        self.expect(based_on or facts.get("waived"), entry.where, "the release rests on no sign-off", HOLDS)
        for seq in based_on:
            need(seq not in self.unproven, f"it relies on entry {seq}, which is not proven", UNPROVEN)
            found = need(self.sign_offs.get(seq), f"it relies on entry {seq}, which is no valid earlier sign-off")
            stage, undone = self._rules("stages").get(found["stage"], {}), self._undone(seq, at)
            least = stage.get("min_strength", "S3")
            for fits, wrong in (
                (found["package_digest"] == facts["package_digest"], "is for another package"),
                (self.keys[found["key_id"]]["until"] == NEVER, "is by one whose key was revoked before the release"),
                (found["decision"] in APPROVALS, f"is no approval but {found['decision']!r}"),
                (found["role_held"], "is by a signer who did not hold the role"), (undone is None, undone),
                (target in found["target_environments"], "is for other targets"), (found["ends"] > now, "had expired"),
                (found["strength"] >= least, f"is of less strength than {least}, which its stage demands"),
            ): need(fits, f"it relies on the sign-off in entry {seq}, which {wrong}")
        need(all(seq in self.entries and seq < at for seq in facts["gate_seqs"]), "it relies on unknown gates")
        need(set(facts["relied_on"]) <= set(entry.subjects), "it does not carry all that it relied on as subjects")
        self.grants[at] = {**facts, "seq": at, "time": entry.time, "words": self._by(facts)}
    def _by(self, facts: Any) -> list[str]:  # what a release rests on besides sign-offs, in words
        purpose, waived, waivable, words = facts.get("purpose", "release"), {*facts.get("waived", [])}, set[str](), []
        need(purpose in ("release", *WAYS), f"its purpose {purpose!r} is not known to this verifier", UNPROVEN)
        orders = [("change_plan_adopted", facts["plan_seq"])] if facts.get("plan_seq") is not None else []
        orders += [(WAYS[purpose], facts["order_seq"])] if purpose in WAYS else []
        wanted = {name: facts[name] for name in ("model", "version", "target")}
        for kind, seq in orders:
            need(seq not in self.unproven, f"it relies on entry {seq}, which is not proven", UNPROVEN)
            act = self.acts.get(seq, {"counts": False})
            said = need(act["counts"] and act["kind"] == kind, f"entry {seq} is no {kind} that counts") and act["facts"]
            over = any(other["counts"] and other["facts"].get("plan_seq") == seq for other in self.acts.values())
            need({**wanted, **said}.items() >= wanted.items(), f"the act of entry {seq} is about something else")
            need(said.get("expires", "~") > facts["decided_at"] and not over, f"the act of entry {seq} had ended")
            waivable |= {*said.get("waived", []), *said.get("stages", [])}
            words.append(f"      by {kind} of entry {seq}, signed by {', '.join(act['signers'])}: {said['reason']}")
        need(waived <= waivable, "it goes without stages that nobody waived")
        words += [f"      without the sign-off of: {', '.join(sorted(waived))}"] * bool(waived)
        return words + [f"      bound to the condition: {condition(item)}" for item in facts.get("conditions", [])]
    def _deployed(self, entry: Entry, facts: Any) -> None:
        seq, grant = facts["grant_seq"], self.grants.get(facts["grant_seq"], {})
        need(seq not in self.unproven, f"it relies on entry {seq}, which is not proven", UNPROVEN)
        need(all(grant.get(name) == facts[name] for name in (*ABOUT, "target")), f"entry {seq} did not release it")
        self.deployments.append({**facts, "seq": entry.seq, "time": entry.time, "words": []})
    def _coverage(self) -> None:  # the anchor must carry every subject that matters
        needed, anchor = {self.mine, f"model/{self.manifest['model']}", "policy", "people", "ledger"}, self.closure[-1]
        for entry in self.closure:
            relies = entry.kind in ("sign_off", "release_granted", "training_run") and self.mine in entry.subjects
            wanted = ("person", "release", "dataset") if relies and entry.facts else ()
            needed |= {s for s in entry.subjects if s.split("/")[0] in wanted or s == self.whole}
        for subject in sorted(needed - set(anchor.subjects)):
            self.expect(False, "anchor", f"it does not cover {subject}: an entry about it could be left out", UNPROVEN)
        for name in ("model", "version", "package_digest") if anchor.facts else ():
            self.expect(anchor.facts[name] == self.manifest[name], "bundle.json", f"its {name} is not the anchor's")
    def _copies(self) -> None:  # the package and its copies must be the files that the entries about it name
        digest, named, outcome = self.manifest["package_digest"], set[Any](), TAMPERED
        for entry in self.entries.values():
            if entry.kind in ("package", "final_copy") and self.mine in entry.subjects:
                facts, outcome = entry.facts or {}, outcome if entry.facts else UNPROVEN
                if digest in (facts.get("package_digest"), (facts.get("package") or {}).get("digest")):
                    named |= {(path, (facts.get(name) or {}).get("digest")) for path, name in COPIES.items()}
        for path in sorted({"package/package.json", *self.files.under("package/")}):
            found = "sha256:" + self.files.digests.get(path, ("",))[0]
            of = TAMPERED if path == "package/package.json" and found != digest else outcome  # whatever is undisclosed
            self.expect((path, found) in named, path, "it is missing, or the ledger does not name it so", of)
    def _evidence(self) -> None:  # the register against the entries and the files
        where = "evidence/register.json"
        register, present = parse_canonical(self.files.bytes(where), where), {*self.files.under("evidence/")}
        for item in register:
            seq, digest, size, kept = item["entry_seq"], item["digest"], item.get("size"), item.get("sensitivity")
            known = self.entries[seq].evidence if seq in self.entries else []
            self.expect(digest in known, where, f"entry {seq} does not name {digest}")
            if f"evidence/{digest[7:]}" not in present and digest not in self.left_out:
                reason = f"it is {kept}" if kept not in SHOWN else f"it has {size} bytes; ask unless over {5 << 20}"
                self.left_out[digest] = {"name": None, **item, "reason": reason}
        listed = {f"evidence/{item['digest'][7:]}" for item in register if item["included"] is True}
        for path in sorted((present | listed) - {where}):
            fits = path in present & listed and path == f"evidence/{self.files.digests[path][0]}"
            self.expect(fits, path, "it is missing, or not registered as included, or its SHA-256 is not its name")
        self.present = len(present) - 1
    def report(self) -> dict[str, Any]:  # return the result as plain data
        codes, manifest, anchor = {finding["code"] for finding in self.findings}, self.manifest, self.anchor
        code, sound = min(codes, default=HOLDS), codes <= {UNPROVEN} and bool(self.entries)
        left_out = [f"evidence not in the bundle: {item['name']} ({item['digest']}, entry {item['entry_seq']}): "
                    f"{item['reason']}" for item in self.left_out.values()]
        self.gaps += [f"payloads undisclosed or erased: {sum(e.facts is None for e in self.entries.values())} entries"]
        proven = [*self.proven, f"{len(self.entries)} entries have exactly the bytes the checkpoint's root commits to",
                  f"{self.signatures} signatures of people and workloads verify with keys valid at the time",
                  "no entry about the anchor's subjects up to the anchor is left out of the bundle",
                  f"{self.present} of {self.present + len(left_out)} evidence files are included and have their digest",
                  f"the checkpoint is signed by {', '.join(self.signers)} (trust file)",
                  "the checkpoint is cosigned by a quorum of the trust file's witnesses"]
        return {
            "format": "cognify-verification/v1", "exit_code": code, "outcome": OUTCOMES[code],
            "signatures": self.signatures, "entries": len(self.entries), "findings": self.findings,
            "level": f"L{self.level}" if sound else None, "trial": self.trial or bool(manifest.get("trial")),
            "ledger": self.origin, **{name: manifest.get(name) for name in ("model", "version", "package_digest")},
            "checkpoint": {"size": self.size, "root": self.root.hex(), "signed_by": self.signers,
                           "witnesses": self.cosigners}, "anchor": anchor or None, "acts": [*self.acts.values()],
            "proven": proven[: len(proven) - 2 + self.level] if sound else [], "grants": [*self.grants.values()],
            "deployments": self.deployments, "warnings": [f"{it['where']}: {it['message']}" for it in self.warnings],
            "sign_offs": [{**item, "undone": self._undone(seq, self.size)} for seq, item in self.sign_offs.items()],
            "evidence_not_included": [*self.left_out.values()], "not_checked": [*NOT_CHECKED, *left_out, *self.gaps],
            "exposure": f"what happened after entry {anchor['seq']} ({anchor['time']}) is not in this bundle; the "
                        f"ledger had {self.size} entries when its head was signed" if anchor else None}
def verify_bundle(path: Any, trust: str | None) -> dict[str, Any]: return Verifier(os.fspath(path), trust).run()
def report_text(got: dict[str, Any]) -> str:  # in plain language
    version = f"{got['model']}@{got['version']} in ledger {got['ledger']}, package {got['package_digest']}"
    signed = [line for it in got["sign_offs"] for line in (
        f"{it['signed_at']} {it['decision']}  {it['name']} ({it['person']}) as {it['role']} ({it['stage']}), "
        f"{it['strength']}, entry {it['seq']} of {it['time']} [{it['undone'] or 'stands'}]", *it["words"])]
    moved = ([line for it in got[name] for line in (f"{it['model']}@{it['version']} to {it['target']}, entry "
             f"{it['seq']}, {it['time']}", *it["words"])] for name in ("grants", "deployments"))
    acts = [f"{it['time']} {it['kind']}, entry {it['seq']}, signed by {', '.join(it['signers']) or 'nobody'} "
            f"[{'counts' if it['counts'] else 'counts for nothing'}]: {it['said']}" for it in got["acts"]]
    parts = [[version], got["proven"], signed, [got["exposure"]], *moved, acts, got["warnings"], got["not_checked"]]
    lines = ["*** TRIAL LEDGER: one person may have founded it; no evidence of a release. ***"] * got["trial"]
    lines += [f"Result: {got['outcome'].replace('_', ' ').upper()}  (level {got['level'] or 'none'})"]
    lines += [f"  !! {it['outcome']}: {it['where']}: {it['message']}" for it in got["findings"]]
    for title, found in zip(TITLES, parts, strict=True) if got["model"] is not None else ():  # else no bundle was read
        texts = ["  - " * (str(text)[:1] != " ") + str(text) for text in found]
        lines += ["", f"{title}:" if texts else f"{title}: none", *texts]
    return "\n".join(map(plain, lines)) + "\n"
def main(arguments: list[str] | None = None) -> int:  # run the command; return the exit code
    parser = argparse.ArgumentParser(description="Verify an exported bundle offline.")
    parser.error = lambda message: parser.exit(USAGE, f"verify: {message}\n")  # type: ignore[method-assign]
    parser.add_argument("bundle", help="the bundle: a folder or a zip file")
    parser.add_argument("--trust", help="trust file that you got apart from the bundle")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    if options.trust and os.path.realpath(options.trust).startswith(os.path.realpath(options.bundle) + os.sep):
        parser.error("the trust file lies inside the bundle; a bundle cannot vouch for itself")
    verifier, read = Verifier(options.bundle, None), Path(options.trust or "").read_text
    if options.trust is not None: verifier.trust_text = verifier.attempt("trust file", read, "utf-8")
    report = verifier.run()
    text = json.dumps(report, indent=2, sort_keys=True) + "\n" if options.json else report_text(report)
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    return int(report["exit_code"])
if __name__ == "__main__": sys.exit(main())
