"""Where each version stands right now, as the sensor tells it and the UI shows it. No Dagster in here.

A version is settled once it went live and nobody has signed or rebuilt anything since: its approvals are used up, so there is
nothing to decide. Settled versions cost a tick nothing, and a release is never requested for one. So approvals that lapse or
lose a key long after a release cannot bring a superseded version back without a person's act.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cognify_dagster.governance import (
    Condition,
    Decision,
    Directory,
    Reason,
    SignatureError,
    decide,
    directory,
    policy_in_force,
    read_sign_off,
)
from cognify_dagster.governance.statements import envelope_statement
from cognify_dagster.records import (
    DeploymentCompleted,
    DeploymentFailed,
    FinalCopy,
    Package,
    ReleaseGranted,
    ReleaseRefused,
    SignOff,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace

WAITING, BLOCKED, READY, FAILED, LIVE, SUPERSEDED = "waiting", "blocked", "ready", "failed", "live", "superseded"
_AFTER_RELEASE = "already_released"


def moment(time_us: int) -> str:
    """Return a time as people read it, in UTC."""
    return datetime.fromtimestamp(time_us / 1e6, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def final_copy_path(workspace: Workspace, model: str, version: str) -> Path:
    """Where the copy with the signature page lies under a name that people can open, once it was rendered."""
    return workspace.home / "packages" / model / version / f"{model}-{version}-final-copy.pdf"


@dataclass(frozen=True)
class Releases:
    """The completed deployments of a model to a target that follow from a grant, oldest first. The last one is live."""

    done: tuple[Recorded[DeploymentCompleted], ...]

    def last(self, version: str) -> Recorded[DeploymentCompleted] | None:
        """The newest deployment of a version."""
        return next((item for item in reversed(self.done) if item.record.version == version), None)

    def successor(self, item: Recorded[DeploymentCompleted]) -> Recorded[DeploymentCompleted] | None:
        """What went live after it."""
        return next((other for other in self.done if other.seq > item.seq), None)


def releases(reading: Reading, model: str, target: str) -> Releases:
    """Return what went live on a target; the last one is what `governance.live` says too."""
    done = tuple(
        item for item in reading.all(DeploymentCompleted, f"release/{model}.{target}") if grant_of(reading, item)
    )
    return Releases(done)


def grant_of(reading: Reading, item: Recorded[DeploymentCompleted]) -> ReleaseGranted | None:
    """Return the grant that a deployment follows from; None if it names none that allows it."""
    found, done = reading.at(item.record.grant_seq), item.record
    if found is None or found.seq >= item.seq or not isinstance(found.record, ReleaseGranted):
        return None
    grant = found.record
    same = (grant.model, grant.version, grant.target, grant.model_digest) == (
        done.model,
        done.version,
        done.target,
        done.model_digest,
    )
    return grant if same else None


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

    `decision` is None for a superseded version. `releasable` asks the sensor to request the release run.
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
        if self.state in (LIVE, SUPERSEDED) or (stages and all(item.stage.kind == "automated" for item in stages)):
            return "nobody: this tier asks for automated gates only"
        return "nobody yet"

    @property
    def untouched(self) -> bool:
        """Whether nothing but signatures is missing, and nobody has signed anything."""
        return not self.approvals and all(reason.code.startswith("stage_") for reason in self.reasons)


def _mark(*facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


class Board:
    """Where the versions of a model stand on a target, by one reading of the ledger."""

    def __init__(self, workspace: Workspace, reading: Reading, model: str, target: str) -> None:
        self.workspace, self.reading, self.model, self.target = workspace, reading, model, target
        self.people: Directory = directory(reading)
        self.gone = releases(reading, model, target)
        self.titles = {name: stage.title for name, stage in policy_in_force(reading).policy.stages.items()}

    def versions(self) -> list[str]:
        """Return the versions that have a package, newest first."""
        found: dict[str, None] = {}
        for item in reversed(self.reading.all(Package, f"model/{self.model}")):
            found.setdefault(item.record.version)
        return list(found)

    def settled(self, version: str) -> bool:
        """Whether a version went live and neither a signature nor a package of it is newer."""
        done, subject = self.gone.last(version), f"model/{self.model}@{version}"
        if done is None:
            return False
        newest = [item[-1].seq for kind in (SignOff, Package) if (item := self.reading.all(kind, subject))]
        return max(newest, default=-1) < done.seq

    def standing(self, version: str, now: datetime) -> Standing:
        """Return where a version stands at a time, given with time zone."""
        reading, subject = self.reading, f"model/{self.model}@{version}"
        done, settled = self.gone.last(version), self.settled(version)
        # the live version is decided too, but only to say so if it would not be released again today
        is_live = done is not None and self.gone.successor(done) is None
        decision = None if settled and not is_live else decide(reading, self.model, version, self.target, now)
        reasons = tuple(reason for reason in decision.reasons if reason.code != _AFTER_RELEASE) if decision else ()
        used_up = settled or (decision is not None and decision.completed is not None)
        if done is not None and used_up:
            state, lead, rest = _released(version, self.target, done, self.gone.successor(done), reasons)
            approvals = self._used(done)
        else:
            assert decision is not None  # only a settled version is not decided
            state, lead, rest = _open(reading, decision, reasons)
            if done is not None:
                rest += f" (an earlier release went live on {self.target} on {moment(done.time_us)})"
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
            releasable=decision is not None and decision.released and not settled,
        )

    def _used(self, done: Recorded[DeploymentCompleted]) -> tuple[Approval, ...]:
        """Return the approvals that a release used, whatever became of them since."""
        grant = grant_of(self.reading, done)
        found = [self.reading.at(seq) for seq in grant.sign_off_seqs] if grant else []
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
) -> tuple[str, str, str]:
    """Return the state of a released version and how to say it."""
    since = moment(done.time_us)
    if after is None:
        doubt = f"; it would not be released again today: {reasons[0].text}" if reasons else ""
        return LIVE, f"{version} is live on {target}", f" since {since} (entry {done.seq}){doubt}"
    until = f"on {moment(after.time_us)} (entry {after.seq}); it was live from {since}"
    return SUPERSEDED, f"{version} was superseded by {after.record.version}", f" on {target} {until}"


def _open(reading: Reading, decision: Decision, reasons: tuple[Reason, ...]) -> tuple[str, str, str]:
    """Return the state of a version that may still be released and how to say it: who has to do what next."""
    version = decision.version
    if decision.released:
        failed = _failure(reading, decision)
        if failed is not None:
            rest = f" (entry {failed.seq}): {failed.record.reason}. Launch it again; the release still holds"
            return FAILED, f"the installation of {version} failed", rest
        return READY, f"{version} is signed by everyone", f": its release to {decision.target} is requested"
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
            stage.stage.role,
            item.name,
            item.predicate.signed_at,
            item.seq,
            item.predicate.conditions,
        )
        for stage in decision.stages
        for item in stage.signed
    )
