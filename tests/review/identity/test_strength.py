"""What a way of signing in is good for: a password, a link or a passkey that nobody vouched for reads, and no more."""

from __future__ import annotations

import time

import pytest

from cognify_dagster.governance import revoke_key
from cognify_dagster.review.store.sessions import open_session
from tests.review.site_world import Client, SiteWorld


def session(world: SiteWorld, name: str, method: str, credential: str = "") -> Client:
    account = world.account(name)
    with world.site.store.begin() as connection:
        token = open_session(connection, account.id, method, int(time.time()), 12, credential=credential)
    return Client(world.site, world.app, token)


def invite(client: Client) -> int:
    return client.submit("/people/vera/invite").status_code


@pytest.mark.parametrize("method", ["password", "invitation", "passkey"])
def test_without_a_vouched_passkey_an_admin_reads(founded_site: SiteWorld, method: str) -> None:
    client = session(founded_site, "ada", method)
    assert client.get("/people").status_code == 200
    assert invite(client) == 403


def test_a_passkey_counts_from_the_moment_it_is_vouched_for_until_it_is_revoked(founded_site: SiteWorld) -> None:
    key = founded_site.passkey("ada", vouched=False)
    client = session(founded_site, "ada", "passkey", key.public.key_id)
    assert invite(client) == 403
    founded_site.vouch("ada", key)
    assert invite(client) in (200, 303)
    world = founded_site.world
    revoke_key(world.workspace, "person/ada", key.public.key_id, "lost", world.key("finn"))
    assert invite(client) == 401, "the session has ended"
    assert invite(session(founded_site, "ada", "passkey", key.public.key_id)) == 401


def test_somebody_elses_passkey_is_none(founded_site: SiteWorld) -> None:
    finn = founded_site.passkey("finn")
    assert invite(session(founded_site, "ada", "passkey", finn.public.key_id)) == 403
