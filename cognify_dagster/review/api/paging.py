"""Cursors and entity tags.

Invariants: a cursor is bound to its list, its filters and a number of entries: all pages of a list show the ledger as it was when the
first was asked for, however much is appended meanwhile; a cursor holds no secret and gives no right; whatever is no cursor of this
very list is refused. An entity tag follows from the heads of the subjects that an answer was made from, or from the answer itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from cognify_dagster.review.errors import Refused

MAX_LENGTH = 600


@dataclass(frozen=True)
class Place:
    """Where a page begins: after `at` in the first `size` entries."""

    size: int
    at: str


def encode_cursor(place: Place, about: Mapping[str, str | None]) -> str:
    """Return the cursor of a place in the list with these filters."""
    value = json.dumps([place.size, place.at, _digest(about)], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")


def decode_cursor(text: str, about: Mapping[str, str | None]) -> Place:
    """Return the place that a cursor names.

    Raises:
        Refused: 400, if it is none of this list.
    """
    try:
        size, at, digest = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        if not isinstance(size, int) or isinstance(size, bool) or not isinstance(at, str) or digest != _digest(about):
            raise ValueError
    except (ValueError, TypeError, RecursionError) as error:
        raise Refused(
            400, "This cursor is not of this list with these filters; begin without one.", "cursor"
        ) from error
    return Place(size, at)


def number_in(place: Place, most: int) -> int:
    """Return the entry number that a place names.

    Raises:
        Refused: 400, if it is none up to `most`.
    """
    if not place.at.isascii() or not place.at.isdigit() or len(place.at) > 18 or int(place.at) > most:
        raise Refused(400, "This cursor names no entry; begin without one.", "cursor")
    return int(place.at)


def entity_tag(*parts: object) -> str:
    """Return a weak entity tag over some values."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
    return f'W/"{digest[:32]}"'


def matches(header: str, tag: str) -> bool:
    """Whether an If-None-Match header names a tag (RFC 9110, weak comparison)."""
    if header.strip() == "*":
        return True
    return tag.removeprefix("W/") in {part.strip().removeprefix("W/") for part in header[:4000].split(",")}


def _digest(about: Mapping[str, str | None]) -> str:
    given = sorted((name, value) for name, value in about.items() if value is not None)
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()[:16]
