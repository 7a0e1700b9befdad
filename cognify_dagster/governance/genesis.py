"""The genesis ceremony: founders sign the origin, the log key, the first policy and the recovery keys.

Invariants: at least two founders (one only with `trial`, which is stamped on everything); the trust file is written once,
from the genesis leaf, and never read from inside a bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.people.directory import ADMIN, key_problem
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.signing.keys import PersonalKey, public_key
from cognify_dagster.governance.signing.statements import sign_act
from cognify_dagster.ledger import Checkpoint, TrustFile
from cognify_dagster.records import Genesis, Person, PublicKey, Workload, kinds, utc
from cognify_dagster.workspace import Workspace, idempotency_key, open_prepared, prepare, publish

MEANING = "I found this ledger: its origin, log key, first policy and recovery keys are those I was shown."
NOT_FOR_WORKLOADS = {"genesis"}
_EMPTY_ROOT_HEAD = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@dataclass(frozen=True)
class Founder:
    """A founder at the ceremony: who they are and their unlocked key."""

    key: PersonalKey
    name: str
    roles: tuple[str, ...] = ("workspace_admin",)
    title: str = ""
    aliases: tuple[str, ...] = ()


def found_workspace(
    folder: Path,
    *,
    origin: str,
    founders: Sequence[Founder],
    policy: Policy,
    policy_text: str,
    recovery_keys: Sequence[PublicKey] = (),
    recovery_threshold: int | None = None,
    trial: bool = False,
    ledger_url: str | None = None,
) -> Workspace:
    """Run the ceremony in a folder and return the opened workspace.

    Writes `.cognify/`, `trust.txt`, `policy.yaml` and, last, `cognify.toml`. A process killed before the end leaves no
    workspace. With `ledger_url` the ledger is an empty one in Postgres (see `prepare`).

    Recovery keys are best keys of their own, kept offline; unless given they are the founders' keys. `recovery_threshold` says how
    many of them set a person's keys anew: two unless given, and never one in a real ledger (one in a trial ledger).

    Raises:
        GovernanceError: if there are too few founders, or one person twice.
        WorkspaceError: if there is a workspace already.
    """
    people = {founder.key.person for founder in founders}
    if len(people) != len(founders):
        raise GovernanceError("each founder must be another person")
    if len({founder.key.key_id for founder in founders}) != len(founders):
        raise GovernanceError("each founder needs a key of their own")
    if len(founders) < (1 if trial else 2):
        raise GovernanceError("a ledger is founded by at least two people; use --trial to try it alone")
    for founder in founders:
        unknown = [role for role in founder.roles if role not in policy.roles]
        if unknown:
            raise GovernanceError(f"{founder.name}: role {unknown[0]!r} is not in the policy's roles")
        if not founder.roles:
            raise GovernanceError(f"{founder.name}: a founder has at least one role")
    if not any(ADMIN in founder.roles for founder in founders):
        raise GovernanceError(f"at least one founder has the role {ADMIN}, or nobody could ever be enrolled")
    recovery = tuple(recovery_keys) or tuple(founder.key.public for founder in founders)
    threshold = _threshold(recovery, recovery_threshold, trial)
    config = prepare(folder, origin, ledger_url=ledger_url)
    workspace = open_prepared(config)
    writer, signer = workspace.writer, workspace.ledger.signer
    if writer is None or signer is None:
        raise GovernanceError("the prepared workspace has no keys")
    allowed = tuple(sorted(set(kinds()) - NOT_FOR_WORKLOADS))
    record = Genesis(
        origin=origin,
        log_key=str(signer.verifier),
        trial=trial,
        founders=tuple(
            Person(
                person=founder.key.person,
                name=founder.name,
                title=founder.title,
                roles=founder.roles,
                aliases=founder.aliases,
                keys=(founder.key.public,),
            )
            for founder in founders
        ),
        workloads=(Workload(workload=writer.workload, key=public_key(writer.public), kinds=allowed),),
        policy=policy.as_json(),
        policy_digest=policy.digest,
        recovery_threshold=threshold,
        recovery_keys=recovery,
        created=utc(),
    )
    head = Checkpoint(origin, 0, bytes.fromhex(_EMPTY_ROOT_HEAD))
    envelopes = tuple(
        sign_act(record, founder.key, ledger=origin, role=founder.roles[0], meaning=MEANING, head=head)
        for founder in founders
    )
    receipt = workspace.append(
        record.model_copy(update={"envelopes": envelopes}), idem=idempotency_key("genesis", origin), checkpoint=True
    )
    trust = TrustFile((signer.verifier,), receipt.leaf)
    path = publish(config, {"trust.txt": trust.text(), "policy.yaml": policy_text})
    return Workspace.open(path)


def _threshold(recovery: Sequence[PublicKey], wanted: int | None, trial: bool) -> int:
    """How many recovery keys sign. With one, a single person could reset anybody's credential and sign with it."""
    least = 1 if trial else 2
    problem = next((text for key in recovery if (text := key_problem(key))), None)
    if problem or any(key.algorithm != "ed25519" for key in recovery):
        raise GovernanceError(f"recovery keys are Ed25519 keys: {problem or 'one of these is a passkey'}")
    if len({key.key_id for key in recovery}) != len(recovery):
        raise GovernanceError("each recovery key is another key")
    if len(recovery) < least:
        raise GovernanceError(f"recovery takes at least {least} keys; {len(recovery)} given")
    threshold = least if wanted is None else wanted
    if not least <= threshold <= len(recovery):
        raise GovernanceError(f"recovery needs between {least} and {len(recovery)} keys")
    return threshold
