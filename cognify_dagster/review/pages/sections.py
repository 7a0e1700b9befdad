"""What people write about a version: the list, one text with its history, what changed word by word, writing and signing."""

from __future__ import annotations

import re

from starlette.responses import Response

from cognify_dagster.documents.package.comparison import compare_words
from cognify_dagster.governance import SectionText, directory
from cognify_dagster.records import SECTION_PATTERN
from cognify_dagster.review.errors import Refused, ReviewError, not_found
from cognify_dagster.review.rendering import make_path
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.signing import acts, flow, sections
from cognify_dagster.review.visit import Visit


@page("/models/{model}/{version}/sections", Need.READ)
def sections_list(visit: Visit) -> Response:
    """List the sections of a version."""
    model, version = flow.version_of(visit)
    wanted = visit.query("new")
    if wanted and re.fullmatch(SECTION_PATTERN, wanted):
        return visit.redirect(make_path("models", model, version, "sections", wanted))
    return visit.render(
        "sections.html.j2",
        model=model,
        version=version,
        rows=sections.rows(visit.reading, model, version),
        problems=sections.found_sections(visit.reading, model, version).problems,
        people=directory(visit.reading),
        writes=sections.may_write(visit),
        wrong=f"{wanted[:60]!r} is no name of a section; use lower-case letters, digits and underscores"
        if wanted
        else "",
    )


@page("/models/{model}/{version}/sections/{section}", Need.READ)
def section_page(visit: Visit) -> Response:
    """Show a section, its history, and the form to write it."""
    model, version = flow.version_of(visit)
    return _page(visit, model, version, _name(visit), {}, "")


@page("/models/{model}/{version}/sections/{section}", Need.PERSON, methods=("POST",))
def section_write(visit: Visit) -> Response:
    """Record a text."""
    model, version = flow.version_of(visit)
    name, after = _name(visit), visit.field("after")
    text = SectionText(
        section=name,
        text=visit.field("text"),
        author=visit.person if visit.field("mine") else None,
        ai_drafted=bool(visit.field("ai_drafted")),
        declared_unavailable=visit.field("declared_unavailable"),
    )
    try:
        seen = int(after) if after.isdecimal() and len(after) < 12 else None
        change = sections.write(visit, model, version, text, after=seen)
    except ReviewError as error:
        if isinstance(error, Refused):
            raise
        return _page(visit, model, version, name, dict(visit.form), str(error))
    visit.detail = f"section {name}, entry {change.seq}"
    return visit.redirect(make_path("models", model, version, "sections", name))


@page("/models/{model}/{version}/sections/{section}/sign", Need.PERSON, methods=("POST",))
def section_sign(visit: Visit) -> Response:
    """Begin signing under the newest text."""
    model, version = flow.version_of(visit)
    name = _name(visit)
    try:
        act_id = sections.begin_signing(
            visit, model, version, name, as_author=visit.field("capacity") == "author", comment=visit.field("comment")
        )
    except ReviewError as error:
        if isinstance(error, Refused):
            raise
        return _page(visit, model, version, name, {}, str(error))
    return visit.redirect(acts.path_of(act_id))


@page("/models/{model}/{version}/sections/{section}/diff", Need.READ)
def section_diff(visit: Visit) -> Response:
    """Show how one text of a section became another, word by word."""
    model, version = flow.version_of(visit)
    name = _name(visit)
    texts = sections.found_sections(visit.reading, model, version).history.get(name, ())
    known = {str(item.seq): item for item in texts}
    old, new = known.get(visit.query("from")), known.get(visit.query("to"))
    if old is None or new is None:
        raise not_found("This text of the section")
    words = compare_words(old.record.text, new.record.text)
    return visit.render(
        "section_diff.html.j2", model=model, version=version, name=name, old=old, new=new, words=words,
        same=old.record.text == new.record.text,
    )  # fmt: skip


def _name(visit: Visit) -> str:
    name = visit.param("section")
    if re.fullmatch(SECTION_PATTERN, name) is None:
        raise not_found("This section")
    return name


def _page(visit: Visit, model: str, version: str, name: str, form: dict[str, str], problem: str) -> Response:
    reading = visit.reading
    found = sections.found_sections(reading, model, version)
    item = found.items.get(name)
    person = visit.user is not None and visit.user.person is not None
    record = item.item.record if item is not None else None
    return visit.render(
        "section.html.j2",
        status=422 if problem else 200,
        model=model,
        version=version,
        name=name,
        item=item,
        record=record,
        revisions=sections.revisions(reading, model, version, found.history.get(name, ())),
        older=sections.older_package(reading, model, version, item) if item is not None else None,
        people=directory(reading),
        roles=sections.roles_for(visit, model, version, name) if person else (),
        writes=person and sections.may_write(visit),
        mine=item is not None and person and item.author == visit.person and item.author_signed is None,
        after=item.item.seq if item is not None else "",
        typed=form.get("text", record.text if record is not None else ""),
        unavailable=form.get("declared_unavailable", record.declared_unavailable if record is not None else ""),
        drafted=bool(form.get("ai_drafted")) if form else item is not None and item.ai_drafted,
        problem=problem,
    )
