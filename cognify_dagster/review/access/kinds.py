"""Which kinds of entries an auditor from outside sees, and under which condition one whose grant names certain models.

Invariants: this is a list of what is shown; a kind that is not in it is hidden from every auditor until somebody decides where it
belongs (a test compares it with the registry of records). People of the workspace see every entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Shown(Enum):
    """To whom among auditors of certain models entries of a kind are shown."""

    MODEL = "who may see every model that is among the entry's subjects; there has to be one"
    DATA = "who may see a model that uses the data it is about"
    MODEL_OR_DATA = "as MODEL where it is about a model, else as DATA"
    COMMON = "everybody: it is about people, policy or the ledger as a whole, and proofs need it"
    OWN_GRANT = "whose own grant it is"
    NEVER = "nobody: it is about no model and may name any"


def _each(rule: Shown, kinds: str) -> Iterable[tuple[str, Shown]]:
    return ((kind, rule) for kind in kinds.split())


KINDS: dict[str, Shown] = dict(
    [
        *_each(
            Shown.MODEL,
            "model_registered model_classified model_adopted model_event model_signature version_opened "
            "training_run training_failed experiment_run datasets_bound evaluation gate_result gate_set_adopted "
            "package final_copy section_written section_approved bundle_exported "
            "sign_off sign_off_refused condition_closed block_lifted finding finding_opened finding_resolved review_completed "
            "change_plan_adopted change_plan_ended break_glass_opened rollback_ordered external_decision "
            "release_granted release_refused release_suspended deployment_completed deployment_failed",
        ),
        *_each(
            Shown.DATA,
            "dataset_snapshot dataset_diff_recorded dataset_reason_given dataset_change_decided overlap_checked",
        ),
        *_each(Shown.MODEL_OR_DATA, "attestation_made attestation_withdrawn"),
        *_each(
            Shown.COMMON,
            "genesis policy_adopted person_enrolled person_recertified person_recovered workload_enrolled key_revoked "
            "delegated delegation_ended entry_disregarded groups_mapped groups_claimed issuer_keys_archived "
            "retention_adopted payload_erased access_logged segment_archived ledger_continued restored "
            "log_key_rotated log_key_revoked clock_floor_corrected",
        ),
        *_each(Shown.OWN_GRANT, "auditor_granted auditor_grant_ended"),
        *_each(Shown.NEVER, "legal_hold_placed legal_hold_lifted"),
    ]
)
"""Every kind that was decided about."""
