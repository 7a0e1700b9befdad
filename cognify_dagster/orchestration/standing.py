"""Where each version stands right now, as the sensor tells it and the UI shows it. No Dagster in here.

A version is settled once it went live and nobody has signed or rebuilt anything since, nor ordered it back: its approvals are
used up, so there is nothing to decide. Settled versions cost a tick nothing, and a release is never requested for one. So approvals that lapse or
lose a key long after a release cannot bring a superseded version back without a person's act.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cognify_dagster.documents.coverage import blocking
from cognify_dagster.governance import (
    Condition,
    Decision,
    Directory,
    LiveState,
    Reason,
    SignatureError,
    decide,
    directory,
    live_state,
    policy_in_force,
    read_sign_off,
)
from cognify_dagster.governance.oversight.exceptions import rollback_order
from cognify_dagster.governance.release.history import grant_of
from cognify_dagster.governance.signing.statements import envelope_statement
from cognify_dagster.orchestration.releases import Releases
from cognify_dagster.records import (
    DeploymentCompleted,
    DeploymentFailed,
    FinalCopy,
    ModelAdopted,
    Package,
    ReleaseRefused,
    RollbackOrdered,
    SignOff,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace

WAITING, BLOCKED, READY, FAILED = "waiting", "blocked", "ready", "failed"
LIVE, SUSPENDED, SUPERSEDED = "live", "suspended", "superseded"
_AFTER_RELEASE = "already_released"


def moment(time_us: int) -> str:
    """Return a time as people read it, in UTC."""
    return datetime.fromtimestamp(time_us / 1e6, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def final_copy_path(workspace: Workspace, model: str, version: str) -> Path:
    """Where the copy with the signature page lies under a name that people can open, once it was rendered."""
    return workspace.home / "packages" / model / version / f"{model}-{version}-final-copy.pdf"


@dataclass(frozen=True)
class Approval:
    """A sign-off that a release used, or that counts now."""

    stage: str
    role: str
    name: str
    signed_at: str
    seq: int
    conditions: tuple[Condition, ...] = ()

    @property
    def decision(self) -> str:
        """What was decided, in words."""
        return approved(self.conditions)


def approved(conditions: Sequence[Condition]) -> str:
    """Say an approval: "approved", or "approved with 2 conditions"."""
    number = len(conditions)
    return f"approved with {number} condition{'s' if number > 1 else ''}" if number else "approved"


def due(condition: Condition) -> str:
    """Say when a condition has to be met; a date alone is the end of that day in UTC."""
    return condition.due.removesuffix("T23:59:59Z") if condition.due else "no date"


def conditions_of(record: SignOff) -> tuple[Condition, ...]:
    """Return the conditions that the statement of a sign-off names. Its signature was verified before it was written."""
    try:
        return read_sign_off(envelope_statement(record.envelope)).conditions
    except SignatureError:  # what is wrong with it is for `cognify ledger verify` to say
        return ()


@dataclass(frozen=True)
class Standing:
    """One version's present state. `lead` says it in a few words, `rest` continues the sentence.

    `decision` is None for a superseded version. `releasable` asks the sensor to request the release run. `live` is set for the
    version that is live: whether its release still stands.
    """

    model: str
    version: str
    target: str
    state: str
    lead: str
    rest: str
    size: int
    decision: Decision | None
    approvals: tuple[Approval, ...]
    reasons: tuple[Reason, ...]
    refusals: tuple[Recorded[ReleaseRefused], ...]
    deployed: Recorded[DeploymentCompleted] | None
    final_copy: Path | None
    releasable: bool
    live: LiveState | None = None

    @property
    def text(self) -> str:
        """The state as one sentence."""
        return f"{self.lead}{self.rest}"

    @property
    def markdown(self) -> str:
        """The state as one sentence with its beginning in bold."""
        return f"**{self.lead}**{self.rest}"

    @property
    def fingerprint(self) -> str:
        """Changes whenever there is something new to tell."""
        return _mark(
            self.text,
            [item.seq for item in self.approvals],
            [reason.text for reason in self.reasons],
            [item.seq for item in self.refusals],
            self.deployed and self.deployed.seq,
            str(self.final_copy),
        )

    @property
    def sign_off_mark(self) -> str:
        """Changes whenever the sign-off check would say something else."""
        package = self.decision.package if self.decision else None
        return _mark(
            package and package.seq, sorted(item.seq for item in self.approvals), [item.text for item in self.reasons]
        )

    @property
    def nobody(self) -> str:
        """What to say where no approval is to be shown: whether the tier asks for none, or none was given yet."""
        stages = self.decision.stages if self.decision else ()
        if self.state in (LIVE, SUSPENDED, SUPERSEDED) or (
            stages and all(item.stage.kind == "automated" for item in stages)
        ):
            return "nobody: this tier asks for automated gates only"
        return "nobody yet"

    @property
    def untouched(self) -> bool:
        """Whether nothing but signatures is missing, and nobody has signed anything."""
        return not self.approvals and all(reason.code.startswith("stage_") for reason in self.reasons)


def held_back(workspace: Workspace, reading: Reading, decision: Decision) -> tuple[Reason, ...]:
    """Return what the policy's blocking frameworks hold against a release that the decision allows."""
    return blocking.held_back(reading, decision, workspace.config.frameworks)


def _mark(*facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


class Board:
    """Where the versions of a model stand on a target, by one reading of the ledger.

    `enforces`: see `decide`. `gone` are the releases known from an earlier reading, which are brought up to this one.
    """

    def __init__(
        self,
        workspace: Workspace,
        reading: Reading,
        model: str,
        target: str,
        enforces: Collection[str] = (),
        gone: Releases | None = None,
    ) -> None:
        self.workspace, self.reading, self.model, self.target = workspace, reading, model, target
        self.enforces = frozenset(enforces)
        self.people: Directory = directory(reading)
        self.gone = (gone or Releases(model, target)).update(reading)
        self.titles = {name: stage.title for name, stage in policy_in_force(reading).policy.stages.items()}

    def settled(self, version: str) -> bool:
        """Whether a version went live and neither a signature nor a package of it is newer."""
        done, subject = self.gone.last(version), f"model/{self.model}@{version}"
        if done is None:
            return False
        newest = [item[-1].seq for kind in (SignOff, Package) if (item := self.reading.all(kind, subject))]
        return max(newest, default=-1) < done.seq and not self.ordered_back(version)

    def unattested(self) -> str | None:
        """The version that was live before this ledger existed, where nothing was released since."""
        if self.gone.done:
            return None
        adopted = self.reading.latest(ModelAdopted, f"release/{self.model}.{self.target}")
        return adopted.record.version if adopted is not None else None

    def ordered_back(self, version: str) -> bool:
        """Whether somebody ordered this version to replace what is live now."""
        if not self.gone.done or not self.reading.all(RollbackOrdered, f"model/{self.model}@{version}"):
            return False
        policy, current = policy_in_force(self.reading).policy, self.gone.done[-1]
        order, _ = rollback_order(self.reading, self.people, policy, (self.model, version), self.target, current)
        return order is not None

    def standing(self, version: str, now: datetime) -> Standing:
        """Return where a version stands at a time, given with time zone."""
        reading, subject = self.reading, f"model/{self.model}@{version}"
        done, settled = self.gone.last(version), self.settled(version)
        # the live version is decided too, but only to say so if it would not be released again today
        is_live = done is not None and self.gone.successor(done) is None
        live = live_state(reading, self.model, self.target, now) if is_live else None
        decision = None if settled and not is_live else self._decide(version, now)
        reasons = tuple(reason for reason in decision.reasons if reason.code != _AFTER_RELEASE) if decision else ()
        held = held_back(self.workspace, reading, decision) if decision is not None and decision.released else ()
        reasons += held
        used_up = settled or (decision is not None and decision.completed is not None and decision.rollback is None)
        if done is not None and used_up:
            state, lead, rest = _released(version, self.target, done, self.gone.successor(done), reasons, live)
            approvals = self._used(done)
            reasons = live.reasons if live is not None and state == SUSPENDED else reasons
        else:
            assert decision is not None  # only a settled version is not decided
            state, lead, rest = _open(reading, decision, reasons)
            if done is not None:
                rest += _earlier(self.target, done, live)
            approvals = _counting(decision)
        path = final_copy_path(self.workspace, self.model, version)
        refusals = reading.all(ReleaseRefused, subject)
        return Standing(
            model=self.model,
            version=version,
            target=self.target,
            state=state,
            lead=lead,
            rest=rest,
            size=reading.size,
            decision=decision,
            approvals=approvals,
            reasons=() if state == SUPERSEDED else reasons,
            refusals=tuple(item for item in refusals if item.record.target == self.target),
            deployed=done,
            final_copy=path if reading.all(FinalCopy, subject) and path.is_file() else None,
            releasable=decision is not None and decision.released and not held and not settled,
            live=live,
        )

    def _decide(self, version: str, now: datetime) -> Decision:
        return decide(self.reading, self.model, version, self.target, now, enforces=self.enforces)

    def _used(self, done: Recorded[DeploymentCompleted]) -> tuple[Approval, ...]:
        """Return the approvals that a release used, whatever became of them since."""
        grant = grant_of(self.reading, done)
        found = [self.reading.at(seq) for seq in grant.record.sign_off_seqs] if grant else []
        return tuple(
            Approval(
                self.titles.get(item.record.stage) or item.record.stage,
                item.record.role,
                self.people.name(item.record.person),
                item.record.signed_at,
                item.seq,
                conditions_of(item.record),
            )
            for item in found
            if item is not None and isinstance(item.record, SignOff)
        )


def _released(
    version: str,
    target: str,
    done: Recorded[DeploymentCompleted],
    after: Recorded[DeploymentCompleted] | None,
    reasons: tuple[Reason, ...],
    live: LiveState | None,
) -> tuple[str, str, str]:
    """Return the state of a released version and how to say it."""
    since = moment(done.time_us)
    if after is not None:
        until = f"on {moment(after.time_us)} (entry {after.seq}); it was live from {since}"
        return SUPERSEDED, f"{version} was superseded by {after.record.version}", f" on {target} {until}"
    if live is not None and live.standing == "suspended":
        why = _first(live.reasons)
        return SUSPENDED, f"{version} is suspended on {target}", f": {why}. It went live on {since} (entry {done.seq})"
    doubt = f"; it would not be released again today: {reasons[0].text}" if reasons else ""
    if live is not None and live.review.overdue and live.review.due:
        doubt += f"; its periodic review was due {live.review.due[:10]}"
    return LIVE, f"{version} is live on {target}", f" since {since} (entry {done.seq}){doubt}"


def _first(reasons: Sequence[Reason]) -> str:
    """The first reason with who resolves it, and how many there are besides."""
    if not reasons:
        return "no reason given"
    who = f" → {reasons[0].resolved_by}" if reasons[0].resolved_by else ""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0].text}{who}{more}"


def _earlier(target: str, done: Recorded[DeploymentCompleted], live: LiveState | None) -> str:
    """What is to be said of the earlier release of a version that is open again."""
    if live is not None and live.standing == "suspended":
        return f" (what is live on {target} since {moment(done.time_us)} is suspended: {_first(live.reasons)})"
    return f" (an earlier release went live on {target} on {moment(done.time_us)})"


def _open(reading: Reading, decision: Decision, reasons: tuple[Reason, ...]) -> tuple[str, str, str]:
    """Return the state of a version that may still be released and how to say it: who has to do what next."""
    version, order = decision.version, decision.rollback
    if decision.released and not reasons:
        failed = _failure(reading, decision)
        if failed is not None:
            rest = f" (entry {failed.seq}): {failed.record.reason}. Launch it again; the release still holds"
            return FAILED, f"the installation of {version} failed", rest
        if order is not None:
            lead = f"the rollback to {version} is ordered (entry {order.seq})"
            return READY, lead, f": its release to {decision.target} is requested"
        return READY, f"{version} is {_complete(decision)}", f": its release to {decision.target} is requested"
    stages = [stage for stage in decision.stages if not stage.done]
    codes = {f"stage_{stage.name}" for stage in stages}
    other = next((reason for reason in reasons if reason.code not in codes), None)
    if other is None and stages and stages[0].waiting_for:
        first, *later = stages
        then = "".join(
            f", then {' or '.join(stage.waiting_for) or 'nobody yet'} ({stage.stage.title or stage.name})"
            for stage in later
        )
        return (
            WAITING,
            f"{version} waits for {' or '.join(first.waiting_for)}",
            f" ({first.stage.title or first.name}){then}",
        )
    why = other or (reasons[0] if reasons else None)
    who = f" → {why.resolved_by}" if why and why.resolved_by else ""
    return BLOCKED, f"{version} is blocked", f": {why.text if why else 'no reason given'}{who}"


def _complete(decision: Decision) -> str:
    """How a version came to be releasable."""
    if any(stage.by == "break_glass" for stage in decision.stages):
        return f"opened by broken glass (entry {decision.glass_seq})"
    if any(stage.by == "plan" for stage in decision.stages) and decision.plan is not None:
        return f"covered by change plan {decision.plan.item.record.plan} (entry {decision.plan.item.seq})"
    return "signed by everyone"


def _failure(reading: Reading, decision: Decision) -> Recorded[DeploymentFailed] | None:
    if decision.grant is None:
        return None
    seq = decision.grant.seq
    found = reading.all(DeploymentFailed, f"model/{decision.model}@{decision.version}")
    return next((item for item in reversed(found) if item.record.grant_seq == seq), None)


def _counting(decision: Decision) -> tuple[Approval, ...]:
    return tuple(
        Approval(
            stage.stage.title or stage.name,
            item.predicate.role,
            item.name,
            item.predicate.signed_at,
            item.seq,
            item.predicate.conditions,
        )
        for stage in decision.stages
        for item in stage.signed
    )
