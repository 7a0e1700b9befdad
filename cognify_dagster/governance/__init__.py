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
from cognify_dagster.governance.errors import GovernanceError, KeyFileError, PolicyError, SignatureError, SignOffDenied
from cognify_dagster.governance.genesis import Founder, found_workspace
from cognify_dagster.governance.keys import PersonalKey, create_key, public_key, read_public, unlock_key
from cognify_dagster.governance.people import Directory, directory
from cognify_dagster.governance.policy import DEFAULT_POLICY_YAML, ROLES, Policy, load_policy, parse_policy
from cognify_dagster.governance.release import Grant, ReleaseBlocked, complete, fail, live, request_release
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
    "Founder",
    "GovernanceError",
    "Grant",
    "KeyFileError",
    "PersonalKey",
    "Policy",
    "PolicyError",
    "Reason",
    "ReleaseBlocked",
    "SignOffDenied",
    "SignOffPredicate",
    "SignatureError",
    "Signed",
    "StageState",
    "adopt_gate_set",
    "adopt_policy",
    "check_sign_off",
    "complete",
    "create_key",
    "decide",
    "directory",
    "enrol_person",
    "enrol_workload",
    "fail",
    "found_workspace",
    "gate_digest",
    "live",
    "load_policy",
    "parse_policy",
    "policy_in_force",
    "propose",
    "public_key",
    "read_public",
    "read_sign_off",
    "request_release",
    "revoke_key",
    "seal",
    "sign_off",
    "sign_off_statement",
    "submit",
    "unlock_key",
]
