"""Who has a way into the site by the company's sign-in service, without any password or passkey of the site.

Invariant: an identity there is a credential like a passkey: who has one gets a local one by a link only when two admins say so.
"""

from __future__ import annotations

from cognify_dagster.governance import directory
from cognify_dagster.review.config import ReviewConfig
from cognify_dagster.workspace import Reading


def signs_in_at_company(reading: Reading, config: ReviewConfig, person: str | None) -> bool:
    """Whether single sign-on is set up and a person is enrolled so that it may sign them in (see `oidc.people.find_person`).

    The table is read as it stands: its secret, which only signing in needs, may be missing where a command runs.

    Args:
        reading: the ledger now.
        config: the site's.
        person: of the ledger; None (an auditor from outside) has no such identity.
    """
    issuer, client = config.oidc.get("issuer"), config.oidc.get("client_id")
    people = directory(reading)
    enrolled = people.person_at(person, reading.size) if person is not None else None
    if not issuer or enrolled is None:
        return False
    keys = people.valid_keys(enrolled.person, reading.size).values()
    if any(key.oidc is not None and (key.oidc.issuer, key.oidc.client_id) == (issuer, client) for key in keys):
        return True
    known = (f"oidc:{issuer}|", "user:") if config.oidc.get("person_claim") else (f"oidc:{issuer}|",)
    return any(alias.startswith(known) for alias in enrolled.aliases)
