"""A site with single sign-on: against a real provider over HTTP (`oidc-provider-mock`), or a hostile one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from cognify_dagster.governance import directory, enrol_person, map_groups, rotated
from cognify_dagster.governance.signing.sso import sso_public
from cognify_dagster.records import PublicKey
from cognify_dagster.review.identity.oidc import http
from cognify_dagster.review.identity.oidc.people import alias_of
from tests.governance.issuer import CLIENT, ISSUER, FakeIssuer
from tests.governance.provider import running_provider
from tests.governance.test_sso import identity, weaker
from tests.governance.world import World, clone
from tests.review.site_world import Client, SiteWorld, make_site_world


@dataclass
class SsoWorld:
    """A site world and its issuer. `claims` are what the issuer says of a subject beside who it is."""

    site: SiteWorld
    issuer: str
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return self.site.world

    def enrol(self, name: str, subject: str = "", **changes: Any) -> PublicKey:
        """Enrol a person's identity to sign in and sign with."""
        key = sso_public(self.issuer, subject or f"{name}-at-idp", CLIENT)
        reading = self.world.workspace.read()
        if key.key_id in directory(reading).valid_keys(f"person/{name}", reading.size):
            return key
        person = rotated(self.world.workspace.read(), f"person/{name}", key, False).model_copy(update=changes)
        self.vouch(person)
        return key

    def alias(self, name: str, subject: str = "") -> None:
        """Enrol a person's identity to sign in with only."""
        reading = self.world.workspace.read()
        person = directory(reading).person_at(f"person/{name}", reading.size)
        assert person is not None
        alias = alias_of(self.issuer, subject or f"{name}-at-idp")
        self.vouch(person.model_copy(update={"aliases": (*person.aliases, alias)}))

    def vouch(self, person: Any) -> None:
        enrol_person(self.world.workspace, person, self.world.key("ada"), self.world.key("finn"))

    def map(self, groups: dict[str, tuple[str, ...]]) -> int:
        keys = [self.world.key("ada"), self.world.key("finn")]
        return map_groups(self.world.workspace, self.issuer, "groups", groups, "as agreed", keys).seq

    def begin(self, client: Client, target: str = "/account") -> str:
        """Follow the link on the login page; return the issuer's address."""
        answer = client.get("/oidc/login", params={"next": target})
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    def answer(self, url: str, subject: str) -> str:
        """Sign in at the issuer as a subject; return the address of this site that it sends the browser to."""
        if subject in self.claims:
            httpx.put(f"{self.issuer}/users/{subject}", json=self.claims[subject]).raise_for_status()
        back = httpx.post(url, data={"sub": subject}).headers["location"]
        parts = urlsplit(back)
        return f"{parts.path}?{parts.query}"

    def sign_in(self, client: Client, subject: str, target: str = "/account") -> Any:
        """Sign in by way of the issuer; return this site's answer."""
        return client.get(self.answer(self.begin(client, target), subject))


@pytest.fixture(scope="session")
def provider() -> Iterator[str]:
    with running_provider() as address:
        yield address


def settings(issuer: str, **more: Any) -> dict[str, Any]:
    return {"issuer": issuer, "client_id": CLIENT, **more}


@pytest.fixture(scope="session")
def weaker_template(ready_template: World, provider: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Version 1 waits for sign-offs, the policy takes S2, and Vera has an identity at both issuers."""
    world = clone(ready_template, tmp_path_factory.mktemp("sso") / "world")
    weaker(world)
    for issuer in (provider, ISSUER):
        identity(world, "vera", "vera-at-idp", issuer=issuer)
    return world


@pytest.fixture
def sso(weaker_template: World, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SsoWorld]:
    monkeypatch.setenv("OIDC_SECRET", "a secret: +/%")
    found = make_site_world(
        clone(weaker_template, tmp_path / "world"), oidc=settings(provider, client_secret="env:OIDC_SECRET")
    )
    yield SsoWorld(found, provider)
    found.site.store.close()


@dataclass
class Hostile(SsoWorld):
    """An issuer whose answers a test makes up. `token` makes the ID token from the nonce; `described` replaces its metadata."""

    fake: FakeIssuer = field(default_factory=lambda: FakeIssuer("ES256"))
    described: dict[str, Any] = field(default_factory=dict)
    token: Any = None
    fetched: list[str] = field(default_factory=list)

    def get_json(self, _: Any, url: str) -> dict[str, Any]:
        self.fetched.append(url)
        if url.endswith("/jwks"):
            return {"keys": [self.fake.jwk()]}
        names = {"authorization_endpoint": "auth", "token_endpoint": "token", "jwks_uri": "jwks"}
        return {"issuer": ISSUER} | {key: f"{ISSUER}/{value}" for key, value in names.items()} | self.described

    def answer(self, url: str, subject: str) -> str:
        """The browser comes back at once; what the code stands for is made from the nonce that it carried."""
        query = {key: value[0] for key, value in parse_qs(urlsplit(url).query).items()}
        make = self.token or (lambda nonce: self.fake.token(subject, nonce))
        self.code = make(query["nonce"])
        return f"/oidc/callback?state={query['state']}&code=x"

    def exchange(self, *_: Any) -> str:
        return str(self.code)


@pytest.fixture
def hostile(weaker_template: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    found = make_site_world(clone(weaker_template, tmp_path / "world"), oidc=settings(ISSUER))
    made = Hostile(found, ISSUER)
    monkeypatch.setattr(http, "get_json", made.get_json)
    monkeypatch.setattr(http, "exchange", made.exchange)
    yield made
    found.site.store.close()
