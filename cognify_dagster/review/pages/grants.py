"""Grants to auditors from outside: who may read what until when; granting, ending, inviting. Each grant is an act that people sign."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from sqlalchemy import Connection, select
from starlette.responses import Response

from cognify_dagster.governance import AuditorGrant, GovernanceError, auditor_grant, auditor_grants, directory
from cognify_dagster.governance.people.auditors import MAX_DAYS, ending_record, grant_record
from cognify_dagster.governance.signing.acts import people_needed
from cognify_dagster.records import ModelAdopted, ModelRegistered, RecordError, utc
from cognify_dagster.review.errors import Refused, ReviewError, not_found
from cognify_dagster.review.pages.ledger import number
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.store.accounts import Account, accounts
from cognify_dagster.review.visit import Visit

_FIELDS = ("name", "organisation", "models", "until", "reason", "second")


@dataclass(frozen=True)
class Shown:
    """A grant as the page shows it."""

    grant: AuditorGrant
    word: str
    tone: str
    account: Account | None
    signed: str

    @property
    def holds(self) -> bool:
        """Whether it counts now."""
        return self.tone == "good"


@page("/grants", Need.ADMIN)
def grants(visit: Visit) -> Response:
    """List grants, and offer a form for a new one."""
    return _show(visit)


@page("/grants/new", Need.ADMIN, methods=("POST",))
def grants_new(visit: Visit) -> Response:
    """Prepare a grant, to be signed by this admin and a second person."""
    try:
        record = grant_record(
            visit.field("name"),
            visit.field("organisation"),
            until=_until(visit.field("until")),
            reason=visit.field("reason"),
            signers=[item for item in (visit.person, visit.field("second")) if item],
            models=visit.field("models").split(),
            classes=visit.field("classes").split(),
        )
        from cognify_dagster.review.signing.acts import start

        title = f"Let {record.name} of {record.organisation} read until {record.until[:10]}"

        return visit.redirect(f"/acts/{start(visit, record, (), title)}")
    except (RecordError, GovernanceError, ReviewError) as error:
        return _show(visit, [str(error)])


@page("/grants/{seq}/end", Need.ADMIN, methods=("POST",))
def grants_end(visit: Visit) -> Response:
    """Prepare the end of a grant, to be signed by this admin."""
    grant = _grant(visit)
    try:
        record = ending_record(grant.item.seq, visit.field("reason"), visit.person)
        from cognify_dagster.review.signing.acts import start

        return visit.redirect(f"/acts/{start(visit, record, (), f'End the grant of {grant.item.record.name}')}")
    except (RecordError, GovernanceError, ReviewError) as error:
        return _show(visit, [str(error)])


@page("/grants/{seq}/invite", Need.ADMIN, methods=("POST",))
def grants_invite(visit: Visit) -> Response:
    """Make the auditor's account once and show a link that sets their credential; it is shown this one time."""
    from cognify_dagster.review.identity.accounts import add_account
    from cognify_dagster.review.identity.invitations import invite

    grant = _grant(visit)
    if not grant.holds(visit.now):
        return _show(visit, ["This grant does not hold now; nobody is invited on it."])
    now = int(time.time())
    try:
        with visit.site.store.begin() as connection:
            account = _account(connection, grant.item.seq)
            if account is None:
                account = add_account(connection, visit.field("login"), now, grant_seq=grant.item.seq)
            made = invite(connection, account, visit.person, now, company=False)  # nobody of the ledger
    except ReviewError as error:
        if isinstance(error, Refused) and error.status not in (400, 409):
            raise
        return _show(visit, [str(error)])
    visit.detail = f"invitation for {account.login}"
    return _show(visit, link=visit.site.url(made.path) if made.path else "", invited=account.login)


@page("/grants/{seq}/confirm", Need.ADMIN, methods=("POST",))
def grants_confirm(visit: Visit) -> Response:
    """Confirm, as a second admin, that an auditor gets a new credential."""
    from cognify_dagster.review.identity.invitations import confirm

    grant = _grant(visit)
    if not grant.holds(visit.now):
        return _show(visit, ["This grant does not hold now; nobody is invited on it."])
    with visit.site.store.begin() as connection:
        account = _account(connection, grant.item.seq)
        if account is None:
            raise not_found("An account of this grant")
        made = confirm(connection, account, visit.person, int(time.time()))
    visit.detail = f"confirmed a reset for {account.login}"
    return _show(visit, link=visit.site.url(made.path) if made.path else "", invited=account.login)


def _show(visit: Visit, problems: list[str] | None = None, *, link: str = "", invited: str = "") -> Response:
    from cognify_dagster.review.identity.invitations import open_invitations

    reading, now = visit.reading, visit.now
    people = directory(reading)
    with visit.site.store.begin() as connection:
        rows = [_shown(connection, grant, now, people.name) for grant in reversed(auditor_grants(reading))]
        held = {row.account.id: row.grant.item.seq for row in rows if row.account is not None}
        resets = {
            held[one.account]
            for one in open_invitations(connection, int(time.time()))
            if one.account in held and one.token_hash is None
        }
    seconds = [
        person
        for person in people.people()
        if person.person != visit.person
        and set(people.roles_at(person.person, reading.size, int(now.timestamp() * 1_000_000))) - {"auditor"}
    ]
    kinds = (ModelRegistered.kind, ModelAdopted.kind)
    models = sorted(
        {
            subject.removeprefix("model/")
            for kind in kinds
            for seq in reading.view.seqs_of_kind(kind)
            for subject in reading.view.entry(seq).entry.subjects
            if subject.startswith("model/") and "@" not in subject
        }
    )
    return visit.render(
        "grants.html.j2",
        status=400 if problems else 200,
        problems=problems or [],
        rows=rows,
        resets=resets,
        seconds=seconds,
        models=models[:500],
        form={name: visit.field(name) if problems else "" for name in (*_FIELDS, "classes")},
        latest=(now + timedelta(days=MAX_DAYS - 1)).strftime("%Y-%m-%d"),
        days=MAX_DAYS,
        alone=people_needed(reading) == 1,
        link=link,
        invited=invited,
    )


def _shown(connection: Connection, grant: AuditorGrant, now: datetime, name_of: object) -> Shown:
    word, tone = "holds", "good"
    if grant.why is not None:
        word, tone = f"never counted: {grant.why}", "bad"
    elif grant.ended is not None:
        word, tone = f"ended by entry {grant.ended}", "plain"
    elif not grant.holds(now):
        word, tone = "over", "plain"
    names = [name_of(person) for person in grant.item.record.granted_by]  # type: ignore[operator]
    return Shown(grant, word, tone, _account(connection, grant.item.seq), ", ".join(names))


def _grant(visit: Visit) -> AuditorGrant:
    seq = number(visit.param("seq"), "grant")
    visit.subject = f"auditor/{seq}"
    found = auditor_grant(visit.reading, seq) if seq is not None else None
    if found is None:
        raise not_found(f"Grant {visit.param('seq')[:20]}")
    return found


def _account(connection: Connection, seq: int) -> Account | None:
    row = connection.execute(select(accounts).where(accounts.c.grant_seq == seq)).mappings().first()
    return None if row is None else Account(**row)


def _until(day: str) -> str:
    """The last second of a day in UTC."""
    try:
        last = datetime.strptime(day, "%Y-%m-%d").replace(hour=23, minute=59, second=59, tzinfo=timezone.utc)
    except ValueError as error:
        raise RecordError("Give the last day of the grant, such as 2026-12-31.") from error
    return utc(last)
