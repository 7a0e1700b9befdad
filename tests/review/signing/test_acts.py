"""Acts of several people on the site: kept until all have signed with their own key, submitted once, seen by theirs alone."""

from __future__ import annotations

import html
import re
import threading
from typing import Any

import pytest
from sqlalchemy import update

from cognify_dagster.governance import directory, open_finding, read_draft, rotated, sign_draft
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.records import BlockLifted, ConditionClosed, FindingResolved, PersonEnrolled, SignOff
from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.signing import acts
from cognify_dagster.review.store import pending as tables
from tests.governance.world import MODEL
from tests.review.authenticator import Authenticator
from tests.review.signing.journeys import SIGN, prepared, sign_act, signed
from tests.review.site_world import Client, SiteWorld

SUBJECT = f"model/{MODEL}@1"


def enrolment_of(site: SiteWorld, name: str, key: Authenticator, *vouchers: str) -> PersonEnrolled:
    """Return the record that adds a passkey to a person's keys, unsigned."""
    person = rotated(site.world.workspace.read(), f"person/{name}", key.public, False)
    first, *others = [f"person/{who}" for who in vouchers]
    return PersonEnrolled(person=person, vouched_by=first, witnesses=tuple(others), envelope=UNSIGNED)


def began(site: SiteWorld, name: str = "vera") -> str:
    """Begin the enrolment of a passkey that ada and finn sign; return the act's id."""
    return acts.start(site.site, enrolment_of(site, name, Authenticator(), "ada", "finn"), title="Enrol a passkey")


def sites(founded_site: SiteWorld) -> tuple[Client, Client]:
    """Return ada's and finn's browsers, both with passkeys."""
    founded_site.passkey("ada")
    founded_site.passkey("finn")
    return founded_site.client_for("ada"), founded_site.client_for("finn")


def test_two_people_sign_with_their_passkeys_and_the_act_is_recorded(founded_site: SiteWorld) -> None:
    ada, finn = sites(founded_site)
    key = Authenticator()
    done: list[int] = []
    acts.when_done("person_enrolled", lambda site, act, receipt: done.append(receipt.seq))
    act = acts.start(founded_site.site, enrolment_of(founded_site, "vera", key, "ada", "finn"), title="Vera's passkey")
    for client in (ada, finn):
        assert "Vera&#39;s passkey" in client.get("/acts").text
    page = html.unescape(ada.get(f"/acts/{act}").text)
    assert "I know Vera, and these are their roles and keys." in page
    assert key.public.key_id in page
    assert "Keys that end" in page
    assert sign_act(ada, founded_site.passkey("ada"), f"/acts/{act}").headers["location"] == f"/acts/{act}"
    assert [item.id for item in acts.waiting_for(founded_site.site, "person/finn")] == [act]
    assert acts.waiting_for(founded_site.site, "person/ada") == []
    size = founded_site.world.workspace.ledger.size()
    sign_act(finn, founded_site.passkey("finn"), f"/acts/{act}")
    found = acts.find(founded_site.site, act)
    assert found is not None
    assert (found.state, found.seq) == ("done", size)
    assert done[-1] == size
    reading = founded_site.world.workspace.read()
    keys = directory(reading).valid_keys("person/vera", reading.size)
    assert {"S3", "S4"} == {item.strength for item in keys.values()}
    assert f"/ledger/entries/{size}" in finn.get(f"/acts/{act}").text


def test_the_same_act_is_begun_once_and_one_that_would_not_count_never(founded_site: SiteWorld) -> None:
    record = enrolment_of(founded_site, "vera", Authenticator(), "ada", "finn")
    first = acts.start(founded_site.site, record, title="A")
    assert acts.start(founded_site.site, record, title="B") == first
    alone = enrolment_of(founded_site, "vera", Authenticator(), "ada")
    with pytest.raises(ReviewError, match="vouch"):
        acts.start(founded_site.site, alone)


def test_others_do_not_see_an_act_and_cannot_sign_it(founded_site: SiteWorld) -> None:
    act = began(founded_site)
    founded_site.passkey("olga")
    olga = founded_site.client_for("olga")
    for answer in (
        olga.get(f"/acts/{act}"), olga.get(f"/acts/{act}/draft"), olga.submit(f"/acts/{act}/sign"),
        olga.submit(f"/acts/{act}/decline", reason="no"), olga.submit(f"/acts/{act}/submit"),
        olga.submit(f"/acts/{act}/upload", {"file": ("x.json", b"{}")}), olga.get("/acts/unknown"),
    ):  # fmt: skip
        assert answer.status_code == 404
    assert "Enrol a passkey" not in olga.get("/acts").text


def test_an_admin_who_does_not_sign_sees_it_but_signs_nothing(founded_site: SiteWorld) -> None:
    founded_site.world.enrol("gus", "workspace_admin")
    founded_site.passkey("gus")
    act, gus = began(founded_site), founded_site.client_for("gus")
    assert gus.get(f"/acts/{act}").status_code == 200
    answer = gus.submit(f"/acts/{act}/sign")
    assert answer.status_code == 422
    assert "does not sign this" in answer.text


def test_a_copy_signed_on_another_machine_is_taken(founded_site: SiteWorld) -> None:
    act, world = began(founded_site), founded_site.world
    ada = founded_site.client_for("ada")
    assert "Register one on your account page" in ada.get(f"/acts/{act}").text
    download = ada.get(f"/acts/{act}/draft")
    assert "act.json" in download.headers["content-disposition"]
    draft = read_draft(download.content)
    one = sign_draft(draft, world.key("ada"))
    assert upload(ada, act, one.to_bytes()).status_code == 303
    again = upload(ada, act, one.to_bytes())
    assert again.status_code == 422
    assert "no signature that is not here already" in again.text
    assert upload(ada, act, sign_draft(draft, world.key("finn")).to_bytes()).status_code == 303
    found = acts.find(founded_site.site, act)
    assert found is not None
    assert found.state == "done"


def upload(client: Client, act: str, data: bytes) -> Any:
    """Upload a signed copy."""
    return client.submit(f"/acts/{act}/upload", {"file": ("signed.json", data)})


def test_files_that_are_not_signed_copies_are_refused(founded_site: SiteWorld) -> None:
    act, ada = began(founded_site), founded_site.client_for("ada")
    other = acts.find(founded_site.site, began(founded_site, "olga"))
    mine = acts.find(founded_site.site, act)
    assert other is not None
    assert mine is not None
    key = founded_site.world.key("ada")
    forged = sign_draft(other.draft, key).envelopes["person/ada"]
    cases = [
        (b"", "choose the signed file"),
        (b"not json", "not the draft of an act"),
        (sign_draft(other.draft, key).to_bytes(), "another act"),
        (mine.draft.model_copy(update={"envelopes": {"person/ada": forged}}).to_bytes(), "something else"),
    ]
    for data, text in cases:
        answer = upload(ada, act, data)
        assert answer.status_code == 422, data
        assert text in html.unescape(answer.text)
    unchanged = acts.find(founded_site.site, act)
    assert unchanged is not None
    assert unchanged.draft.envelopes == {}


def test_two_signatures_at_the_same_moment_both_land(founded_site: SiteWorld) -> None:
    act, world = began(founded_site), founded_site.world
    found = acts.find(founded_site.site, act)
    assert found is not None
    problems: list[str] = []

    def put(name: str) -> None:
        answer = upload(founded_site.client_for(name), act, sign_draft(found.draft, world.key(name)).to_bytes())
        if answer.status_code != 303:
            problems.append(answer.text)

    founded_site.account("ada")
    founded_site.account("finn")
    threads = [threading.Thread(target=put, args=(name,)) for name in ("ada", "finn")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = acts.find(founded_site.site, act)
    assert done is not None
    assert (problems, done.state) == ([], "done")


def test_an_act_that_does_not_count_any_more_stays_open_and_says_why(founded_site: SiteWorld) -> None:
    act, world = began(founded_site), founded_site.world
    found = acts.find(founded_site.site, act)
    assert found is not None
    upload(founded_site.client_for("ada"), act, sign_draft(found.draft, world.key("ada")).to_bytes())
    world.enrol("gus", "workspace_admin")
    world.enrol("ada", vouchers=("gus", "finn"))  # ada, who signed already, is no admin any more
    answer = upload(founded_site.client_for("finn"), act, sign_draft(found.draft, world.key("finn")).to_bytes())
    assert answer.status_code == 303
    state = acts.find(founded_site.site, act)
    assert state is not None
    assert (state.state, state.missing) == ("open", ())
    page = founded_site.client_for("finn").get(f"/acts/{act}").text
    assert "It was not recorded" in page
    assert "Try again to record it" in page
    assert founded_site.client_for("finn").submit(f"/acts/{act}/submit").status_code == 303


def test_declining_ends_it_for_everybody_and_says_why(founded_site: SiteWorld) -> None:
    ada, finn = sites(founded_site)
    act = began(founded_site)
    assert ada.submit(f"/acts/{act}/decline").status_code == 422
    assert ada.submit(f"/acts/{act}/decline", reason="wrong key").headers["location"] == "/acts"
    assert "Ada: wrong key" in finn.get(f"/acts/{act}").text
    assert finn.submit(f"/acts/{act}/sign").status_code == 422
    assert acts.waiting_for(founded_site.site, "person/finn") == []


def test_one_person_cannot_fill_the_list_and_a_draft_that_cannot_be_read_hides_no_other(
    founded_site: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acts, "MAX_OPEN", 2)
    first, _ = began(founded_site), began(founded_site, "olga")
    with pytest.raises(ReviewError, match="too many acts"):
        began(founded_site, "carl")
    with founded_site.site.store.begin() as connection:
        connection.execute(update(tables.acts).where(tables.acts.c.id == first).values(draft="{}"))
    assert len(acts.waiting_for(founded_site.site, "person/ada")) == 1
    assert founded_site.client_for("ada").get(f"/acts/{first}").status_code == 404


# --- acts that begin with a short form ------------------------------------------------------------------------------------


def test_a_condition_is_closed_with_a_signature(site_world: SiteWorld) -> None:
    site_world.passkey("vera")
    vera = site_world.client_for("vera")
    signed(vera, site_world.passkey("vera"), prepared(vera, decision="approve_with_conditions", c0_text="Say so"))
    seq = site_world.world.workspace.read().all(SignOff, SUBJECT)[-1].seq
    about = {"model": MODEL, "version": "1", "entry": str(seq), "condition": "0"}
    page = vera.get("/acts/new/condition", params=about).text
    assert "Say so (due undated)" in page
    empty = vera.submit("/acts/new/condition", **about)
    assert empty.status_code == 422
    assert "How is it met?" in empty.text
    begun = vera.submit("/acts/new/condition", **about, reason="it stands in the manual")
    assert begun.status_code == 303, begun.text
    sign_act(vera, site_world.passkey("vera"), begun.headers["location"])
    closed = site_world.world.workspace.read().all(ConditionClosed, SUBJECT)[-1].record
    assert (closed.sign_off_seq, closed.condition, closed.reason) == (seq, 0, "it stands in the manual")
    assert not site_world.world.decide().conditions
    assert vera.get("/acts/new/condition", params=about).status_code == 404


def test_a_finding_is_accepted_until_a_date_or_closed(site_world: SiteWorld) -> None:
    world = site_world.world
    facts = {"model": MODEL, "version": "1", "severity": "high", "title": "Too few rows", "text": "only 9,000"}
    seq = open_finding(world.workspace, world.key("vera"), **facts).seq
    site_world.passkey("carl")
    carl, about = site_world.client_for("carl"), {"model": MODEL, "entry": str(seq)}
    assert "Too few rows" in carl.get("/acts/new/finding", params=about).text
    given = about | {"outcome": "accepted", "reason": "known"}
    late = carl.submit("/acts/new/finding", **given, until="2099-01-01")
    assert late.status_code == 422
    assert "at most 180 days" in late.text
    assert carl.submit("/acts/new/finding", **given, until="never").status_code == 422
    begun = carl.submit("/acts/new/finding", **about, outcome="closed", reason="more rows were found")
    sign_act(carl, site_world.passkey("carl"), begun.headers["location"])
    assert world.workspace.read().all(FindingResolved, SUBJECT)[-1].record.outcome == "closed"


def test_a_block_is_lifted_by_two(site_world: SiteWorld) -> None:
    for name in ("vera", "carl", "olga"):
        site_world.passkey(name)
    vera, carl = site_world.client_for("vera"), site_world.client_for("carl")
    page = carl.get(SIGN).text
    assert "Block the release" in page
    signed(carl, site_world.passkey("carl"), prepared(carl, decision="block", comments="complaints"))
    seq = site_world.world.workspace.read().all(SignOff, SUBJECT)[-1].seq
    about = {"model": MODEL, "version": "1", "entry": str(seq)}
    site_world.world.enrol("mia", "compliance_officer")
    site_world.passkey("mia")
    form = carl.get("/acts/new/block", params=about).text
    assert "complaints" in form
    others = re.findall(r'name="second" value="([^"]+)"', form)
    assert "person/mia" in others
    assert "person/carl" not in others
    assert carl.submit("/acts/new/block", **about, reason="answered", second="person/nobody").status_code == 422
    begun = carl.submit("/acts/new/block", **about, reason="answered", second="person/mia")
    assert begun.status_code == 303, begun.text
    sign_act(carl, site_world.passkey("carl"), begun.headers["location"])
    assert not site_world.world.workspace.read().all(BlockLifted, SUBJECT)
    sign_act(site_world.client_for("mia"), site_world.passkey("mia"), begun.headers["location"])
    assert site_world.world.workspace.read().all(BlockLifted, SUBJECT)
    assert "blocked" not in site_world.world.codes()
    assert vera.get("/acts/new/block", params=about).status_code == 404


@pytest.mark.parametrize(
    ("what", "about"),
    [
        ("nothing", {}),
        ("condition", {"model": MODEL, "version": "1", "entry": "x", "condition": "0"}),
        ("finding", {"model": MODEL, "entry": "3"}),
        ("block", {"model": MODEL, "version": "1", "entry": "3"}),
        ("dataset-change", {"name": "nowhere", "root": ""}),
    ],
)
def test_a_form_about_something_that_is_not_there(site_world: SiteWorld, what: str, about: dict[str, str]) -> None:
    assert site_world.client_for("vera").get(f"/acts/new/{what}", params=about).status_code == 404


def test_a_dataset_change_without_a_difference_on_record_says_so(site_world: SiteWorld) -> None:
    vera = site_world.client_for("vera")
    about = {"name": "loans_train", "root": ""}
    assert "first snapshot" in vera.get("/acts/new/dataset-change", params=about).text
    answer = vera.submit("/acts/new/dataset-change", **about, decision="approve")
    assert answer.status_code == 422
    assert "no difference is on record" in answer.text
