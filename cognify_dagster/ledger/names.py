"""What a ledger, a kind of entry and a subject may be called. All ASCII that JSON does not escape: so bytes can be concatenated."""

from __future__ import annotations

import re
from functools import lru_cache

from cognify_dagster.ledger.errors import EntryError

SUBJECT = re.compile(r"[a-z][a-z0-9_]{0,39}(/[A-Za-z0-9_.+-]{1,120}(@[A-Za-z0-9_.+-]{1,60})?)?")
_ORIGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{2,199}")
KIND = re.compile(r"[a-z][a-z0-9_]{0,59}")


def check_origin(origin: str) -> str:
    """Return the origin if it is valid: 3 to 200 of `A-Za-z0-9._/-`, starting with a letter or digit.

    Raises:
        EntryError: if it is not.
    """
    if not _ORIGIN.fullmatch(origin):
        raise EntryError(f"origin {origin[:80]!r}: use 3 to 200 characters of A-Z a-z 0-9 . _ / -")
    return origin


def check_subject(subject: str) -> str:
    """Return the subject id if it is valid ASCII such as `model/credit_default@3` or `policy`.

    Raises:
        EntryError: if it is not.
    """
    if not SUBJECT.fullmatch(subject):
        raise EntryError(
            f"subject {subject[:120]!r}: use a lower-case word, then optionally /name and @version of A-Z a-z 0-9 _ . + -"
        )
    return subject


check_subject_once = lru_cache(maxsize=65_536)(check_subject)
"""As `check_subject`; remembers what it saw."""
check_origin_once = lru_cache(maxsize=64)(check_origin)
"""As `check_origin`; remembers what it saw."""
