"""Passwords: Argon2id hashes (RFC 9106). A password signs in to read; it never signs anything off.

Invariants: a check takes as long for a login that does not exist as for one that does; few checks run at a time, since each takes
64 MiB of memory.
"""

from __future__ import annotations

import threading
import unicodedata
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

LEAST, MOST = 12, 256
_FEW = threading.Semaphore(4)


@lru_cache(maxsize=1)
def hasher() -> PasswordHasher:
    """Return the hasher with the parameters in use."""
    return PasswordHasher()


@lru_cache(maxsize=1)
def _nobodys() -> str:
    return hasher().hash("the password of nobody")


def password_problem(text: str, *known: str) -> str | None:
    """Say why a password is refused, or None. `known` are words that may not be most of it: login, name, workspace.

    Length counts, not kinds of characters (NIST SP 800-63B).
    """
    folded = text.casefold()
    if len(text) < LEAST:
        return f"The password needs at least {LEAST} characters. A few words in a row are easy to keep."
    if len(text) > MOST:
        return f"The password may have {MOST} characters at most."
    if len(set(folded)) < 5:
        return "The password repeats too few characters."
    for word in known:
        rest = folded.replace(word.casefold(), "") if len(word) >= 3 else folded
        if len(rest) < LEAST // 2:
            return f"The password is little more than {word!r}; choose another."
    return None


def hash_password(text: str) -> str:
    """Return what is stored of a password."""
    with _FEW:
        return hasher().hash(_normal(text))


def check_password(stored: str | None, text: str) -> bool:
    """Whether a password is the one of a stored hash. None (no such account) takes as long and is never right."""
    with _FEW:
        try:
            hasher().verify(stored or _nobodys(), _normal(text))
        except (VerificationError, InvalidHashError):
            return False
    return stored is not None


def outdated(stored: str) -> bool:
    """Whether a hash was made with weaker parameters than those in use."""
    return hasher().check_needs_rehash(stored)


def _normal(text: str) -> str:
    """The same characters typed on another keyboard are the same password."""
    return unicodedata.normalize("NFKC", text[:MOST])
