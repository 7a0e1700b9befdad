"""A governed workspace with a review site over it, as the tests of all its parts use it.

    def test_…(site_world: SiteWorld) -> None:
        vera = site_world.client_for("vera")           # signed in, a session row was written for her
        assert "Waiting" in vera.get("/").text
        vera.submit("/models/credit_default/1/sign", decision="approve")   # a form: with CSRF token and Origin
        vera.call("/…/options", {"some": "json"})      # what fetch() of our scripts sends
        passkey = site_world.passkey("vera")           # registered, and enrolled in the ledger: it may sign (S4)
        passkey.answer(options)                        # what the browser sends back

People: ada and finn (workspace_admin), ben (data_scientist, model_validator), vera (model_validator), carl (compliance_officer),
olga (business_owner). `site_world.world` is `tests.governance.world.World`.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.testclient import TestClient

from cognify_dagster.governance import directory, enrol_person, rotated
from cognify_dagster.review.app import make_app, open_site
from cognify_dagster.review.config import ReviewConfig
from cognify_dagster.review.site import Site
from cognify_dagster.review.store.accounts import Account, find_account
from cognify_dagster.review.store.sessions import Session, find_session, open_session
from cognify_dagster.review.visit import cookie_name
from tests.governance.world import World
from tests.review.authenticator import Authenticator

URL = "http://localhost:3070"


class Client(TestClient):
    """A browser without JavaScript. Redirects are not followed unless `follow_redirects=True` is given."""

    def __init__(self, site: Site, app: Starlette, token: str = "") -> None:
        super().__init__(app, base_url=site.config.url, follow_redirects=False, raise_server_exceptions=True)
        self.site = site
        if token:
            self.cookies.set(cookie_name(site), token, domain="localhost.local", path="/")

    @property
    def token(self) -> str:
        """The token in the session cookie, empty if there is none."""
        return next((item.value or "" for item in self.cookies.jar if item.name == cookie_name(self.site)), "")

    @property
    def session(self) -> Session | None:
        """The session that the cookie names."""
        with self.site.store.begin() as connection:
            return find_session(connection, self.token, int(time.time()), 10**9)

    @property
    def csrf(self) -> str:
        """The token that forms of this session carry."""
        session = self.session
        return session.csrf if session is not None else ""

    def submit(self, path: str, _files: dict[str, tuple[str, bytes]] | None = None, **fields: str) -> Any:
        """Send a form as its page would: same origin, with the session's token."""
        data = {"csrf": self.csrf} | fields
        return self.post(path, data=data, files=_files, headers={"Origin": self.site.config.url})

    def call(self, path: str, value: Any = None) -> Any:
        """Send JSON as this site's scripts do."""
        headers = {
            "Origin": self.site.config.url, "X-CSRF-Token": self.csrf,
            "Accept": "application/json", "Content-Type": "application/json",
        }  # fmt: skip
        return self.post(path, content=json.dumps({} if value is None else value), headers=headers)


def vouched_key(site: Site, account: Account) -> str:
    """Return a key of an account's person that two people vouched for; a session by it is more than a reader's."""
    reading = site.read()
    return next(iter(directory(reading).valid_keys(account.person or "", reading.size)), "")


@dataclass
class SiteWorld:
    """The workspace, the site over it, and who visits."""

    world: World
    site: Site
    passkeys: dict[str, Authenticator] = field(default_factory=dict)

    @cached_property
    def app(self) -> Starlette:
        """The ASGI application; nothing runs in the background."""
        return make_app(self.site, jobs=False)

    def client(self) -> Client:
        """Return a browser that is not signed in."""
        return Client(self.site, self.app)

    def client_for(self, name: str, method: str = "passkey") -> Client:
        """Return a browser in which a person is signed in, as by `method`."""
        account, credential = self.account(name), ""
        if method == "passkey":
            credential = vouched_key(self.site, account)
        with self.site.store.begin() as connection:
            token = open_session(
                connection, account.id, method, int(time.time()), 12, "testclient", "tests", credential=credential
            )
        return Client(self.site, self.app, token)

    def account(self, name: str) -> Account:
        """Return (making it once) the account of a person, without any credential."""
        from cognify_dagster.review.identity.accounts import add_account

        person = f"person/{name}"
        with self.site.store.begin() as connection:
            found = find_account(connection, person=person)
            return found or add_account(connection, name, int(time.time()), person=person)

    def passkey(self, name: str, *, vouched: bool = True, **settings: Any) -> Authenticator:
        """Return (making it once) a person's passkey: registered with the site and, if vouched, enrolled to sign with."""
        from cognify_dagster.review.identity.passkeys import keep_passkey

        if name not in self.passkeys:
            key = Authenticator(**settings)
            account = self.account(name)
            key.user_handle = account.id.encode()
            with self.site.store.begin() as connection:
                keep_passkey(connection, account.id, key.public, "test key", int(time.time()))
            self.passkeys[name] = key
            if vouched:
                self.vouch(name, key)
        return self.passkeys[name]

    def vouch(self, name: str, key: Authenticator) -> int:
        """Enrol a passkey beside a person's other keys, signed by an admin and a second person; return the entry."""
        reading = self.world.workspace.read()
        person = rotated(reading, f"person/{name}", key.public, False)
        vouchers = [who for who in ("ada", "finn", "vera") if who != name][:2]
        return enrol_person(self.world.workspace, person, *(self.world.key(who) for who in vouchers)).seq

    def roles(self, name: str) -> list[str]:
        """Return a person's roles now."""
        reading = self.world.workspace.read()
        person = directory(reading).person_at(f"person/{name}", reading.size)
        return list(person.roles) if person else []


def make_site_world(world: World, **settings: Any) -> SiteWorld:
    """Put a site over a world; `settings` are those of `ReviewConfig`."""
    config = ReviewConfig(**({"url": URL, "database": site_database(world.folder)} | settings))
    return SiteWorld(world, open_site(world.workspace, config))


def site_database(folder: Path) -> str:
    """The site's database of a world: a file there, or with COGNIFY_TEST_SITE=postgres one on the tests' server."""
    if os.environ.get("COGNIFY_TEST_SITE") != "postgres":
        return f"sqlite:///{folder / 'review.sqlite'}"
    from tests.conformance.postgres_server import shared_server

    name, server = "site_" + hashlib.sha256(str(folder).encode()).hexdigest()[:16], shared_server()
    if not server.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
        server.execute(f"CREATE DATABASE {name}")
    return server.url(name).replace("postgresql://", "postgresql+psycopg://")
