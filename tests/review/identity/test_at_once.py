"""Two at the same moment, on SQLite and on Postgres: one link is left, one use counts, one passkey is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cognify_dagster.review.errors import Refused, ReviewError
from cognify_dagster.review.identity.accounts import account_for, set_password_hash
from cognify_dagster.review.identity.invitations import Made, Use, confirm, invite, use
from cognify_dagster.review.identity.passkeys import MOST, keep_passkey
from cognify_dagster.review.identity.passwords import hash_password
from cognify_dagster.review.store.accounts import accounts, find_account
from cognify_dagster.review.store.invitations import open_invitations
from cognify_dagster.review.store.links import events_of
from cognify_dagster.review.store.passkeys import passkeys_of, take_ceremony
from tests.governance.world import World, clone
from tests.review.authenticator import Authenticator
from tests.review.site_world import SiteWorld, make_site_world

PASSWORD = "seven owls in a barn"


@pytest.fixture(params=["sqlite", "postgres"])
def world(
    request: pytest.FixtureRequest, founded_template: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SiteWorld]:
    """A site over each kind of database."""
    monkeypatch.setenv("COGNIFY_TEST_SITE", request.param)
    found = make_site_world(clone(founded_template, tmp_path / "world"))
    assert found.site.store.engine.dialect.name.startswith(request.param)
    yield found
    found.site.store.close()


def together(*work: Callable[[], Any]) -> list[Any]:
    """Do things at the same moment in threads; return what each returned, or the error it raised."""
    gate = threading.Barrier(len(work))

    def one(act: Callable[[], Any]) -> Any:
        gate.wait(10)
        try:
            return act()
        except ReviewError as error:
            return error

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(one, work))


def while_open(world: SiteWorld, first: Callable[[Any], Any], second: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Do `second` in a transaction that begins while the one of `first` is not finished yet, whatever the threads' luck."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            with world.site.store.begin() as connection:
                outcome.append(second(connection))
        except ReviewError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    with world.site.store.begin() as connection:
        found = first(connection)
        thread.start()
        thread.join(0.5)
    thread.join(20)
    assert outcome, "it hung"
    return found, outcome[0]


def make(world: SiteWorld, by: str, **more: Any) -> Callable[[Any], Made]:
    account = world.account("vera")
    return lambda connection: invite(connection, account, by, int(time.time()), **({"company": False} | more))


def one_link(world: SiteWorld) -> Made:
    act = make(world, "person/ada")
    with world.site.store.begin() as connection:
        found: Made = act(connection)
    return found


def count(world: SiteWorld) -> int:
    with world.site.store.begin() as connection:
        return len(open_invitations(connection, int(time.time())))


def test_of_two_invitations_at_a_moment_one_is_left(world: SiteWorld) -> None:
    first, second = while_open(world, make(world, "person/ada"), make(world, "person/finn"))
    assert count(world) == 1
    opened = [world.client().get(made.path).status_code for made in (first, second)]
    assert opened == [410, 200], "the newer one"


def test_two_admins_who_ask_at_a_moment_get_one_reset_between_them(world: SiteWorld) -> None:
    """Else each would confirm the other's, and there would be two links."""
    while_open(world, make(world, "person/ada", company=True), make(world, "person/finn", company=True))
    assert count(world) == 1
    account, now = world.account("vera"), int(time.time())

    def confirming(by: str) -> Callable[[], Any]:
        def act() -> Any:
            with world.site.store.begin() as connection:
                return confirm(connection, account, by, now)

        return act

    found = together(confirming("person/ada"), confirming("person/finn"), confirming("person/ada"))
    assert sum(isinstance(item, Made) for item in found) == 1


def test_of_many_uses_at_a_moment_one_counts(world: SiteWorld) -> None:
    made = one_link(world)

    def one() -> None:
        with world.site.store.begin() as connection:
            use(connection, made.invitation, False, Use(int(time.time()), "a password", "", ""))
            set_password_hash(connection, made.invitation.account, "x")

    found = together(*[one] * 8)
    assert found.count(None) == 1
    assert {item.code for item in found if isinstance(item, Refused)} == {"invitation"}
    with world.site.store.begin() as connection:
        events = events_of(connection, made.invitation.account, 0)
    assert [event.kind for event in events] == ["used", "made"]


def test_of_two_browsers_with_one_link_one_gets_in(world: SiteWorld) -> None:
    path = one_link(world).path
    assert path is not None
    clients = [world.client() for _ in range(4)]
    for client in clients:
        assert client.get(path).status_code == 200
    words = [f"{number} owls in a barn" for number in range(4)]

    def send(client: Any, text: str) -> Callable[[], Any]:
        return lambda: client.submit(path, password=text, again=text).status_code

    found = together(*(send(client, text) for client, text in zip(clients, words, strict=True)))
    assert sorted(found) == [303, 410, 410, 410]
    winner = found.index(303)
    signed_in = [client.token != "" for client in clients]
    assert signed_in == [number == winner for number in range(4)]
    assert world.client().submit("/login", login="vera", password=words[winner]).status_code == 303


def test_a_link_for_a_first_credential_loses_against_one_that_is_set_at_the_same_moment(world: SiteWorld) -> None:
    made = one_link(world)
    account, key = world.account("vera").id, Authenticator()

    def first(connection: Any) -> None:
        keep_passkey(connection, account, key.public, "mine", 1)

    _, second = while_open(
        world, first, lambda connection: use(connection, made.invitation, False, Use(int(time.time()), "x", "", ""))
    )
    assert isinstance(second, Refused)


def test_a_person_gets_one_account_however_many_ask_for_it(world: SiteWorld) -> None:
    def one() -> str:
        with world.site.store.begin() as connection:
            return account_for(connection, "person/carl", 1).id

    found = together(*[one] * 6)
    assert len(set(found)) == 1
    with world.site.store.begin() as connection:
        assert len(connection.execute(select(accounts)).all()) == 1
        assert find_account(connection, person="person/carl") is not None


def test_one_passkey_is_kept_once_and_twenty_at_most(world: SiteWorld) -> None:
    vera, ben, key = world.account("vera").id, world.account("ben").id, Authenticator()

    def keep(account: str, public: Any) -> Callable[[], Any]:
        def act() -> None:
            with world.site.store.begin() as connection:
                keep_passkey(connection, account, public, "x", 1)

        return act

    found = together(keep(vera, key.public), keep(ben, key.public), keep(vera, key.public))
    assert found.count(None) == 1
    assert {item.code for item in found if item is not None} == {"passkey-known"}
    more = [keep(vera, Authenticator().public) for _ in range(MOST + 3)]
    for act in more[: MOST - 2]:
        act()
    together(*more[MOST - 2 :])
    with world.site.store.begin() as connection:
        assert len(passkeys_of(connection, vera)) == MOST


def test_the_last_two_passkeys_are_not_both_removed_at_a_moment(world: SiteWorld) -> None:
    vera, keys = world.account("vera").id, [Authenticator(), Authenticator()]
    with world.site.store.begin() as connection:
        for key in keys:
            keep_passkey(connection, vera, key.public, "x", 1)
    clients = [world.client_for("vera") for _ in keys]

    def remove(client: Any, key: Authenticator) -> Callable[[], Any]:
        return lambda: client.submit(f"/account/passkeys/{key.public.key_id}/remove").status_code

    found = together(*(remove(client, key) for client, key in zip(clients, keys, strict=True)))
    assert sorted(found) == [303, 409]


def test_a_password_that_is_set_while_a_reset_ends_everything_does_not_survive(world: SiteWorld) -> None:
    account = world.account("vera")
    with world.site.store.begin() as connection:
        set_password_hash(connection, account.id, hash_password(PASSWORD))
        made = invite(connection, account, "person/ada", int(time.time()), company=False, confirmed_by="person/finn")
    client = world.client_for("vera", "passkey")
    assert made.path is not None
    words = "nine owls in a barn"

    def reset() -> Any:
        return world.client().submit(made.path, password="ten owls in a barn", again="ten owls in a barn").status_code

    found = together(reset, lambda: client.submit("/account/password", password=words, again=words).status_code)
    assert found[0] == 303
    signs_in = [
        world.client().submit("/login", login="vera", password=text).status_code == 303
        for text in (PASSWORD, words, "ten owls in a barn")
    ]
    assert signs_in[0] is False
    assert signs_in.count(True) == 1


def test_a_ceremony_is_taken_once(world: SiteWorld) -> None:
    from cognify_dagster.review.store.passkeys import begin_ceremony

    with world.site.store.begin() as connection:
        name, _ = begin_ceremony(connection, "login", "", 1)

    def take() -> bytes | None:
        with world.site.store.begin() as connection:
            return take_ceremony(connection, name, "login", "", 2)

    assert sum(item is not None for item in together(*[take] * 6)) == 1
