"""Where the files of a digest lie, relative to the store's root.

Invariant: a name is made from a checked digest only, so it never leaves the root.
"""

from __future__ import annotations

import re

from cognify_dagster.evidence.reference import check_digest

PLAIN_NAME = re.compile(r"blobs/sha256/([0-9a-f]{2})/([0-9a-f]{62})")
SEALED_NAME = re.compile(r"sealed/sha256/([0-9a-f]{2})/([0-9a-f]{62})\.cose")


def plain_name(digest: str) -> str:
    """Name of an unencrypted blob."""
    hexdigits = check_digest(digest).removeprefix("sha256:")
    return f"blobs/sha256/{hexdigits[:2]}/{hexdigits[2:]}"


def sealed_name(digest: str) -> str:
    """Name of a sealed blob."""
    hexdigits = check_digest(digest).removeprefix("sha256:")
    return f"sealed/sha256/{hexdigits[:2]}/{hexdigits[2:]}.cose"


def key_name(digest: str) -> str:
    """Name of a wrapped data key, relative to the root of the keys."""
    return check_digest(digest).removeprefix("sha256:") + ".cose"
