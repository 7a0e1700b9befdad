"""People and keys: who is who by the ledger, and their accounts here.

Invariant: keys are shown by id and kind, never by anything secret; who has an account is shown to admins alone, links to it to them and its holder; a
reset takes two admins.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from cognify_dagster.governance import directory
from cognify_dagster.governance.people.authority import Directory, KeySpan
from cognify_dagster.records import Person
from cognify_dagster.review.errors import not_found
from cognify_dagster.review.identity.accounts import account_for, disable_account, enable_account, has_credential
from cognify_dagster.review.identity.company import signs_in_at_company
from cognify_dagster.review.identity.invitations import Made, confirm, invite, open_invitations
from cognify_dagster.review.identity.links import Link, links_of
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.store.accounts import Account, find_account
from cognify_dagster.review.store.passkeys import passkeys_of
from cognify_dagster.review.store.sessions import sessions_of
from cognify_dagster.review.visit import Visit


@page("/people/{person}/invite", Need.ADMIN, methods=("POST",))
def person_invite(visit: Visit) -> Response:
    """Invite a person to set a credential; who has one already gets another only after a second admin confirmed it."""
    person = _person(visit)
    now, company = int(visit.now.timestamp()), _company(visit, person)
    with visit.site.store.begin() as connection:
        made = invite(connection, account_for(connection, person.person, now), visit.person, now, company=company)
    return _invited(visit, person, made)


@page("/people/{person}/invite/confirm", Need.ADMIN, methods=("POST",))
def person_invite_confirm(visit: Visit) -> Response:
    """Confirm, as a second admin, that a person gets a new credential."""
    person = _person(visit)
    with visit.site.store.begin() as connection:
        made = confirm(connection, _account(connection, person), visit.person, int(visit.now.timestamp()))
    return _invited(visit, person, made)


@page("/people/{person}/disable", Need.ADMIN, methods=("POST",))
def person_disable(visit: Visit) -> Response:
    """Let nobody sign in to a person's account; their sessions end."""
    person = _person(visit)
    with visit.site.store.begin() as connection:
        disable_account(connection, _account(connection, person).id, int(visit.now.timestamp()))
    return visit.redirect(_path(person))


@page("/people/{person}/enable", Need.ADMIN, methods=("POST",))
def person_enable(visit: Visit) -> Response:
    """Undo that."""
    person = _person(visit)
    with visit.site.store.begin() as connection:
        enable_account(connection, _account(connection, person).id)
    return visit.redirect(_path(person))


@page("/people", Need.READ)
def people(visit: Visit) -> Response:
    """List people, machines, delegations, and what had no effect."""
    found, size = directory(visit.reading), visit.reading.size
    rows = [
        {
            "person": person,
            "entry": found.standings[person.person][-1].since,
            "roles": found.roles_at(person.person, size, _now_us(visit)),
            "due": found.recertification_due_us(person.person, size),
            "keys": list(found.valid_keys(person.person, size).values()),
            "account": state,
        }
        for person, state in _with_accounts(visit, sorted(found.people(), key=lambda item: item.name.casefold()))
    ]
    machines = [
        {"id": item.workload, "key": item.key, "entry": since, "kinds": item.kinds, "valid": item.key.key_id in found.valid_keys(item.workload, size)}
        for since, item in found.workloads
    ]  # fmt: skip
    running = [item for item in found.delegations if item.runs_at(size, visit.now)]
    return visit.render(
        "people.html.j2", rows=rows, machines=machines, delegations=running, people=found, problems=found.problems
    )


@page("/people/{person:path}", Need.READ)
def person_page(visit: Visit) -> Response:
    """Show a person: roles, keys, how they were enrolled and vouched for, what ended."""
    person = _person(visit)
    found, size, who = directory(visit.reading), visit.reading.size, person.person
    return visit.render(
        "person.html.j2",
        person=person,
        short=who.removeprefix("person/"),
        people=found,
        counting=found.roles_at(who, size, _now_us(visit)),
        due=found.recertification_due_us(who, size),
        keys=[_key(span, size) for span in found.keys.get(who, ())],
        standings=list(reversed(found.standings[who])),
        recertified=list(reversed(found.recertified.get(who, []))),
        delegations=[(item, _running(visit, found, item.seq)) for item in found.delegations if who in (item.delegator, item.delegate)],
        account=_account_view(visit, person),
        links=_links(visit, person),
    )  # fmt: skip


def _person(visit: Visit) -> Person:
    """The person that the address names, as `ada` or `person/ada`."""
    short = visit.param("person").removeprefix("person/")
    found = directory(visit.reading).standings.get(f"person/{short}")
    if not found:
        raise not_found(f"The person {short[:80]}")
    visit.subject = found[-1].person.person
    return found[-1].person


def _path(person: Person) -> str:
    return f"/people/{person.person.removeprefix('person/')}"


def _company(visit: Visit, person: Person) -> bool:
    return signs_in_at_company(visit.reading, visit.site.config, person.person)


def _account(connection: Any, person: Person) -> Account:
    found = find_account(connection, person=person.person)
    if found is None:
        raise not_found(f"An account of {person.name}")
    return found


def _now_us(visit: Visit) -> int:
    return int(visit.now.timestamp() * 1_000_000)


def _running(visit: Visit, found: Directory, seq: int) -> bool:
    item = found.delegation_of(seq)
    return item is not None and item.runs_at(visit.reading.size, visit.now)


def _key(span: KeySpan, size: int) -> dict[str, Any]:
    return {"span": span, "key": span.key, "valid": span.valid_at(size)}


def _with_accounts(visit: Visit, found: list[Person]) -> list[tuple[Person, str]]:
    """Give each person's account in a word, for admins."""
    if visit.user is None or not visit.user.admin:
        return [(person, "") for person in found]
    with visit.site.store.begin() as connection:
        waiting = {item.account: item for item in open_invitations(connection, int(visit.now.timestamp()))}
        states = []
        for person in found:
            account = find_account(connection, person=person.person)
            if account is None:
                state = "none"
            elif account.disabled is not None:
                state = "disabled"
            elif account.id in waiting and waiting[account.id].token_hash is None:
                state = "reset to confirm"
            elif not has_credential(connection, account) and not _company(visit, person):
                state = "invited" if account.id in waiting else "not set up"
            else:
                state = "in use"
            states.append((person, state))
    return states


def _account_view(visit: Visit, person: Person) -> dict[str, Any] | None:
    """What an admin sees of a person's account; None for everybody else."""
    if visit.user is None or not visit.user.admin:
        return None
    now, company = int(visit.now.timestamp()), _company(visit, person)
    with visit.site.store.begin() as connection:
        account = find_account(connection, person=person.person)
        if account is None:
            return {"account": None, "invitation": None, "credential": company, "company": company}
        open_one = next((item for item in open_invitations(connection, now) if item.account == account.id), None)
        keys = passkeys_of(connection, account.id)
        running = sessions_of(connection, account.id, now, visit.site.config.session_minutes * 60)
        return {
            "account": account,
            "password": account.password_hash is not None,
            "passkeys": keys,
            "sessions": len(running),
            "invitation": open_one,
            "credential": company or has_credential(connection, account),
            "company": company,
        }


def _links(visit: Visit, person: Person) -> list[Link] | None:
    """The one-time links to a person's account, for admins and themselves; None for everybody else."""
    user = visit.user
    if user is None or not (user.admin or user.person == person.person):
        return None
    with visit.site.store.begin() as connection:
        account = find_account(connection, person=person.person)
        now = int(visit.now.timestamp())
        return links_of(connection, visit.reading, account.id, now) if account is not None else []


def _invited(visit: Visit, person: Person, made: Made) -> Response:
    confirmed = made.invitation.confirmed_by is not None
    visit.detail = "confirmed a reset" if confirmed else "invited" if made.path else "asked for a reset"
    return visit.render(
        "invited.html.j2",
        person=person,
        back=_path(person),
        link=visit.site.url(made.path) if made.path else None,
        until=made.invitation.expires * 1_000_000,
        company=_company(visit, person),
    )
