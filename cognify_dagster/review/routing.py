"""Routes, each with who may use it.

Invariant: a route that does not say who may use it cannot be declared; the dispatcher asks before a page's code runs. `ROUTES` is
the whole list, from which the tests make the permission matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from starlette.responses import Response

from cognify_dagster.review.errors import Refused, SignedOut
from cognify_dagster.review.identity.user import User
from cognify_dagster.review.visit import Visit

Handler = Callable[[Visit], Response]


class Need(Enum):
    """Who may use a route."""

    PUBLIC = "everybody"
    READ = "who is signed in: people of the workspace, and auditors during their grant"
    PERSON = "people of the workspace"
    ADMIN = "workspace admins"


@dataclass(frozen=True)
class PageRoute:
    """A declared route. `methods` are GET (and HEAD) or POST. `logged`: whether the access log keeps each use."""

    path: str
    name: str
    need: Need
    methods: tuple[str, ...]
    handler: Handler
    logged: bool = True


ROUTES: list[PageRoute] = []


def page(
    path: str, need: Need, *, methods: tuple[str, ...] = ("GET",), logged: bool = True
) -> Callable[[Handler], Handler]:
    """Declare a handler's route, named as the handler.

    Args:
        path: Starlette's path; `{name:path}` parts are allowed.
        need: who may use it.
        methods: GET or POST.
        logged: whether each use is written to the access log.
    """

    def declare(handler: Handler) -> Handler:
        name = getattr(handler, "__name__", "page")
        ROUTES.append(PageRoute(path, name, need, methods, handler, logged))
        return handler

    return declare


def require(need: Need, user: User | None) -> None:
    """Refuse a visitor who may not use a route.

    Raises:
        SignedOut: if signing in may help.
        Refused: 403 if it would not.
    """
    if need is Need.PUBLIC:
        return
    if user is None:
        raise SignedOut
    if need is Need.READ:
        return
    if user.person is None:
        raise Refused(403, "An auditor from outside reads; only people of this workspace act.", "read-only")
    if need is Need.ADMIN and not user.admin:
        raise Refused(403, "Only a workspace admin may do this.", "wrong-role")
