"""One's own account: passkeys, password, sessions."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from cognify_dagster.governance import directory
from cognify_dagster.review.errors import Refused
from cognify_dagster.review.identity.accounts import set_password_hash
from cognify_dagster.review.identity.company import signs_in_at_company
from cognify_dagster.review.identity.links import acknowledge, links_of
from cognify_dagster.review.identity.passkeys import (
    InLedger,
    check_registration,
    enrolment_of,
    in_ledger,
    keep_passkey,
    registration_options,
)
from cognify_dagster.review.identity.passwords import check_password, hash_password, password_problem
from cognify_dagster.review.identity.signing_in import fresh, renew, require_fresh, safe_next
from cognify_dagster.review.identity.throttle import attempt
from cognify_dagster.review.identity.user import ADMIN
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.store.accounts import Account, find_account, lock_account
from cognify_dagster.review.store.passkeys import StoredPasskey, passkeys_of, remove_passkeys
from cognify_dagster.review.store.sessions import (
    Session,
    end_session,
    end_sessions_by,
    end_sessions_of,
    extend_session,
    sessions_of,
)
from cognify_dagster.review.visit import Visit

_DONE = {
    "password": "Your password is set.",
    "passkey": "Your passkey is registered. It signs you in; it signs off once two people vouched for it (see below).",
    "removed": "The passkey does not sign you in any more.",
    "ended": "The session was ended.",
}
_HANDLE = 16


@page("/account", Need.READ)
def account(visit: Visit) -> Response:
    """Show one's own credentials and sessions."""
    return _page(visit)


@page("/account/extend", Need.READ, methods=("POST",), logged=False)
def extend(visit: Visit) -> Response:
    """Count a visit, so that the session does not end for want of one."""
    _, session = _mine(visit)
    with visit.site.store.begin() as connection:
        extend_session(connection, session.token_hash, int(visit.now.timestamp()))
    return JSONResponse({"idle_s": visit.site.config.session_minutes * 60, "ends": session.ends})


@page("/account/password", Need.READ, methods=("POST",))
def change_password(visit: Visit) -> Response:
    """Set a password; all other sessions end. Who signed in with the old one types it again."""
    mine, session = _mine(visit)
    require_fresh(visit)
    if not visit.site.config.password_login:
        raise Refused(403, "Passwords do not sign in here; use a passkey.", "no-passwords")
    user = visit.user
    assert user is not None
    problem = password_problem(visit.field("password"), mine.login, *user.name.split())
    if problem is None and visit.field("password") != visit.field("again"):
        problem = "The two fields differ. Paste the same password into both."
    if problem is None and mine.password_hash is not None and session.method == "password":
        attempt(visit.site, visit.address, mine.login)
        if not check_password(mine.password_hash, visit.field("current")):
            problem = "The current password is wrong."
    if problem is not None:
        visit.detail = problem
        return _page(visit, problem)
    hashed = hash_password(visit.field("password"))
    with visit.site.store.begin() as connection:
        lock_account(connection, mine.id)
        set_password_hash(connection, mine.id, hashed)
        end_sessions_of(connection, mine.id, but=session.token_hash)
    renew(visit)
    return visit.redirect("/account?done=password")


@page("/account/passkeys/options", Need.READ, methods=("POST",), logged=False)
def passkey_options(visit: Visit) -> Response:
    """Begin the registration of a further passkey."""
    mine, session = _mine(visit)
    _require_strong(visit)
    assert visit.user is not None
    with visit.site.store.begin() as connection:
        now = int(visit.now.timestamp())
        found = registration_options(connection, visit.site.config, mine, visit.user.name, session.token_hash, now)
    return JSONResponse(found)


@page("/account/passkeys", Need.READ, methods=("POST",))
def passkey_add(visit: Visit) -> Response:
    """Register a further passkey. It signs nothing off until others vouched for it."""
    mine, session = _mine(visit)
    _require_strong(visit)
    now = int(visit.now.timestamp())
    new = check_registration(visit.site.store, visit.site.config, visit.json, session.token_hash, now)
    with visit.site.store.begin() as connection:
        keep_passkey(connection, mine.id, new.public, new.name, now, new.count)
    visit.detail = f"registered passkey {new.public.key_id}"
    return JSONResponse({"target": "/account?done=passkey"})


@page("/account/passkeys/{key}/remove", Need.READ, methods=("POST",))
def passkey_remove(visit: Visit) -> Response:
    """Let a passkey sign in no more; sessions that it opened end. What the ledger says of it stays; `cognify people revoke` ends that."""
    mine, session = _mine(visit)
    _require_strong(visit)
    removed, company = visit.param("key"), _company(visit)
    with visit.site.store.begin() as connection:
        current = lock_account(connection, mine.id) or mine
        by_password = current.password_hash is not None and visit.site.config.password_login
        left = [key for key in passkeys_of(connection, mine.id) if key.key_id != removed]
        if not (left or by_password or company):
            raise Refused(409, "This is your only way to sign in; register another passkey first.", "last-credential")
        if remove_passkeys(connection, mine.id, removed) == 0:
            raise Refused(404, "You have no such passkey.", "not-found")
        end_sessions_by(connection, mine.id, removed)
    visit.detail = f"removed passkey {removed}"
    if session.credential == removed:  # this session was one of them
        visit.new_cookie = ""
        return visit.redirect("/login")
    return visit.redirect("/account?done=removed")


@page("/account/passkeys/{key}/vouch", Need.PERSON, methods=("POST",))
def passkey_vouch(visit: Visit) -> Response:
    """Ask an admin and a second person to sign that a passkey may sign off."""
    from cognify_dagster.review.signing import acts

    mine, _ = _mine(visit)
    with visit.site.store.begin() as connection:
        key = next((key for key in passkeys_of(connection, mine.id) if key.key_id == visit.param("key")), None)
    if key is None:
        raise Refused(404, "You have no such passkey.", "not-found")
    vouchers = [name for name in dict.fromkeys((visit.field("first"), visit.field("second"))) if name]
    record = enrolment_of(visit.reading, visit.person, key.public, vouchers)
    signers = (record.vouched_by, *record.witnesses)
    assert visit.user is not None
    name = acts.start(visit, record, signers, f"Passkey {key.key_id} of {visit.user.name}")
    visit.subject, visit.detail = visit.person, f"passkey {key.key_id}"
    return visit.redirect(f"/acts/{name}")


@page("/account/links/read", Need.READ, methods=("POST",))
def links_read(visit: Visit) -> Response:
    """Note that the visitor read of the one-time links to their account."""
    upto = visit.field("upto")
    acknowledge(visit, int(upto) if upto.isdecimal() and len(upto) < 19 else 0)
    return visit.redirect(safe_next(visit.field("next", "/account")))


@page("/account/sessions/{handle}/end", Need.READ, methods=("POST",))
def session_end(visit: Visit) -> Response:
    """End one of one's sessions, or with `others` all but this one."""
    mine, session = _mine(visit)
    with visit.site.store.begin() as connection:
        if visit.param("handle") == "others":
            end_sessions_of(connection, mine.id, but=session.token_hash)
        else:
            for item in sessions_of(connection, mine.id, int(visit.now.timestamp()), _idle(visit)):
                if item.token_hash[:_HANDLE] == visit.param("handle"):
                    end_session(connection, item.token_hash)
    return visit.redirect("/account?done=ended")


def _mine(visit: Visit) -> tuple[Account, Session]:
    assert visit.user is not None
    assert visit.session is not None
    return visit.user.account, visit.session


def _require_strong(visit: Visit) -> None:
    """Refuse to change passkeys in a session that is old, or that rests on a password where there is a passkey or company account.

    Else who knows a password would add a passkey of their own and be more than a reader.

    Raises:
        Refused: 403.
    """
    require_fresh(visit)
    mine, session = _mine(visit)
    with visit.site.store.begin() as connection:
        held = passkeys_of(connection, mine.id)
    if session.method == "password" and (held or _company(visit)):
        how = "a passkey" if held else "your company account"
        text = f"Sign in with {how} to change your passkeys. Who lost theirs asks an admin for a reset."
        raise Refused(403, text, "stronger-login")


def _company(visit: Visit) -> bool:
    person = visit.user.person if visit.user else None
    return signs_in_at_company(visit.reading, visit.site.config, person)


def _idle(visit: Visit) -> int:
    return visit.site.config.session_minutes * 60


def _page(visit: Visit, problem: str | None = None) -> Response:
    mine, session = _mine(visit)
    with visit.site.store.begin() as connection:
        keys = passkeys_of(connection, mine.id)
        running = sessions_of(connection, mine.id, int(visit.now.timestamp()), _idle(visit))
        mine = find_account(connection, id=mine.id) or mine
        links = links_of(connection, visit.reading, mine.id, int(visit.now.timestamp()))
    return visit.render(
        "account.html.j2",
        status=422 if problem else 200,
        problem=problem,
        done=_DONE.get(visit.query("done")),
        account=mine,
        links=links,
        session=session,
        fresh=fresh(visit),
        passkeys=[_passkey(visit, key) for key in keys],
        sessions=[(item.token_hash[:_HANDLE], item, item.token_hash == session.token_hash) for item in running],
        **_vouchers(visit),
    )


def _passkey(visit: Visit, key: StoredPasskey) -> dict[str, Any]:
    person = visit.user.person if visit.user else None
    state = in_ledger(visit.reading, person, key.key_id) if person else InLedger()
    return {"key": key, "ledger": state}


def _vouchers(visit: Visit) -> dict[str, Any]:
    """Who may vouch for this person's passkey: admins first, then anybody with a role and a key; they themselves second."""
    if visit.user is None or visit.user.person is None:
        return {"admins": [], "seconds": [], "ledger_keys": []}
    people, size, now = directory(visit.reading), visit.reading.size, int(visit.now.timestamp() * 1_000_000)
    me = visit.user.person
    able = [
        item
        for item in people.people()
        if people.roles_at(item.person, size, now) and people.valid_keys(item.person, size)
    ]
    admins = [item for item in able if ADMIN in item.roles and item.person != me]
    able.sort(key=lambda item: (item.person != me, item.name))
    return {"admins": admins, "seconds": able, "ledger_keys": list(people.valid_keys(me, size).values())}
