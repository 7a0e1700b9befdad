"""Bearer tokens: made by an admin, hashed, scoped, ending; no token of another workspace, of a revoked admin, or after its end."""

from __future__ import annotations

import re
import time

import pytest
from sqlalchemy import select, update

from cognify_dagster.governance import revoke_key
from cognify_dagster.review.api.tokens import MAX_DAYS, SCOPES, create_token
from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.store.accounts import accounts
from cognify_dagster.review.store.tokens import tokens
from tests.review.api.conftest import Api, make_token
from tests.review.site_world import SiteWorld


def test_a_token_reads_and_its_last_use_is_kept(site_world: SiteWorld, api: Api) -> None:
    token = make_token(site_world, "read")
    assert api("/models", token=token).status_code == 200
    with site_world.site.store.begin() as connection:
        row = connection.execute(select(tokens)).mappings().one()
    assert abs(row["last_used"] - time.time()) < 60


def test_only_a_hash_of_a_token_is_stored(site_world: SiteWorld) -> None:
    token = make_token(site_world, "read")
    assert re.fullmatch(r"cgn_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", token)
    with site_world.site.store.begin() as connection:
        stored = [str(value) for row in connection.execute(select(tokens)) for value in row]
    assert not any(token[17:] in value for value in stored)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer x", "Basic {}", "{}", "Bearer {}x", "Bearer cgn_000000000000_{43}"]
)
def test_what_is_no_token_is_refused(site_world: SiteWorld, header: str) -> None:
    token = make_token(site_world, "read")
    value = header.replace("{43}", "A" * 43).replace("{}", token)
    answer = site_world.client().get("/api/v1/models", headers={"Authorization": value})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_secret_of_another_token_does_not_fit(site_world: SiteWorld, api: Api) -> None:
    one, two = make_token(site_world, "read"), make_token(site_world, "read")
    assert api("/models", token=one[:17] + two[17:]).status_code == 401


def test_a_session_is_no_token(site_world: SiteWorld) -> None:
    """A page of another site that makes a browser ask the API gets nothing by the visitor's cookie."""
    assert site_world.client_for("ada").get("/api/v1/models").status_code == 401


def test_a_token_ends_at_its_date(site_world: SiteWorld, api: Api) -> None:
    old = make_token(site_world, "read", days=1, at=time.time() - 86_400 - 5)
    assert api("/models", token=old).status_code == 401


def test_a_revoked_token_is_refused_at_once(site_world: SiteWorld, api: Api) -> None:
    token = make_token(site_world, "read")
    ada = site_world.client_for("ada")
    assert ada.submit(f"/tokens/{token[4:16]}/revoke").status_code == 303
    assert api("/models", token=token).status_code == 401
    assert ada.submit(f"/tokens/{token[4:16]}/revoke").status_code == 409


def test_a_token_counts_only_while_its_maker_is_an_admin(site_world: SiteWorld, api: Api) -> None:
    token = make_token(site_world, "read", by="ada")
    key = site_world.world.key("ada")
    revoke_key(site_world.world.workspace, key.person, key.key_id, "lost", site_world.world.key("finn"))
    assert api("/models", token=token).status_code == 401


def test_a_token_of_another_ledger_is_refused(site_world: SiteWorld, api: Api) -> None:
    token = make_token(site_world, "read")
    with site_world.site.store.begin() as connection:
        connection.execute(update(tokens).values(origin="other.example/ledger"))
    assert api("/models", token=token).status_code == 401


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"days": 0}, "1 to 365"),
        ({"days": MAX_DAYS + 1}, "1 to 365"),
        ({"scopes": ()}, "at least one"),
        ({"scopes": ("read", "sign")}, "sign"),
        ({"by": "person/vera"}, "no workspace admin"),
        ({"by": "person/nobody"}, "no workspace admin"),
        ({"name": " "}, "name"),
        ({"name": "a\nb"}, "name"),
    ],
)
def test_what_cannot_be_a_token_is_not_made(site_world: SiteWorld, change: dict[str, object], says: str) -> None:
    given = {"name": "x", "scopes": ("read",), "days": 1, "by": "person/ada", "now": int(time.time())} | change
    with site_world.site.store.begin() as connection, pytest.raises(ReviewError, match=says):
        create_token(connection, site_world.site.read(), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/models", "external:write"),
        ("/models", "webhooks"),
        ("/webhooks", "read"),
        ("/webhooks", "read:personal"),
        ("/models/credit_default/versions/1/package/content", "read"),
    ],
)
def test_a_token_without_the_scope_is_refused(api: Api, path: str, scope: str) -> None:
    answer = api(path, scopes=(scope,))
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:cognify:problem:scope"


def test_an_admin_makes_a_token_on_the_page_and_sees_it_once(site_world: SiteWorld, api: Api) -> None:
    ada = site_world.client_for("ada")
    assert "No token was made yet" in ada.get("/tokens").text
    made = ada.submit("/tokens/new", name="GRC <nightly>", scope="read", days="7")
    found = re.search(r"cgn_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", made.text)
    assert found is not None
    assert "GRC &lt;nightly&gt;" in made.text
    assert api("/models", token=found.group()).status_code == 200
    later = ada.get("/tokens").text
    assert found.group()[17:] not in later
    assert "last" in later.lower()


@pytest.mark.parametrize(
    "fields", [{"name": ""}, {"days": "0"}, {"days": "x"}, {"days": "99999"}, {"scope": ""}, {"scope": "read\nsign"}]
)
def test_a_wrong_form_makes_no_token_and_says_why(site_world: SiteWorld, fields: dict[str, str]) -> None:
    given = {"name": "x", "scope": "read", "days": "7"} | fields
    answer = site_world.client_for("ada").submit("/tokens/new", **given)
    assert answer.status_code == 400
    assert "Not made" in answer.text
    with site_world.site.store.begin() as connection:
        assert connection.execute(select(tokens)).first() is None


def test_the_command_line_makes_lists_and_ends_tokens(
    site_world: SiteWorld, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cognify_dagster.cli.app import main
    from tests.governance.world import PASSPHRASE

    world = site_world.world
    monkeypatch.chdir(world.folder / "project")
    monkeypatch.setenv("COGNIFY_PASSPHRASE", PASSPHRASE)
    config = world.workspace.config.path
    config.write_text(config.read_text() + f'\n[review]\ndatabase = "{site_world.site.config.database}"\n')

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["review", "token", *arguments])
        return int(ended.value.code or 0), capsys.readouterr().out

    key = str(world.folder / "ada.key.json")
    code, out = run("create", "GRC", "--scope", "read", "--as", key)
    token = out.strip().splitlines()[0]
    assert code == 0
    assert api("/models", token=token).status_code == 200
    assert token[4:16] in run("list")[1]
    assert run("create", "GRC", "--scope", "read", "--as", str(world.folder / "vera.key.json"))[0] != 0
    assert run("revoke", token[4:16], "--as", key)[0] == 0
    assert api("/models", token=token).status_code == 401
    assert "revoked" in run("list", "--json")[1]


def test_every_scope_is_explained() -> None:
    assert all(len(text) > 20 for text in SCOPES.values())


def test_tokens_of_a_disabled_account_are_refused_and_count_again_when_it_is_enabled(
    site_world: SiteWorld, api: Api
) -> None:
    token = make_token(site_world, "read")
    site_world.client_for("ada")
    for moment, expected in ((int(time.time()), 401), (None, 200)):
        with site_world.site.store.begin() as connection:
            connection.execute(update(accounts).where(accounts.c.person == "person/ada").values(disabled=moment))
        assert api("/models", token=token).status_code == expected
