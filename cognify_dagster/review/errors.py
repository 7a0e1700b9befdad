"""Errors of the review site."""

from __future__ import annotations


class ReviewError(ValueError):
    """The site cannot do what was asked; the message says why and what to do."""


class Refused(ReviewError):
    """A request is refused.

    Args:
        status: the HTTP status.
        text: what a person reads.
        code: a short stable word for programs (`type` of problem+json).
    """

    def __init__(self, status: int, text: str, code: str = "refused") -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class SignedOut(Refused):
    """The page wants somebody who is signed in; a browser is sent to the login."""

    def __init__(self) -> None:
        super().__init__(401, "Please sign in first.", "signed-out")


def not_found(what: str) -> Refused:
    """Return the refusal of something that is not there, or that this visitor may not know of."""
    return Refused(404, f"{what} is not in this workspace.", "not-found")
