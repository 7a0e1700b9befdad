"""Whether a request that changes something came from a page of this site.

Invariants: a browser's cross-site request is refused (Fetch Metadata, else `Origin`; one that has neither is refused); a signed-in
form carries its session's token, compared in constant time.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from cognify_dagster.review.errors import Refused

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FIELD, HEADER = "csrf", "x-csrf-token"


def require_same_origin(headers: Mapping[str, str], origin: str) -> None:
    """Refuse a request that another site's page sent.

    Raises:
        Refused: 403.
    """
    fetched, named = headers.get("sec-fetch-site"), headers.get("origin")
    ours = named == origin or (named == "null" and fetched == "same-origin")  # some browsers hide the origin of a form
    if named is not None and not ours:
        raise Refused(403, "This form was sent from another site. Open the page here and try again.", "cross-origin")
    if fetched not in (None, "same-origin", "none") or (fetched is None and named is None):
        raise Refused(403, "This form was sent from another site. Open the page here and try again.", "cross-origin")
    if fetched == "none" and named is None:
        raise Refused(403, "A form is sent from its page; open the page and try again.", "cross-origin")


def require_token(given: str, expected: str) -> None:
    """Refuse a form without its session's token.

    Raises:
        Refused: 403.
    """
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise Refused(
            403, "This form is too old (you signed in anew since). Open the page again; nothing was changed.", "csrf"
        )
