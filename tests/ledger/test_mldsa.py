"""ML-DSA-44 cosignatures (C2SP tlog-cosignature, type 0x06): bytes, keys, quorum, witness.

C2SP publishes no example of this type. `VECTOR` was made once by this code from the seed 00 01 … 1f and is kept so that a later version still
verifies it; the message's bytes are written out by hand from the specification's structure, apart from our code.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from cognify_dagster.ledger import NoteError, TrustFile, VerifierKey, parse_note
from cognify_dagster.ledger.mldsa import cosigned_message, private_key
from cognify_dagster.ledger.note import COSIGNATURE, COSIGNATURES, MLDSA_COSIGNATURE, Checkpoint, NoteSignature
from cognify_dagster.ledger.quorum import cosign, cosigner_key, evaluate, signature_line, verify_cosignature
from cognify_dagster.ledger.witness import Witness, WitnessKey, WitnessStore
from tests.ledger.witness_factory import NOW, ORIGIN, Log, cosigner, private

pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mldsa")
NAME = "risk.bank.example/pq1"
SEED = bytes(range(32))
LOG = Log()
KEY = cosigner_key(NAME, private_key(SEED))
VECTOR = Path(__file__).parents[1] / "golden" / "ledger" / "mldsa44-cosignature.note"


def test_the_message_is_the_structure_of_the_specification() -> None:
    head = Checkpoint("example.com/behind-the-sofa", 20852163, bytes(range(32)))
    expected = (
        "737562747265652f76310a00"  # "subtree/v1\n\0"
        "14" + b"witness.example.com/".hex()
        + "0000000064185f4b"  # 1679318859
        "1b" + b"example.com/behind-the-sofa".hex()
        + "0000000000000000"  # start
        "00000000013e2dc3"  # end
        + bytes(range(32)).hex()
    )  # fmt: skip
    assert cosigned_message("witness.example.com/", 0x64185F4B, head).hex() == expected


def test_the_key_id_covers_name_type_and_key() -> None:
    assert len(KEY.public) == 1312
    assert KEY.key_id == hashlib.sha256(NAME.encode() + b"\n\x06" + KEY.public).digest()[:4]
    assert VerifierKey.parse(str(KEY), *COSIGNATURES) == KEY
    for wrong in ((), (COSIGNATURE,)):
        with pytest.raises(NoteError, match="not a key of type"):
            VerifierKey.parse(str(KEY), *wrong)
    short = f"{NAME}+{KEY.key_id.hex()}+{base64.b64encode(bytes([MLDSA_COSIGNATURE]) + KEY.public[:32]).decode()}"
    with pytest.raises(NoteError, match="not a key of type"):
        VerifierKey.parse(short, *COSIGNATURES)


def test_the_kept_example_verifies_and_nothing_changed_in_it_does() -> None:
    note = parse_note(VECTOR.read_bytes())
    line = note.signatures[1]
    assert (line.name, len(line.signature)) == (NAME, 8 + 2420)
    assert verify_cosignature(note.text, line, KEY) == NOW
    assert evaluate(TrustFile((LOG.key,), None, (("pq", KEY),), (), "pq"), note).level == "L2"
    head = Checkpoint.parse(note.text)
    others = [
        Checkpoint(head.origin + "x", head.size, head.root),
        Checkpoint(head.origin, head.size + 1, head.root),
        Checkpoint(head.origin, head.size, bytes(32)),
    ]
    for other in others:
        with pytest.raises(NoteError, match="does not verify"):
            verify_cosignature(other.text(), line, KEY)
    for place in (7, 8, 500, 2427):
        flipped = bytearray(line.signature)
        flipped[place] ^= 1
        with pytest.raises(NoteError, match="does not verify"):
            verify_cosignature(note.text, NoteSignature(line.name, line.key_id, bytes(flipped)), KEY)
    for cut in (line.signature[:-1], line.signature + b"\0", line.signature[:72]):
        with pytest.raises(NoteError, match="malformed"):
            verify_cosignature(note.text, NoteSignature(line.name, line.key_id, cut), KEY)


def test_a_cosignature_under_another_name_does_not_verify() -> None:
    text = LOG.head(8).text()
    line = parse_note(LOG.note(8) + cosign(text, NAME, private_key(SEED), NOW)).signatures[1]
    renamed = VerifierKey("other.example/w", KEY.public, MLDSA_COSIGNATURE)
    with pytest.raises(NoteError, match="does not verify"):
        verify_cosignature(text, NoteSignature(renamed.name, renamed.key_id, line.signature), renamed)


def test_extension_lines_are_not_signed_and_no_time_is_no_cosignature_for_a_quorum() -> None:
    text = LOG.head(8).text()
    line = parse_note(LOG.note(8) + cosign(text, NAME, private_key(SEED), NOW)).signatures[1]
    assert verify_cosignature(text + "extension\n", line, KEY) == NOW
    silent = parse_note(LOG.note(8) + cosign(text, NAME, private_key(SEED), 0)).signatures[1]
    with pytest.raises(NoteError, match="states no time"):
        verify_cosignature(text, silent, KEY)


def test_names_that_the_structure_cannot_hold_are_refused() -> None:
    with pytest.raises(NoteError, match="255 bytes"):
        cosigned_message("é" * 128, NOW, LOG.head(8))
    with pytest.raises(NoteError, match="255 bytes"):
        cosigned_message(NAME, NOW, Checkpoint("o" * 256, 1, bytes(32)))


def test_both_kinds_of_key_count_in_one_quorum() -> None:
    trust = TrustFile(
        (LOG.key,), None, (("pq", KEY), ("classic", cosigner("w1"))), (("both", 2, ("pq", "classic")),), "both"
    )
    assert TrustFile.parse(trust.text()) == trust
    text = LOG.head(8).text()
    one = LOG.note(8) + cosign(text, NAME, private_key(SEED), NOW)
    assert evaluate(trust, one).level == "L1"
    both = evaluate(trust, one + cosign(text, "w1", private("w1"), NOW + 5))
    assert (both.level, both.witnessed_at) == ("L2", NOW + 5)
    wrong = parse_note(one).signatures[1]
    torn = NoteSignature(wrong.name, wrong.key_id, wrong.signature[:-1] + b"\0")
    with pytest.raises(NoteError):
        evaluate(trust, LOG.note(8) + signature_line(torn))


def test_a_witness_with_such_a_key(tmp_path: Path) -> None:
    made = WitnessKey.create(tmp_path / "w.key", NAME, MLDSA_COSIGNATURE)
    key = WitnessKey.load(tmp_path / "w.key")
    assert key.verifier == made.verifier
    witness = Witness(WitnessStore.create(tmp_path / "w.db", key.verifier), key, [LOG.key], clock=lambda: NOW)
    for old, new in ((0, 8), (8, 21)):
        answer = witness.add_checkpoint(LOG.request(old, new))
        assert answer.status == 200
    note = parse_note(LOG.note(21).encode() + answer.body)
    assert verify_cosignature(note.text, note.signatures[1], key.verifier) == NOW
    assert witness.store.remembered(ORIGIN)[0].size == 21


def test_an_old_library_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)
    with pytest.raises(NoteError, match="upgrade it"):
        evaluate(TrustFile((LOG.key,), None, (("pq", KEY),), (), "pq"), VECTOR.read_bytes())
    with pytest.raises(NoteError, match="upgrade it"):
        private_key(SEED)
