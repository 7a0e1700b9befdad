"""`cognify review setup`, `invite`, `vouch`, `accounts`, `disable` on real workspaces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cognify_dagster.governance import directory
from cognify_dagster.review.config import review_config
from cognify_dagster.review.identity.passkeys import in_ledger
from tests.cli.conftest import Cognify, _plain_environment, cognify, key_file
from tests.review.authenticator import Authenticator
from tests.review.site_world import SiteWorld, make_site_world

__all__ = ["_plain_environment", "cognify"]
PASSWORD = {"password": "seven owls in a barn", "again": "seven owls in a barn"}


@pytest.fixture
def world(founded_site: SiteWorld) -> Iterator[SiteWorld]:
    """The site with the database that the command finds through cognify.toml."""
    config = review_config(founded_site.world.workspace.config)
    found = make_site_world(founded_site.world, database=config.database)
    yield found
    found.site.store.close()


def test_the_first_run_makes_two_admins_who_let_their_passkeys_be_vouched_for(
    world: SiteWorld, cognify: Cognify
) -> None:
    result = cognify("review", "setup", "--json", at=world.world)
    assert result.code == 0
    accounts = {row["person"]: row for row in result.json["accounts"]}
    assert set(accounts) == {"person/ada", "person/finn"}
    keys = {}
    for person, row in accounts.items():
        path = row["link"].removeprefix("http://localhost:3070")
        browser, keys[person] = world.client(), Authenticator()
        started = browser.call(f"{path}/passkey/options").json()
        answer = {
            "ceremony": started["ceremony"],
            "credential": keys[person].register(started["options"]),
            "name": "key",
        }
        assert browser.call(f"{path}/passkey", answer).status_code == 200
    again = cognify("review", "setup", "--json", at=world.world)
    assert [row["link"] for row in again.json["accounts"]] == [None, None], "who has a credential gets no link"

    both = ("--as", key_file(world.world, "ada"), "--as", key_file(world.world, "finn"), "--yes")
    for person, key in keys.items():
        reading = world.site.read()
        assert not in_ledger(reading, person, key.public.key_id).signs
        done = cognify("review", "vouch", person, *both, at=world.world)
        assert done.code == 0, done.err
        assert key.public.key_id in done.out
        reading = world.site.read()
        assert in_ledger(reading, person, key.public.key_id).signs
        assert len(directory(reading).valid_keys(person, reading.size)) == 2, "the key file stays"
    assert cognify("review", "vouch", "person/ada", *both, at=world.world).code == 1, "nothing waits any more"


def test_one_signature_vouches_for_nothing(world: SiteWorld, cognify: Cognify) -> None:
    key = world.passkey("vera", vouched=False)
    for signers in (["ada"], ["vera", "ben"]):
        words = [word for name in signers for word in ("--as", key_file(world.world, name))]
        assert cognify("review", "vouch", "person/vera", *words, "--yes", at=world.world).code == 1
    assert not in_ledger(world.site.read(), "person/vera", key.public.key_id).signs
    words = ["--as", key_file(world.world, "vera"), "--as", key_file(world.world, "ada")]
    assert cognify("review", "vouch", "person/vera", *words, "--yes", at=world.world).code == 0, (
        "the holder's old key and an admin"
    )


def test_several_waiting_passkeys_have_to_be_told_apart(world: SiteWorld, cognify: Cognify) -> None:
    first = world.passkey("vera", vouched=False)
    world.passkeys.clear()
    world.passkey("vera", vouched=False)
    both = ("--as", key_file(world.world, "ada"), "--as", key_file(world.world, "finn"), "--yes")
    refused = cognify("review", "vouch", "person/vera", *both, at=world.world)
    assert refused.code == 1
    assert "--passkey" in refused.err
    assert cognify("review", "vouch", "person/vera", "--passkey", first.public.key_id, *both, at=world.world).code == 0
    assert in_ledger(world.site.read(), "person/vera", first.public.key_id).signs


def test_inviting_anew_takes_two_other_admins(world: SiteWorld, cognify: Cognify) -> None:
    first = cognify("review", "invite", "person/finn", "--json", at=world.world)
    path = first.json["link"].removeprefix("http://localhost:3070")
    assert world.client().submit(path, **PASSWORD).status_code == 303
    refused = cognify("review", "invite", "person/finn", at=world.world)
    assert refused.code == 1
    assert "keys of two workspace admins" in refused.err
    ada, finn, ben = (("--as", key_file(world.world, name)) for name in ("ada", "finn", "ben"))
    for signers in (ada, (*ada, *finn), (*ada, *ben)):
        assert cognify("review", "invite", "person/finn", *signers, at=world.world).code == 1, signers
    world.world.enrol("gus", "workspace_admin")
    gus = ("--as", key_file(world.world, "gus"))
    done = cognify("review", "invite", "person/finn", *ada, *gus, "--json", at=world.world)
    assert done.code == 0
    assert world.client().get(done.json["link"].removeprefix("http://localhost:3070")).status_code == 200


def test_accounts_are_listed_disabled_and_enabled(world: SiteWorld, cognify: Cognify) -> None:
    assert "There are none yet" in cognify("review", "accounts", at=world.world).out
    browser = world.client_for("vera")
    assert "person/vera" in cognify("review", "accounts", at=world.world).out
    assert cognify("review", "disable", "person/vera", at=world.world).code == 0
    assert browser.get("/account").status_code == 303
    assert cognify("review", "accounts", "--json", at=world.world).json["accounts"][0]["disabled"]
    assert cognify("review", "enable", "vera", at=world.world).code == 0
    assert cognify("review", "accounts", "--json", at=world.world).json["accounts"][0]["disabled"] is None
    assert cognify("review", "disable", "nobody", at=world.world).code == 1


def test_nobody_is_invited_who_is_not_enrolled(world: SiteWorld, cognify: Cognify) -> None:
    refused = cognify("review", "invite", "person/stranger", at=world.world)
    assert refused.code == 1
    assert "not enrolled" in refused.err


def test_set_up_wants_two_admins(world: SiteWorld, cognify: Cognify) -> None:
    key = world.world.key("finn")
    from cognify_dagster.governance import revoke_key

    revoke_key(world.world.workspace, key.person, key.key_id, "left", world.world.key("ada"))
    refused = cognify("review", "setup", at=world.world)
    assert refused.code == 1
    assert "1 of 2 people" in refused.err
