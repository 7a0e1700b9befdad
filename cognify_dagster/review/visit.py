"""One request as the pages see it: who, what, when, and the ledger as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from cognify_dagster.review.errors import Refused, SignedOut, not_found
from cognify_dagster.review.identity.holding import holder_of
from cognify_dagster.review.identity.user import User
from cognify_dagster.review.site import Site
from cognify_dagster.review.store.accounts import find_account
from cognify_dagster.review.store.pending import count_unsigned
from cognify_dagster.review.store.sessions import Session, end_session, find_session
from cognify_dagster.workspace import Reading, Workspace

if TYPE_CHECKING:
    from cognify_dagster.review.identity.links import Heard, News

_FIELD = 64 * 1024


class Visit:
    """A request.

    Attributes:
        site: the running site.
        request: Starlette's request; its body was read already.
        form: the fields of a form, each once, trimmed; empty for other requests. `files` holds uploads: name -> bytes.
        json: the body of a JSON request, else None.
        subject: what is looked at, for the access log: `model/x@1`, `package/sha256:…`. Pages set it.
        detail: more for the access log (a digest that was downloaded, why something was refused).
        now: when it began.
        acts_waiting: how many acts waited for the visitor's signature then.
        heard: what happened to one-time links to the visitor's account lately.
    """

    def __init__(self, site: Site, request: Request) -> None:
        self.site = site
        self.request = request
        self.form: Mapping[str, str] = {}
        self.files: Mapping[str, bytes] = {}
        self.json: Any = None
        self.subject = ""
        self.detail = ""
        self.now: datetime = site.now()
        self.session: Session | None = None
        self.user: User | None = None
        self.new_cookie: str | None = None
        self.acts_waiting = 0
        self.heard: Heard | None = None
        self._reading: Reading | None = None

    @property
    def workspace(self) -> Workspace:
        """The workspace."""
        return self.site.workspace

    @property
    def reading(self) -> Reading:
        """The ledger as it was when this request first looked; `refresh` looks again."""
        if self._reading is None:
            self._reading = self.site.read()
        return self._reading

    def refresh(self) -> Reading:
        """Read the ledger again, after something was appended."""
        self._reading = None
        return self.reading

    def identify(self) -> None:
        """Find session and user of the request's cookie."""
        from cognify_dagster.review.identity.links import heard

        token = self.request.cookies.get(cookie_name(self.site))
        if not token or len(token) > 200:
            return
        seconds = int(self.now.timestamp())
        with self.site.store.begin() as connection:
            session = find_session(connection, token, seconds, self.site.config.session_minutes * 60)
            account = find_account(connection, id=session.account) if session is not None else None
            if account is not None and account.person is not None:
                self.acts_waiting = count_unsigned(connection, seconds, account.person)
            if account is not None and session is not None:
                self.heard = heard(connection, session, account.id, seconds)
        if session is None or account is None:
            return
        self.user = holder_of(self.site, self.reading, session, account, self.now)
        if self.user is not None:
            self.session = session
            return
        with self.site.store.begin() as connection:  # what it rested on has ended, and so has it
            end_session(connection, session.token_hash)

    @cached_property
    def waiting(self) -> int | None:
        """How many things wait for the visitor, for the navigation; None where that is not known."""
        from cognify_dagster.review.reading.waiting import count_for

        return count_for(self)

    @property
    def person(self) -> str:
        """The signed-in person's id.

        Raises:
            Refused: if nobody of the ledger is signed in.
        """
        if self.user is None:
            raise SignedOut
        if self.user.person is None:
            raise Refused(403, "An auditor from outside reads; only people of this workspace act.", "read-only")
        return self.user.person

    @cached_property
    def link_news(self) -> News | None:
        """What the visitor has to be told of one-time links to their account."""
        from cognify_dagster.review.identity.links import news

        return news(self)

    @property
    def here(self) -> str:
        """The address of this page, where a form leads back to; the inbox for an answer to a form."""
        url = self.request.url
        return url.path + (f"?{url.query}" if url.query else "") if self.request.method == "GET" else "/"

    def require_model(self, model: str) -> None:
        """Refuse a model that this visitor may not see, as if it were not there."""
        if self.user is None or not self.user.sees(model):
            raise not_found(f"The model {model[:80]}")

    @property
    def address(self) -> str:
        """Where the request came from: the peer, or what a configured proxy says."""
        peer = self.request.client.host if self.request.client else ""
        if peer in self.site.config.proxies:
            forwarded = self.request.headers.get("x-forwarded-for", "").split(",")[-1].strip()
            return forwarded[:64] or peer
        return peer

    @property
    def agent(self) -> str:
        """What the client says it is."""
        return self.request.headers.get("user-agent", "")[:300]

    @property
    def fragment(self) -> bool:
        """Whether htmx asks for a part of a page."""
        return self.request.headers.get("hx-request") == "true"

    def param(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str, default: str = "") -> str:
        """Return a query parameter."""
        return self.request.query_params.get(name, default)[:_FIELD].strip()

    def field(self, name: str, default: str = "") -> str:
        """Return a field of the form."""
        return self.form.get(name, default)

    def render(self, template: str, /, *, status: int = 200, **values: Any) -> Response:
        """Return a page. Templates also see `visit`, `user`, `config` and `csrf`."""
        text = self.site.templates.render(
            template,
            visit=self,
            user=self.user,
            config=self.site.config,
            csrf=self.session.csrf if self.session is not None else "",
            trial=self.reading.trial,
            **values,
        )
        return HTMLResponse(text, status)

    def redirect(self, path: str) -> Response:
        """Send the browser to another page of this site, with GET."""
        if not path.startswith("/") or path.startswith(("//", "/\\")):
            path = "/"
        return RedirectResponse(path, 303)

    def download(self, data: bytes, name: str, media_type: str) -> Response:
        """Return bytes as a file to keep."""
        safe = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in name)
        return Response(data, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{safe}"'})

    @cached_property
    def https(self) -> bool:
        """Whether cookies are marked Secure."""
        return self.site.config.secure


def cookie_name(site: Site) -> str:
    """Return the name of the session cookie; with TLS it is bound to the host."""
    return "__Host-cognify" if site.config.secure else f"cognify-{site.config.port}"
