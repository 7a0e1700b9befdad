"""Policy, people and keys, statements and signatures, the release decision.

This room imports no documents and no orchestrator: gate and coverage results reach it as ledger entries.
"""

from cognify_dagster.governance.case import Reason, Signed, StageState
from cognify_dagster.governance.decision import Decision, decide
from cognify_dagster.governance.enrol import (
    adopt_gate_set,
    adopt_policy,
    enrol_person,
    enrol_workload,
    gate_digest,
    policy_in_force,
    revoke_key,
)
from cognify_dagster.governance.erasure import (
    ErasureRefused,
    erasable,
    erase,
    erasure_refusals,
    erasures,
    evidence_marks,
    resume_erasures,
)
from cognify_dagster.governance.errors import GovernanceError, KeyFileError, PolicyError, SignatureError, SignOffDenied
from cognify_dagster.governance.genesis import Founder, found_workspace
from cognify_dagster.governance.holds import Hold, Holds, holds, lift_hold, place_hold
from cognify_dagster.governance.keeping import (
    continue_ledger,
    manifest_keys,
    manifest_signer,
    record_archived,
    record_restored,
)
from cognify_dagster.governance.keys import PersonalKey, create_key, public_key, read_public, unlock_key
from cognify_dagster.governance.people import Directory, directory
from cognify_dagster.governance.policy import DEFAULT_POLICY_YAML, ROLES, Policy, load_policy, parse_policy
from cognify_dagster.governance.release import Grant, ReleaseBlocked, complete, fail, live, request_release
from cognify_dagster.governance.retention import (
    Retention,
    Schedule,
    adopt_retention,
    due_items,
    retention_list,
    schedule_in_force,
)
from cognify_dagster.governance.signoff import Choice, propose, sign_off, submit
from cognify_dagster.governance.stages import check_sign_off
from cognify_dagster.governance.statements import (
    Condition,
    EntryRef,
    SignOffPredicate,
    read_sign_off,
    seal,
    sign_off_statement,
)

__all__ = [
    "DEFAULT_POLICY_YAML",
    "ROLES",
    "Choice",
    "Condition",
    "Decision",
    "Directory",
    "EntryRef",
    "ErasureRefused",
    "Founder",
    "GovernanceError",
    "Grant",
    "Hold",
    "Holds",
    "KeyFileError",
    "PersonalKey",
    "Policy",
    "PolicyError",
    "Reason",
    "ReleaseBlocked",
    "Retention",
    "Schedule",
    "SignOffDenied",
    "SignOffPredicate",
    "SignatureError",
    "Signed",
    "StageState",
    "adopt_gate_set",
    "adopt_policy",
    "adopt_retention",
    "check_sign_off",
    "complete",
    "continue_ledger",
    "create_key",
    "decide",
    "directory",
    "due_items",
    "enrol_person",
    "enrol_workload",
    "erasable",
    "erase",
    "erasure_refusals",
    "erasures",
    "evidence_marks",
    "fail",
    "found_workspace",
    "gate_digest",
    "holds",
    "lift_hold",
    "live",
    "load_policy",
    "manifest_keys",
    "manifest_signer",
    "parse_policy",
    "place_hold",
    "policy_in_force",
    "propose",
    "public_key",
    "read_public",
    "read_sign_off",
    "record_archived",
    "record_restored",
    "request_release",
    "resume_erasures",
    "retention_list",
    "revoke_key",
    "schedule_in_force",
    "seal",
    "sign_off",
    "sign_off_statement",
    "submit",
    "unlock_key",
]
