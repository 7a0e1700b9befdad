#!/usr/bin/env python3
"""Verify an exported bundle offline: one file, Python 3.10+ and its standard library only, no network, no product.

    python -I verify.py BUNDLE --trust trust.txt [--json]

BUNDLE is the exported folder or a zip of it. The trust file must reach you apart from the bundle: keys inside a bundle are
never trusted. Without --trust only internal consistency (L0) is checked and the result is "unproven".

Exit codes: 0 holds, 1 tampered, 2 rolled back or forked, 3 unreadable, 4 unproven, 5 wrong usage.

Invariants: nothing is trusted that does not follow from the trust file (log key, witness keys, genesis leaf); every byte is
bounded before it is read; no socket is opened; what was not checked is said. The formats are those of docs/ledger-format.md:
RFC 6962/9162 tree, C2SP notes, checkpoints, proofs and cosignatures, RFC 8785 JSON, DSSE and in-toto statements, RFC 8032.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import hashlib
import json
import os
import re
import stat
import sys
import zipfile
import zlib
from typing import Any, NoReturn

HOLDS, TAMPERED, ROLLED_BACK, UNREADABLE, UNPROVEN, USAGE = range(6)
OUTCOMES = ("holds", "tampered", "rolled_back", "unreadable", "unproven", "usage")
MAX_FILES, MAX_FILE, MAX_TOTAL, MAX_NOTE, MAX_ENTRY = 50_000, 64 << 20, 1 << 30, 1_000_000, 65_535
SHOWN, MAX_EVIDENCE = ("public", "internal"), 5 << 20  # what a bundle includes (docs/bundle-format.md)
STATEMENT_TYPE, PAYLOAD_TYPE = "https://in-toto.io/Statement/v1", "application/vnd.in-toto+json"
SIGN_OFF, ACT = "urn:cognify:predicate:sign-off:v1", "urn:cognify:predicate:act:v1"
BODY_TYPE = "application/vnd.cognify.entry-body+json"
ADMIN = "workspace_admin"
SIGN_OFF_KEYS = {"ledger", "model", "version", "package", "model_digest", "decision", "stage", "role", "meaning"}
SIGN_OFF_KEYS |= {"comments", "conditions", "links", "target_environments", "expires", "viewed", "checkpoint"}
SIGN_OFF_KEYS |= {"policy_digest", "person", "printed_name", "key_id", "signed_at", "reference"}
ENTRY_KEYS = {"body", "heads", "ledger", "prev", "seq", "time_us", "v"}
BODY_KEYS = {"actor", "evidence", "idem", "key", "kind", "payload", "schema", "sig", "subjects"}
ACT_KEYS = {"ledger", "kind", "meaning", "person", "key_id", "role", "checkpoint", "signed_at"}
GOVERNANCE = {"genesis", "person_enrolled", "workload_enrolled", "key_revoked", "policy_adopted"}
NOT_CHECKED = (
    "the seal (PAdES) and the appearance of the PDF copies: only their SHA-256 is compared with the ledger",
    "external time stamps (RFC 3161): times are the writers' claims, in order of the ledger",
    "whether the policy's stages, quorums and separation of duties were met: that needs a replay of the decision",
    "subject heads against the whole ledger: they are compared with each other, a full `cognify ledger verify` recomputes all",
    "README.txt and verify.py of the bundle: the ledger does not name them; use a verifier you got elsewhere",
)


class Bad(Exception):
    """A check failed; `outcome` is the exit code it leads to."""

    def __init__(self, message: str, outcome: int = TAMPERED) -> None:
        super().__init__(message)
        self.outcome = outcome


# --- Ed25519 (RFC 8032), verification only ---------------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_M1 = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]
IDENTITY: Point = (0, 1, 1, 0)
_tables: dict[bytes, list[Point] | None] = {}
_base: list[list[Point]] = []


def _add(p: Point, q: Point) -> Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _double(p: Point) -> Point:
    a, b = p[0] * p[0], p[1] * p[1]
    h, g = a + b, a - b
    e, f = (h - (p[0] + p[1]) ** 2) % P, (2 * p[2] * p[2] + g) % P
    h, g = h % P, g % P
    return e * f % P, g * h % P, f * g % P, e * h % P


def _decode(raw: bytes) -> Point | None:
    """Decode a point; None if it is not on the curve or not in canonical form."""
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P:
        x = x * ROOT_M1 % P
    if (v * x * x - u) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def _multiples(p: Point) -> list[Point]:
    row = [IDENTITY, p]
    while len(row) < 16:
        row.append(_add(row[-1], p))
    return row


def _base_table() -> list[list[Point]]:
    """Multiples 0..15 of 16^i·B, so that a fixed-base product takes 64 additions."""
    if not _base:
        y = 4 * pow(5, -1, P) % P
        point = _decode(y.to_bytes(32, "little")) or IDENTITY
        for _ in range(64):
            _base.append(_multiples(point))
            point = _double(_double(_double(_double(point))))
    return _base


def ed25519_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Verify strictly: canonical encodings only, s < L, no key of small order, equation without cofactor."""
    if len(public) != 32 or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    if s >= L:
        return False
    if public not in _tables:
        a = _decode(public)
        small = a is not None and _double(_double(_double(a)))[0] % P == 0
        _tables[public] = None if a is None or small else _multiples((P - a[0], a[1], 1, P - a[3]))
    table = _tables[public]
    if table is None:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    result = IDENTITY
    for shift in range(252, -1, -4):
        result = _double(_double(_double(_double(result))))
        if nibble := h >> shift & 15:
            result = _add(result, table[nibble])
    for index, row in enumerate(_base_table()):
        if nibble := s >> (4 * index) & 15:
            result = _add(result, row[nibble])
    inverse = pow(result[2], -1, P)
    x, y = result[0] * inverse % P, result[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]


# --- canonical JSON (RFC 8785) ---------------------------------------------------------------------------------------


def _number(value: float) -> str:
    """ECMAScript's Number::toString: Python's repr gives the same shortest digits, only laid out differently."""
    if value == 0:
        return "0"
    sign, text = ("-", repr(-value)) if value < 0 else ("", repr(value))
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = int(exponent or 0) + len(whole) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        text = digits + "0" * (point - count)
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        text = f"{digits[0]}{'.' if count > 1 else ''}{digits[1:]}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return sign + text


def _text(value: Any, depth: int = 0) -> str:
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if depth >= 64:
        raise Bad("JSON nested more than 64 levels deep")
    if isinstance(value, list):
        return "[" + ",".join(_text(item, depth + 1) for item in value) + "]"
    keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{_text(value[k], depth + 1)}" for k in keys) + "}"


def canonical(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a parsed JSON value."""
    return _text(value).encode()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise Bad("a JSON key occurs twice")
    return dict(pairs)


def _integer(text: str) -> int | float:
    """Beyond 2^53-1 a JSON number is a double; the comparison with the canonical form then refuses a rounded one."""
    if len(text) > 25:
        raise Bad("a JSON number has too many digits")
    return int(text) if abs(int(text)) < 2**53 else float(text)


def _constant(text: str) -> Any:
    raise Bad(f"{text} is not JSON")


def parse_canonical(data: bytes, where: str) -> Any:
    """Parse bytes that must be in RFC 8785 form."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_pairs, parse_int=_integer, parse_constant=_constant)
        if canonical(value) != data:
            raise Bad("the bytes are not in canonical form")
    except (ValueError, OverflowError, RecursionError) as error:
        raise Bad(f"{where}: not canonical JSON ({type(error).__name__})") from None
    except Bad as error:
        raise Bad(f"{where}: {error}") from None
    return value


def get(value: Any, path: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Return a member by dotted path, checked for its type."""
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            raise Bad(f"{where}: member {path!r} is missing")
        value = value[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise Bad(f"{where}: member {path!r} is not of the right type")
    return value


def unbase64(text: str, what: str) -> bytes:
    """Decode standard base64 strictly (the only encoding of its bytes)."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise Bad(f"{what}: not base64") from None
    if base64.b64encode(raw).decode() != text:
        raise Bad(f"{what}: not canonical base64")
    return raw


def sha256(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def pae(kind: str, body: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding."""
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(body), body)


# --- tree, notes, trust file -----------------------------------------------------------------------------------------


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 root over leaf hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = leaves
    while len(level) > 1:
        level = [_node(*level[i : i + 2]) if i + 1 < len(level) else level[i] for i in range(0, len(level), 2)]
    return level[0]


def check_inclusion(index: int, size: int, leaf: bytes, path: list[bytes], root: bytes) -> None:
    """RFC 9162 §2.1.3.2."""
    if not 0 <= index < size:
        raise Bad(f"the proof is for entry {index} of {size}")
    fn, sn, current = index, size - 1, leaf
    for sibling in path:
        if sn == 0 or len(sibling) != 32:
            raise Bad("the inclusion proof has the wrong shape")
        if fn & 1 or fn == sn:
            current = _node(sibling, current)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            current = _node(current, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or current != root:
        raise Bad("the inclusion proof does not lead to the checkpoint's root")


def parse_note(text: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """Split a C2SP signed note into its text and (name, key id, signature) lines."""
    split = text.rfind("\n\n")
    if len(text) > MAX_NOTE or any(ord(c) < 32 and c != "\n" for c in text) or split < 1 or not text.endswith("\n"):
        raise Bad("not a signed note")
    lines: list[tuple[str, bytes, bytes]] = []
    for line in text[split + 2 : -1].split("\n"):
        match = re.fullmatch(r"— ([^\s+]+) ([A-Za-z0-9+/=]+)", line)
        if not match or len(lines) >= 100:
            raise Bad("a signature line of the note is malformed")
        raw = unbase64(match[2], "note signature")
        if len(raw) < 5:
            raise Bad("a signature of the note is too short")
        lines.append((match[1], raw[:4], raw[4:]))
    return text[: split + 1], lines


def parse_checkpoint(text: str) -> tuple[str, int, bytes]:
    """Read checkpoint text: origin, size, root."""
    lines = text.split("\n")
    if len(lines) < 4 or not lines[0] or not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1]):
        raise Bad("the checkpoint is malformed")
    root = unbase64(lines[2], "checkpoint root")
    if len(root) != 32:
        raise Bad("the checkpoint's root has not 32 bytes")
    return lines[0], int(lines[1]), root


class Trust:
    """A trust file: C2SP tlog-policy with the genesis leaf in a comment."""

    def __init__(self, text: str) -> None:
        self.logs: dict[tuple[str, bytes], bytes] = {}
        self.witnesses: dict[tuple[str, bytes], tuple[str, bytes]] = {}
        self.groups: dict[str, tuple[int, list[str]]] = {}
        self.genesis: str | None = None
        self.quorum = ""
        self._names: set[str] = set()
        self._members: set[str] = set()
        if len(text) > MAX_NOTE:
            raise Bad("it is too long: this is no trust file", UNREADABLE)
        for number, line in enumerate(text.split("\n"), 1):
            try:
                self._line(line.strip(), line.split())
            except (Bad, ValueError) as error:
                raise Bad(f"line {number}: {error}", UNREADABLE) from None
        if not self.logs or not self.quorum:
            raise Bad("it needs a log line and a quorum line: this is no trust file", UNREADABLE)

    def _line(self, line: str, words: list[str]) -> None:
        if line.startswith("# cognify-genesis "):
            if self.genesis is not None or not re.fullmatch(r"[0-9a-f]{64}", words[2]):
                raise Bad("the genesis line is malformed or there are two")
            self.genesis = words[2]
        elif not words or line.startswith("#"):
            return
        elif words[0] == "log" and len(words) in (2, 3):
            name, key_id, public = _vkey(words[1], 1)
            self.logs[name, key_id] = public
        elif words[0] == "witness" and len(words) in (3, 4):
            name, key_id, public = _vkey(words[2], 4)
            if public in [known for _, known in self.witnesses.values()]:
                raise Bad("two witnesses have one key")
            self.witnesses[name, key_id] = (self._name(words[1]), public)
        elif words[0] == "group" and len(words) >= 4:
            members = words[3:]
            if any(m not in self._names or m in self._members for m in members) or len(set(members)) != len(members):
                raise Bad("a group member is unknown or used twice")
            self._members.update(members)
            k = {"all": len(members), "any": 1}.get(words[2]) or int(words[2])
            if not 1 <= k <= len(members):
                raise Bad("the threshold does not fit the group")
            self.groups[self._name(words[1])] = (k, members)
        elif words[0] == "quorum" and len(words) == 2 and not self.quorum:
            if words[1] != "none" and words[1] not in self._names:
                raise Bad("the quorum is not defined")
            self.quorum = words[1]
        else:
            raise Bad("not a line of a trust file")

    def _name(self, name: str) -> str:
        if name in self._names or name == "none":
            raise Bad(f"the name {name!r} is taken")
        self._names.add(name)
        return name

    def met(self, name: str, seen: set[str]) -> bool:
        """Whether witness or group `name` has witnessed, given the witnesses that cosigned."""
        if name not in self.groups:
            return name in seen
        k, members = self.groups[name]
        return sum(self.met(member, seen) for member in members) >= k


def _vkey(text: str, algorithm: int) -> tuple[str, bytes, bytes]:
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    raw = unbase64(encoded, "verifier key")
    if not name or len(raw) != 33 or raw[0] != algorithm:
        raise Bad(f"the key {name!r} is not an Ed25519 key of type {algorithm}")
    true_id = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if true_id.hex() != key_id:
        raise Bad(f"the key id of {name!r} does not match")
    return name, true_id, raw[1:]


# --- the files of a bundle -------------------------------------------------------------------------------------------

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,4}")


class Files:
    """A bundle's files, read once under bounds. Bytes are kept only where they are parsed; digests of all."""

    def __init__(self, path: str) -> None:
        self.kept: dict[str, bytes] = {}
        self.digests: dict[str, tuple[str, int]] = {}
        self._total = 0
        try:
            if os.path.isdir(path):
                self._folder(path)
            elif os.path.isfile(path):
                self._zip(path)
            else:
                raise Bad("there is no such folder or zip file", UNREADABLE)
        except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise Bad(f"it cannot be read as a bundle: {error}", UNREADABLE) from None

    def _take(self, name: str, stream: Any) -> None:
        if len(name) > 200 or not _SAFE.fullmatch(name) or name in self.digests:
            raise Bad(f"a bundle has no file called {plain(name[:80])}", UNREADABLE)
        data: bytes = stream.read(MAX_FILE + 1)
        self._total += len(data)
        if len(data) > MAX_FILE or self._total > MAX_TOTAL or len(self.digests) >= MAX_FILES:
            raise Bad(f"{name}: the bundle is larger than any bundle may be", UNREADABLE)
        self.digests[name] = (sha256(data), len(data))
        if name.startswith("ledger/") or name in ("bundle.json", "evidence/register.json"):
            self.kept[name] = data

    def _folder(self, root: str) -> None:
        for folder, folders, names in os.walk(root):
            for name in sorted(folders + names):
                full = os.path.join(folder, name)
                mode = os.lstat(full).st_mode
                if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                    raise Bad(f"{full}: links and special files have no place in a bundle", UNREADABLE)
            for name in sorted(names):
                full = os.path.join(folder, name)
                with open(full, "rb") as stream:
                    self._take(os.path.relpath(full, root).replace(os.sep, "/"), stream)

    def _zip(self, path: str) -> None:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if len(infos) > MAX_FILES or sum(info.file_size for info in infos) > MAX_TOTAL:
                raise Bad("the zip unpacks to more than a bundle may hold", UNREADABLE)
            tops = {info.filename.split("/")[0] + "/" for info in infos}
            prefix = tops.pop() if len(tops) == 1 and all("/" in info.filename for info in infos) else ""
            prefix = prefix if _SAFE.fullmatch(prefix[:-1]) else ""
            for info in infos:
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise Bad(f"{plain(info.filename)}: links have no place in a bundle", UNREADABLE)
                with archive.open(info) as stream:
                    self._take(info.filename[len(prefix) :], stream)

    def bytes(self, name: str) -> bytes:
        """Return a kept file."""
        if name not in self.kept:
            raise Bad(f"{name} is missing", TAMPERED if "bundle.json" in self.kept else UNREADABLE)
        return self.kept[name]

    def text(self, name: str) -> str:
        """Return a kept file as UTF-8 text."""
        try:
            return self.bytes(name).decode()
        except UnicodeDecodeError:
            raise Bad(f"{name}: not UTF-8 text") from None


# --- entries ---------------------------------------------------------------------------------------------------------

_SUBJECT = re.compile(r"[a-z][a-z0-9_]{0,39}(/[A-Za-z0-9_.+-]{1,120}(@[A-Za-z0-9_.+-]{1,60})?)?")
_FIELDS = {"prev": 64, "body.idem": 64, "body.payload": 64}


class Entry:
    """An entry read strictly from its bytes, with its payload if the bundle discloses it."""

    def __init__(self, data: bytes, where: str) -> None:
        value = parse_canonical(data, where)
        if len(data) > MAX_ENTRY or not isinstance(value, dict):
            raise Bad(f"{where}: not an entry")
        body = get(value, "body", dict, where)
        if set(value) != ENTRY_KEYS or set(body) != BODY_KEYS:
            raise Bad(f"{where}: an entry has other members than these")
        for name, digits in _FIELDS.items():
            if not re.fullmatch(f"[0-9a-f]{{{digits}}}", get(value, name, str, where)):
                raise Bad(f"{where}: {name} is not {digits} hex digits")
        self.seq: int = get(value, "seq", int, where)
        self.time_us: int = get(value, "time_us", int, where)
        self.ledger: str = get(value, "ledger", str, where)
        self.kind: str = get(body, "kind", str, where)
        self.schema: int = get(body, "schema", int, where)
        self.subjects: list[str] = get(body, "subjects", list, where)
        self.evidence: list[str] = get(body, "evidence", list, where)
        self.heads: dict[str, int] = get(value, "heads", dict, where)
        self.actor: str = get(body, "actor", str, where)
        self.key: str = get(body, "key", str, where)
        self.sig = unbase64(get(body, "sig", str, where), where)
        self.prev, self.commitment = value["prev"], body["payload"]
        self.leaf = hashlib.sha256(b"\x00" + data).digest()
        self.signed = pae(
            BODY_TYPE, canonical({"body": {k: v for k, v in body.items() if k != "sig"}, "ledger": self.ledger})
        )
        if get(value, "v", int, where) != 1 or self.seq < 0 or self.time_us < 0 or not 1 <= self.schema <= 10_000:
            raise Bad(f"{where}: version, sequence number, time or schema is out of range")
        if not re.fullmatch(r"([0-9a-f]{16})?", self.key) or len(self.sig) != (64 if self.key else 0):
            raise Bad(f"{where}: key id and signature do not fit each other")
        if not all(isinstance(s, str) and _SUBJECT.fullmatch(s) for s in [*self.subjects, self.actor]):
            raise Bad(f"{where}: a subject is malformed")
        if not self.subjects or self.subjects != sorted(set(self.subjects)) or set(self.heads) != set(self.subjects):
            raise Bad(f"{where}: subjects and heads do not fit each other")
        if any(type(head) is not int or not -1 <= head < self.seq for head in self.heads.values()):
            raise Bad(f"{where}: a subject head is not an earlier entry")
        if not all(isinstance(e, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", e) for e in self.evidence):
            raise Bad(f"{where}: an evidence digest is malformed")
        origin = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{2,199}", self.ledger)
        if (
            not origin
            or not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", self.kind)
            or self.evidence != sorted(set(self.evidence))
        ):
            raise Bad(f"{where}: ledger, kind or evidence is malformed")
        self.facts: dict[str, Any] | None = None

    @property
    def time(self) -> str:
        """The entry's time as UTC text."""
        try:
            moment = datetime.datetime.fromtimestamp(self.time_us / 1e6, datetime.timezone.utc)
        except (ValueError, OverflowError, OSError):
            return "a time out of range"
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Key:
    """An enrolled key: whose it is and the entries for which it counts (after `since`, before `until`)."""

    def __init__(self, holder: str, public: bytes, since: int, kinds: list[str] | None = None) -> None:
        self.holder, self.public, self.since, self.kinds = holder, public, since, kinds
        self.until: int | None = None


def plain(text: Any) -> str:
    """Text without control or formatting characters, for printing what others wrote."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


# --- the verification ------------------------------------------------------------------------------------------------


def _left_out(item: dict[str, Any]) -> str:
    """Why the register says that a piece of evidence did not leave with the bundle."""
    if item.get("sensitivity") not in SHOWN:
        return f"it is {item.get('sensitivity')}"
    if isinstance(item.get("size"), int) and item["size"] > MAX_EVIDENCE:
        return f"it has {item['size']} bytes; more than {MAX_EVIDENCE} are not copied"
    return "the register does not say why; ask for it"


class Verifier:
    """One verification of one bundle. Findings are collected; a later check runs as far as the earlier ones allow."""

    def __init__(self, path: str, trust_text: str | None) -> None:
        self.path, self.trust_text = path, trust_text
        self.findings: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.proven: list[str] = []
        self.entries: dict[int, Entry] = {}
        self.keys: dict[str, Key] = {}
        self.people: dict[str, dict[str, Any]] = {}
        self.policies: list[tuple[int, str]] = []
        self.sign_offs: dict[int, dict[str, Any]] = {}
        self.grants: dict[int, dict[str, Any]] = {}
        self.deployments: list[dict[str, Any]] = []
        self.manifest: dict[str, Any] = {}
        self.size, self.root, self.origin = 0, b"", ""
        self.signers: list[str] = []
        self.cosigners: list[dict[str, Any]] = []
        self.level, self.trial, self.signatures = 0, False, 0
        self.undisclosed: list[int] = []
        self.unproven: set[int] = set()
        self.policy: dict[str, Any] = {}
        self.evidence = (0, 0)
        self.left_out: list[dict[str, Any]] = []
        self.roots: dict[int, str | None] = {}

    def bad(self, where: str, message: str, outcome: int = TAMPERED) -> None:
        """Record a finding."""
        self.findings.append({"outcome": OUTCOMES[outcome], "code": outcome, "where": where, "message": plain(message)})

    def run(self) -> dict[str, Any]:
        """Run every check and return the report."""
        try:
            trust = None if self.trust_text is None else Trust(self.trust_text)
        except Bad as error:
            self.bad("trust file", str(error), error.outcome)
            return self._report()
        try:
            self.files = Files(self.path)
        except Bad as error:
            self.bad(self.path, str(error), error.outcome)
            return self._report()
        try:
            self._manifest()
            self._checkpoint(trust)
            self._entries(trust)
            closure = self._closure()
            self._payloads()
            for entry in sorted(closure, key=lambda item: item.seq):
                self._judge(entry)
            self._coverage(closure)
            self._documents()
        except Bad as error:
            self.bad("bundle", str(error), error.outcome)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError) as error:
            self.bad("bundle", f"a file has an unexpected shape ({type(error).__name__}: {error})", UNREADABLE)
        if self.trust_text is None:
            self.bad("trust", "no trust file was given: no signature can be trusted", UNPROVEN)
        return self._report()

    def _manifest(self) -> None:
        manifest = parse_canonical(self.files.bytes("bundle.json"), "bundle.json")
        if get(manifest, "format", str, "bundle.json") != "cognify-bundle/v1":
            raise Bad("bundle.json: unknown bundle format; use a newer verifier", UNREADABLE)
        kinds = {"ledger": str, "model": str, "version": str, "package_digest": str, "created": str}
        for name, kind in {**kinds, "anchor_seq": int, "size": int, "trial": bool}.items():
            get(manifest, name, kind, "bundle.json")
        listed: dict[str, tuple[str, int]] = {}
        paths = [get(item, "path", str, "bundle.json") for item in get(manifest, "files", list, "bundle.json")]
        if paths != sorted(set(paths)):
            self.bad("bundle.json", "the file list is not sorted, or names a file twice")
        for item in manifest["files"]:
            listed[item["path"]] = (get(item, "sha256", str, "bundle.json"), get(item, "size", int, "bundle.json"))
        for path in sorted(set(listed) | (set(self.files.digests) - {"bundle.json"})):
            if path not in self.files.digests:
                self.bad(path, "the file is listed but missing")
            elif path not in listed:
                self.bad(path, "the file is not in the bundle's list")
            elif listed[path] != self.files.digests[path]:
                self.bad(path, "the file's digest or size is not the one listed: it was changed")
        self.manifest = manifest

    def _checkpoint(self, trust: Trust | None) -> None:
        text, lines = parse_note(self.files.text("ledger/checkpoint.txt"))
        self.note = (text, lines)
        self.origin, self.size, self.root = parse_checkpoint(text)
        where, seen = "ledger/checkpoint.txt", set()
        if trust is not None:
            for name, key_id, signature in lines:
                if (name, key_id) in trust.logs:
                    if not ed25519_verify(trust.logs[name, key_id], text.encode(), signature):
                        raise Bad(f"{where}: the signature of {plain(name)} does not verify")
                    self.signers.append(name)
                elif (name, key_id) in trust.witnesses:
                    label, public = trust.witnesses[name, key_id]
                    time = int.from_bytes(signature[:8], "big")
                    message = f"cosignature/v1\ntime {time}\n{text}".encode()
                    if len(signature) != 72 or time >= 2**63 or not ed25519_verify(public, message, signature[8:]):
                        raise Bad(f"{where}: the cosignature of {plain(name)} does not verify")
                    seen.add(label)
                    self.cosigners.append({"witness": label, "time": time})
            named = sorted({name for name, _ in trust.logs})
            if self.origin not in self.signers and self.origin not in named:
                text = f"it is for the ledger {', '.join(named)}; this bundle comes from the ledger {self.origin}"
                self.bad("trust file", text, UNPROVEN)
            elif self.origin not in self.signers:
                text = f"it names the ledger {self.origin} with another key than the one that signed this bundle"
                self.bad("trust file", f"{text}: another ledger of that name, or a forged one", UNPROVEN)
            else:
                self.level = 1
                if trust.quorum != "none" and not trust.met(trust.quorum, seen):
                    self.bad(where, f"the witness quorum {trust.quorum!r} is not met ({len(seen)} cosigned)", UNPROVEN)
                elif trust.quorum != "none":
                    self.level = 2
        if self.origin != self.manifest["ledger"] or self.size != self.manifest["size"]:
            self.bad(where, "the checkpoint is not for the ledger and size that bundle.json names")
        if not 0 <= self.manifest["anchor_seq"] < self.size:
            self.bad(where, f"the checkpoint of size {self.size} does not cover entry {self.manifest['anchor_seq']}")

    def _entries(self, trust: Trust | None) -> None:
        names = [name for name in self.files.kept if name.startswith("ledger/entries/")]
        for name in sorted(names):
            match = re.fullmatch(r"ledger/entries/(\d{8,})\.json", name)
            try:
                entry = Entry(self.files.bytes(name), name)
                if not match or f"{entry.seq:08d}" != match[1]:
                    raise Bad(f"its bytes say sequence number {entry.seq}")
                if entry.ledger != self.origin:
                    raise Bad(f"it belongs to ledger {entry.ledger!r}")
                self.entries[entry.seq] = entry
                self._proof(entry)
            except Bad as error:
                self.bad(name, str(error), error.outcome)
        last: dict[str, int] = {}
        before: Entry | None = None
        for seq in sorted(self.entries):
            entry = self.entries[seq]
            if seq - 1 in self.entries and entry.prev != self.entries[seq - 1].leaf.hex():
                self.bad(f"entry {seq}", "its previous-leaf hash is not that of the entry before it")
            if (seq == 0) != (entry.prev == "0" * 64):
                self.bad(f"entry {seq}", "only the first entry has no previous leaf")
            if before is not None and entry.time_us < before.time_us:
                self.bad(f"entry {seq}", "its time lies before that of an earlier entry")
            for subject, head in entry.heads.items():
                if last.get(subject, -1) > head:
                    self.bad(f"entry {seq}", f"its head for {subject} skips entry {last[subject]}")
                last[subject] = seq
            before = entry
        first = self.entries.get(0)
        if first is None:
            self.undisclosed.append(0)
        if trust is None:
            return
        if trust.genesis is None:
            self.bad("trust", "the trust file pins no genesis leaf, so people's keys cannot be trusted", UNPROVEN)
        elif first is None:
            self.bad("entry 0", "the genesis entry is not in the bundle, so people's keys cannot be trusted", UNPROVEN)
        elif first.leaf.hex() != trust.genesis and self.level:  # without a known log it is another ledger, not a fork
            self.bad("entry 0", "the ledger begins with another entry than the trust file pins", ROLLED_BACK)

    def _proof(self, entry: Entry) -> None:
        name = f"ledger/proofs/{entry.seq:08d}.tlog-proof"
        head, blank, note = self.files.text(name).partition("\n\n")
        lines = head.split("\n")
        if len(lines) > 1 and lines[1].startswith("extra "):
            del lines[1]
        if not blank or lines[0] != "c2sp.org/tlog-proof@v1" or len(lines) > 65 or lines[1:2] != [f"index {entry.seq}"]:
            raise Bad(f"{name} is not a proof for entry {entry.seq}")
        text, signatures = parse_note(note)
        if text != self.note[0] or not set(signatures) <= set(self.note[1]):
            raise Bad(f"{name} leads to another checkpoint than ledger/checkpoint.txt")
        check_inclusion(entry.seq, self.size, entry.leaf, [unbase64(line, name) for line in lines[2:]], self.root)

    def _closure(self) -> list[Entry]:
        """Walk the heads of every subject of the anchor: the whole history of each must be there."""
        anchor = self.entries.get(self.manifest["anchor_seq"])
        if anchor is None or anchor.kind != "bundle_exported":
            raise Bad("the anchor entry (kind bundle_exported) is missing")
        self.anchor = anchor
        found = {anchor.seq: anchor}
        for subject in anchor.subjects:
            at = anchor
            while (head := at.heads[subject]) >= 0:
                entry = self.entries.get(head)
                if entry is None or subject not in entry.heads:
                    self.bad(f"entry {head}", f"the history of {subject} is not complete: this entry is left out")
                    break
                found[head] = at = entry
        spare = len(self.entries) - len(found)
        if spare:
            self.warnings.append(f"{spare} entries of the bundle are not in the anchored history; they are not judged")
        return list(found.values())

    def _payloads(self) -> None:
        for name in sorted(name for name in self.files.kept if name.startswith("ledger/payloads/")):
            try:
                match = re.fullmatch(r"ledger/payloads/(\d{8,})\.json", name)
                entry = self.entries.get(int(match[1])) if match else None
                if entry is None:
                    raise Bad("it belongs to no entry of the bundle")
                value = parse_canonical(self.files.bytes(name), name)
                salt = get(value, "salt", str, name)
                payload = unbase64(get(value, "payload", str, name), name)
                if set(value) != {"salt", "payload"} or not re.fullmatch(r"[0-9a-f]{64}", salt):
                    raise Bad("it is not {payload, salt}")
                if sha256(b"cognify/payload/v1\x00" + bytes.fromhex(salt) + payload) != entry.commitment:
                    raise Bad("it is not the payload that the entry commits to")
                record = parse_canonical(payload, name)
                entry.facts = get(record, "facts", dict, name)
            except Bad as error:
                self.bad(name, str(error))

    def _judge(self, entry: Entry) -> None:
        where = f"entry {entry.seq} ({entry.kind})"
        if entry.facts is None and entry.kind in GOVERNANCE:
            self.undisclosed.append(entry.seq)
        try:
            if entry.seq == 0 and entry.kind == "genesis" and entry.facts is not None:
                self._genesis(entry, entry.facts, where)
            self._writer(entry, where)
            if entry.facts is None:
                self._missing(entry)
                return
            model, version = entry.facts.get("model"), entry.facts.get("version")
            if model and version and f"model/{model}@{version}" not in entry.subjects:
                raise Bad(f"its payload is about {model}@{version}, its subjects are not")
            rule = getattr(self, f"_on_{entry.kind}", None)
            mine = (model, version) == (self.manifest["model"], self.manifest["version"])
            if rule is not None and (mine or not version):  # other versions' payloads are not all disclosed
                rule(entry, entry.facts, where)
        except Bad as error:
            self.bad(where, str(error), error.outcome)
            if error.outcome == UNPROVEN:
                self.unproven.add(entry.seq)

    def _known(self, seq: int) -> None:
        """What rests on an entry that could not be proven cannot be proven either."""
        if seq in self.unproven:
            raise Bad(f"it relies on entry {seq}, which is not proven", UNPROVEN)

    def _missing(self, entry: Entry) -> None:
        version = f"model/{self.manifest['model']}@{self.manifest['version']}"
        if entry.kind in GOVERNANCE:
            raise Bad("its payload is not disclosed: people, keys or policy are not all known", UNPROVEN)
        if version in entry.subjects:
            raise Bad("its payload is not disclosed although it is about this version", UNPROVEN)

    # people and keys

    def _enrol(self, key: Any, holder: str, seq: int, where: str, kinds: list[str] | None = None) -> None:
        key_id, public = get(key, "key_id", str, where), unbase64(get(key, "public", str, where), where)
        if get(key, "algorithm", str, where) != "ed25519" or len(public) != 32 or sha256(public)[:16] != key_id:
            raise Bad(f"the key id {key_id!r} is not that of its key")
        known = self.keys.get(key_id)
        if known is not None and known.holder != holder:
            raise Bad(f"the key {key_id} belongs to {known.holder} already")
        if known is None:
            self.keys[key_id] = Key(holder, public, seq, kinds)
        elif kinds is not None:
            known.kinds = kinds

    def _key(self, key_id: str, holder: str | None, seq: int) -> Key:
        key = self.keys.get(key_id)
        if key is None:
            raise Bad(f"the key {key_id} was never enrolled", UNPROVEN if self.undisclosed else TAMPERED)
        if holder is not None and key.holder != holder:
            raise Bad(f"the key {key_id} belongs to {key.holder}, not to {holder}")
        if key.until is not None and key.until < seq:
            raise Bad(f"the key {key_id} of {key.holder} was revoked by entry {key.until}")
        if key.since >= seq and seq != 0:
            raise Bad(f"the key {key_id} was enrolled later, by entry {key.since}")
        return key

    def _writer(self, entry: Entry, where: str) -> None:
        if not entry.key:
            self.warnings.append(f"{where}: its writer did not sign it")
            return
        key = self._key(entry.key, None, entry.seq)
        self.signatures += 1
        if not ed25519_verify(key.public, entry.signed, entry.sig):
            raise Bad("the writer's signature does not verify")
        if key.kinds is not None and entry.seq and entry.kind not in key.kinds:
            raise Bad(f"{key.holder} may not write {entry.kind} entries")

    def _admin(self, person: str) -> None:
        if ADMIN not in self.people.get(person, {}).get("roles", []):
            raise Bad(
                f"{person} may not do this: the role {ADMIN} is needed", UNPROVEN if self.undisclosed else TAMPERED
            )

    def _statement(self, envelope: Any, kind: str, seq: int, where: str) -> tuple[dict[str, Any], bytes]:
        """Verify a DSSE envelope by the key of the person it names; return the statement and its bytes."""
        payload = unbase64(get(envelope, "payload", str, where), where)
        signatures = get(envelope, "signatures", list, where)
        if set(envelope) != {"payload", "payloadType", "signatures"} or envelope["payloadType"] != PAYLOAD_TYPE:
            raise Bad("the envelope is not a DSSE envelope of an in-toto statement")
        value = parse_canonical(payload, where)
        predicate = get(value, "predicate", dict, where)
        if set(value) != {"_type", "subject", "predicateType", "predicate"} or value["_type"] != STATEMENT_TYPE:
            raise Bad("the statement is not an in-toto Statement v1")
        if value["predicateType"] != kind or set(predicate) != (SIGN_OFF_KEYS if kind == SIGN_OFF else ACT_KEYS):
            raise Bad(f"the statement is not of type {kind}, or has other members")
        person, key_id = get(predicate, "person", str, where), get(predicate, "key_id", str, where)
        if len(signatures) != 1 or get(signatures[0], "keyid", str, where) != key_id:
            raise Bad("the envelope has not exactly one signature, by the key that the statement names")
        self.signatures += 1
        signature = unbase64(get(signatures[0], "sig", str, where), where)
        if not ed25519_verify(self._key(key_id, person, seq).public, pae(PAYLOAD_TYPE, payload), signature):
            raise Bad(f"the signature of {person} does not verify")
        if predicate["ledger"] != self.origin:
            raise Bad("the statement belongs to another ledger")
        size = get(predicate, "checkpoint.size", int, where)
        if not 0 <= size <= seq:
            raise Bad(f"the signer claims to have seen {size} entries, but this is entry {seq}")
        root = self._root_at(size)
        if root is not None and root != get(predicate, "checkpoint.root", str, where):
            raise Bad(f"the signer saw another history: the root of the first {size} entries differs", ROLLED_BACK)
        return value, payload

    def _root_at(self, size: int) -> str | None:
        """The root of the first `size` entries, None unless all of them are in the bundle."""
        if size not in self.roots:
            whole = all(seq in self.entries for seq in range(size))
            self.roots[size] = tree_root([self.entries[seq].leaf for seq in range(size)]).hex() if whole else None
        return self.roots[size]

    def _act(self, entry: Entry, facts: dict[str, Any], envelope: Any, where: str, admin: bool = True) -> str:
        value, _ = self._statement(envelope, ACT, entry.seq, where)
        content = {k: v for k, v in facts.items() if k not in ("envelope", "envelopes") and (k != "extra" or v)}
        subject = [{"name": entry.kind, "digest": {"sha256": sha256(canonical(content))}}]
        if value["subject"] != subject or value["predicate"]["kind"] != entry.kind:
            raise Bad("the statement signs something else than this record")
        person: str = value["predicate"]["person"]
        if admin:
            self._admin(person)
        return person

    def _person(self, person: Any, seq: int, where: str) -> None:
        name = get(person, "person", str, where)
        get(person, "name", str, where), get(person, "roles", list, where)
        for key in get(person, "keys", list, where):
            self._enrol(key, name, seq, where)
        self.people[name] = person

    def _workload(self, item: Any, seq: int, where: str) -> None:
        self._enrol(item["key"], get(item, "workload", str, where), seq, where, get(item, "kinds", list, where))

    def _policy(self, facts: dict[str, Any], seq: int) -> None:
        digest = "sha256:" + sha256(canonical(facts["policy"]))
        if digest != facts["policy_digest"]:
            raise Bad("the policy's digest is not that of the policy")
        self.policies.append((seq, digest))
        self.policy = facts["policy"]

    def _genesis(self, entry: Entry, facts: dict[str, Any], where: str) -> None:
        founders = get(facts, "founders", list, where)
        self.trial = bool(get(facts, "trial", bool, where))
        for person in founders:
            self._person(person, 0, where)
        for item in get(facts, "workloads", list, where):
            self._workload(item, 0, where)
        if get(facts, "origin", str, where) != self.origin:
            raise Bad("the genesis record is of another ledger")
        self._policy(facts, 0)
        signed = {self._act(entry, facts, item, where, admin=False) for item in get(facts, "envelopes", list, where)}
        missing = sorted({item["person"] for item in founders} - signed)
        if missing or (len(signed) < 2 and not self.trial):
            raise Bad(f"the genesis record is not signed by {', '.join(missing) or 'two founders'}")
        if self.trial != self.manifest["trial"]:
            raise Bad("bundle.json hides or invents that this is a TRIAL ledger")
        self.proven.append(f"{len(signed)} founder(s) signed the ledger's first entry, keys and policy")

    def _on_person_enrolled(self, entry: Entry, facts: dict[str, Any], where: str) -> None:
        voucher = self._act(entry, facts, facts["envelope"], where)
        if voucher != facts["vouched_by"] or voucher == get(facts, "person.person", str, where):
            raise Bad("the enrolment is not vouched for by a second person")
        self._person(facts["person"], entry.seq, where)

    def _on_workload_enrolled(self, entry: Entry, facts: dict[str, Any], where: str) -> None:
        if self._act(entry, facts, facts["envelope"], where) != facts["enrolled_by"]:
            raise Bad("the one who enrolled is not the one who signed")
        self._workload(facts["workload"], entry.seq, where)

    def _on_key_revoked(self, entry: Entry, facts: dict[str, Any], where: str) -> None:
        own = facts["revoked_by"] == facts["holder"]
        if self._act(entry, facts, facts["envelope"], where, admin=not own) != facts["revoked_by"]:
            raise Bad("the one who revoked is not the one who signed")
        key = self.keys.get(facts["key_id"])
        if key is None or key.holder != facts["holder"]:
            raise Bad(f"{facts['holder']} has no key {facts['key_id']}")
        key.until = entry.seq if key.until is None else key.until

    def _on_policy_adopted(self, entry: Entry, facts: dict[str, Any], where: str) -> None:
        signers = {self._act(entry, facts, item, where, admin=False) for item in facts["envelopes"]}
        adopters = set(self.policy.get("adopters", [ADMIN]))
        count = sum(bool(adopters & set(self.people.get(person, {}).get("roles", []))) for person in signers)
        if count < max(1, 1 if self.trial else self.policy.get("policy_quorum", 2)):
            raise Bad("not enough people with the right role signed the policy; it is not in force")
        self._policy(facts, entry.seq)

    def _on_gate_set_adopted(self, entry: Entry, facts: dict[str, Any], where: str) -> None:
        if self._act(entry, facts, facts["envelope"], where, admin=False) != facts["adopted_by"]:
            raise Bad("the one who adopted is not the one who signed")

    # sign-offs, releases, deployments

    def _in_force(self, seq: int) -> str | None:
        return next((digest for at, digest in reversed(self.policies) if at < seq), None)

    def _package(self, seq: int, digest: str, where: str) -> Entry:
        package = self.entries.get(seq)
        if package is None or package.kind != "package":
            raise Bad(f"entry {seq} is not a package entry")
        self._known(seq)
        if package.facts is None:
            raise Bad(f"the payload of package entry {seq} is not disclosed", UNPROVEN)
        if get(package.facts, "package.digest", str, where) != digest:
            raise Bad(f"entry {seq} is about another package")
        return package

    def _on_sign_off(self, entry: Entry, facts: dict[str, Any], where: str) -> None:
        if facts["strength"] != "S3":
            raise Bad(f"signature strength {facts['strength']!r} is not checked by this verifier", UNPROVEN)
        value, payload = self._statement(facts["envelope"], SIGN_OFF, entry.seq, where)
        said = value["predicate"]
        package = self._package(get(said, "package.entry_seq", int, where), said["package"]["digest"], where)
        if (package.leaf.hex(), package.seq < entry.seq) != (said["package"]["entry_leaf"], True):
            raise Bad("the statement names another package entry")
        same = ("model", "version", "stage", "decision", "role", "person", "key_id")
        pairs: dict[str, Any] = {name: said[name] for name in same}
        pairs |= {
            "package_digest": said["package"]["digest"],
            "package_seq": package.seq,
            "signed_at": said["signed_at"],
        }
        pairs["statement_digest"] = sha256(payload)
        wrong = sorted(name for name, expected in pairs.items() if facts.get(name) != expected)
        if wrong:
            raise Bad(f"the record and the signed statement differ in {', '.join(wrong)}")
        name = f"model/{said['model']}@{said['version']}"
        subject = [
            {"name": f"{name}/package", "digest": {"sha256": said["package"]["digest"][7:]}},
            {"name": f"{name}/model-file", "digest": {"sha256": said["model_digest"][7:]}},
        ]
        if value["subject"] != subject or name not in entry.subjects or said["person"] not in entry.subjects:
            raise Bad("the statement's or entry's subjects are not those that it names")
        of = package.facts or {}
        if (of["model"], of["version"], of["model_digest"]) != (said["model"], said["version"], said["model_digest"]):
            raise Bad("the statement is about another version or model file than its package")
        in_force = {self._in_force(entry.seq), self._in_force(said["checkpoint"]["size"])}
        if said["policy_digest"] not in in_force:
            raise Bad("the policy named was not in force", UNPROVEN if self.undisclosed else TAMPERED)
        reference = said["reference"]
        if reference is not None:
            target = self.entries.get(get(reference, "entry_seq", int, where))
            if target is None or target.leaf.hex() != reference["entry_leaf"] or target.seq >= entry.seq:
                raise Bad("the entry that the statement refers to is not the one in the ledger")
        person = self.people.get(said["person"], {})
        role_held = said["role"] in person.get("roles", [])
        if not role_held:
            self.warnings.append(f"{where}: {said['person']} did not hold the role {plain(said['role'])} then")
        if said["printed_name"] != person.get("name"):
            self.warnings.append(f"{where}: the printed name is not the one {said['person']} was enrolled with")
        self.sign_offs[entry.seq] = {
            **{
                k: said[k]
                for k in ("decision", "stage", "role", "meaning", "comments", "conditions", "person", "expires")
            },
            **{"role_held": role_held, "target_environments": said["target_environments"]},
            **{"seq": entry.seq, "name": said["printed_name"], "signed_at": said["signed_at"], "time": entry.time},
            **{"key_id": said["key_id"], "package_digest": said["package"]["digest"], "reference": reference},
            **{"model": said["model"], "version": said["version"], "checkpoint_size": said["checkpoint"]["size"]},
        }

    def _undone(self, seq: int, until: int) -> str | None:
        """Say what undoes a sign-off before entry `until`: its withdrawal, a block of the version, a rejection."""
        mine = self.sign_offs[seq]
        for other in self.sign_offs.values():
            if other["seq"] >= until or (other["model"], other["version"]) != (mine["model"], mine["version"]):
                continue
            withdraws = other["decision"] == "withdraw" and other["seq"] > seq and other["person"] == mine["person"]
            if withdraws and (other["reference"] or {}).get("entry_seq") == seq:
                return f"was withdrawn by entry {other['seq']}"
            same = other["package_digest"] == mine["package_digest"]
            against = other["decision"] == "block" or (other["decision"] == "reject" and same)
            approves = mine["decision"] in ("approve", "approve_with_conditions")
            if approves and against and self._undone(other["seq"], until) is None:
                return f"stands under the {other['decision']} of entry {other['seq']}"
        return None

    def _on_release_granted(self, entry: Entry, facts: dict[str, Any], where: str) -> None:
        decided = get(facts, "decided_on_size", int, where)
        package = self._package(get(facts, "package_seq", int, where), facts["package_digest"], where)
        of = package.facts or {}
        if (of["model"], of["version"], of["model_digest"]) != (
            facts["model"],
            facts["version"],
            facts["model_digest"],
        ):
            raise Bad("the release is for another version or model file than its package")
        if not package.seq < decided == entry.seq:
            raise Bad(f"it claims to be decided on {decided} entries but is entry {entry.seq}")
        if facts["policy_digest"] != self._in_force(decided):
            raise Bad("the policy named was not in force", UNPROVEN if self.undisclosed else TAMPERED)
        if not get(facts, "sign_off_seqs", list, where):
            self.warnings.append(f"{where}: the release rests on no sign-off")
        for seq in facts["sign_off_seqs"]:
            self._known(seq)
            found = self.sign_offs.get(seq)
            if found is None or found["package_digest"] != facts["package_digest"] or not seq < decided:
                raise Bad(f"it relies on entry {seq}, which is no valid earlier sign-off of this package")
            if found["decision"] not in ("approve", "approve_with_conditions"):
                raise Bad(f"it relies on entry {seq}, which is no approval but {found['decision']!r}")
            if not found["role_held"]:
                raise Bad(f"it relies on the sign-off in entry {seq}, whose signer did not hold the role")
            if found["target_environments"] and facts["target"] not in found["target_environments"]:
                raise Bad(f"it relies on the sign-off in entry {seq}, which is for other targets")
            if found["expires"] is not None and found["expires"] <= get(facts, "decided_at", str, where):
                raise Bad(f"it relies on the sign-off in entry {seq}, which had expired")
            if undone := self._undone(seq, entry.seq):
                raise Bad(f"it relies on the sign-off in entry {seq}, which {undone}")
            if self.keys[found["key_id"]].until is not None:
                raise Bad(f"it relies on the sign-off in entry {seq}, whose key was revoked before the release")
        for seq in get(facts, "gate_seqs", list, where):
            if seq not in self.entries or not seq < decided:
                raise Bad(f"it relies on entry {seq}, which is not an earlier entry of the bundle")
        if not set(get(facts, "relied_on", list, where)) <= set(entry.subjects):
            raise Bad("it does not carry all that it relied on as subjects")
        self.grants[entry.seq] = {
            **{k: facts[k] for k in ("model", "version", "target", "model_digest", "package_digest", "sign_off_seqs")},
            **{
                "seq": entry.seq,
                "time": entry.time,
                "decided_at": facts["decided_at"],
                "supersedes": facts["supersedes"],
            },
        }

    def _on_deployment_completed(self, entry: Entry, facts: dict[str, Any], where: str) -> None:
        self._known(get(facts, "grant_seq", int, where))
        grant = self.grants.get(facts["grant_seq"])
        same = ("model", "version", "target", "model_digest")
        if grant is None or grant["seq"] >= entry.seq or any(grant[name] != facts[name] for name in same):
            raise Bad(f"it does not belong to a valid release in entry {facts['grant_seq']}")
        self.deployments.append({**{name: facts[name] for name in same}, "seq": entry.seq, "time": entry.time})

    # what the anchor must cover, and the files

    def _coverage(self, closure: list[Entry]) -> None:
        model, version = self.manifest["model"], self.manifest["version"]
        mine = f"model/{model}@{version}"
        needed = {mine, f"model/{model}", "policy", "people", "ledger"}
        for entry in closure:
            relied_on = entry.kind in ("sign_off", "release_granted", "training_run")
            if relied_on and mine in entry.subjects and entry.facts is not None:
                needed |= {s for s in entry.subjects if s.split("/")[0] in ("person", "release", "dataset")}
        for subject in sorted(needed - set(self.anchor.subjects)):
            self.bad("anchor", f"the anchor does not cover {subject}: an entry about it could be left out", UNPROVEN)
        facts = self.anchor.facts or {}
        for name in ("model", "version", "package_digest"):
            if self.anchor.facts is not None and facts.get(name) != self.manifest[name]:
                self.bad("bundle.json", f"its {name} is not that of the anchor entry")
        late = sorted(seq for seq in self.entries if seq > self.anchor.seq)
        if any(self.entries[seq].kind in ("sign_off", "key_revoked", "release_refused") for seq in late):
            self.warnings.append("the bundle holds entries newer than its anchor; ask for a newer bundle")

    def _documents(self) -> None:
        def expect(path: str, digest: str, what: str) -> None:
            if path in self.files.digests and "sha256:" + self.files.digests[path][0] != digest:
                self.bad(path, f"its SHA-256 is not the one in {what}")

        digest, mine = self.manifest["package_digest"], f"model/{self.manifest['model']}@{self.manifest['version']}"
        if "package/package.json" not in self.files.digests:
            self.bad("package/package.json", "the package is missing")
        expect("package/package.json", digest, "bundle.json")
        packages = [e for e in self.entries.values() if e.kind == "package" and e.facts and mine in e.subjects]
        packages = [e for e in packages if e.facts and e.facts["package"]["digest"] == digest]
        if not packages:
            hidden = any(e.kind == "package" and e.facts is None and mine in e.subjects for e in self.entries.values())
            outcome = UNPROVEN if hidden else TAMPERED
            self.bad("package/package.json", "no package entry of the bundle names this package", outcome)
        for entry in packages:
            for path, name in (("package/review-copy.pdf", "review_copy"), ("package/model-card.md", "model_card")):
                item = (entry.facts or {}).get(name)
                if item is not None:
                    expect(path, item["digest"], f"entry {entry.seq}")
                elif path in self.files.digests:
                    self.warnings.append(f"{path}: no entry names this file")
        finals = [
            (e.facts or {})["final_copy"]["digest"]
            for e in self.entries.values()
            if e.kind == "final_copy" and e.facts and e.facts["package_digest"] == digest
        ]
        found = self.files.digests.get("package/final-copy.pdf")
        if found is not None and "sha256:" + found[0] not in finals:
            self.bad("package/final-copy.pdf", "no entry names this file")
        self._evidence()

    def _evidence(self) -> None:
        register = parse_canonical(self.files.bytes("evidence/register.json"), "evidence/register.json")
        included, named = set(), {}
        for item in register:
            digest, seq = get(item, "digest", str, "evidence/register.json"), get(item, "entry_seq", int, "register")
            named.setdefault(digest, item)
            entry = self.entries.get(seq)
            if entry is None or digest not in entry.evidence:
                self.bad("evidence/register.json", f"entry {seq} does not name {digest}")
            if get(item, "included", bool, "evidence/register.json"):
                included.add(f"evidence/{digest[7:]}")
        present = {p for p in self.files.digests if p.startswith("evidence/") and p != "evidence/register.json"}
        for path in sorted(included ^ present):
            self.bad(path, "register and files of the evidence folder do not fit each other")
        for path in sorted(present):
            if self.files.digests[path][0] != path[9:]:
                self.bad(path, "its SHA-256 is not its name")
        self.left_out = [
            {
                **{name: item.get(name) for name in ("name", "digest", "entry_seq", "size", "sensitivity")},
                "reason": _left_out(item),
            }
            for digest, item in named.items()
            if f"evidence/{digest[7:]}" not in present
        ]
        self.evidence = (len(present), len(present) + len(self.left_out))

    def _report(self) -> dict[str, Any]:
        codes = [finding["code"] for finding in self.findings]
        code = min(codes, default=HOLDS)
        sound = not any(c in (TAMPERED, ROLLED_BACK, UNREADABLE) for c in codes) and bool(self.entries)
        if sound:
            self.proven.append(f"{len(self.entries)} entries have exactly the bytes the checkpoint's root commits to")
            self.proven.append(
                f"{self.signatures} signatures of people and workloads verify with keys valid at the time"
            )
            self.proven.append("no entry about the anchor's subjects up to the anchor is left out of the bundle")
            self.proven.append(
                f"{self.evidence[0]} of {self.evidence[1]} evidence files are included and have their digest"
            )
            if self.level:
                self.proven.append(f"the checkpoint is signed by {plain(', '.join(self.signers))} (trust file)")
            if self.level == 2:
                self.proven.append("the checkpoint is cosigned by a quorum of the trust file's witnesses")
        anchor = getattr(self, "anchor", None)
        hidden = sorted(seq for seq, entry in self.entries.items() if entry.facts is None)
        return {
            "format": "cognify-verification/v1",
            "outcome": OUTCOMES[code],
            "exit_code": code,
            "level": f"L{self.level}" if sound else None,
            "trial": self.trial or bool(self.manifest.get("trial")),
            "ledger": self.origin,
            "model": self.manifest.get("model"),
            "version": self.manifest.get("version"),
            "package_digest": self.manifest.get("package_digest"),
            "checkpoint": {
                "size": self.size,
                "root": self.root.hex(),
                "signed_by": self.signers,
                "witnesses": self.cosigners,
            },
            "anchor": anchor and {"seq": anchor.seq, "time": anchor.time},
            "entries": len(self.entries),
            "signatures": self.signatures,
            "findings": self.findings,
            "warnings": [plain(text) for text in self.warnings],
            "proven": self.proven,
            "sign_offs": [{**item, "undone": self._undone(seq, self.size)} for seq, item in self.sign_offs.items()],
            "grants": list(self.grants.values()),
            "deployments": self.deployments,
            "evidence_not_included": self.left_out,
            "not_checked": [
                *NOT_CHECKED,
                *(
                    f"evidence not in the bundle: {plain(item['name'])} ({item['digest']}, entry {item['entry_seq']}): "
                    f"{plain(item['reason'])}"
                    for item in self.left_out
                ),
                f"payloads not disclosed (or erased): {len(hidden)} entries",
            ],
            "exposure": anchor
            and f"what happened after entry {anchor.seq} ({anchor.time}) is not in this bundle; "
            f"the ledger had {self.size} entries when its head was signed",
        }


def verify_bundle(path: str | os.PathLike[str], trust_text: str | None) -> dict[str, Any]:
    """Verify a bundle.

    Args:
        path: the bundle's folder or zip file.
        trust_text: text of a trust file from outside the bundle; None checks internal consistency only (L0).

    Returns:
        The report; `exit_code` is 0 only if everything holds under the trust file. Never raises for what a bundle holds.
    """
    return Verifier(os.fspath(path), trust_text).run()


def report_text(report: dict[str, Any]) -> str:
    """Return the report in plain language."""
    lines = ["*** TRIAL LEDGER: one person may have founded it; not evidence of a governed release. ***", ""]
    lines = lines if report["trial"] else []
    lines += [f"Result: {report['outcome'].replace('_', ' ').upper()}  (level {report['level'] or 'none'})"]
    if report["model"] is None:  # no bundle was read: there is nothing more to say about one
        return "\n".join(plain(line) for line in [*lines, "", *_findings(report)]) + "\n"
    version = f"{report['model']}@{report['version']} in ledger {report['ledger']}"
    lines += [version, f"Package: {report['package_digest']}", ""]
    lines += _findings(report)
    lines += ["Shown by this check:"] if report["proven"] else ["Nothing is shown."]
    lines += [f"  - {text}" for text in report["proven"]]
    lines += ["", "Sign-offs:"] if report["sign_offs"] else ["", "No valid sign-off found."]
    for item in report["sign_offs"]:
        undone = f"  [{item['undone']}]" if item["undone"] else ""
        lines.append(
            f"  - {item['signed_at']}  {item['decision']}  {item['name']} ({item['person']}) as {item['role']}"
        )
        lines.append(f"      stage {item['stage']}, entry {item['seq']}, recorded {item['time']}{undone}")
        lines.append(f"      “{item['meaning']}”" + (f"  Comments: {item['comments']}" if item["comments"] else ""))
        lines += [f"      condition: {c['text']} (due {c['due'] or 'undated'})" for c in item["conditions"]]
        if item["package_digest"] != report["package_digest"]:
            lines.append("      for an earlier package of this version, not for the one in this bundle")
    for item in report["grants"]:
        based = ", ".join(str(seq) for seq in item["sign_off_seqs"])
        lines.append(
            f"Released: {item['model']}@{item['version']} to {item['target']} by entry {item['seq']} on {based}"
        )
    for item in report["deployments"]:
        lines.append(
            f"Deployed: {item['model']}@{item['version']} to {item['target']}, entry {item['seq']}, {item['time']}"
        )
    lines += ["", "Notes:"] if report["warnings"] else []
    lines += [f"  - {text}" for text in report["warnings"]]
    lines += ["", "Not checked:", *(f"  - {text}" for text in report["not_checked"])]
    lines += ["", f"Exposure: {report['exposure']}."] if report["exposure"] else []
    return "\n".join(plain(line) for line in lines) + "\n"


def _findings(report: dict[str, Any]) -> list[str]:
    return [f"  !! {item['outcome']}: {item['where']}: {item['message']}" for item in report["findings"]]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"verify: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = _Parser(description="Verify an exported bundle offline.")
    parser.add_argument("bundle", help="the bundle: a folder or a zip file")
    parser.add_argument("--trust", help="trust file that you got apart from the bundle")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    trust, unread = None, ""
    if options.trust is not None:
        inside = os.path.realpath(options.bundle) + os.sep
        if os.path.realpath(options.trust).startswith(inside):
            parser.error("the trust file lies inside the bundle; a bundle cannot vouch for itself")
        try:
            with open(options.trust, encoding="utf-8") as stream:
                trust = stream.read(MAX_NOTE + 1)
        except OSError as error:
            unread = error.strerror or str(error)
        except ValueError:
            unread = "it is not UTF-8 text: this is no trust file"
    if unread:
        verifier = Verifier(options.bundle, None)
        verifier.bad("trust file", f"{options.trust}: {unread}", UNREADABLE)
        report = verifier._report()
    else:
        report = verify_bundle(options.bundle, trust)
    text = json.dumps(report, indent=2, sort_keys=True) + "\n" if options.json else report_text(report)
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    return int(report["exit_code"])


if __name__ == "__main__":
    sys.exit(main())
