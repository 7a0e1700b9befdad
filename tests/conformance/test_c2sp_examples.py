"""Notes, cosignatures, proof files and witness requests against published examples, and against OpenSSL where none is published.

Published and complete (key, text and signature are known): the signed notes of golang.org/x/mod/sumdb/note, from which the
C2SP signed-note specification was written; the verifier keys of sum.golang.org and of a public witness. Published without
their key: the examples in signed-note and tlog-cosignature, of which the form is checked. Nothing here is invented and
called official: what has no published example is made here and judged by OpenSSL or by the definition itself.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from cognify_dagster.ledger import ProofFile, TrustFile, VerifierKey, leaf_hash, parse_note, verify_note
from cognify_dagster.ledger.merkle import inclusion_proof
from cognify_dagster.ledger.note import COSIGNATURE
from cognify_dagster.ledger.quorum import cosign, cosignature_message, evaluate
from cognify_dagster.ledger.witness import AddCheckpoint
from tests.ledger.test_note import COSIGNER_KEY, GO_KEY, GO_NOTE, GO_TEXT, SPEC_COSIGNED, SPEC_KEY, SPEC_NOTE
from tests.ledger.witness_factory import NOW, Log, cosigner, new_witness, private

GOLDEN = Path(__file__).parents[1] / "golden/ledger"
# golang.org/x/mod/sumdb/note: the second key and signature of the package documentation
ENOCH_KEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
SUM_GOLANG_ORG = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

openssl_only = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
_SPKI = bytes.fromhex(
    "302a300506032b6570032100"
)  # RFC 8410: SubjectPublicKeyInfo of an Ed25519 key, before its 32 bytes


def openssl_verifies(folder: Path, public: bytes, message: bytes, signature: bytes) -> bool:
    (folder / "key.der").write_bytes(_SPKI + public)
    (folder / "message").write_bytes(message)
    (folder / "signature").write_bytes(signature)
    words = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-keyform",
        "DER",
        "-inkey",
        "key.der",
        "-rawin",
        "-in",
        "message",
    ]
    done = subprocess.run([*words, "-sigfile", "signature"], cwd=folder, capture_output=True, check=False)
    return done.returncode == 0


# ---- signed-note


def test_the_reference_implementations_note_with_two_signatures() -> None:
    first, second = VerifierKey.parse(GO_KEY), VerifierKey.parse(ENOCH_KEY)
    note = GO_NOTE + ENOCH_LINE
    assert verify_note(note, [first, second]) == (GO_TEXT, (first, second))
    assert verify_note(note, [second]) == (GO_TEXT, (second,))


@openssl_only
def test_openssl_verifies_the_same_bytes(tmp_path: Path) -> None:
    note = parse_note(GO_NOTE + ENOCH_LINE)
    for line, vkey in zip(note.signatures, (GO_KEY, ENOCH_KEY), strict=True):
        public = VerifierKey.parse(vkey).public
        assert openssl_verifies(tmp_path, public, note.text.encode(), line.signature)
        assert not openssl_verifies(tmp_path, public, note.text.encode() + b"\n", line.signature)


@pytest.mark.parametrize(
    ("vkey", "algorithm"),
    [(GO_KEY, 1), (ENOCH_KEY, 1), (SUM_GOLANG_ORG, 1), (SPEC_KEY, 1), (COSIGNER_KEY, COSIGNATURE)],
)
def test_published_keys_have_the_key_ids_they_say(vkey: str, algorithm: int) -> None:
    key = VerifierKey.parse(vkey, algorithm)
    assert str(key) == vkey
    name, key_id, encoded = vkey.split("+", 2)
    assert hashlib.sha256(name.encode() + b"\n" + base64.b64decode(encoded)).hexdigest()[:8] == key_id


def test_the_specifications_note_keeps_its_blank_line_and_letters() -> None:
    note = parse_note(SPEC_NOTE)
    assert note.text.endswith("raggio di sole:\n\ned è subito sera.\n")
    assert [len(line.signature) for line in note.signatures] == [64]


# ---- tlog-cosignature


def test_the_specifications_cosigned_checkpoint_has_the_form_we_write() -> None:
    note = parse_note(SPEC_COSIGNED)
    published = note.signatures[1]
    ours = parse_note(f"{note.text}\n{cosign(note.text, published.name, private('w'), 1679315147)}").signatures[0]
    assert published.name == ours.name == "witness.example.com/w1"
    assert len(published.signature) == len(ours.signature) == 72
    assert published.signature[:8] == ours.signature[:8]
    assert cosignature_message(note.text, 1679315147) == (
        b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    )


@openssl_only
def test_openssl_verifies_our_cosignature(tmp_path: Path) -> None:
    text = Log().head(8).text()
    line = parse_note(f"{text}\n{cosign(text, 'w1.example/w', private('w1.example/w'), NOW)}").signatures[0]
    by_hand = b"cosignature/v1\ntime " + str(NOW).encode() + b"\n" + text.encode()
    public = cosigner("w1.example/w").public
    assert openssl_verifies(tmp_path, public, by_hand, line.signature[8:])
    assert not openssl_verifies(tmp_path, public, text.encode(), line.signature[8:])
    assert line.key_id == hashlib.sha256(b"w1.example/w\n\x04" + public).digest()[:4]


@openssl_only
def test_the_frozen_cosigned_checkpoint_is_l2_and_openssl_agrees(tmp_path: Path) -> None:
    trust = TrustFile.parse((GOLDEN / "trust-witnessed.txt").read_text(encoding="utf-8"))
    text = (GOLDEN / "checkpoint-cosigned.txt").read_text(encoding="utf-8")
    result = evaluate(trust, text)
    assert result.level == "L2"
    note = parse_note(text)
    keys = {(key.name, key.key_id): key for key in (*trust.logs, *(key for _, key in trust.witnesses))}
    for line in note.signatures:
        key = keys[line.name, line.key_id]
        message, signature = note.text.encode(), line.signature
        if key.algorithm == COSIGNATURE:
            time = int.from_bytes(signature[:8], "big")
            message, signature = b"cosignature/v1\ntime %d\n" % time + message, signature[8:]
        assert openssl_verifies(tmp_path, key.public, message, signature)


# ---- tlog-proof, tlog-witness


def _root(leaves: list[bytes]) -> bytes:
    """RFC 9162 §2.1.1, as it is written there."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + _root(leaves[:k]) + _root(leaves[k:])).digest()


def _path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 9162 §2.1.3.1, as it is written there."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*_path(m, leaves[:k]), _root(leaves[k:])]
    return [*_path(m - k, leaves[k:]), _root(leaves[:k])]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13])
def test_proof_files_hold_the_path_of_the_rfc(size: int) -> None:
    log = Log(size=size)
    leaves = log.leaves
    for index in range(size):
        path = inclusion_proof(index, size, lambda level, at: _root(leaves[at << level : (at + 1) << level]))
        assert path == _path(index, leaves)
        file = ProofFile(index, tuple(path), log.note(size))
        lines = file.text().split("\n")
        assert lines[:2] == ["c2sp.org/tlog-proof@v1", f"index {index}"]
        assert [base64.b64decode(line) for line in lines[2 : lines.index("")]] == path
        assert ProofFile.parse(file.text()).verify(leaves[index], [log.key]).root == _root(leaves)


def test_the_frozen_proof_file_verifies_by_the_definition() -> None:
    text = (GOLDEN / "entry-00000002.tlog-proof").read_text(encoding="utf-8")
    file = ProofFile.parse(text)
    assert file.text() == text
    assert (file.index, text.split("\n")[0]) == (2, "c2sp.org/tlog-proof@v1")


def test_a_witness_request_is_written_as_specified(tmp_path: Path) -> None:
    log = Log(size=13)
    body = log.request(5, 13).decode()
    head, note = body.split("\n\n", 1)
    lines = head.split("\n")
    assert lines[0] == "old 5"
    assert all(len(base64.b64decode(line)) == 32 for line in lines[1:])
    assert note == log.note(13)
    assert AddCheckpoint.parse(body.encode()).body().decode() == body
    witness = new_witness(tmp_path, log)
    assert witness.add_checkpoint(log.request(0, 5)).status == 200
    answer = witness.add_checkpoint(body.encode())
    assert answer.status == 200
    assert answer.body.decode().startswith("— ")
    assert answer.body.decode().count("\n") == 1
    assert leaf_hash(b"") == hashlib.sha256(b"\0").digest()
