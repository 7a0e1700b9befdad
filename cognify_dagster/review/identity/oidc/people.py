"""From what an issuer says to a person of the ledger, and to the roles that count in a session by single sign-on.

Invariants: nobody becomes a person, or gets a role, by signing in; an identity belongs to one person, by an enrolment that people
vouched for; with a group mapping in force roles are those enrolled and mapped, asked of the ledger at each request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cognify_dagster.governance import directory, mapping_in_force
from cognify_dagster.review.identity.oidc.config import OidcConfig
from cognify_dagster.review.identity.oidc.provider import provider_of
from cognify_dagster.review.identity.user import User
from cognify_dagster.review.site import Site
from cognify_dagster.review.store.oidc import identity_of
from cognify_dagster.review.store.sessions import Session
from cognify_dagster.workspace import Reading


def alias_of(issuer: str, subject: str) -> str:
    """Return the alias with which a person is enrolled for single sign-on."""
    return f"oidc:{issuer}|{subject}"


def find_person(reading: Reading, config: OidcConfig, subject: str, claims: Mapping[str, Any]) -> str | None:
    """Return the person whom a verified token names: by an enrolled identity (S2), the alias `oidc:…`, or `user:` and a claim.

    Identities and `oidc:…` aliases are compared as they are; a subject may differ by case alone. An e-mail address counts only if
    the issuer says that it verified it. None for nobody, and where it would be two people.
    """
    people, found = directory(reading), set[str]()
    wanted = alias_of(config.issuer, subject)
    claimed = _claimed(config, claims)
    for person in people.people():
        keys = people.valid_keys(person.person, reading.size).values()
        held = {(key.oidc.issuer, key.oidc.subject, key.oidc.client_id) for key in keys if key.oidc is not None}
        named = bool(claimed) and claimed in {alias.lower() for alias in person.aliases}
        if named or wanted in person.aliases or (config.issuer, subject, config.client_id) in held:
            found.add(person.person)
    return found.pop() if len(found) == 1 else None


def kept_claims(reading: Reading, config: OidcConfig, claims: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims of a token that a session needs later: those for the person and for roles."""
    mapping = mapping_in_force(reading, config.issuer)
    wanted = {config.person_claim, config.groups_claim, mapping.claim if mapping is not None else ""}
    wanted |= {"email_verified"} if config.person_claim == "email" else set()
    return {name: claims[name] for name in sorted(wanted) if name in claims}


def narrowed(site: Site, reading: Reading, user: User, session: Session) -> User | None:
    """Return the holder of a session by single sign-on with the roles that count in it; None if it counts no more.

    It counts no more once the issuer is another, or the ledger does not say any more that the identity is theirs.
    """
    with site.store.begin() as connection:
        identity = identity_of(connection, session.token_hash)
    provider = provider_of(site)
    if identity is None or provider is None or identity.issuer != provider.config.issuer:
        return None
    if find_person(reading, provider.config, identity.subject, identity.claims) != user.person:
        return None
    mapping = mapping_in_force(reading, identity.issuer)
    if mapping is None:
        return user
    grouped = mapping.roles(identity.claims)
    return replace(user, roles=user.roles & grouped, grouped=grouped)


def _claimed(config: OidcConfig, claims: Mapping[str, Any]) -> str:
    value = claims.get(config.person_claim) if config.person_claim else None
    if (
        not isinstance(value, str)
        or not value
        or (config.person_claim == "email" and claims.get("email_verified") is not True)
    ):
        return ""
    return f"user:{value}".lower()
