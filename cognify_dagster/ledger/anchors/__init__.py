"""Anchors: places outside the ledger's reach that remember its heads, or state when a head existed.

Each is a small plug-in behind `Anchor`. `anchored_time` is the pure part: it needs the receipts and certificates only.
"""

from cognify_dagster.ledger.anchors.base import (
    Anchor,
    AnchorConflict,
    AnchoredHead,
    AnchorError,
    AnchorReceipt,
    AnchorTime,
    imprint,
)
from cognify_dagster.ledger.anchors.folder import FolderAnchor
from cognify_dagster.ledger.anchors.rfc3161 import Rfc3161Anchor, load_roots, token_time
from cognify_dagster.ledger.anchors.s3 import S3Anchor
from cognify_dagster.ledger.anchors.times import anchored_time

__all__ = [
    "Anchor",
    "AnchorConflict",
    "AnchorError",
    "AnchorReceipt",
    "AnchorTime",
    "AnchoredHead",
    "FolderAnchor",
    "Rfc3161Anchor",
    "S3Anchor",
    "anchored_time",
    "imprint",
    "load_roots",
    "token_time",
]
