"""Cosignatures and quorums: the ledger's judgement and the offline verifier's are one, on every trust file and note."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.ledger import NoteError, TrustFile, VerifierKey, parse_note
from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.ledger.note import NoteSignature
from cognify_dagster.ledger.quorum import cosign, evaluate, signature_line, verify_cosignature
from tests.ledger.witness_factory import NOW, Log, cosigner, private

LOG = Log()
NAMES = [f"w{at}.example/w" for at in range(1, 5)]
HEAD = LOG.head(8)


def line(at: int, time: int = NOW, text: str = HEAD.text(), key: str | None = None) -> str:
    return cosign(text, NAMES[at - 1], private(key or NAMES[at - 1]), time)


def trust(tail: str) -> TrustFile:
    lines = "".join(f"witness W{at} {cosigner(name)}\n" for at, name in enumerate(NAMES, 1))
    return TrustFile.parse(f"log {LOG.key}\n{lines}{tail}")


TWO_OF_THREE = trust("group risk 2 W1 W2 W3\ngroup all all risk W4\nquorum risk\n")


def test_a_quorum_counts_witnesses_and_names_them_with_their_times() -> None:
    note = LOG.note(8) + line(2, NOW + 7) + line(1, NOW)
    result = evaluate(TWO_OF_THREE, note)
    assert (result.met, result.level, result.quorum) == (True, "L2", "risk")
    assert [(c.witness, c.key_name, c.time) for c in result.cosigners] == [
        ("W1", NAMES[0], NOW),
        ("W2", NAMES[1], NOW + 7),
    ]
    assert result.witnessed_at == NOW + 7
    assert result.checkpoint == HEAD
    assert result.signers == (LOG.key,)
    assert str(result) == "witness quorum 'risk' is met (cosigned by W1, W2)"


def test_one_witness_counts_once_with_its_earliest_time() -> None:
    result = evaluate(TWO_OF_THREE, LOG.note(8) + line(1, NOW + 9) + line(1, NOW) + line(1, NOW + 3))
    assert (result.met, result.level, result.witnessed_at) == (False, "L1", None)
    assert [c.time for c in result.cosigners] == [NOW]
    assert "NOT met" in str(result)


@pytest.mark.parametrize(
    ("tail", "given_", "at"),
    [
        ("quorum none\n", (1, 2, 3, 4), None),
        ("quorum W3\n", (3,), 3),
        ("quorum W3\n", (1, 2, 4), None),
        ("group g any W1 W2\nquorum g\n", (2,), 2),
        ("group g all W1 W2\nquorum g\n", (2,), None),
        ("group g all W1 W2\nquorum g\n", (1, 2), 2),
        ("group a 1 W1 W2\ngroup b 1 W3 W4\ngroup c 2 a b\nquorum c\n", (1, 2), None),
        ("group a 1 W1 W2\ngroup b 1 W3 W4\ngroup c 2 a b\nquorum c\n", (1, 2, 4), 4),
        ("group a 2 W1 W2\ngroup b any a W3\nquorum b\n", (3,), 3),
        ("group a 2 W1 W2\ngroup b any a W3\nquorum b\n", (1, 2), 2),
        ("group a 2 W1 W2\nquorum W3\n", (1, 2), None),
    ],
)
def test_groups_may_hold_groups(tail: str, given_: tuple[int, ...], at: int | None) -> None:
    note = LOG.note(8) + "".join(line(n, NOW + n) for n in given_)
    result = evaluate(trust(tail), note)
    assert result.witnessed_at == (None if at is None else NOW + at)
    assert result.met == (at is not None)


def test_no_quorum_asked_for_is_not_a_quorum_met() -> None:
    result = evaluate(trust("quorum none\n"), LOG.note(8) + line(1))
    assert (result.level, result.met) == ("L1", False)
    assert "no witnesses" in str(result)


def test_cosigners_without_the_logs_signature_are_not_l2() -> None:
    foreign = Log(key="thief")
    note = foreign.note(8) + line(1) + line(2)
    result = evaluate(TWO_OF_THREE, note)
    assert (result.met, result.log_signed, result.level) == (True, False, "L0")


def test_the_origin_must_be_the_name_of_a_log_that_signed() -> None:
    other = Log("other.example/x", key=LOG.origin)
    mixed = HEAD.text().replace(LOG.origin, other.origin)
    from cognify_dagster.ledger import sign_note

    assert evaluate(TWO_OF_THREE, sign_note(mixed, LOG.origin, LOG.private)).level == "L0"


def test_case_22_unknown_keys_are_ignored_also_under_a_known_name() -> None:
    impostor = line(1, key="thief")
    unknown = cosign(HEAD.text(), "w9.example/w", private("w9.example/w"), NOW)
    result = evaluate(TWO_OF_THREE, LOG.note(8) + impostor + unknown + line(2))
    assert [c.witness for c in result.cosigners] == ["W2"]
    assert not result.met


def broken(at: int, **change: Any) -> str:
    good = parse_note(LOG.note(8) + line(at)).signatures[1]
    return signature_line(NoteSignature(good.name, good.key_id, change["blob"](good.signature)))


BROKEN: list[Any] = [
    lambda blob: blob[:-1], lambda blob: blob + b"\0", lambda blob: blob[8:], lambda blob: bytes(8) + blob[8:],
    lambda blob: b"\xff" * 8 + blob[8:], lambda blob: blob[:-1] + bytes([blob[-1] ^ 1]), lambda blob: blob[:8] + bytes(64),
    lambda blob: b"x",
]  # fmt: skip


@pytest.mark.parametrize("change", BROKEN)
def test_a_known_key_whose_line_does_not_verify_rejects_the_note(change: Any) -> None:
    note = LOG.note(8) + line(1) + line(2) + broken(3, blob=change)
    with pytest.raises(NoteError, match=r"w3\.example"):
        evaluate(TWO_OF_THREE, note)
    assert offline(TWO_OF_THREE, note) == "rejected"


def test_a_cosignature_of_another_head_or_time_rejects_the_note() -> None:
    for text in (LOG.head(7).text(), HEAD.text() + "x\n", Log(history="b").head(8).text()):
        with pytest.raises(NoteError, match="does not verify"):
            evaluate(TWO_OF_THREE, LOG.note(8) + line(1, text=text))
    plain = LOG.note(8) + f"— {NAMES[0]} "  # a plain signature of the cosignature key is none
    import base64

    raw = cosigner(NAMES[0]).key_id + private(NAMES[0]).sign(HEAD.text().encode())
    with pytest.raises(NoteError):
        evaluate(TWO_OF_THREE, plain + base64.b64encode(raw).decode() + "\n")


def test_a_cosignature_is_bound_to_key_and_type() -> None:
    note = parse_note(LOG.note(8) + line(1))
    assert verify_cosignature(note.text, note.signatures[1], cosigner(NAMES[0])) == NOW
    with pytest.raises(NoteError, match="is not a cosignature of"):
        verify_cosignature(note.text, note.signatures[1], cosigner(NAMES[1]))
    with pytest.raises(NoteError, match="is not a cosignature of"):
        verify_cosignature(note.text, note.signatures[0], LOG.key)
    for time in (-1, 2**63):
        with pytest.raises(NoteError):
            cosign(HEAD.text(), NAMES[0], private(NAMES[0]), time)
    with pytest.raises(NoteError):
        cosign("no newline", NAMES[0], private(NAMES[0]), NOW)
    with pytest.raises(NoteError):
        evaluate(TWO_OF_THREE, "not a note")
    assert VerifierKey.parse(str(cosigner(NAMES[0])), 4) == cosigner(NAMES[0])


# ---- one judgement


class _Files:
    def __init__(self, note: str) -> None:
        self.note = note

    def bytes(self, _: str) -> bytes:
        return self.note.encode()


def offline(policy: TrustFile, note: str) -> str:
    """The level that the offline verifier's own code reaches on a checkpoint."""
    run: Any = _offline_class()("", None)
    head = HEAD
    run.files, run.signers, run.cosigners, run.level, run.findings = _Files(note), [], [], 0, []
    run.manifest = {"ledger": head.origin, "size": head.size, "anchor_seq": 0}
    run.expect = lambda *_args, **_more: None
    try:
        run._checkpoint(ov.Trust(policy.text()))
    except ov.Bad:
        return "rejected"
    return f"L{run.level} " + " ".join(sorted({cosigner["witness"] for cosigner in run.cosigners}))


def _offline_class() -> type:
    (found,) = [value for value in vars(ov).values() if isinstance(value, type) and hasattr(value, "_checkpoint")]
    return found


def mine(policy: TrustFile, note: str) -> str:
    try:
        result = evaluate(policy, note)
    except NoteError:
        return "rejected"
    return f"{result.level} " + " ".join(sorted(c.witness for c in result.cosigners))


@st.composite
def policies(draw: st.DrawFn) -> TrustFile:
    free = [f"W{at}" for at in range(1, 5)]
    names = list(free)
    tail = ""
    for group in range(draw(st.integers(0, 3))):
        if not free:
            break
        members = draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
        k = draw(st.one_of(st.integers(1, len(members)).map(str), st.sampled_from(["any", "all"])))
        tail += f"group g{group} {k} {' '.join(members)}\n"
        free = [name for name in free if name not in members] + [f"g{group}"]
        names.append(f"g{group}")
    return trust(f"{tail}quorum {draw(st.sampled_from([*names, 'none']))}\n")


LINES = st.one_of(
    st.builds(line, st.integers(1, 4), st.sampled_from([0, 1, NOW, 2**63 - 1])),
    st.sampled_from(
        [
            line(1, key="thief"),
            cosign(HEAD.text(), "w9.example/w", private("w9"), NOW),
            LOG.note(8).split("\n\n")[1],
            Log(key="thief").note(8).split("\n\n")[1],
        ]
    ),
)
BAD_LINES = st.sampled_from(
    [broken(at, blob=change) for at in (1, 4) for change in BROKEN]
    + [line(2, text=LOG.head(7).text()), LOG.note(7).split("\n\n")[1]]
)


@settings(max_examples=80, deadline=None)
@given(policies(), st.booleans(), st.lists(LINES, min_size=1, max_size=6), st.one_of(st.none(), st.none(), BAD_LINES))
def test_ledger_and_offline_verifier_agree(policy: TrustFile, signed: bool, lines: list[str], bad: str | None) -> None:
    note = (LOG.note(8) if signed else HEAD.text() + "\n") + "".join(lines) + (bad or "")
    assert mine(policy, note) == offline(policy, note)
    if bad is not None:
        assert mine(policy, note) == "rejected"
