"""An anchor in an S3 bucket, with object lock in COMPLIANCE mode where the bucket has it (extra `s3`).

Invariants: a head is written only if its key does not exist (`If-None-Match: *`), with a retention that nobody can shorten
if the bucket has object lock; the *version* that was written is what counts, because a delete marker hides a locked object
and lets another be written over it: `heads` lists all versions and `check` reads the one of the receipt. Credentials come
from the usual chain of the AWS libraries, never from us, and are in no receipt or message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from cognify_dagster.ledger.anchors.base import (
    MAX_NOTE_BYTES,
    S3,
    S3_LOCKED,
    AnchorConflict,
    AnchoredHead,
    AnchorError,
    AnchorReceipt,
    AnchorTime,
    check_receipt,
    escape,
    imprint,
    matched,
    read_head,
)
from cognify_dagster.ledger.note import Checkpoint

_TIMEOUT_S = 10
_NO_VERSION = ("", "null")


class S3Anchor:
    """Keeps each head as object `<prefix>/<origin, escaped>/<size>` of a bucket."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        retention_days: int = 3653,
        require_lock: bool = True,
        endpoint_url: str | None = None,
        region: str | None = None,
        client: Any = None,
    ) -> None:
        """Connect to a bucket that exists.

        Args:
            bucket: its name.
            prefix: keys begin with it.
            retention_days: how long nobody can delete a head, from its writing; ten years unless given.
            require_lock: refuse a bucket without object lock. Without it the anchor is only write-if-absent.
            endpoint_url: of a store that is not AWS.
            region: unless the environment says it.
            client: a botocore S3 client to use instead.

        Raises:
            AnchorError: if the library is missing, the bucket cannot be reached or has no object lock though it is required.
        """
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.retention_days = retention_days
        if retention_days < 1:
            raise AnchorError("retention_days must be at least 1")
        self._client = client or _connect(endpoint_url, region)
        self.locked = self._has_lock()
        if require_lock and not self.locked:
            raise AnchorError(
                f"bucket {bucket!r} has no object lock, so whoever may delete in it can remove heads. Create it with object lock, "
                f"or set require_lock=False and accept that"
            )

    @property
    def kind(self) -> str:
        """`s3-object-lock` or, without object lock, `s3`."""
        return S3_LOCKED if self.locked else S3

    def put(self, checkpoint: Checkpoint, note: str) -> AnchorReceipt:
        """Write the head if its key is free; see `Anchor.put`."""
        matched(checkpoint, note)
        key = self._key(checkpoint.origin, checkpoint.size)
        extra: dict[str, Any] = {}
        if self.locked:
            until = datetime.now(timezone.utc) + timedelta(days=self.retention_days)
            extra = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
        answer, error = self._try(
            "put_object", Key=key, Body=note.encode(), ContentType="text/plain; charset=utf-8", IfNoneMatch="*", **extra
        )
        if answer is not None:
            version = str(answer.get("VersionId") or "")
        elif error == 412:
            head, _, _, version = self._read(key, "", checkpoint.origin, checkpoint.size)
            if head != checkpoint:
                raise AnchorConflict(
                    f"{self._url(key)}: holds another head of the same size: the ledger was rewritten or forked"
                )
        else:  # also 409: somebody writes it at this moment
            raise AnchorError(f"{self._url(key)}: the head could not be written ({error}); try again")
        if self.locked and version in _NO_VERSION:
            raise AnchorError(f"{self._url(key)}: the store gave the locked object no version")
        location = self._url(key)
        return AnchorReceipt(self.kind, checkpoint.origin, checkpoint.size, imprint(note), location, version)

    def heads(self, origin: str) -> Iterator[AnchoredHead]:
        """Yield every version of every head by size, oldest first; `hidden` ones lie under a newer version or delete marker."""
        found: list[tuple[int, datetime, str, str, bool]] = []
        prefix = self._key(origin, 0)[:-1]
        marker: dict[str, Any] = {}
        while True:
            page = self._call("list_object_versions", Prefix=prefix, **marker)
            for item in page.get("Versions", []):
                name = item["Key"][len(prefix) :]
                if re.fullmatch(r"0|[1-9][0-9]{0,18}", name):
                    version = "" if item.get("VersionId") in (None, "null") else item["VersionId"]
                    found.append(
                        (int(name), item["LastModified"], item["Key"], version, not item.get("IsLatest", True))
                    )
            if not page.get("IsTruncated"):
                break
            marker = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page.get("NextVersionIdMarker", "")}
        found.reverse()  # a store lists the newest version first, and its times are whole seconds
        for size, _, key, version, hidden in sorted(found, key=lambda item: item[:2]):
            head, note, when, _ = self._read(key, version, origin, size)
            yield AnchoredHead(head, note, when, self._url(key), hidden)

    def check(self, receipt: AnchorReceipt, note: str) -> AnchorTime:
        """Return when the store took the receipt's version; see `Anchor.check`.

        For a locked bucket the object's retention must still be COMPLIANCE; the kind tells a locked head from an unlocked one.
        """
        head = Checkpoint.parse(check_receipt(receipt, note, (S3, S3_LOCKED)))
        key = self._key(head.origin, head.size)
        locked = receipt.kind == S3_LOCKED
        if locked and receipt.version in _NO_VERSION:
            raise AnchorError(f"{self._url(key)}: the receipt names no version of the locked object")
        there, _, when, version = self._read(key, receipt.version, head.origin, head.size)
        if there != head:
            raise AnchorConflict(
                f"{self._url(key)}: holds another head of the same size: the ledger was rewritten or forked"
            )
        if locked:
            held = self._call("get_object_retention", Key=key, VersionId=version).get("Retention", {})
            if held.get("Mode") != "COMPLIANCE":
                raise AnchorError(f"{self._url(key)}: the object is not locked in COMPLIANCE mode")
        return AnchorTime(head.size, when, receipt.kind)

    def _key(self, origin: str, size: int) -> str:
        return f"{self.prefix}/{escape(origin)}/{size}".lstrip("/")

    def _url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def _has_lock(self) -> bool:
        answer, error = self._try("get_object_lock_configuration")
        if answer is not None:
            return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")
        if error == "ObjectLockConfigurationNotFoundError":
            return False
        raise AnchorError(f"s3://{self.bucket}: whether it has object lock cannot be found out ({error})")

    def _read(self, key: str, version: str, origin: str, size: int) -> tuple[Checkpoint, str, datetime, str]:
        extra = {"VersionId": version} if version not in _NO_VERSION else {}
        answer, error = self._try("get_object", Key=key, **extra)
        if answer is None and error in ("NoSuchKey", "NoSuchVersion", 404):
            raise AnchorConflict(f"{self._url(key)}: the head that was anchored here is gone")
        if answer is None:
            raise AnchorError(f"{self._url(key)}: cannot be read ({error})")
        data = answer["Body"].read(MAX_NOTE_BYTES + 1)
        head, note = read_head(data, self._url(key), origin, size)
        return head, note, answer["LastModified"].astimezone(timezone.utc), str(answer.get("VersionId") or version)

    def _call(self, operation: str, **arguments: Any) -> Any:
        answer, error = self._try(operation, **arguments)
        if answer is None:
            raise AnchorError(f"s3://{self.bucket}: {operation} was refused ({error})")
        return answer

    def _try(self, operation: str, **arguments: Any) -> tuple[Any, str | int]:
        """Return the answer, or None and the error's code (the HTTP status for failed conditions).

        Raises:
            AnchorError: if the store cannot be reached.
        """
        import botocore.exceptions as botocore

        try:
            return getattr(self._client, operation)(Bucket=self.bucket, **arguments), ""
        except botocore.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = str(error.response.get("Error", {}).get("Code", "")) or str(status)
            return None, status if status in (409, 412) or code == "404" else code
        except (botocore.BotoCoreError, OSError) as error:
            raise AnchorError(f"s3://{self.bucket}: cannot be reached: {error}") from error


def _connect(endpoint_url: str | None, region: str | None) -> Any:
    try:
        import botocore.session
        from botocore.config import Config
    except ImportError as error:
        raise AnchorError("the S3 anchor needs the extra `s3`: pip install 'cognify-dagster[s3]'") from error
    config = Config(
        connect_timeout=_TIMEOUT_S,
        read_timeout=_TIMEOUT_S,
        retries={"max_attempts": 2},
        s3={"addressing_style": "path"} if endpoint_url else None,
    )
    return botocore.session.get_session().create_client(
        "s3", endpoint_url=endpoint_url, region_name=region or ("us-east-1" if endpoint_url else None), config=config
    )
