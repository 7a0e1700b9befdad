"""Anchors: write once, find what was taken away or rewritten, and believe no receipt and no certificate from inside."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import Certificate
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.ledger import NoteError, open_checkpoint, parse_note
from cognify_dagster.ledger.anchors import (
    Anchor,
    AnchorConflict,
    AnchorError,
    AnchorReceipt,
    FolderAnchor,
    Rfc3161Anchor,
    anchored_time,
    imprint,
    load_roots,
    token_time,
)
from cognify_dagster.ledger.anchors.base import escape
from cognify_dagster.ledger.quorum import cosign
from tests.ledger.anchor_servers import Authority, tsa_server
from tests.ledger.witness_factory import NOW, ORIGIN, Log, private

LOG = Log()
FORK = Log(history="b", fork=7)
COSIGNED = LOG.note(8) + cosign(LOG.head(8).text(), "w1.example/w", private("w1.example/w"), NOW)
now = lambda: datetime.now(timezone.utc)  # noqa: E731


# ---- receipts and names


@given(st.text(), st.integers(0, 2**62), st.text(), st.text(), st.binary(max_size=100))
def test_receipts_round_trip(origin: str, size: int, location: str, version: str, token: bytes) -> None:
    try:
        text = AnchorReceipt("s3", origin, size, "ab" * 32, location, version, token).to_json()
    except ValueError:
        return  # text that canonical JSON refuses, such as lone surrogates
    receipt = AnchorReceipt.from_json(text)
    assert (receipt.origin, receipt.location, receipt.version, receipt.token) == (origin, location, version, token)
    assert receipt.to_json() == text


GOOD = AnchorReceipt("folder", ORIGIN, 8, imprint(LOG.note(8)), "x")


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", "1", "x", GOOD.to_json().replace('"v":1', '"v":2'), GOOD.to_json().replace('"size":8', '"size":"8"'),
     GOOD.to_json().replace('"size":8', '"size":-8'), GOOD.to_json().replace('"size":8', '"size":true'), GOOD.to_json().replace('"kind"', '"kin"'),
     GOOD.to_json().replace('"token":""', '"token":"?"'), GOOD.to_json().replace(GOOD.imprint, "AB" * 32), "[" * 100_000, " " * 600_000],
)  # fmt: skip
def test_malformed_receipts_are_refused(text: str) -> None:
    with pytest.raises(AnchorError):
        AnchorReceipt.from_json(text)


@given(st.text(min_size=1, max_size=60))
def test_an_origin_becomes_one_harmless_name(origin: str) -> None:
    try:
        name = escape(origin)
    except UnicodeEncodeError:
        return
    assert "/" not in name
    assert "." not in name
    assert name.isascii()
    from urllib.parse import unquote

    assert unquote(name) == origin


def test_what_is_anchored_is_the_signed_text() -> None:
    assert imprint(LOG.note(8)) == imprint(COSIGNED) == hashlib.sha256(LOG.head(8).text().encode()).hexdigest()
    assert imprint(LOG.note(8)) != imprint(FORK.note(8))


# ---- folder


@pytest.fixture
def folder(tmp_path: Path) -> FolderAnchor:
    return FolderAnchor(tmp_path)


def test_a_folder_keeps_heads_by_size(folder: FolderAnchor) -> None:
    assert list(folder.heads(ORIGIN)) == []
    for size in (8, 13, 9, 0):
        receipt = folder.put(LOG.head(size), LOG.note(size))
        found = folder.check(receipt, LOG.note(size))
        assert (found.size, found.kind) == (size, "folder")
        assert abs(found.time - now()) < timedelta(seconds=10)
    heads = list(folder.heads(ORIGIN))
    assert [head.checkpoint.size for head in heads] == [0, 8, 9, 13]
    assert all(open_checkpoint(head.note, [LOG.key]) == head.checkpoint for head in heads)
    assert list(folder.heads("other.example/x")) == []
    path = folder.folder / "bank%2Eexample%2Fdemo%2Fcredit" / "8"
    assert path.read_text() == LOG.note(8)
    assert path.stat().st_mode & 0o222 == 0


def test_the_same_head_again_is_no_error_also_with_more_cosignatures(folder: FolderAnchor) -> None:
    first = folder.put(LOG.head(8), LOG.note(8))
    assert folder.put(LOG.head(8), COSIGNED) == first
    assert folder.check(first, COSIGNED).size == 8
    assert next(folder.heads(ORIGIN)).note == LOG.note(8)


def test_another_head_of_one_size_is_a_conflict(folder: FolderAnchor) -> None:
    receipt = folder.put(LOG.head(8), LOG.note(8))
    with pytest.raises(AnchorConflict, match="rewritten or forked"):
        folder.put(FORK.head(8), FORK.note(8))
    path = Path(receipt.location)
    os.chmod(path, 0o600)
    path.write_text(FORK.note(8))
    with pytest.raises(AnchorConflict, match="rewritten or forked"):
        folder.check(receipt, LOG.note(8))
    path.unlink()
    with pytest.raises(AnchorConflict, match="gone"):
        folder.check(receipt, LOG.note(8))


def test_a_receipt_is_good_for_its_head_and_anchor_only(folder: FolderAnchor, tmp_path: Path) -> None:
    receipt = folder.put(LOG.head(8), LOG.note(8))
    folder.put(LOG.head(9), LOG.note(9))
    for other in (LOG.note(9), FORK.note(8), Log("other.example/x").note(8)):
        with pytest.raises(AnchorError, match="another head"):
            folder.check(receipt, other)
    with pytest.raises(AnchorError, match="kind"):
        folder.check(replace(receipt, kind="rfc3161"), LOG.note(8))
    with pytest.raises(AnchorError, match="another head"):
        folder.check(replace(receipt, size=9), LOG.note(8))
    with pytest.raises(AnchorError, match="not the one"):
        folder.put(LOG.head(9), LOG.note(8))
    elsewhere = tmp_path / "forged"
    elsewhere.write_text(LOG.note(21))
    claimed = replace(receipt, size=21, imprint=imprint(LOG.note(21)), location=str(elsewhere))
    with pytest.raises(AnchorConflict, match="gone"):  # the receipt's own path is not followed
        folder.check(claimed, LOG.note(21))


def test_a_missing_share_is_not_an_empty_anchor(tmp_path: Path) -> None:
    anchor = FolderAnchor(tmp_path / "unmounted")
    for call in (lambda: anchor.put(LOG.head(8), LOG.note(8)), lambda: list(anchor.heads(ORIGIN))):
        with pytest.raises(AnchorError, match="mounted"):
            call()
    assert not anchor.folder.exists()


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"x", LOG.note(9).encode(), Log("other.example/x").note(8).encode(), b"x" * 70_000]
)
def test_foreign_files_in_an_anchor_are_errors(folder: FolderAnchor, data: bytes) -> None:
    folder.put(LOG.head(1), LOG.note(1))
    (folder.folder / escape(ORIGIN) / "8").write_bytes(data)
    (folder.folder / escape(ORIGIN) / ".new-left-over").write_bytes(b"a crash left this")
    with pytest.raises(AnchorError, match="/8: "):
        list(folder.heads(ORIGIN))
    with pytest.raises(AnchorError):
        folder.put(LOG.head(8), LOG.note(8))


def test_a_full_disk_leaves_nothing_half_written(folder: FolderAnchor, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AnchorError, match="No space"):
        folder.put(LOG.head(8), LOG.note(8))
    assert list((folder.folder / escape(ORIGIN)).iterdir()) == []


# ---- RFC 3161


pytest_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Authority]:
    folder = tmp_path_factory.mktemp("tsa")
    made = {usage: Authority(folder, "root", usage) for usage in ("good", "not_critical", "no_eku")}
    return {**made, "foreign": Authority(folder, "foreign")}


@pytest.fixture(scope="module")
def authority(authorities: dict[str, Authority]) -> Authority:
    return authorities["good"]


@pytest.fixture(scope="module")
def roots(authority: Authority) -> tuple[Certificate, ...]:
    return load_roots(authority.root_pem)


@pytest.fixture(scope="module")
def url(authority: Authority) -> Iterator[str]:
    with tsa_server(lambda query: (200, authority.reply(query))) as url:
        yield url


@pytest.fixture(scope="module")
def stamped(url: str, roots: tuple[Certificate, ...]) -> AnchorReceipt:
    return Rfc3161Anchor(url, roots).put(LOG.head(8), LOG.note(8))


@pytest_openssl
def test_a_time_stamp_is_verified_and_openssl_agrees(
    url: str, roots: tuple[Certificate, ...], stamped: AnchorReceipt, authority: Authority
) -> None:
    anchor: Anchor = Rfc3161Anchor(url, roots)
    found = anchor.check(stamped, COSIGNED)
    assert (found.size, found.kind) == (8, "rfc3161")
    assert abs(found.time - now()) < timedelta(minutes=2)
    assert list(anchor.heads(ORIGIN)) == []
    assert AnchorReceipt.from_json(stamped.to_json()) == stamped
    assert authority.openssl_verifies(stamped.token, LOG.head(8).text().encode())
    assert not authority.openssl_verifies(stamped.token, FORK.head(8).text().encode())


@pytest_openssl
def test_anchored_time_is_pure_and_counts_only_what_holds(
    roots: tuple[Certificate, ...],
    stamped: AnchorReceipt,
    authorities: dict[str, Authority],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_socket(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    foreign_root = load_roots(authorities["foreign"].root_pem)
    ((size, time, kind),) = anchored_time(COSIGNED, [stamped, GOOD], roots)
    assert (size, kind) == (8, "rfc3161")
    assert time.tzinfo is not None
    assert anchored_time(LOG.note(8), [stamped], (*foreign_root, *roots)) != []
    problems: list[str] = []
    assert anchored_time(LOG.note(8), [stamped], foreign_root, problems=problems) == []
    assert len(problems) == 1
    assert "does not verify" in problems[0]
    assert anchored_time(LOG.note(8), [stamped], ()) == []
    assert anchored_time(FORK.note(8), [stamped], roots, problems=problems) == []
    forged = replace(stamped, imprint=imprint(FORK.note(8)))
    assert anchored_time(FORK.note(8), [forged], roots, problems=problems) == []
    assert "Mismatch" in problems[-1]
    moved = replace(stamped, size=9)
    assert anchored_time(LOG.note(8), [moved], roots, problems=problems) == []
    with pytest.raises(NoteError):
        anchored_time("no note", [stamped], roots)


@pytest_openssl
def test_every_flipped_byte_of_a_token_that_matters_is_found(
    roots: tuple[Certificate, ...], stamped: AnchorReceipt
) -> None:
    """A flip is refused or changes nothing that is claimed: same time, same text."""
    text = LOG.head(8).text()
    time = token_time(stamped.token, text, roots)
    refused = 0
    for at in range(0, len(stamped.token), 3):
        token = bytearray(stamped.token)
        token[at] ^= 0x04
        try:
            assert token_time(bytes(token), text, roots) == time
        except AnchorError:
            refused += 1
    assert refused / len(range(0, len(stamped.token), 3)) > 0.5
    for token in (
        b"",
        b"x",
        stamped.token[:-1],
        stamped.token[: len(stamped.token) // 2],
        b"\x30\x80" * 5000,
        b"x" * 300_000,
    ):
        with pytest.raises(AnchorError):
            token_time(token, text, roots)


@pytest_openssl
def test_a_token_counts_only_with_a_certificate_for_time_stamps_below_a_trusted_root(
    authorities: dict[str, Authority], roots: tuple[Certificate, ...], stamped: AnchorReceipt
) -> None:
    """A root signs many certificates; the one of a web server below it must not be able to state times."""
    text = LOG.head(8).text()
    resigned = {usage: authority.resign(stamped.token) for usage, authority in authorities.items()}
    own = {usage: load_roots(authority.root_pem) for usage, authority in authorities.items()}
    assert token_time(resigned["good"], text, own["good"]) == token_time(stamped.token, text, roots)
    assert token_time(resigned["foreign"], text, own["foreign"])
    with pytest.raises(AnchorError, match=r"not critical|verifying certificates"):
        token_time(resigned["not_critical"], text, own["not_critical"])
    with pytest.raises(AnchorError, match=r"EKU|verifying certificates"):
        token_time(resigned["no_eku"], text, own["no_eku"])
    for usage in ("foreign", "not_critical", "no_eku"):
        with pytest.raises(AnchorError, match="verifying certificates"):
            token_time(resigned[usage], text, roots)


@pytest_openssl
def test_a_token_of_another_authority_is_not_taken(
    authorities: dict[str, Authority], roots: tuple[Certificate, ...]
) -> None:
    foreign = authorities["foreign"]
    with (
        tsa_server(lambda query: (200, foreign.reply(query))) as url,
        pytest.raises(AnchorError, match="does not verify"),
    ):
        Rfc3161Anchor(url, roots).put(LOG.head(8), LOG.note(8))


@pytest_openssl
def test_answers_to_other_questions_are_refused(
    authority: Authority, roots: tuple[Certificate, ...], stamped: AnchorReceipt
) -> None:
    replies: list[tuple[int, bytes]] = [
        (200, stamped.token),  # an older answer over the same head: the nonce differs
        (200, b""), (200, b"<html>"), (200, b"x" * 300_000), (404, b""), (500, b""), (302, b""),
    ]  # fmt: skip
    for reply in replies:
        with tsa_server(lambda _, reply=reply: reply) as url, pytest.raises(AnchorError):
            Rfc3161Anchor(url, roots, timeout=3).put(LOG.head(8), LOG.note(8))
    with pytest.raises(AnchorError, match="gave no token"):
        Rfc3161Anchor("http://user:secret@127.0.0.1:1/tsa", roots).put(LOG.head(8), LOG.note(8))


@pytest_openssl
def test_rejections_of_the_authority_are_reported(roots: tuple[Certificate, ...], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (authority.folder / "tsa.cnf").write_text(
        (authority.folder / "tsa.cnf").read_text().replace("sha256, sha384, sha512", "sha384")
    )
    with tsa_server(lambda query: (200, authority.reply(query))) as url, pytest.raises(AnchorError):
        Rfc3161Anchor(url, roots).put(LOG.head(8), LOG.note(8))


def test_an_authority_needs_a_root_and_an_http_url() -> None:
    for url in ("file:///etc/passwd", "ftp://x/y", "tsa.example"):
        with pytest.raises(AnchorError, match="URL"):
            Rfc3161Anchor(url, [object()])  # type: ignore[list-item]
    with pytest.raises(AnchorError, match="root"):
        Rfc3161Anchor("http://tsa.example", [])
    with pytest.raises(AnchorError, match="root"):
        token_time(b"x", "text\n", [])
    with pytest.raises(AnchorError, match="PEM"):
        load_roots(b"no certificate")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from cognify_dagster.ledger.anchors import S3Anchor

    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(AnchorError, match="timestamp"):
        token_time(b"x", "text\n", [object()])  # type: ignore[list-item]
    with pytest.raises(AnchorError, match=r"\[s3\]"):
        S3Anchor("bucket")


def test_the_room_stays_light() -> None:
    import subprocess
    import sys

    code = (
        "import sys, cognify_dagster.ledger.anchors, cognify_dagster.ledger.witness\n"
        "print([m for m in ('rfc3161_client', 'botocore', 'dagster', 'pydantic', 'fsspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert parse_note(LOG.note(1)).text
