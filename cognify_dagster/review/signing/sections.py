"""Texts that people write about a version, for the pages: what stands, what there was, in which package, who answers for it.

Invariants: a text typed here is recorded by the site's workload, with who typed it as its source; whose text it is, is shown by
signatures alone. Nobody overwrites a text that they did not see, or writes one with a password alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from cognify_dagster.documents import collect, load_framework
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.section_files import DEFAULT_ROLES, section_roles
from cognify_dagster.governance import (
    GovernanceError,
    Section,
    SectionChange,
    SectionText,
    classification_of,
    directory,
    policy_in_force,
    section_approval,
    sections_of,
    write_sections,
)
from cognify_dagster.governance.oversight.sections import Sections, Written
from cognify_dagster.records import Package, RecordError, text_problem
from cognify_dagster.review.errors import Refused, ReviewError
from cognify_dagster.review.identity.signing_in import strong
from cognify_dagster.review.signing import acts
from cognify_dagster.review.visit import Visit
from cognify_dagster.workspace import Reading, Recorded


@dataclass(frozen=True)
class Revision:
    """One text that a section had, and the packages of the version that show it (entry, digest), oldest first."""

    item: Written
    packages: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Row:
    """A section in the list: what stands, or None where one is demanded and nobody wrote it."""

    name: str
    section: Section | None
    required: bool
    in_package: bool


def found_sections(reading: Reading, model: str, version: str) -> Sections:
    """Return all sections of a version."""
    return sections_of(reading, directory(reading), model, version)


def rows(reading: Reading, model: str, version: str) -> list[Row]:
    """Return the sections that stand and those that the version's tier demands."""
    policy, people = policy_in_force(reading).policy, directory(reading)
    tier = classification_of(reading, people, policy, model).tier
    wanted = policy.tiers[tier].required_sections if tier in policy.tiers else ()
    items, package = found_sections(reading, model, version).items, _current(reading, model, version)
    names = sorted({*items, *wanted})
    return [Row(n, items.get(n), n in wanted, n in items and _shows(package, items[n].item)) for n in names]


def revisions(reading: Reading, model: str, version: str, texts: Sequence[Written]) -> list[Revision]:
    """Return the texts of a section, newest first, each with the packages that show it."""
    packages = reading.all(Package, f"model/{model}@{version}")
    found = []
    for number, item in enumerate(texts):
        later = texts[number + 1].seq if number + 1 < len(texts) else None
        shows = [
            (one.seq, one.record.package.digest)
            for one in packages
            if item.seq < one.record.built_from_size and (later is None or one.record.built_from_size <= later)
        ]
        found.append(Revision(item, tuple(shows)))
    return found[::-1]


def _current(reading: Reading, model: str, version: str) -> Recorded[Package] | None:
    return reading.latest(Package, f"model/{model}@{version}")


def _shows(package: Recorded[Package] | None, text: Written) -> bool:
    return package is not None and text.seq < package.record.built_from_size


def older_package(reading: Reading, model: str, version: str, section: Section) -> Recorded[Package] | None:
    """Return the current package if it was built before this text, and so does not show it."""
    package = _current(reading, model, version)
    return package if package is not None and not _shows(package, section.item) else None


def may_write(visit: Visit) -> bool:
    """Whether the visitor holds a role that acts (an auditor's only looks on), and signed in with more than a password."""
    acting = set(policy_in_force(visit.reading).policy.acting_roles)
    return strong(visit) and visit.user is not None and bool(visit.user.roles & acting)


def write(visit: Visit, model: str, version: str, text: SectionText, *, after: int | None) -> SectionChange:
    """Record a text that was typed on the site.

    Args:
        visit: of who typed it.
        model: model key.
        version: version id.
        text: what was typed; its source is set here.
        after: the entry of the text that the form showed, None where there was none.

    Raises:
        Refused: 403 without a role that acts, or with a password alone.
        ReviewError: if somebody wrote another text meanwhile, or it cannot be recorded.
    """
    if not strong(visit):
        raise Refused(403, "A password alone reads. Sign in with a passkey to write.", "stronger-login")
    if not may_write(visit):
        raise Refused(403, "Texts are written by people with a role that acts.", "wrong-role")
    stands = found_sections(visit.refresh(), model, version).items.get(text.section)
    if (stands.item.seq if stands is not None else None) != after:
        raise ReviewError(
            "somebody wrote another text since you opened this page; it is shown above, yours is kept below"
        )
    typed = SectionText(
        section=text.section,
        text=_clean(text.text),
        author=text.author,
        ai_drafted=text.ai_drafted,
        declared_unavailable=_clean(text.declared_unavailable),
        source=f"review site, typed by {visit.person}",
    )
    for part in (typed.text, typed.declared_unavailable):
        problem = text_problem(part)
        if problem:
            raise ReviewError(problem)
    try:
        return write_sections(visit.workspace, model, version, [typed])[0]
    except (GovernanceError, RecordError) as error:
        raise ReviewError(str(error)) from error


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()


def roles_for(visit: Visit, model: str, version: str, section: str) -> tuple[str, ...]:
    """Return the roles that answer for a section, by the frameworks the model is under."""
    config, known = visit.workspace.config, policy_in_force(visit.reading).policy.roles
    registered = collect(visit.reading, model, version).registered
    names = registered.record.frameworks if registered is not None else ()
    try:
        return section_roles(section, [load_framework(name, config.frameworks) for name in names], known)
    except DocumentError:
        return DEFAULT_ROLES


def begin_signing(visit: Visit, model: str, version: str, section: str, *, as_author: bool, comment: str = "") -> str:
    """Begin the act with which the visitor signs under the newest text; return its id.

    Raises:
        ReviewError: if they hold none of the roles, or the section has no text.
    """
    assert visit.user is not None
    acting = policy_in_force(visit.reading).policy.acting_roles
    wanted = acting if as_author else roles_for(visit, model, version, section)
    role = next((name for name in wanted if name in visit.user.roles), "")
    if not role:
        raise ReviewError(f"section {section} is answered for by {' or '.join(wanted)}; you hold none of these roles")
    try:
        record = section_approval(
            visit.reading, model, version, section, visit.person, role=role, as_author=as_author, comment=comment
        )
    except (GovernanceError, RecordError) as error:
        raise ReviewError(str(error)) from error
    word = "Sign as author" if as_author else "Answer for"
    return acts.start(visit, record, title=f"{word}: section {section} of {model} {version}")
