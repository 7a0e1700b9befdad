"""Signed notes, checkpoints, proof files and trust files against published examples and against malformed input."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger import (
    Checkpoint,
    NoteError,
    ProofError,
    ProofFile,
    TrustFile,
    VerifierKey,
    leaf_hash,
    open_checkpoint,
    parse_note,
    sign_note,
    verify_note,
)
from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.ledger.note import COSIGNATURE

# golang.org/x/mod sumdb/note, the reference implementation: key, private key and note of its package documentation
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = (
    f"{GO_TEXT}\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# C2SP signed-note: the example note (its text holds a blank line and non-ASCII letters) and the example key
SPEC_NOTE = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
# C2SP tlog-cosignature: the example checkpoint with a witness's line
SPEC_COSIGNED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
COSIGNER_KEY = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = VerifierKey("log.example/a", PRIVATE.public_key().public_bytes_raw())
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))


def test_the_reference_note_verifies_and_is_reproduced() -> None:
    key = VerifierKey.parse(GO_KEY)
    assert verify_note(GO_NOTE, [key]) == (GO_TEXT, (key,))
    secret = base64.b64decode(GO_PRIVATE.split("+", 4)[4])[1:]
    assert sign_note(GO_TEXT, "PeterNeumann", Ed25519PrivateKey.from_private_bytes(secret)) == GO_NOTE


def test_the_offline_verifier_accepts_the_reference_note() -> None:
    text, lines = ov.parse_note(GO_NOTE)
    name, key_id, public = ov._vkey(GO_KEY, 1)
    assert (text, lines[0][:2]) == (GO_TEXT, (name, key_id))
    assert ov.ed25519_verify(public, text.encode(), lines[0][2])
    assert not ov.ed25519_verify(public, text.encode() + b"x", lines[0][2])


def test_the_specifications_examples_parse() -> None:
    note = parse_note(SPEC_NOTE)
    assert note.text.count("\n") == 4
    assert note.text.endswith("sera.\n")
    assert (note.signatures[0].name, note.signatures[0].key_id.hex()) == ("quasimodo.example/salvatore", "367ba04b")
    assert len(note.signatures[0].signature) == 64
    assert str(VerifierKey.parse(SPEC_KEY)) == SPEC_KEY
    assert str(VerifierKey.parse(COSIGNER_KEY, COSIGNATURE)) == COSIGNER_KEY
    cosigned = parse_note(SPEC_COSIGNED)
    assert Checkpoint.parse(cosigned.text).size == 20852163
    assert Checkpoint.parse(cosigned.text).text() == cosigned.text
    assert [len(line.signature) for line in cosigned.signatures] == [64, 72]
    assert int.from_bytes(cosigned.signatures[1].signature[:8], "big") == 1679315147
    assert ov.parse_note(SPEC_COSIGNED)[0] == cosigned.text


def test_any_change_of_a_key_is_refused() -> None:
    for start in range(len(GO_KEY)):
        for end in range(start + 1, len(GO_KEY) + 1):
            if (start, end) != (0, len(GO_KEY)):
                with pytest.raises(NoteError):
                    VerifierKey.parse(GO_KEY[start:end])
    for at in range(len(GO_KEY)):
        with pytest.raises(NoteError):
            VerifierKey.parse(GO_KEY[:at] + chr(ord(GO_KEY[at]) + 1) + GO_KEY[at + 1 :])
    with pytest.raises(NoteError):
        VerifierKey.parse(GO_KEY, COSIGNATURE)


@pytest.mark.parametrize(
    "note",
    [
        "", "\n", "text\n", "text\n\n", "\n\n— a AAAAAAAA\n", GO_NOTE[:-1], GO_NOTE + "\n", GO_NOTE.replace("— ", "- "),
        GO_NOTE.replace("— ", "—"), GO_NOTE.replace("x08g", "x08?"), "te\x07xt\n\n— a AAAAAAAA\n", "text\r\n\n— a AAAAAAAA\n",
        "text\n\n— a b\n", "text\n\n— a AAAA\n", "text\n\n— a+b AAAAAAAA\n", "text\n\n—  AAAAAAAA\n",
        "text\n\n" + "— a AAAAAAAA\n" * 101, "x" * 1_000_001 + "\n\n— a AAAAAAAA\n",
        GO_NOTE.replace("JnAM=", "JnAN="),  # another base64 spelling of the same bytes
    ],
)  # fmt: skip
def test_malformed_notes_are_refused(note: str) -> None:
    with pytest.raises(NoteError):
        parse_note(note)
    with pytest.raises(ov.Bad):
        ov.parse_note(note)


def test_notes_are_utf8() -> None:
    with pytest.raises(NoteError):
        parse_note(b"\xff\n\n\xe2\x80\x94 a AAAAAAAA\n")


def test_unknown_keys_are_ignored_and_known_bad_signatures_reject() -> None:
    note = sign_note("text\n", "log.example/a", PRIVATE)
    foreign = sign_note("text\n", "log.example/b", OTHER).split("\n\n")[1]
    assert verify_note(note + foreign, [KEY])[1] == (KEY,)
    same_name = sign_note("text\n", "log.example/a", OTHER)
    with pytest.raises(NoteError, match="no trusted key"):
        verify_note(same_name, [KEY])
    with pytest.raises(NoteError, match="no trusted key"):
        verify_note(note, [])
    forged = note.replace("text\n", "tex7\n", 1)
    with pytest.raises(NoteError, match="does not verify"):
        verify_note(forged, [KEY])
    other = VerifierKey("log.example/b", OTHER.public_key().public_bytes_raw())
    with pytest.raises(NoteError, match="does not verify"):
        verify_note(forged + sign_note("tex7\n", "log.example/b", OTHER).split("\n\n")[1], [KEY, other])


@pytest.mark.parametrize(
    "text",
    ["", "o\n", "o\n1\n", "\n1\nAAAA\n", "o\n01\n" + "A" * 43 + "=\n", "o\n-1\n" + "A" * 43 + "=\n", "o\n1\nAAAA\n",
     "o\n١\n" + "A" * 43 + "=\n", "o\n1\n" + "A" * 43 + "\n", "o\n1e3\n" + "A" * 43 + "=\n", "o\n1\n" + "A" * 42 + "B=\n"],
)  # fmt: skip
def test_malformed_checkpoints_are_refused(text: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.parse(text)
    with pytest.raises(ov.Bad):
        ov.parse_checkpoint(text)


def test_a_checkpoints_origin_is_the_name_of_a_key_that_signed() -> None:
    head = Checkpoint("log.example/a", 3, bytes(32))
    assert open_checkpoint(sign_note(head.text(), "log.example/a", PRIVATE), [KEY]) == head
    other = Checkpoint("log.example/other", 3, bytes(32))
    with pytest.raises(NoteError, match="no key named"):
        open_checkpoint(sign_note(other.text(), "log.example/a", PRIVATE), [KEY])


def proof() -> tuple[ProofFile, bytes]:
    leaf, sibling = leaf_hash(b"entry"), leaf_hash(b"other")
    from cognify_dagster.ledger import node_hash

    head = Checkpoint("log.example/a", 2, node_hash(sibling, leaf))
    return ProofFile(1, (sibling,), sign_note(head.text(), "log.example/a", PRIVATE)), leaf


def test_proof_files_round_trip_and_verify() -> None:
    file, leaf = proof()
    assert file.text().startswith("c2sp.org/tlog-proof@v1\nindex 1\n")
    assert ProofFile.parse(file.text()) == file
    assert file.verify(leaf, [KEY]).size == 2
    with_extra = file.text().replace("index 1", "extra aGVsbG8=\nindex 1")
    assert ProofFile.parse(with_extra) == file
    with pytest.raises(ProofError):
        file.verify(leaf_hash(b"forged"), [KEY])
    single = ProofFile(0, (), sign_note(Checkpoint("log.example/a", 1, leaf).text(), "log.example/a", PRIVATE))
    assert ProofFile.parse(single.text()).verify(leaf, [KEY]).size == 1


@pytest.mark.parametrize("change", [("@v1", "@v2"), ("index 1", "index 01"), ("index 1", "index -1"), ("index 1\n", ""), ("index 1", "index 1 "), ("\n\n", "\n")])  # fmt: skip
def test_malformed_proof_files_are_refused(change: tuple[str, str]) -> None:
    text = proof()[0].text().replace(*change, 1)
    with pytest.raises((NoteError, ProofError)):
        ProofFile.parse(text).verify(proof()[1], [KEY])


def test_a_proof_file_with_too_many_hashes_is_refused() -> None:
    file, _ = proof()
    with pytest.raises(NoteError, match="63 hashes"):
        ProofFile.parse(ProofFile(1, file.path * 64, file.checkpoint_note).text())


def witness(name: str) -> str:
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())  # the same in every process
    return str(VerifierKey(name, private.public_key().public_bytes_raw(), COSIGNATURE))


W1, W2, W3 = (witness(f"w{n}.example/w") for n in (1, 2, 3))
LOG = f"log {KEY}\n"
TRUST = (
    f"# cognify-genesis {'ab' * 32}\n{LOG}witness W1 {W1} https://w1.example/\nwitness W2 {W2}\nwitness W3 {W3}\n"
    "group two 2 W1 W2\ngroup all all two W3\nquorum all\n"
)


def test_trust_files_follow_tlog_policy() -> None:
    trust = TrustFile.parse(TRUST)
    assert trust.origin == "log.example/a"
    assert trust.genesis == bytes.fromhex("ab" * 32)
    assert trust.groups == (("two", 2, ("W1", "W2")), ("all", 2, ("two", "W3")))
    assert TrustFile.parse(trust.text()) == trust
    mine = ov.Trust(TRUST)
    assert (mine.genesis, mine.quorum, len(mine.witnesses)) == ("ab" * 32, "all", 3)
    assert mine.met("all", {"W1", "W2", "W3"})
    assert not mine.met("all", {"W1", "W3"})
    windows = TRUST.replace("\n", "\r\n")
    assert TrustFile.parse(windows) == trust
    assert ov.Trust(windows).genesis == "ab" * 32


@pytest.mark.parametrize(
    "text",
    [
        "", "quorum none\n", LOG, LOG + "quorum none\nquorum none\n", LOG + "quorum W1\n", LOG + "what is this\nquorum none\n",
        LOG + f"witness W1 {W1}\nwitness W1 {W2}\nquorum none\n", LOG + f"witness W1 {W1}\nwitness W2 {W1}\nquorum none\n",
        LOG + f"witness none {W1}\nquorum none\n", LOG + f"witness W1 {KEY}\nquorum none\n", f"log {W1}\nquorum none\n",
        LOG + f"witness W1 {W1}\ngroup g 2 W1\nquorum g\n", LOG + f"witness W1 {W1}\ngroup g 0 W1\nquorum g\n",
        LOG + f"witness W1 {W1}\ngroup g x W1\nquorum g\n", LOG + "group g any W9\nquorum g\n",
        LOG + f"witness W1 {W1}\ngroup g any W1 W1\nquorum g\n",
        LOG + f"witness W1 {W1}\ngroup g any W1\ngroup k any W1\nquorum g\n",
        LOG + f"quorum g\nwitness W1 {W1}\ngroup g any W1\n", "# cognify-genesis abc\n" + LOG + "quorum none\n",
        f"# cognify-genesis {'ab' * 32}\n# cognify-genesis {'cd' * 32}\n" + LOG + "quorum none\n",
        f"# cognify-genesis {'AB' * 32}\n" + LOG + "quorum none\n", LOG.replace("log.example/a", "log.example/b") + "quorum none\n",
    ],
)  # fmt: skip
def test_malformed_trust_files_are_refused_by_both_readers(text: str) -> None:
    with pytest.raises(NoteError):
        TrustFile.parse(text)
    with pytest.raises(ov.Bad):
        ov.Trust(text)
