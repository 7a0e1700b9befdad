"""Acts of several people: what waits for me, one act with its facts and signatures, signing it, copies for other machines."""

from __future__ import annotations

import base64
import json
from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from cognify_dagster.governance import GovernanceError, directory
from cognify_dagster.records import FindingOpened, RecordError, SectionWritten
from cognify_dagster.review.errors import Refused, ReviewError, not_found
from cognify_dagster.review.identity.signing_in import require_strong
from cognify_dagster.review.pages.sign import Blank, confirm_page
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.signing import acts, flow
from cognify_dagster.review.signing.acts import PendingAct
from cognify_dagster.review.signing.methods import keys_here, method_of
from cognify_dagster.review.signing.starting import STARTERS, Opened
from cognify_dagster.review.signing.statements import fact_rows
from cognify_dagster.review.visit import Visit


@page("/acts", Need.PERSON)
def acts_list(visit: Visit) -> Response:
    """List the acts that wait for the visitor, those that wait for others, and what was finished lately."""
    site, person = visit.site, visit.person
    waiting = acts.waiting_for(site, person)
    seen = {item.id for item in waiting}
    admin = visit.user is not None and visit.user.admin
    others = [i for i in acts.all_acts(site) if i.id not in seen and (admin or person in i.people)]
    done = [i for state in ("done", "declined") for i in acts.all_acts(site, state) if admin or person in i.people]
    done.sort(key=lambda item: item.created, reverse=True)
    return visit.render("acts.html.j2", waiting=waiting, others=others, done=done[:50], people=directory(visit.reading))


@page("/acts/{act}", Need.PERSON)
def act_page(visit: Visit) -> Response:
    """Show an act with its facts and signatures."""
    return _act(visit, _find(visit), "")


@page("/acts/{act}/draft", Need.PERSON)
def act_draft(visit: Visit) -> Response:
    """Hand out the draft with the signatures so far, for `cognify act sign`."""
    found = _find(visit)
    return visit.download(found.draft.to_bytes(), f"{found.kind}-{found.id[:8]}.act.json", "application/json")


@page("/acts/{act}/upload", Need.PERSON, methods=("POST",))
def act_upload(visit: Visit) -> Response:
    """Take a copy of the draft that was signed elsewhere."""
    found, data = _find(visit), visit.files.get("file", b"")
    try:
        if not data:
            raise ReviewError("choose the signed file")
        acts.add_uploaded(visit, found.id, data)
    except ReviewError as error:
        if isinstance(error, Refused):
            raise
        return _act(visit, found, str(error))
    return visit.redirect(acts.path_of(found.id))


@page("/acts/{act}/decline", Need.PERSON, methods=("POST",))
def act_decline(visit: Visit) -> Response:
    """End an act that somebody will not sign."""
    require_strong(visit)
    found = _find(visit)
    try:
        acts.decline(visit, found.id, visit.field("reason"))
    except ReviewError as error:
        if isinstance(error, Refused):
            raise
        return _act(visit, found, str(error))
    return visit.redirect("/acts")


@page("/acts/{act}/submit", Need.PERSON, methods=("POST",))
def act_submit(visit: Visit) -> Response:
    """Try again to record an act that all have signed."""
    found = _find(visit)
    return visit.redirect(acts.path_of(acts.submit(visit.site, found.id).id))


@page("/acts/{act}/sign", Need.PERSON, methods=("POST",))
def act_sign(visit: Visit) -> Response:
    """Prepare the visitor's statement."""
    found = _find(visit)
    try:
        pending = flow.prepare_act(visit, found.id, visit.field("key"))
    except ReviewError as error:
        if isinstance(error, Refused):
            raise
        return _act(visit, found, str(error))
    return visit.redirect(f"{acts.path_of(found.id)}/sign/{pending.id}")


@page("/acts/{act}/sign/{statement}", Need.PERSON)
def act_confirm(visit: Visit) -> Response:
    """Show the exact statement and the facts whose digest it holds."""
    found = _find(visit)
    pending = flow.pending_for(visit, visit.param("statement"), found.id)
    path = acts.path_of(found.id)
    facts, about = fact_rows(found.draft.facts), _about(visit, found)
    return confirm_page(visit, pending, here=f"{path}/sign", back=path, act=found, facts=facts, about=about)


@page("/acts/{act}/sign/{statement}", Need.PERSON, methods=("POST",))
def act_finish(visit: Visit) -> Response:
    """Sign."""
    pending = flow.pending_for(visit, visit.param("statement"), _find(visit).id)
    return method_of(pending).start(visit, pending)


# --- beginning -----------------------------------------------------------------------------------------------------------


@page("/acts/new/{what}", Need.PERSON)
def act_new(visit: Visit) -> Response:
    """Show the short form with which an act begins."""
    about, opened = _open(visit, visit.query)
    return _new(visit, about, opened, {}, "")


@page("/acts/new/{what}", Need.PERSON, methods=("POST",))
def act_begin(visit: Visit) -> Response:
    """Begin the act; its page is next."""
    about, opened = _open(visit, visit.field)
    given = {item.name: visit.field(item.name) for item in opened.fields}
    empty = [item.label for item in opened.fields if item.required and not given[item.name]]
    try:
        if empty:
            raise ReviewError(f"please fill in: {', '.join(empty)}")
        act_id = acts.start(visit, opened.make(given), title=opened.title)
    except ValidationError as error:
        first = error.errors()[0]
        text = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        return _new(visit, about, opened, given, text)
    except (ReviewError, RecordError, GovernanceError) as error:
        if isinstance(error, Refused):
            raise
        return _new(visit, about, opened, given, str(error))
    return visit.redirect(acts.path_of(act_id))


def _open(visit: Visit, read: Any) -> tuple[dict[str, str], Opened]:
    starter = STARTERS.get(visit.param("what"))
    if starter is None:
        raise not_found("This kind of act")
    about = {name: read(name) for name in starter.query}
    try:
        return about, starter.open(visit, about)
    except GovernanceError as error:
        raise Refused(404, str(error), "not-found") from error


def _new(visit: Visit, about: dict[str, str], opened: Opened, given: dict[str, str], problem: str) -> Response:
    return visit.render(
        "act_new.html.j2",
        status=422 if problem else 200,
        about=about,
        opened=opened,
        given=Blank(given),
        problem=problem,
        action=f"/acts/new/{visit.param('what')}",
    )


# --- showing -------------------------------------------------------------------------------------------------------------


def _find(visit: Visit) -> PendingAct:
    found = acts.act_for(visit, visit.param("act"))
    visit.subject = f"act/{found.id}"
    return found


def _act(visit: Visit, found: PendingAct, problem: str) -> Response:
    people = directory(visit.reading)
    signs = any(item.person == visit.person for item in found.draft.missing())
    return visit.render(
        "act.html.j2",
        status=422 if problem else 200,
        act=found,
        people=people,
        facts=fact_rows(found.draft.facts),
        about=_about(visit, found),
        signed_at={who: _signed_at(envelope.payload) for who, envelope in found.draft.envelopes.items()},
        signs=signs and found.state == "open",
        keys=keys_here(visit) if signs else [],
        problem=problem,
        file=f"{found.kind}-{found.id[:8]}.act.json",
    )


def _signed_at(payload: str) -> str:
    """When a signature of the act was given, as its statement says."""
    try:
        return str(json.loads(base64.b64decode(payload))["predicate"]["signed_at"])
    except (ValueError, KeyError, TypeError):
        return ""


def _about(visit: Visit, found: PendingAct) -> list[tuple[str, str]]:
    """What the facts refer to, read from the ledger now: the text that is signed under, the finding, the standing before."""
    facts, reading = found.draft.facts, visit.reading

    def at(name: str) -> Any:
        value = facts.get(name)
        item = reading.at(value) if isinstance(value, int) else None
        return item.record if item is not None else None

    text, finding = at("section_seq"), at("finding_seq")
    rows = []
    if isinstance(text, SectionWritten):
        rows.append(("The text", text.text or f"Declared unavailable: {text.declared_unavailable}"))
    if isinstance(finding, FindingOpened):
        rows.append(("The finding", f"{finding.title}: {finding.text}"))
    person = facts.get("person")
    if isinstance(person, dict):
        before = directory(reading).person_at(str(person.get("person")), reading.size)
        if before is None:
            rows.append(("Before", "not enrolled here"))
        else:
            had = {key.key_id for key in before.keys}
            now = [str(key["key_id"]) for key in person.get("keys", ()) if isinstance(key, dict)]
            gone, new = had - set(now), [key for key in now if key not in had]
            rows += [
                ("Roles before", ", ".join(before.roles) or "none"),
                ("Keys that are new", ", ".join(new) or "none"),
                ("Keys that end", ", ".join(sorted(gone)) or "none"),
            ]
    return rows
