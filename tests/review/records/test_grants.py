"""Auditors from outside: granted by an act, they read what the grant says until it ends, and every page refuses them from then on."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.governance import (
    GovernanceError,
    auditor_grant,
    auditor_grants,
    ending_record,
    grant_record,
    perform_act,
    read_draft,
    revoke_key,
    sign_draft,
    submit_draft,
)
from cognify_dagster.governance.signing.statements import sign_act
from cognify_dagster.records import AccessLogged, Evaluation, ExternalDecision, Record, RecordError, build, utc
from cognify_dagster.review.access import log
from cognify_dagster.review.access.anchoring import anchor
from cognify_dagster.review.app import load_routes
from cognify_dagster.review.identity.accounts import add_account
from cognify_dagster.review.identity.grants import auditor_of
from cognify_dagster.review.routing import ROUTES, Need, PageRoute
from cognify_dagster.review.store import access as table
from cognify_dagster.review.store.access import Line
from cognify_dagster.review.store.accounts import find_account
from cognify_dagster.review.store.sessions import open_session
from tests.governance.world import MODEL, World, clone
from tests.review.site_world import Client, SiteWorld, make_site_world


def day(days: float) -> str:
    return utc(datetime.now(timezone.utc) + timedelta(days=days))


def grant(world: World, *names: str, days: float = 30, **changes: Any) -> int:
    """Grant as two people; return the entry."""
    signers = names or ("ada", "vera")
    facts = {"until": day(days), "reason": "annual audit", "signers": [f"person/{name}" for name in signers]} | changes
    keys = [world.key(name) for name in signers]
    return perform_act(world.workspace, lambda _: grant_record("Iva <b>", "Audit AG", **facts), keys).seq


def end(world: World, seq: int, by: str = "ada") -> int:
    record = ending_record(seq, "done", f"person/{by}")
    return perform_act(world.workspace, lambda _: record, [world.key(by)]).seq


def visitor(site: SiteWorld, seq: int) -> Client:
    """A browser in which the auditor of a grant is signed in."""
    with site.site.store.begin() as connection:
        account = add_account(connection, f"iva{seq}@audit.example", int(time.time()), grant_seq=seq)
        token = open_session(connection, account.id, "passkey", int(time.time()), 12)
    return Client(site.site, site.app, token)


def filled(route: PageRoute) -> str:
    """A route's path with parts that exist where they can."""
    parts = {"model": MODEL, "version": "1", "name": "loans_train", "seq": "0", "what": "package.json"}
    return re.sub(r"\{([a-z_]+)(:[a-z]+)?\}", lambda found: parts.get(found[1], "x"), route.path)


@pytest.fixture(scope="module")
def shared(ready_template: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteWorld]:
    """For tests that leave behind what does not matter to others."""
    found = make_site_world(clone(ready_template, tmp_path_factory.mktemp("grants") / "world"))
    yield found
    found.site.store.close()


# --- what counts -----------------------------------------------------------------------------------------------------


def test_a_grant_holds_from_its_entry_until_its_day(shared: SiteWorld) -> None:
    seq = grant(shared.world, days=10)
    found = auditor_grant(shared.site.read(), seq)
    assert found is not None
    now = datetime.now(timezone.utc)
    assert found.holds(now)
    assert not found.holds(now + timedelta(days=10, seconds=1))
    assert auditor_grant(shared.site.read(), 0) is None


@pytest.mark.parametrize(
    ("names", "changes", "told"),
    [
        (("ada",), {}, "signatures of 2 different people"),
        (("vera", "carl"), {}, "must hold the role workspace_admin"),
        (("ada", "vera"), {"until": day(91)}, "within 90 days"),
        (("ada", "vera"), {"until": day(-1)}, "ends after it begins"),
        (("ada", "vera"), {"models": ["nothing"]}, "there is no model nothing"),
    ],
)
def test_a_grant_that_would_not_count_is_refused_before_it_is_signed(
    shared: SiteWorld, names: tuple[str, ...], changes: dict[str, Any], told: str
) -> None:
    size = shared.site.read().size
    with pytest.raises(GovernanceError, match=told):
        grant(shared.world, *names, **changes)
    assert shared.site.read().size == size


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"until": "tomorrow"},
        {"classes": ["secret"]},
        {"models": ["../x"]},
        {"reason": ""},
    ],
    ids=str,
)
def test_malformed_grants_are_no_records(changes: dict[str, Any]) -> None:
    facts = {"name": "Iva", "organisation": "AG", "until": day(3), "reason": "x", "signers": ["person/ada"]} | changes
    with pytest.raises(RecordError, match="auditor_granted"):
        grant_record(facts.pop("name"), facts.pop("organisation"), **facts)


def sealed(world: World, record: Record, *names: str) -> Record:
    reading = world.workspace.read()
    head = reading.view.checkpoint()
    signed = tuple(
        sign_act(record, world.key(name), ledger=reading.origin, role="x", meaning="…", head=head) for name in names
    )
    whole = "envelopes" in type(record).model_fields
    return record.model_copy(update={"envelopes": signed} if whole else {"envelope": signed[0]})


def test_what_is_written_past_the_checks_does_not_count(shared: SiteWorld) -> None:
    world = shared.world
    names = ["person/ada", "person/vera"]
    good = grant_record("Eve", "Evil", until=day(30), reason="x", signers=names)
    long = grant_record("Eve", "Evil", until=day(400), reason="x", signers=names)
    other = grant_record("Eve", "Evil", until=day(30), reason="x", signers=["person/carl", "person/vera"])
    once = sealed(world, good, "ada", "vera")
    cases = {
        world.write(sealed(world, good, "ada")): "signed by 1 people",
        world.write(sealed(world, long, "ada", "vera")): "at most 90 days",
        world.write(sealed(world, other, "carl", "vera")): "nobody with the role workspace_admin",
        world.write(once.model_copy(update={"name": "Mallory"})): "",
    }
    first = world.write(once)
    cases[world.write(once)] = "had its effect in an earlier entry"
    reading = shared.site.read()
    for seq, told in cases.items():
        found = auditor_grant(reading, seq)
        assert found is not None
        assert found.why is not None
        assert told in found.why
        assert not found.holds(datetime.now(timezone.utc))
    counted = auditor_grant(reading, first)
    assert counted is not None
    assert counted.why is None


def test_a_grant_signed_with_a_key_that_was_stolen_before_ends_with_the_revocation(site_world: SiteWorld) -> None:
    world = site_world.world
    seq = grant(world, "ada", "vera")
    assert auditor_grants(site_world.site.read())[0].why is None
    revoke_key(
        world.workspace, "person/vera", world.key("vera").key_id, "stolen", world.key("ada"), effective_from=seq - 1
    )
    assert "revoked with effect from before it" in str(auditor_grants(site_world.site.read())[0].why)


def test_an_ending_by_an_admin_or_a_signer_ends_it_and_by_others_not(shared: SiteWorld) -> None:
    world = shared.world
    seq = grant(world, "ada", "vera")
    with pytest.raises(GovernanceError, match="may not sign this"):
        end(world, seq, "carl")
    world.write(sealed(world, ending_record(seq, "x", "person/carl"), "carl"))  # past every check
    found = auditor_grant(shared.site.read(), seq)
    assert found is not None
    assert found.ended is None
    ended = end(world, seq, "vera")
    found = auditor_grant(shared.site.read(), seq)
    assert found is not None
    assert found.ended == ended
    with pytest.raises(GovernanceError, match="ended already"):
        end(world, seq, "ada")


# --- what an auditor sees --------------------------------------------------------------------------------------------


def test_an_auditor_reads_and_does_nothing_else(shared: SiteWorld) -> None:
    iva = visitor(shared, grant(shared.world))
    for path in ("/ledger", "/policy", "/datasets", "/datasets/loans_train", "/access", "/ledger/entries/0"):
        assert iva.get(path).status_code == 200, path
    assert iva.get(f"/models/{MODEL}/1/download/package.json").status_code == 200
    load_routes()
    for route in ROUTES:
        if route.need in (Need.PERSON, Need.ADMIN):
            path = filled(route)
            answer = iva.submit(path) if "POST" in route.methods else iva.get(path)
            assert answer.status_code == 403, path


def test_a_grant_for_one_model_shows_no_other(shared: SiteWorld) -> None:
    world = shared.world
    world.snapshot("secret_data", "77" * 32)
    other = world.snapshot("others", "78" * 32)
    reading = shared.site.read()
    mine = visitor(shared, grant(world, models=[MODEL]))
    assert mine.get(f"/models/{MODEL}/1/download/package.json").status_code == 200
    assert mine.get("/datasets/loans_train").status_code == 200
    for path in ("/datasets/secret_data", f"/ledger/entries/{other.seq}", "/datasets/others/diff"):
        assert mine.get(path).status_code == 404, path
    text = mine.get("/datasets").text
    assert "loans_train" in text
    assert "secret_data" not in text
    assert f'href="/ledger/entries/{other.seq}"' not in mine.get("/ledger").text
    assert reading.view.heads["dataset/others"] == other.seq


def test_sealed_evidence_opens_only_for_the_classes_of_the_grant(shared: SiteWorld) -> None:
    world = shared.world
    reading = shared.site.read()
    first = reading.all(Evaluation)[0].record
    paths = {}
    for sensitivity in ("internal", "confidential", "personal"):
        item = world.workspace.put(f"{sensitivity}.json", sensitivity.encode(), "application/json", sensitivity)
        seq = world.write(first.model_copy(update={"artefacts": (item,)}))
        paths[sensitivity] = f"/ledger/entries/{seq}/evidence/{item.digest}"
    plain = visitor(shared, grant(world))
    some = visitor(shared, grant(world, classes=["confidential"]))
    assert [plain.get(paths[name]).status_code for name in paths] == [200, 403, 403]
    assert [some.get(paths[name]).status_code for name in paths] == [200, 200, 403]
    assert plain.get("/access/export").status_code == 403
    whole = visitor(shared, grant(world, classes=["personal"]))
    assert whole.get("/access/export").status_code == 200
    limited = visitor(shared, grant(world, classes=["personal"], models=[MODEL]))
    assert limited.get("/access/export").status_code == 403


def test_every_page_refuses_from_the_moment_it_ends(site_world: SiteWorld) -> None:
    seq = grant(site_world.world)
    iva = visitor(site_world, seq)
    assert iva.get("/ledger").status_code == 200
    end(site_world.world, seq)
    load_routes()
    for route in ROUTES:
        if route.need is Need.PUBLIC or "GET" not in route.methods:
            continue
        answer = iva.get(filled(route))
        assert answer.status_code == 303, route.path
        assert answer.headers["location"].startswith("/login"), route.path


def test_it_ends_by_the_clock_without_anybody_doing_anything(shared: SiteWorld) -> None:
    seq = grant(shared.world, days=1)
    visitor(shared, seq)
    with shared.site.store.begin() as connection:
        account = find_account(connection, grant_seq=seq)
    assert account is not None
    now = datetime.now(timezone.utc)
    reading = shared.site.read()
    found = auditor_of(reading, account, now)
    assert found is not None
    assert (found.person, found.roles, found.name) == (None, frozenset(), "Iva <b> (Audit AG)")
    assert auditor_of(reading, account, now + timedelta(days=1)) is None


def test_what_an_auditor_opens_stands_in_the_access_log(shared: SiteWorld) -> None:
    seq = grant(shared.world)
    iva = visitor(shared, seq)
    iva.get("/policy")
    iva.submit("/grants/new", name="x")
    log.flush(shared.site)
    with shared.site.store.begin() as connection:
        lines = table.find_lines(connection, limit=2, who=f"auditor/{seq}")
    assert [(line.action, line.status) for line in lines] == [("grants_new", 403), ("policy", 200)]


# --- the page --------------------------------------------------------------------------------------------------------


def test_from_the_form_to_the_auditors_first_visit(site_world: SiteWorld) -> None:
    ada = site_world.client_for("ada")
    until = (datetime.now(timezone.utc) + timedelta(days=20)).strftime("%Y-%m-%d")
    answer = ada.submit(
        "/grants/new", name="Iva <b>", organisation="Audit AG", until=until, reason="annual audit",
        second="person/vera", models=MODEL,
    )  # fmt: skip
    assert answer.status_code == 303
    act = answer.headers["location"]
    assert "Iva &lt;b&gt;" in ada.get(act).text
    world = site_world.world
    draft = read_draft(ada.get(f"{act}/draft").content)
    for name in ("ada", "vera"):
        draft = sign_draft(draft, world.key(name))
    seq = submit_draft(world.workspace, draft).seq
    page = ada.get("/grants").text
    assert "holds" in page
    assert "Iva &lt;b&gt;" in page
    page = ada.submit(f"/grants/{seq}/invite", login="iva@audit.example").text
    link = page.partition("http://localhost:3070/invite/")[2].partition("<")[0]
    assert len(link) > 30
    assert site_world.client().get(f"/invite/{link}").status_code == 200
    assert link not in ada.get("/grants").text  # shown once
    log.flush(site_world.site)
    with site_world.site.store.begin() as connection:
        assert all(link not in str(line) for line in table.find_lines(connection, limit=100))
    ending = ada.submit(f"/grants/{seq}/end", reason="over")
    assert ending.headers["location"].startswith("/acts/")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"until": ""}, "last day of the grant"),
        ({"until": "2099-01-01"}, "within 90 days"),
        ({"name": ""}, "name"),
        ({"second": ""}, "signatures of 2 different people"),
        ({"second": "person/nobody"}, "not enrolled"),
    ],
)
def test_the_form_says_what_is_wrong_and_keeps_what_was_typed(
    shared: SiteWorld, fields: dict[str, str], told: str
) -> None:
    until = (datetime.now(timezone.utc) + timedelta(days=20)).strftime("%Y-%m-%d")
    good = {"name": "Iva", "organisation": "Audit AG", "until": until, "reason": "x", "second": "person/vera"}
    answer = shared.client_for("ada").submit("/grants/new", **(good | fields))
    assert answer.status_code == 400
    assert told in answer.text
    assert 'value="Audit AG"' in answer.text


def test_only_admins_see_grants_and_none_is_invited_on_one_that_ended(shared: SiteWorld) -> None:
    seq = grant(shared.world)
    end(shared.world, seq)
    assert shared.client_for("carl").get("/grants").status_code == 403
    answer = shared.client_for("ada").submit(f"/grants/{seq}/invite", login="x@y.example")
    assert answer.status_code == 400
    assert "does not hold now" in answer.text
    with shared.site.store.begin() as connection:
        assert find_account(connection, login="x@y.example") is None
    assert shared.client_for("ada").submit("/grants/9999/invite", login="x@y.example").status_code == 404


def test_a_draft_of_a_grant_says_what_it_gives(tmp_path: Path) -> None:
    record = grant_record(
        "Iva", "Audit AG", until="2026-12-31T23:59:59Z", reason="x", signers=["person/ada"], models=["m"],
        classes=["personal"],
    )  # fmt: skip
    from cognify_dagster.governance.signing.drafts import form_of

    meaning = form_of(record.kind).meaning(record)
    assert meaning == "Iva of Audit AG may read about the models m, with personal evidence until 2026-12-31T23:59:59Z."


def test_a_grant_for_one_model_shows_no_entry_that_names_others(shared: SiteWorld) -> None:
    world = shared.world
    facts = {"system": "grc", "reference": "R-1", "decision": "approved", "decided_at": day(-1)}
    elsewhere = world.write(build(ExternalDecision, {**facts, "model": "secret_model"}))
    here = world.write(build(ExternalDecision, {**facts, "reference": "R-2", "model": MODEL}))
    foreign, own = grant(world, models=[]), grant(world, models=[MODEL])
    mine = visitor(shared, own)
    seen = {seq: mine.get(f"/ledger/entries/{seq}").status_code for seq in (elsewhere, here, foreign, own)}
    assert seen == {elsewhere: 404, here: 200, foreign: 404, own: 200}


def test_a_grant_for_one_model_opens_no_lines_of_the_access_log(site_world: SiteWorld) -> None:
    log.write(
        site_world.site, Line(1_700_000_000_000_000, who="person/vera", action="package", subject="model/secret@1")
    )
    assert log.flush(site_world.site)
    seq = anchor(site_world.site)
    batch = site_world.site.read().find(AccessLogged, seq or 0)
    assert batch is not None
    path = f"/ledger/entries/{seq}/evidence/{batch.record.lines.digest}"
    limited = visitor(site_world, grant(site_world.world, classes=["personal"], models=[MODEL]))
    whole = visitor(site_world, grant(site_world.world, classes=["personal"]))
    assert (limited.get(path).status_code, whole.get(path).status_code) == (403, 200)
