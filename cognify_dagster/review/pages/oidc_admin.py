"""Single sign-on for admins: which groups stand for which roles, and whose identity is enrolled to sign with.

Both change who may do what, so neither is done here: an act is prepared, which the people named sign with their own keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import yaml
from starlette.responses import Response

from cognify_dagster.governance import (
    GovernanceError,
    directory,
    enrolment,
    groups_mapping,
    mapping_in_force,
    policy_in_force,
    read_mapping,
    rotated,
)
from cognify_dagster.governance.signing.sso import sso_public
from cognify_dagster.records import Record
from cognify_dagster.review.errors import ReviewError, not_found
from cognify_dagster.review.identity.oidc.flow import require_provider
from cognify_dagster.review.identity.oidc.people import alias_of
from cognify_dagster.review.identity.user import ADMIN
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.signing.acts import path_of, start
from cognify_dagster.review.visit import Visit


@dataclass(frozen=True)
class _Holder:
    """A person with an identity at the issuer, as the page lists them."""

    person: str
    name: str
    subjects: tuple[str, ...]
    key_ids: tuple[str, ...]


@page("/oidc", Need.PERSON)
def oidc_overview(visit: Visit) -> Response:
    """Show the issuer, the mapping in force and who has an identity there."""
    return _show(visit)


@page("/oidc/groups", Need.ADMIN, methods=("POST",))
def oidc_groups(visit: Visit) -> Response:
    """Prepare the act that replaces the group mapping."""
    config = require_provider(visit).config
    try:
        listed = read_mapping(f"issuer: {config.issuer}\n" + visit.field("mapping"), "the mapping")
        signers = _signers(visit)
        record: Record = groups_mapping(
            visit.reading, listed.issuer, listed.claim, listed.groups, visit.field("reason"), signers
        )
        return visit.redirect(path_of(start(visit, record, signers, "Groups and roles of single sign-on")))
    except (GovernanceError, ReviewError) as error:
        return _show(visit, str(error))


@page("/oidc/identities", Need.ADMIN, methods=("POST",))
def oidc_identities(visit: Visit) -> Response:
    """Prepare the act that enrols somebody's identity at the issuer beside their keys."""
    config = require_provider(visit).config
    who, subject = visit.field("person"), visit.field("subject").removeprefix(alias_of(config.issuer, ""))
    try:
        person = rotated(visit.reading, who, sso_public(config.issuer, subject, config.client_id), False)
        signers = _signers(visit)
        title = f"Single sign-on for {person.name}"
        return visit.redirect(path_of(start(visit, enrolment(visit.reading, person, signers), signers, title)))
    except (GovernanceError, ReviewError) as error:
        return _show(visit, str(error))


def _signers(visit: Visit) -> tuple[str, ...]:
    """The admin who prepares it and the second person named."""
    second = visit.field("second")
    if not second or second == visit.person:
        raise ReviewError("name a second person who signs with you")
    return (visit.person, second)


def _show(visit: Visit, problem: str = "") -> Response:
    provider = require_provider(visit)
    if visit.user is None:
        raise not_found("This page")
    issuer, people, size = provider.config.issuer, directory(visit.reading), visit.reading.size
    mapping = mapping_in_force(visit.reading, issuer)
    held = []
    for person in sorted(people.people(), key=lambda item: item.name.casefold()):
        keys = [
            key for key in people.valid_keys(person.person, size).values() if key.oidc and key.oidc.issuer == issuer
        ]
        subjects = [key.oidc.subject for key in keys if key.oidc]
        subjects += [alias.partition("|")[2] for alias in person.aliases if alias.startswith(alias_of(issuer, ""))]
        if subjects:
            held.append(
                _Holder(person.person, person.name, tuple(dict.fromkeys(subjects)), tuple(key.key_id for key in keys))
            )
    shown = {"claim": mapping.claim, "groups": {name: list(roles) for name, roles in sorted(mapping.groups.items())}} if mapping else {
        "claim": provider.config.groups_claim, "groups": {"Example-Group": ["model_validator"]}
    }  # fmt: skip
    others = [
        person for person in people.people() if person.person != visit.person and people.valid_keys(person.person, size)
    ]
    return visit.render(
        "oidc.html.j2",
        status=400 if problem else 200,
        problem=problem,
        service=provider.config,
        mapping=mapping,
        holders=held,
        roles=list(policy_in_force(visit.reading).policy.roles),
        text=visit.field("mapping") or yaml.safe_dump(shown, sort_keys=False, allow_unicode=True),
        people=[person for person in people.people() if people.valid_keys(person.person, size)],
        admins=[person for person in others if ADMIN in person.roles],
        others=others,
    )
