"""What the API tells: the same as the ledger, in pages that stay as they began, with names only for those who may read them."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.documents.package.recording import build_and_record
from cognify_dagster.governance import open_finding
from cognify_dagster.ledger import ProofFile, leaf_hash, verify_consistency
from cognify_dagster.records import ModelRegistered, Package
from cognify_dagster.review.api.paging import Place, decode_cursor, encode_cursor, entity_tag, matches
from cognify_dagster.review.api.personal import PLAIN_KINDS, without_names
from cognify_dagster.review.errors import Refused
from tests.governance.world import World
from tests.review.api.conftest import Api, make_token
from tests.review.site_world import SiteWorld

VERSION = "/models/credit_default/versions/1"


def more_models(world: World, *names: str) -> None:
    for name in names:
        world.write(ModelRegistered(model=name, owner="team:risk", risk_tier="high"))


def pages(api: Api, path: str, **settings: object) -> list[dict[str, object]]:
    """All pages of a list."""
    found, cursor = [], ""
    while True:
        page = api(path + (f"&cursor={cursor}" if cursor else ""), **settings).json()
        found.append(page)
        cursor = page["next_cursor"]
        if not cursor:
            return found


def test_a_model_of_the_inventory(site_world: SiteWorld, api: Api) -> None:
    found = api("/inventory").json()["items"]
    assert [item["model"] for item in found] == ["credit_default"]
    row = found[0]
    assert (row["owner"], row["tier"], row["versions"], row["status"], row["open_findings"]) == (
        "team:risk", "high", 1, "none", 0,
    )  # fmt: skip
    assert api("/models/credit_default").json() == {**row, "size": site_world.site.read().size}


def test_an_open_finding_is_counted_and_listed(site_world: SiteWorld, api: Api) -> None:
    world = site_world.world
    facts = {"model": "credit_default", "version": "1", "severity": "high", "title": "Leak seen by Vera", "text": "x"}
    seq = open_finding(world.workspace, world.key("vera"), **facts).seq
    assert api("/models/credit_default").json()["open_findings"] == 1
    assert api("/models/credit_default").json()["blocking_findings"] == 1
    for path in ("/findings", "/findings?open=true", "/models/credit_default/findings"):
        (item,) = api(path).json()["items"]
        assert (item["entry"], item["version"], item["open"]) == (seq, "1", True)
        assert item["raised_by"] == "person/vera"
        assert item["title"] == "Leak seen by person/vera"
        assert api(path, scopes=("read:personal",)).json()["items"][0]["raised_by"] == "Vera"


def test_the_decision_gives_every_reason_and_stage(site_world: SiteWorld, api: Api) -> None:
    before = api(f"{VERSION}/decision").json()
    assert not before["released"]
    assert {reason["code"] for reason in before["reasons"]} == set(site_world.world.codes())
    site_world.world.approve_all()
    after = api(f"{VERSION}/decision").json()
    assert after["released"]
    assert after["state"] == "ready"
    assert [stage["stage"] for stage in after["stages"] if stage["done"]] == [
        stage["stage"] for stage in after["stages"]
    ]
    signed = [item["person"] for stage in after["stages"] for item in stage["signed"]]
    assert signed == ["person/vera", "person/carl", "person/olga"]
    assert [item["person"] for item in api(f"{VERSION}/sign-offs").json()["items"]] == signed


def test_names_are_given_only_with_the_scope(site_world: SiteWorld, api: Api) -> None:
    site_world.world.approve_all()
    paths = (
        "/models", VERSION, f"{VERSION}/decision", f"{VERSION}/sign-offs", f"{VERSION}/packages", "/entries?limit=200",
        "/exports/decisions", "/exports/versions?format=csv", "/exports/sign_offs?format=sql", "/models/credit_default/releases",
    )  # fmt: skip
    for path in paths:
        text = api(path).text
        for name in ("Vera", "Carl", "Olga", "Ada", "ben@bank.example"):
            assert name not in text, (path, name)
    assert "Vera" in api(f"{VERSION}/decision", scopes=("read:personal",)).text


def test_the_facts_of_an_entry_are_closed_unless_their_kind_is_listed(site_world: SiteWorld, api: Api) -> None:
    for seq in range(site_world.site.read().size):
        item = api(f"/entries/{seq}").json()
        assert (item["facts"] is None) == (item["kind"] not in PLAIN_KINDS)
        assert item["withheld"] == (None if item["kind"] in PLAIN_KINDS else "personal")
        whole = api(f"/entries/{seq}", scopes=("read:personal",)).json()
        assert whole["facts"] == site_world.site.read().at(seq).record.facts()  # type: ignore[union-attr]


def test_an_erased_entry_says_so(site_world: SiteWorld, api: Api) -> None:
    seq = site_world.world.data["train"]
    site_world.world.erase(seq)
    item = api(f"/entries/{seq}", scopes=("read:personal",)).json()
    assert (item["facts"], item["withheld"]) == (None, "erased")


def test_the_package_has_the_bytes_that_people_sign(site_world: SiteWorld, api: Api) -> None:
    described = api(f"{VERSION}/package").json()
    content = api(f"{VERSION}/package/content", scopes=("read:personal",))
    assert described["digest"] == "sha256:" + hashlib.sha256(content.content).hexdigest()
    assert content.headers["x-cognify-digest"] == described["digest"]
    found = site_world.site.read().latest(Package, "model/credit_default@1")
    assert found is not None
    assert (described["entry"], described["revision"]) == (found.seq, 1)


def test_a_package_that_was_changed_is_not_given(site_world: SiteWorld, api: Api) -> None:
    digest = api(f"{VERSION}/package").json()["digest"].removeprefix("sha256:")
    (path,) = [item for item in Path(site_world.world.workspace.config.evidence).rglob("*") if item.name == digest[2:]]
    path.chmod(0o600)
    path.write_bytes(b"other")
    answer = api(f"{VERSION}/package/content", scopes=("read:personal",))
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:cognify:problem:unavailable"


def test_the_coverage_is_that_of_the_package(founded_site: SiteWorld) -> None:
    world = founded_site.world
    world.train("1")
    world.evaluate("1")
    built = build_and_record(
        world.workspace, "credit_default", "1", run="r", built_by="person/ben", now=datetime.now(timezone.utc)
    )
    client = founded_site.client()
    client.headers["Authorization"] = f"Bearer {make_token(founded_site, 'read:personal')}"
    found = client.get(f"/api/v1{VERSION}/coverage").json()
    assert found["frameworks"] == built.content["coverage"]
    assert (found["package_entry"], found["package_digest"]) == (
        built.recorded.seq,
        built.recorded.record.package.digest,
    )
    assert client.get(f"/api/v1{VERSION}/package/content").json() == built.content
    client.headers["Authorization"] = f"Bearer {make_token(founded_site, 'read')}"
    closed = client.get(f"/api/v1{VERSION}/coverage").json()
    assert [item["framework"] for item in closed["frameworks"]] == [item["framework"] for item in found["frameworks"]]


def test_a_package_of_another_format_is_said_to_be_unreadable(api: Api) -> None:
    """The tests' small packages are none that documents can read."""
    assert api(f"{VERSION}/coverage").status_code == 409


# --- pages -----------------------------------------------------------------------------------------------------------


def test_pages_show_the_ledger_as_the_first_did(site_world: SiteWorld, api: Api) -> None:
    more_models(site_world.world, "alpha", "beta", "gamma")
    first = api("/models?limit=2").json()
    more_models(site_world.world, "delta", "zeta")
    rest = api(f"/models?limit=2&cursor={first['next_cursor']}").json()
    assert [item["model"] for item in first["items"] + rest["items"]] == ["alpha", "beta", "credit_default", "gamma"]
    assert rest["next_cursor"] is None
    assert rest["size"] == first["size"]
    assert len(api("/models").json()["items"]) == 6


@pytest.mark.parametrize(
    "path", ["/entries?limit=3", "/entries?subject=people&limit=2", "/entries?kind=gate_result&limit=1"]
)
def test_entries_come_newest_first_and_each_once(site_world: SiteWorld, api: Api, path: str) -> None:
    seqs = [item["entry"] for page in pages(api, path) for item in page["items"]]  # type: ignore[attr-defined]
    reading = site_world.site.read()
    wanted = [
        item.entry.seq
        for item in reading.view.entries
        if ("subject" not in path or "people" in item.entry.subjects)
        and ("kind" not in path or item.entry.kind == "gate_result")
    ]
    assert seqs == sorted(wanted, reverse=True)


def test_since_gives_only_what_is_new(site_world: SiteWorld, api: Api) -> None:
    size = site_world.site.read().size
    assert api(f"/entries?since={size - 1}").json()["items"] == []
    more_models(site_world.world, "alpha")
    assert [item["entry"] for item in api(f"/entries?since={size - 1}").json()["items"]] == [size]


def test_a_filtered_page_reads_only_so_much(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cognify_dagster.review.api.ledger.LOOKED_AT", 2)
    found = pages(api, "/entries?kind=genesis&limit=1")
    assert [item["entry"] for page in found for item in page["items"]] == [0]  # type: ignore[attr-defined]
    assert len(found) > 3


@pytest.mark.parametrize("cursor", ["x", "e30", "W10", base64.urlsafe_b64encode(b'[1,"5","00"]').decode(), "A" * 600])
def test_what_is_no_cursor_is_refused(api: Api, cursor: str) -> None:
    assert api(f"/models?cursor={cursor}").status_code == 400


def test_a_cursor_of_another_list_or_filter_is_refused(site_world: SiteWorld, api: Api) -> None:
    cursor = api("/entries?limit=2").json()["next_cursor"]
    for path in ("/models?", "/entries?kind=package&", "/entries?subject=people&", "/datasets/loans_train/snapshots?"):
        assert api(f"{path}cursor={cursor}").status_code == 400, path


def test_a_made_up_cursor_leads_nowhere(site_world: SiteWorld, api: Api) -> None:
    about = {"list": "entries", "kind": None, "subject": "people", "since": "-1"}
    size = site_world.site.read().size
    for place in (Place(size + 1, "1"), Place(0, "1"), Place(size, "x"), Place(size, str(10**17)), Place(size, "-1")):
        answer = api(f"/entries?subject=people&cursor={encode_cursor(place, about)}")
        assert answer.status_code == 400, place
    other = encode_cursor(Place(size, str(site_world.world.data["train"])), about)
    assert api(f"/entries?subject=people&cursor={other}").status_code == 400


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**53),
    st.text(max_size=60),
    st.dictionaries(st.text(max_size=5), st.none() | st.text(max_size=5), max_size=3),
)
def test_a_cursor_names_the_place_it_was_made_for(size: int, at: str, about: dict[str, str | None]) -> None:
    assert decode_cursor(encode_cursor(Place(size, at), about), about) == Place(size, at)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=80))
def test_any_other_text_is_refused_and_breaks_nothing(text: str) -> None:
    with pytest.raises(Refused):
        decode_cursor(text, {"list": "x"})


# --- entity tags ----------------------------------------------------------------------------------------------------------


def test_what_did_not_change_is_not_sent_again(site_world: SiteWorld, api: Api) -> None:
    paths = (
        "/models", VERSION, f"{VERSION}/decision", f"{VERSION}/package", "/entries?limit=2", "/entries/3", "/ledger", "/datasets",
    )  # fmt: skip
    for path in paths:
        tag = api(path).headers["etag"]
        again = api(path, headers={"If-None-Match": f'"other", {tag}'})
        assert (again.status_code, again.content) == (304, b""), path
        assert api(path, headers={"If-None-Match": tag}, scopes=("read:personal",)).status_code == 200, path


def test_what_changed_is_sent_and_what_did_not_is_not(site_world: SiteWorld, api: Api) -> None:
    tags = {
        path: api(path).headers["etag"]
        for path in (f"{VERSION}/package", f"{VERSION}/decision", "/ledger", "/datasets")
    }
    site_world.world.package("1", text="again")
    got = {path: api(path, headers={"If-None-Match": tag}).status_code for path, tag in tags.items()}
    assert got == {f"{VERSION}/package": 200, f"{VERSION}/decision": 200, "/ledger": 200, "/datasets": 304}


def test_tags_are_compared_weakly() -> None:
    tag = entity_tag("a", 1)
    assert matches(tag, tag)
    assert matches(tag.removeprefix("W/"), tag)
    assert matches("*", tag)
    assert not matches('W/"x"', tag)
    assert entity_tag("a", 2) != tag


# --- proofs ---------------------------------------------------------------------------------------------------------------


def test_a_proof_leads_from_the_entrys_bytes_to_the_signed_checkpoint(site_world: SiteWorld, api: Api) -> None:
    site_world.world.workspace.ledger.sign_checkpoint()
    keys = site_world.world.workspace.trust().logs
    for seq in (0, 5):
        proof = ProofFile.parse(api(f"/entries/{seq}/proof").text)
        checkpoint = proof.verify(leaf_hash(api(f"/entries/{seq}/bytes").content), keys)
        assert proof.checkpoint_note == api("/checkpoint").text
        assert checkpoint.size == site_world.site.read().size


def test_an_entry_under_no_checkpoint_has_no_proof_yet(site_world: SiteWorld, api: Api) -> None:
    site_world.world.workspace.ledger.sign_checkpoint()
    more_models(site_world.world, "alpha")
    assert api(f"/entries/{site_world.site.read().size - 1}/proof").status_code == 409


def test_a_shorter_ledger_is_the_beginning_of_the_longer(api: Api) -> None:
    found = api("/consistency?old=3&new=11").json()
    path = [bytes.fromhex(item) for item in found["path"]]
    verify_consistency(3, 11, bytes.fromhex(found["old_root"]), bytes.fromhex(found["new_root"]), path)
    assert api("/consistency?old=11&new=3").status_code == 400
    assert api("/consistency?old=1&new=100000").status_code == 400


def test_datasets_and_snapshots(site_world: SiteWorld, api: Api) -> None:
    site_world.world.snapshot("loans_train", "ef" * 32, provenance={"contact": "someone"})
    assert [item["name"] for item in api("/datasets").json()["items"]] == ["loans_holdout", "loans_train"]
    found = pages(api, "/datasets/loans_train/snapshots?limit=1")
    assert [item["root"] for page in found for item in page["items"]] == ["ef" * 32, "ab" * 32]  # type: ignore[attr-defined]
    assert found[0]["items"][0]["provenance"] is None  # type: ignore[index]
    whole = api("/datasets/loans_train/snapshots", scopes=("read:personal",)).json()
    assert whole["items"][0]["provenance"] == {"contact": "someone"}


# --- errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/models/nope", 404),
        ("/models/credit_default/versions/99", 404),
        ("/models/credit_default/versions/99/decision", 404),
        ("/models/9nope", 422),
        ("/models/..%2f..%2fetc", 404),
        ("/datasets/nope", 404),
        ("/datasets/nope/snapshots", 404),
        ("/entries/999999", 404),
        ("/entries/-1", 422),
        ("/entries/x", 422),
        ("/entries?kind=nope", 400),
        ("/entries?subject=../x", 422),
        ("/models?limit=0", 422),
        ("/models?limit=100000", 422),
        ("/exports/passwords", 422),
        ("/nowhere", 404),
        ("/webhooks/deliveries", 403),
    ],
)
def test_every_error_is_a_problem_document(api: Api, path: str, status: int) -> None:
    answer = api(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:cognify:problem:")
    assert body["title"]


def test_a_wrong_method_names_the_right_one(api: Api) -> None:
    answer = api("/models", method="DELETE")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_fault_of_ours_is_a_problem_without_its_cause(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("cognify_dagster.review.api.models.names_of", broken)
    answer = api("/models")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "secret detail" in caplog.text


def test_a_body_that_is_too_long_is_a_problem(api: Api) -> None:
    answer = api("/external-decisions", method="POST", content=b"x" * 1_000_001, scopes=("external:write",))
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    parts = (b"x" * 300_000 for _ in range(4))
    answer = api("/external-decisions", method="POST", content=parts, scopes=("external:write",))
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


def test_every_call_is_a_line_of_the_access_log(
    site_world: SiteWorld, monkeypatch: pytest.MonkeyPatch, api: Api
) -> None:
    lines: list[object] = []
    monkeypatch.setattr("cognify_dagster.review.api.calls.write", lambda _, line: lines.append(line))
    api(VERSION)
    site_world.client().get("/api/v1/models")
    told = [(line.who[:6], line.method, line.action, line.subject, line.status) for line in lines]  # type: ignore[attr-defined]
    assert told == [
        ("token/", "token", "api get_version", "model/credit_default@1", 200),
        ("", "", "api list_models", "", 401),
    ]


def test_names_are_replaced_wherever_text_holds_them_and_ids_are_left(site_world: SiteWorld) -> None:
    reading = site_world.site.read()
    value = {
        "text": "VERA and Vera's, ben@bank.example; Verano, person/vera",
        "model": "Vera",
        "items": [{"name": "Olga"}],
    }
    assert without_names(reading, value) == {
        "text": "person/vera and person/vera's, person/ben; Verano, person/vera",
        "model": "Vera",
        "items": [{"name": "person/olga"}],
    }
    assert json.dumps(value)
