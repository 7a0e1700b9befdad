"""Decisions of other systems: recorded once, shown, and never a sign-off. And: nothing of the API ever signs."""

from __future__ import annotations

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cognify_dagster.governance as governance
from cognify_dagster.governance import erasable
from cognify_dagster.governance.signing import drafts, signoff
from cognify_dagster.records import ExternalDecision
from cognify_dagster.review import api as package
from tests.review.api.conftest import Api
from tests.review.site_world import SiteWorld

WRITE = ("external:write",)
BODY: dict[str, Any] = {
    "system": "servicenow",
    "reference": "CHG0030001",
    "model": "credit_default",
    "version": "1",
    "decision": "approved",
    "text": "Change board of 21 November",
    "decided_by": "Grace Chairwoman",
    "decided_at": "2026-11-21T08:00:00Z",
    "link": "https://grc.bank.example/CHG0030001",
}


def report(api: Api, key: str | None = None, **changes: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return api("/external-decisions", json=BODY | changes, scopes=WRITE, headers=headers)


def recorded(world: SiteWorld) -> list[ExternalDecision]:
    return [item.record for item in world.site.read().all(ExternalDecision)]


def test_a_reported_decision_is_an_entry(site_world: SiteWorld, api: Api) -> None:
    answer = report(api)
    assert answer.status_code == 201
    (record,) = recorded(site_world)
    assert {name: getattr(record, name) for name in BODY} == BODY
    assert record.observed["token"].startswith("token/")
    body = answer.json()
    assert body["counts_as_sign_off"] is False
    assert site_world.site.read().at(body["entry"]).leaf == body["leaf"]  # type: ignore[union-attr]


def test_the_same_report_is_recorded_once(site_world: SiteWorld, api: Api) -> None:
    first = report(api).json()
    again = report(api)
    assert again.status_code == 200
    assert again.json() == first | {"recorded_before": True}
    assert len(recorded(site_world)) == 1


@pytest.mark.parametrize(
    "change", [{"decision": "rejected"}, {"text": ""}, {"version": None}, {"decided_by": "Mallory"}]
)
def test_the_same_reference_with_other_content_is_refused(
    site_world: SiteWorld, api: Api, change: dict[str, Any]
) -> None:
    report(api)
    answer = report(api, **change)
    assert answer.status_code == 409
    assert "CHG0030001" in answer.json()["title"]
    assert len(recorded(site_world)) == 1


def test_a_reference_belongs_to_its_system(site_world: SiteWorld, api: Api) -> None:
    report(api)
    assert report(api, system="archer", decision="rejected").status_code == 201
    assert len(recorded(site_world)) == 2


def test_a_repeat_with_an_idempotency_key_gets_the_first_answer(site_world: SiteWorld, api: Api) -> None:
    first = report(api, key="k-1")
    again = report(api, key="k-1")
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert report(api, key="k-1", reference="CHG2").status_code == 422
    assert report(api, key="k-2", reference="CHG2").status_code == 201


def test_many_reports_at_once_make_one_entry(site_world: SiteWorld, api: Api) -> None:
    report(api, key="first", reference="CHG-first")  # makes the token
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: report(api, key="k"), range(6)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.json()["entry"] for answer in answers}) == 1
    assert len(recorded(site_world)) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"system": "Service Now"},
        {"reference": ""},
        {"reference": "a\nb"},
        {"model": "../x"},
        {"decided_at": "yesterday"},
        {"decided_at": "2026-02-30T00:00:00Z"},
        {"link": "javascript:alert(1)"},
        {"text": "x" * 10_001},
        {"text": "a\x00b"},
        {"text": "e\u0301"},
        {"more": 1},
    ],
)
def test_a_report_that_is_wrong_is_refused_and_nothing_recorded(
    site_world: SiteWorld, api: Api, change: dict[str, Any]
) -> None:
    size = site_world.site.read().size
    answer = report(api, **change)
    assert answer.status_code == 422, answer.text
    assert site_world.site.read().size == size


@pytest.mark.parametrize("change", [{"model": "nope"}, {"version": "99"}, {"model": "nope", "version": None}])
def test_a_report_about_what_is_not_there_is_refused(api: Api, change: dict[str, Any]) -> None:
    assert report(api, **change).status_code == 404


def test_who_may_read_who_decided(api: Api) -> None:
    report(api)
    (item,) = api("/external-decisions").json()["items"]
    assert (item["text"], item["decided_by"], item["decision"]) == (None, None, "approved")
    (item,) = api("/external-decisions", scopes=("read:personal",)).json()["items"]
    assert (item["text"], item["decided_by"]) == (BODY["text"], "Grace Chairwoman")


def test_no_stage_is_done_by_what_another_system_says(site_world: SiteWorld, api: Api) -> None:
    """Not by one report and not by many: the decision, its reasons and its round stay as they were."""
    before = site_world.world.decide()
    heads = dict(site_world.site.read().view.heads)
    for number, name in enumerate(("validation", "compliance", "business", "approve", "released")):
        answer = report(api, reference=f"C{number}", decision=name, decided_by="Vera", system="servicenow")
        assert answer.status_code == 201
    after = site_world.world.decide()
    assert (after.reasons, after.stages, after.round) == (before.reasons, before.stages, before.round)
    now = site_world.site.read().view.heads
    assert {name: now[name] for name in heads} == heads, "no subject that a decision reads has a new entry"


def test_what_was_reported_can_be_erased_and_no_decision_stops(site_world: SiteWorld, api: Api) -> None:
    assert erasable(ExternalDecision.kind)
    before = site_world.world.codes()
    site_world.world.erase(report(api).json()["entry"])
    assert site_world.world.codes() == before
    assert api("/external-decisions", scopes=("read:personal",)).json()["items"] == []
    assert report(api).status_code == 409, "what was erased does not come back by a retry"


# --- never able to sign ---------------------------------------------------------------------------------------------------

SIGNING = {
    "submit",
    "sign_off",
    "perform_act",
    "submit_draft",
    "propose",
    "propose_act",
    "seal",
    "sign_draft",
    "enrol_person",
}


def modules() -> list[Path]:
    return sorted(Path(str(package.__file__)).parent.glob("*.py"))


def test_no_module_of_the_api_names_a_function_that_signs() -> None:
    """Nor does it reach into the rooms of the site that do."""
    for path in modules():
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {alias.name for alias in node.names}
                closed = ("governance.signing", "review.signing", "review.identity.passkeys", "review.pages")
                assert not (names & SIGNING), path.name
                assert not any(part in node.module for part in closed), (path.name, node.module)
            if isinstance(node, ast.Attribute):
                assert node.attr not in SIGNING, (path.name, node.attr)


def test_the_api_appends_in_one_place_and_one_kind() -> None:
    found = [
        path.name
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append"
        and ast.unparse(node.func).endswith("workspace.append")
    ]  # fmt: skip
    assert found == ["external.py"]


def test_a_token_of_every_scope_leaves_nothing_but_reports(
    site_world: SiteWorld, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every route is called with everything it could be given; no signing function runs, and no other kind of entry appears."""
    from cognify_dagster.review.api.app import openapi_document

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the API reached a function that signs")

    for room, names in (
        (signoff, ("submit", "sign_off")),
        (drafts, ("perform_act", "submit_draft")),
        (governance, SIGNING),
    ):
        for name in names:
            if hasattr(room, name):
                monkeypatch.setattr(room, name, forbidden)
    every = ("read", "read:personal", "external:write", "webhooks")
    size = site_world.site.read().size
    fill = {
        "model": "credit_default",
        "version": "1",
        "dataset": "loans_train",
        "entry": "3",
        "table": "decisions",
        "message": "x",
    }
    called = 0
    for path, operations in openapi_document()["paths"].items():
        for method in operations:
            settings = {"json": BODY} if method == "post" else {}
            answer = api(
                path.format(**fill), scopes=every, method=method.upper(), params={"old": 1, "new": 2}, **settings
            )
            assert answer.status_code in (200, 201, 202, 404, 409), (path, answer.text)
            called += 1
    assert called > 25
    added = [item.entry.kind for item in site_world.site.read().view.entries[size:]]
    assert added == ["external_decision"]
