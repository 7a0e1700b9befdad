"""Who may use which route: every page and every route of the API, by everybody there is.

The expectation follows from what a route declares (`Need`, scope) and from nothing else. Each pair is asked of the dispatcher with the
page's own code replaced by a mark, so that an answer with the mark says: let in. Then the real pages are asked by those who are let in
everywhere (no page breaks) and by an auditor of another model (no page tells of this one).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import update
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from cognify_dagster.governance import ROLES, perform_act, revoke_key
from cognify_dagster.governance.people.auditors import ending_record, grant_record
from cognify_dagster.records import ModelRegistered, utc
from cognify_dagster.review.api.app import openapi_document
from cognify_dagster.review.api.tokens import SCOPES, Scope
from cognify_dagster.review.app import load_routes, make_app
from cognify_dagster.review.dispatch import endpoint_of
from cognify_dagster.review.identity.accounts import add_account
from cognify_dagster.review.routing import ROUTES, Need, PageRoute
from cognify_dagster.review.store.accounts import accounts, find_account
from cognify_dagster.review.store.sessions import open_session
from cognify_dagster.review.visit import Visit
from tests.governance.conftest import founded_template, ready_template
from tests.governance.world import World, clone
from tests.review.api.conftest import make_token
from tests.review.site_world import Client, SiteWorld, make_site_world, vouched_key

__all__ = ["founded_template", "ready_template"]
load_routes()
MARK = 299
INSIDE = {
    "model": "credit_default", "version": "1", "seq": "3", "entry": "3", "person": "vera", "name": "loans_train",
    "dataset": "loans_train", "what": "package.json", "table": "inventory", "number": "0",
}  # fmt: skip
ADMIN = "workspace_admin"
PEOPLE = ["person without a role", *ROLES]
AUDITORS = ["auditor with a grant", "auditor of another model"]
NOBODY = [
    "signed out", "auditor whose grant is over", "auditor whose grant was ended", "revoked person", "disabled account", "read token",
]  # fmt: skip


@dataclass
class Crowd:
    """A site and a browser for everybody."""

    world: SiteWorld
    sessions: dict[str, str]
    token: str
    scopes: dict[str, str]
    clock: list[timedelta] = field(default_factory=lambda: [timedelta(0)])

    def client(self, app: Starlette, who: str) -> Client:
        """The browser of somebody; an auditor whose grant is over visits a day after its end."""
        self.clock[0] = timedelta(days=61) if who == "auditor whose grant is over" else timedelta(0)
        client = Client(self.world.site, app, self.sessions.get(who, ""))
        if who == "read token":
            client.headers["Authorization"] = f"Bearer {self.token}"
        return client


@pytest.fixture(scope="module")
def crowd(ready_template: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    world = make_site_world(clone(ready_template, tmp_path_factory.mktemp("matrix") / "world"))
    site, people = world.site, world.world
    people.write(ModelRegistered(model="other_model", owner="team:x", risk_tier="high"))
    known = {ADMIN: "ada", "person without a role": "nora", "revoked person": "rex", "disabled account": "dora"}
    for role in ROLES:
        known.setdefault(role, "r-" + role.replace("_", "-"))
    for who, name in known.items():
        if name != "ada":
            people.enrol(name, *([who] if who in ROLES else [ADMIN] if who in NOBODY else []))
    crowd = Crowd(world, {}, make_token(world, "read"), {scope: make_token(world, scope) for scope in SCOPES})
    now = datetime.now(timezone.utc)
    site.now = lambda: datetime.now(timezone.utc) + crowd.clock[0]  # type: ignore[method-assign]
    for who, name in known.items():
        crowd.sessions[who] = _signed_in(world, world.account(name).id)
    for number, (who, models) in enumerate(
        {AUDITORS[0]: (), AUDITORS[1]: ("other_model",), NOBODY[1]: (), NOBODY[2]: ()}.items()
    ):
        keys = [people.key("ada"), people.key("finn")]
        signers = [key.person for key in keys]
        record = grant_record(
            f"Iva {number}", "Audit AG", until=utc(now + timedelta(days=60)), reason="x", signers=signers, models=models
        )
        seq = perform_act(people.workspace, lambda _, found=record: found, keys).seq
        if who == NOBODY[2]:
            perform_act(people.workspace, lambda _, n=seq: ending_record(n, "done", "person/ada"), [people.key("ada")])
        with site.store.begin() as connection:
            account = add_account(connection, f"iva{number}", int(time.time()), grant_seq=seq)
        crowd.sessions[who] = _signed_in(world, account.id, days=61 if who == NOBODY[1] else 0)
    rex = people.key("rex")
    revoke_key(people.workspace, rex.person, rex.key_id, "left", people.key("ada"))
    found = world.account("dora").id
    with site.store.begin() as connection:
        connection.execute(update(accounts).where(accounts.c.id == found).values(disabled=int(time.time())))
    yield crowd
    site.store.close()


def _signed_in(world: SiteWorld, account: str, days: int = 0) -> str:
    now = int(time.time()) + days * 86_400
    with world.site.store.begin() as connection:
        found = find_account(connection, id=account)
    assert found is not None
    key = vouched_key(world.site, found)
    with world.site.store.begin() as connection:
        return open_session(connection, account, "passkey", now, 12, "testclient", "tests", credential=key)


@pytest.fixture(scope="module")
def gate(crowd: Crowd) -> Starlette:
    """All routes, each with a mark in the place of the page's own code."""

    def mark(_: Visit) -> Response:
        return Response(status_code=MARK)

    site = crowd.world.site
    return Starlette(
        routes=[
            Route(item.path, endpoint_of(replace(item, handler=mark, logged=False), site), methods=list(item.methods))
            for item in ROUTES
        ]
    )


def expected(need: Need, who: str) -> bool:
    """Whether a route lets somebody in."""
    if need is Need.PUBLIC:
        return True
    if who in NOBODY:
        return False
    if who in AUDITORS:
        return need is Need.READ
    return need is not Need.ADMIN or who == ADMIN


def path_of(template: str) -> str:
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: INSIDE.get(found.group(1), "x"), template)


def ask(client: Client, route: PageRoute, *, token: bool = True, origin: str = "") -> Response:
    path = path_of(route.path)
    if "POST" not in route.methods:
        return client.get(path)  # type: ignore[return-value]
    data = {"csrf": client.csrf} if token else {}
    headers = {"Origin": origin or client.site.config.url}
    return client.post(path, data=data, headers=headers)  # type: ignore[return-value]


@pytest.mark.parametrize("who", [*NOBODY, *AUDITORS, *PEOPLE])
def test_every_page_lets_in_whom_its_declaration_names(crowd: Crowd, gate: Starlette, who: str) -> None:
    client = crowd.client(gate, who)
    wrong = []
    for route in ROUTES:
        answer = ask(client, route)
        let_in = answer.status_code == MARK
        if let_in != expected(route.need, who):
            wrong.append((route.methods, route.path, route.need.name, answer.status_code))
        elif not let_in and who in NOBODY:
            login = answer.headers.get("location", "").startswith("/login")
            assert (answer.status_code, login) in ((303, True), (401, False)), route.path
        elif not let_in:
            assert answer.status_code == 403, route.path
    assert not wrong


def test_no_form_is_taken_without_the_sessions_token_or_from_another_site(crowd: Crowd, gate: Starlette) -> None:
    client = crowd.client(gate, ADMIN)
    posts = [route for route in ROUTES if "POST" in route.methods]
    assert len(posts) > 5
    for route in posts:
        assert ask(client, route, origin="https://evil.example").status_code == 403, route.path
        if route.need is not Need.PUBLIC:
            assert ask(client, route, token=False).status_code == 403, route.path


def test_every_route_is_in_the_matrix_once() -> None:
    found = [(method, route.path) for route in ROUTES for method in route.methods]
    assert len(found) == len(set(found))
    assert all(set(route.methods) <= {"GET", "POST"} for route in ROUTES)
    assert {route.need for route in ROUTES} >= {Need.PUBLIC, Need.READ, Need.PERSON, Need.ADMIN}


def test_what_is_open_to_everybody_is_only_what_has_to_be() -> None:
    """A new public route is a decision: it is written here."""
    public = {route.path for route in ROUTES if route.need is Need.PUBLIC}
    allowed = r"/(login|logout|invite|oidc|healthz|readyz)(/.*)?"
    assert not [path for path in public if not re.fullmatch(allowed, path)]


# --- the real pages -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app(crowd: Crowd) -> Starlette:
    return make_app(crowd.world.site, jobs=False)


GETS = sorted({route.path for route in ROUTES if "GET" in route.methods})


@pytest.mark.parametrize("who", [ADMIN, AUDITORS[0], "person without a role"])
def test_no_page_breaks(crowd: Crowd, app: Starlette, who: str) -> None:
    client = crowd.client(app, who)
    found = {path: client.get(path_of(path)).status_code for path in GETS}
    assert not {path: status for path, status in found.items() if status >= 500 and path != "/readyz"}


def test_an_auditor_of_another_model_learns_nothing_of_this_one(crowd: Crowd, app: Starlette) -> None:
    client = crowd.client(app, AUDITORS[1])
    for path in GETS:
        answer = client.get(path_of(path))
        if "{model}" in path:
            assert answer.status_code in (403, 404), path
        if not path.startswith(("/policy", "/datasets")):
            told = answer.text.replace(path_of(path), "")  # an address that was asked for may stand in the answer
            assert "intended_use" not in told, path
            assert "Rank applications" not in told, path


# --- the API ------------------------------------------------------------------------------------------------------------

CALLS = [
    (method, path, operation["x-scope"])
    for path, operations in openapi_document()["paths"].items()
    for method, operation in operations.items()
]


def fits(needed: str, held: str) -> bool:
    return needed == held or (needed == Scope.READ.value and held == Scope.PERSONAL.value)


@pytest.mark.parametrize("held", list(SCOPES))
def test_every_call_takes_the_scope_that_it_names_and_no_other(crowd: Crowd, app: Starlette, held: str) -> None:
    client = crowd.client(app, "signed out")
    for method, path, needed in CALLS:
        headers = {"Authorization": f"Bearer {crowd.scopes[held]}"}
        answer = client.request(method, "/api/v1" + path_of(path), headers=headers)
        assert (answer.status_code != 403) == fits(needed, held), (method, path, answer.status_code)
        assert answer.status_code not in (401, 500), (method, path)


@pytest.mark.parametrize("who", ["signed out", AUDITORS[0], *PEOPLE])
def test_no_session_opens_the_api(crowd: Crowd, app: Starlette, who: str) -> None:
    client: TestClient = crowd.client(app, who)
    ask_it: Callable[..., Response] = client.request  # type: ignore[assignment]
    assert {ask_it(method, "/api/v1" + path_of(path)).status_code for method, path, _ in CALLS} == {401}
