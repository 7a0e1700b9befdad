"""From a decision to a receipt: prepare the exact statement, have it signed anew by its person, submit it.

Invariants: a statement is prepared for one person and one session, lasts five minutes and is used up by the first answer, whatever the
answer is; a sign-off enters the ledger through `governance.submit` alone, which judges role, order, duties, strength and package
anew and keeps a refused attempt; the statement says "displayed" only of what this site displayed to the signer.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response

from cognify_dagster.governance import (
    Choice,
    Decision,
    Directory,
    GovernanceError,
    SignOffDenied,
    SignOffPredicate,
    StageState,
    decide,
    directory,
    draft_statement,
    obstacles,
    propose,
    read_sign_off,
    sign_off_statement,
    submit,
)
from cognify_dagster.governance.policy.document import STRENGTHS
from cognify_dagster.governance.signing.statements import PAYLOAD_TYPE
from cognify_dagster.ledger import pae
from cognify_dagster.records import Envelope, EnvelopeSignature, Package, SignOffRefused
from cognify_dagster.review.errors import Refused, ReviewError, not_found
from cognify_dagster.review.rendering import make_path
from cognify_dagster.review.signing import acts
from cognify_dagster.review.signing.methods import choose_key, keys_here
from cognify_dagster.review.signing.shown import viewed
from cognify_dagster.review.store.pending import (
    PendingStatement,
    add_statement,
    claim_statement,
    find_statement,
    new_id,
    prepared_since,
)
from cognify_dagster.review.visit import Visit
from cognify_dagster.workspace import Recorded, unknown_version

SECONDS = 300
MAX_PREPARED = 30
"""How many statements a person prepares within the time that one lasts."""
Make = Callable[[PendingStatement], EnvelopeSignature]


@dataclass(frozen=True)
class StageView:
    """A sign-off stage as the sign-off page shows it. `obstacles`: why the visitor cannot approve it now; empty if they can.

    `strength`: none of the visitor's keys on this site is strong enough, though one elsewhere may be. `behalf`: whose role they would
    sign in, where it was delegated to them.
    """

    state: StageState
    obstacles: tuple[str, ...]
    strength: bool
    behalf: str = ""

    @property
    def name(self) -> str:
        """The stage's name in the policy."""
        return self.state.name

    @property
    def title(self) -> str:
        """Its title."""
        return self.state.stage.title or self.state.name


# --- what there is to sign -----------------------------------------------------------------------------------------------


def version_of(visit: Visit) -> tuple[str, str]:
    """Return model and version of the page's address and note them as what is looked at.

    Raises:
        Refused: 404 if there is no such version, or the visitor may not see the model.
    """
    model, version = visit.param("model"), visit.param("version")
    visit.require_model(model)
    if unknown_version(visit.reading, model, version):
        raise not_found(f"Version {version[:80]} of {model[:80]}")
    visit.subject = f"model/{model}@{version}"
    return model, version


def package_of(visit: Visit, model: str, version: str) -> Recorded[Package] | None:
    """Return the current package of a version."""
    return visit.reading.latest(Package, f"model/{model}@{version}")


def decision_of(visit: Visit, model: str, version: str, target: str = "production") -> Decision:
    """Decide on a version as of now."""
    return decide(visit.reading, model, version, target, visit.now)


def stage_views(visit: Visit, decision: Decision) -> list[StageView]:
    """Return the sign-off stages with what keeps the visitor from approving each."""
    found, people = [], directory(visit.reading)
    for state in decision.stages:
        if state.stage.kind != "sign_off":
            continue
        choice = Choice("approve", stage=state.name, targets=(decision.target,))
        try:
            why = obstacles(
                visit.reading, decision.model, decision.version, visit.person, choice, strength=STRENGTHS[-1]
            )
        except GovernanceError as error:
            why = [str(error)]
        strongest = max((STRENGTHS.index(item.key.strength) for item in keys_here(visit, state.name)), default=-1)
        weak = strongest < STRENGTHS.index(state.stage.min_strength)
        found.append(StageView(state, tuple(why), weak, "" if why else _behalf(visit, people, decision, state)))
    return found


def _behalf(visit: Visit, people: Directory, decision: Decision, state: StageState) -> str:
    """Whose role a visitor would sign in; empty for their own."""
    found = [
        people.may_sign_as(visit.person, role, decision.model, state.name, visit.reading.size, decision.at)
        for role in state.stage.wanted
    ]
    if any(item is not None and item.on_behalf_of is None for item in found):
        return ""
    return next((people.name(item.on_behalf_of) for item in found if item is not None and item.on_behalf_of), "")


# --- preparing -----------------------------------------------------------------------------------------------------------


def prepare_sign_off(
    visit: Visit, model: str, version: str, choice: Choice, key_id: str, form: dict[str, str]
) -> PendingStatement | list[str]:
    """Prepare the statement of a sign-off, or return every reason why it would be refused.

    Raises:
        ReviewError: if there is no key to sign with, or no package.
    """
    package = package_of(visit, model, version)
    if package is None:
        raise ReviewError(f"{model} {version} has no package yet; there is nothing to sign")
    chosen = choose_key(visit, key_id, choice.stage or "sign_off")
    person, key = visit.person, chosen.key
    try:
        reasons = obstacles(visit.reading, model, version, person, choice, strength=key.strength)
        if reasons:
            return reasons
        predicate = read_sign_off(propose(visit.reading, model, version, person, key.key_id, choice))
    except GovernanceError as error:
        raise ReviewError(str(error)) from error
    _require_authority(visit, predicate)
    seen = viewed(visit, package)
    statement = sign_off_statement(predicate.model_copy(update={"viewed": seen[0] if seen else None}))
    return _keep(visit, "sign_off", f"{model}@{version}", key.key_id, chosen.method.name, statement, form)


def prepare_act(visit: Visit, act_id: str, key_id: str) -> PendingStatement:
    """Prepare the visitor's statement of an act.

    Raises:
        ReviewError: if they do not sign it, or have no key to sign with.
    """
    act, chosen = acts.act_for(visit, act_id), choose_key(visit, key_id)
    if act.state != "open":
        raise ReviewError("this act is not open any more")
    try:
        statement = draft_statement(act.draft, visit.person, chosen.key.key_id)
    except GovernanceError as error:
        raise ReviewError(str(error)) from error
    role = next((item.role for item in act.draft.signatories if item.person == visit.person), "")
    if role:
        _require_role(visit, role)
    return _keep(visit, "act", act.id, chosen.key.key_id, chosen.method.name, statement, {})


def _require_authority(visit: Visit, predicate: SignOffPredicate) -> None:
    """Refuse a sign-off in a role that this session does not have now; who lost it may still take back what they said."""
    if predicate.decision != "withdraw":
        _require_role(visit, predicate.role, delegated=predicate.on_behalf_of is not None)


def _require_role(visit: Visit, role: str, *, delegated: bool = False) -> None:
    """A session may have fewer roles than its person: those that single sign-on says they have now. A delegation adds none to these."""
    if visit.user is None or not visit.user.may_sign_as(role, delegated=delegated):
        word = role.replace("_", " ")
        raise ReviewError(
            f"this session does not have the role {word} now; sign in anew, or ask an admin about your roles"
        )


def _keep(
    visit: Visit, purpose: str, ref: str, key_id: str, method: str, statement: bytes, form: dict[str, str]
) -> PendingStatement:
    assert visit.user is not None
    assert visit.session is not None
    now, account = int(visit.now.timestamp()), visit.user.account.id
    item = PendingStatement(
        id=new_id(),
        purpose=purpose,
        ref=ref,
        account=account,
        session=visit.session.token_hash,
        person=visit.person,
        key_id=key_id,
        method=method,
        statement=statement,
        form=json.dumps(form),
        created=now,
        expires=now + SECONDS,
        used=None,
    )
    with visit.site.store.begin() as connection:
        if prepared_since(connection, account, now - SECONDS) >= MAX_PREPARED:
            raise Refused(
                429, "You prepared many statements within a few minutes. Wait five minutes and try again.", "too-many"
            )
        add_statement(connection, item)
    return item


# --- finishing -----------------------------------------------------------------------------------------------------------


def pending_for(visit: Visit, statement_id: str, ref: str = "") -> PendingStatement:
    """Return a statement that was prepared for the visitor.

    Raises:
        Refused: 404 if it is somebody else's or unknown.
    """
    with visit.site.store.begin() as connection:
        found = find_statement(connection, statement_id[:40])
    mine = found is not None and visit.user is not None and found.account == visit.user.account.id
    if found is None or not mine or found.person != visit.person or (ref and found.ref != ref):
        raise not_found("This statement")
    return found


def message_of(pending: PendingStatement) -> bytes:
    """Return what is signed: the DSSE pre-authentication encoding of the statement."""
    return pae(PAYLOAD_TYPE, pending.statement)


def digest_of(pending: PendingStatement) -> str:
    """Return the SHA-256 of the statement in hex."""
    return hashlib.sha256(pending.statement).hexdigest()


def complete(visit: Visit, statement_id: str, make: Make) -> Response:
    """Use a prepared statement up, sign it and submit it.

    Args:
        visit: of the person it was prepared for.
        statement_id: which.
        make: returns the signature; what it returns is verified by the governance room.

    Raises:
        Refused: if it was used, is over or belongs to another session.
        ReviewError: if there is no signature, or (for an act) it does not hold.
    """
    pending = pending_for(visit, statement_id)
    assert visit.user is not None
    assert visit.session is not None
    if pending.purpose == "sign_off" and visit.user.grouped is not None:  # they may stand for other roles by now
        _require_authority(visit, read_sign_off(pending.statement))
    now, session = int(visit.now.timestamp()), visit.session.token_hash
    visit.detail = f"statement sha256:{digest_of(pending)}"
    with visit.site.store.begin() as connection:
        mine = claim_statement(connection, pending.id, pending.account, session, now)
    if not mine:
        raise Refused(
            409, f"{_why_not(pending, session, now)} Nothing was signed; prepare the statement anew.", "used-up"
        )
    signature = make(pending)
    if signature.keyid != pending.key_id:
        raise ReviewError("the signature is by another key than the statement names")
    envelope = Envelope(
        payload=base64.b64encode(pending.statement).decode(), payloadType=PAYLOAD_TYPE, signatures=(signature,)
    )
    if pending.purpose == "act":
        return visit.redirect(acts.path_of(acts.add_signed(visit, pending.ref, envelope).id))
    return _submit(visit, pending, envelope)


def _why_not(pending: PendingStatement, session: str, now: int) -> str:
    if pending.used is not None:
        return "This statement was answered already; each is used once."
    if pending.expires <= now:
        return "The five minutes of this statement are over."
    if pending.session != session:
        return "You signed in anew since this statement was prepared."
    return "This statement was answered at the same moment."


def _submit(visit: Visit, pending: PendingStatement, envelope: Envelope) -> Response:
    model, _, version = pending.ref.partition("@")
    visit.subject = f"model/{pending.ref}"
    try:
        receipt = submit(visit.workspace, envelope)
    except SignOffDenied as denied:
        refusals = visit.refresh().all(SignOffRefused, f"model/{pending.ref}")
        mine = [item for item in refusals if item.record.statement_digest == digest_of(pending)]
        visit.detail += f"; refused: {denied}"[:300]
        return visit.render(
            "sign_refused.html.j2", status=409, model=model, version=version, reasons=denied.reasons,
            entry=mine[-1].seq if mine else None,
        )  # fmt: skip
    except GovernanceError as error:
        raise Refused(409, f"It was not recorded: {error}", "not-recorded") from error
    return visit.redirect(make_path("models", model, version, "receipt", receipt.seq))
