"""The S3 anchor against a real server: write if absent, COMPLIANCE retention, and what a delete marker can and cannot hide."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from cognify_dagster.ledger import open_checkpoint
from cognify_dagster.ledger.anchors import AnchorConflict, AnchorError, AnchorReceipt, S3Anchor
from tests.ledger.anchor_servers import S3_SECRET
from tests.ledger.witness_factory import ORIGIN, Log

pytestmark = pytest.mark.xdist_group("s3")
LOG = Log()
FORK = Log(history="b", fork=7)


@pytest.fixture
def endpoint(s3_access: str) -> str:
    return s3_access


@pytest.fixture(scope="module")
def admin(s3_admin: Any) -> Any:
    """Whoever holds all rights on the store."""
    s3_admin.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    s3_admin.create_bucket(Bucket="plain")
    return s3_admin


@pytest.fixture
def locked(endpoint: str, admin: Any, request: pytest.FixtureRequest) -> S3Anchor:
    return S3Anchor("locked", request.node.name, endpoint_url=endpoint, retention_days=30)


def test_heads_are_kept_locked(locked: S3Anchor, admin: Any) -> None:
    assert locked.kind == "s3-object-lock"
    assert list(locked.heads(ORIGIN)) == []
    receipts = {size: locked.put(LOG.head(size), LOG.note(size)) for size in (13, 8, 9)}
    found = locked.check(receipts[8], LOG.note(8))
    assert (found.size, found.kind) == (8, "s3-object-lock")
    assert abs(found.time - datetime.now(timezone.utc)) < timedelta(minutes=2)
    heads = list(locked.heads(ORIGIN))
    assert [(head.checkpoint.size, head.hidden) for head in heads] == [(8, False), (9, False), (13, False)]
    assert all(open_checkpoint(head.note, [LOG.key]) == LOG.head(head.checkpoint.size) for head in heads)
    assert AnchorReceipt.from_json(receipts[8].to_json()) == receipts[8]
    assert S3_SECRET not in receipts[8].to_json()
    held = admin.get_object_retention(Bucket="locked", Key=locked._key(ORIGIN, 8), VersionId=receipts[8].version)
    assert held["Retention"]["Mode"] == "COMPLIANCE"
    assert held["Retention"]["RetainUntilDate"] > datetime.now(timezone.utc) + timedelta(days=29)


def test_the_same_head_again_gives_the_same_receipt_and_another_is_a_conflict(locked: S3Anchor) -> None:
    receipt = locked.put(LOG.head(8), LOG.note(8))
    assert locked.put(LOG.head(8), LOG.note(8)) == receipt
    with pytest.raises(AnchorConflict, match="rewritten or forked"):
        locked.put(FORK.head(8), FORK.note(8))
    assert len(list(locked.heads(ORIGIN))) == 1


def test_nobody_deletes_or_shortens_and_a_delete_marker_hides_nothing(locked: S3Anchor, admin: Any) -> None:
    from botocore.exceptions import ClientError

    receipt = locked.put(LOG.head(8), LOG.note(8))
    place = {"Bucket": "locked", "Key": locked._key(ORIGIN, 8)}
    soon = datetime.now(timezone.utc) + timedelta(seconds=5)
    with pytest.raises(ClientError):
        admin.delete_object(**place, VersionId=receipt.version)
    with pytest.raises(ClientError):
        admin.put_object_retention(
            **place, VersionId=receipt.version, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": soon}
        )
    admin.delete_object(**place)  # only a marker on top
    assert locked.check(receipt, LOG.note(8)).size == 8
    forged = locked.put(FORK.head(8), FORK.note(8))  # over the marker the key looks free
    assert forged.version != receipt.version
    heads = list(locked.heads(ORIGIN))
    assert [(head.checkpoint, head.hidden) for head in heads] == [(LOG.head(8), True), (FORK.head(8), False)]
    assert locked.check(receipt, LOG.note(8)).size == 8
    with pytest.raises(AnchorConflict):
        locked.check(replace(receipt, version=forged.version), LOG.note(8))


def test_receipts_prove_nothing_by_themselves(locked: S3Anchor) -> None:
    receipt = locked.put(LOG.head(8), LOG.note(8))
    with pytest.raises(AnchorError, match="another head"):
        locked.check(receipt, FORK.note(8))
    with pytest.raises(AnchorError, match="version"):
        locked.check(replace(receipt, version=""), LOG.note(8))
    with pytest.raises(AnchorError):
        locked.check(replace(receipt, version="0" * 32), LOG.note(8))
    with pytest.raises(AnchorError, match="kind"):
        locked.check(replace(receipt, kind="folder"), LOG.note(8))


def test_an_unlocked_object_in_a_locked_bucket_does_not_pass_for_a_locked_one(locked: S3Anchor, admin: Any) -> None:
    key = locked._key(ORIGIN, 8)
    version = admin.put_object(Bucket="locked", Key=key, Body=LOG.note(8).encode())["VersionId"]
    receipt = replace(locked.put(LOG.head(8), LOG.note(8)), version=version)
    with pytest.raises(AnchorError):
        locked.check(receipt, LOG.note(8))


def test_without_object_lock_it_is_write_if_absent_and_says_so(endpoint: str, admin: Any) -> None:
    with pytest.raises(AnchorError, match="no object lock"):
        S3Anchor("plain", endpoint_url=endpoint)
    anchor = S3Anchor("plain", endpoint_url=endpoint, require_lock=False)
    receipt = anchor.put(LOG.head(8), LOG.note(8))
    assert (anchor.kind, receipt.kind, anchor.check(receipt, LOG.note(8)).kind) == ("s3", "s3", "s3")
    assert anchor.put(LOG.head(8), LOG.note(8)) == receipt
    with pytest.raises(AnchorConflict, match="rewritten or forked"):
        anchor.put(FORK.head(8), FORK.note(8))
    assert [head.checkpoint.size for head in anchor.heads(ORIGIN)] == [8]
    admin.put_object(Bucket="plain", Key=anchor._key(ORIGIN, 8), Body=FORK.note(8).encode())
    with pytest.raises(AnchorConflict, match="rewritten or forked"):
        anchor.check(receipt, LOG.note(8))
    admin.delete_object(Bucket="plain", Key=anchor._key(ORIGIN, 8))
    with pytest.raises(AnchorConflict, match="gone"):
        anchor.check(receipt, LOG.note(8))


def test_writers_at_once_keep_one_head(endpoint: str, admin: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    anchors = [S3Anchor("locked", "race", endpoint_url=endpoint, retention_days=1) for _ in range(4)]

    def put(at: int) -> str:
        log = (LOG, FORK)[at % 2]
        try:
            return anchors[at].put(log.head(8), log.note(8)).version
        except AnchorError as error:
            return type(error).__name__

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(put, range(4)))
    (head,) = anchors[0].heads(ORIGIN)
    winners = {at % 2 for at, result in enumerate(results) if not result.startswith("Anchor")}
    assert winners == {0 if head.checkpoint == LOG.head(8) else 1}


def test_many_heads_are_listed_page_by_page(locked: S3Anchor) -> None:
    for size in range(1, 6):
        locked.put(LOG.head(size), LOG.note(size))
    real = locked._client.list_object_versions
    pages = []

    class Paged:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def list_object_versions(self, **arguments: Any) -> Any:
            pages.append(arguments)
            return real(**arguments, MaxKeys=2)

    client = locked._client
    locked._client = Paged()
    assert [head.checkpoint.size for head in locked.heads(ORIGIN)] == [1, 2, 3, 4, 5]
    assert len(pages) == 3


def test_a_store_out_of_reach_is_an_error_not_an_empty_anchor(endpoint: str, monkeypatch: Any) -> None:
    with pytest.raises(AnchorError, match="cannot be reached"):
        S3Anchor("locked", endpoint_url="http://127.0.0.1:1")
    with pytest.raises(AnchorError):
        S3Anchor("no-such-bucket", endpoint_url=endpoint)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(AnchorError) as caught:
        S3Anchor("locked", endpoint_url=endpoint)
    assert "wrong" not in str(caught.value)
    with pytest.raises(AnchorError, match="retention"):
        S3Anchor("locked", endpoint_url=endpoint, retention_days=0)
