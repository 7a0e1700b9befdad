"""Every attack and fault that the ledger must withstand, with what detects it and the tests that show it.

`CASES` maps the number of a case to its words, its detector and test ids (file::test; `{store}` stands for the conformance
suite's module and class of each store). test_catalogue.py checks that each number is there and each test exists.
"""

from __future__ import annotations

from typing import NamedTuple

_A = "tests/attacks/test_attacks.py::"
_L = "tests/ledger/"
_S = "{store}::"

STORES = (
    "tests/conformance/test_sqlite_store.py::TestSqliteStore",
    "tests/conformance/test_postgres_store.py::TestPostgresStore",
)


class Case(NamedTuple):
    """One attack or fault."""

    words: str
    detector: str
    tests: tuple[str, ...]


CASES: dict[int, Case] = {
    1: Case("entry bytes are edited", "leaf hash, TAMPERED", (_A + "test_01_the_bytes_of_an_entry_are_edited", _L + "test_mutations.py::test_every_stored_column_is_watched")),
    2: Case("payload bytes are edited", "salted commitment, TAMPERED", (_A + "test_02_the_bytes_of_a_payload_are_edited",)),
    3: Case("a time is edited, in the bytes or the column", "leaf hash; column against bytes, TAMPERED", (_A + "test_03_the_time_of_an_entry_is_edited",)),
    4: Case("a search column hides a row", "column against bytes, TAMPERED", (_A + "test_04_a_search_column_is_edited_to_hide_a_row",)),
    5: Case("the last row is deleted", "signed size, ROLLED_BACK", (_A + "test_05_the_last_row_is_deleted",)),
    6: Case("the last row is deleted before a checkpoint", "exposure window; the receipt", (_A + "test_06_the_last_row_is_deleted_before_any_checkpoint_covers_it",)),
    7: Case("a middle row is deleted", "gap, TAMPERED", (_A + "test_07_08_a_row_in_the_middle_is_deleted",)),
    8: Case("a middle row is deleted and the rest renumbered", "number in the bytes, TAMPERED", (_A + "test_07_08_a_row_in_the_middle_is_deleted",)),
    9: Case("two rows change places", "number in the bytes, TAMPERED", (_A + "test_09_two_rows_change_places", _L + "test_verify.py::test_swapping_two_rows_is_caught")),
    10: Case("cut and grown again", "a head kept elsewhere, ROLLED_BACK; signer; witness 422", (_A + "test_10_the_ledger_is_cut_and_grown_again_with_other_content", _L + "test_witness.py::test_case_10_14_a_regrown_history_is_refused_also_with_the_logs_own_key")),
    11: Case("two branches for two auditors", "witness; both heads kept as evidence", (_L + "test_witness.py::test_case_11_two_heads_of_one_size_are_kept_as_evidence", _L + "test_offline_verifier.py::test_a_signer_who_saw_another_history_shows_a_fork")),
    12: Case("a number twice, a second genesis", "guards and keys; verifier, TAMPERED", (_A + "test_12_a_number_is_taken_twice_or_the_ledger_begins_twice", _S + "test_changes_past_the_store_are_refused")),
    13: Case("all rewritten and rehashed without the key", "signed heads, ROLLED_BACK or UNPROVEN", (_A + "test_13_everything_is_rewritten_and_rehashed_without_the_key",)),
    14: Case("all rewritten with the stolen log key", "witness 409/422; anchors; L1 passes", (_L + "test_witnessed_ledger.py::test_a_rewrite_with_the_stolen_log_key_is_refused_by_witnesses_and_found", _L + "test_witness_client.py::test_case_14_a_rewritten_ledger_is_found")),
    15: Case("stolen key, only the unwitnessed tail", "exposure window; receipts; run metadata", (_A + "test_15_a_stolen_log_key_rewrites_only_what_no_witness_covers",)),
    16: Case("stolen log and witness key", "quorum, UNPROVEN; anchors, ROLLED_BACK", (_A + "test_16_the_log_key_and_one_witness_key_are_stolen",)),
    17: Case("an older backup is played back", "signer state, witness 409, run metadata: ROLLED_BACK", (_A + "test_17_an_older_backup_is_played_back", _L + "test_witness_client.py::test_case_17_a_rolled_back_ledger_is_found", _L + "test_backup.py::test_an_older_backup_is_restored_closed_and_opened_again_by_replaying")),
    18: Case("a file copied without its journal", "never empty and fine", (_A + "test_18_a_database_file_is_copied_without_its_journal",)),
    19: Case("ledgers swapped or mixed", "origin in entry and head", (_A + "test_19_two_ledgers_are_swapped_or_mixed",)),
    20: Case("the cached tree is edited", "compared with the entries, TAMPERED; appends refuse", (_A + "test_20_the_cached_tree_is_edited", _A + "test_20_the_head_of_the_cached_tree_is_missing")),
    21: Case("a checkpoint replaced by an older one", "size of the row against the note; a newer head elsewhere", (_A + "test_21_a_checkpoint_is_replaced_by_an_older_valid_one",)),
    22: Case("another key of the same name", "keys of the trust file only", (_A + "test_22_a_key_of_the_same_name", _L + "test_quorum.py::test_case_22_unknown_keys_are_ignored_also_under_a_known_name")),
    23: Case("a revoked key, before and after", "last good size and somebody outside", (_A + "test_23_a_key_that_was_revoked_without_naming_itself", _L + "test_witnessed_ledger.py::test_a_revoked_log_key_counts_up_to_its_last_good_size_and_only_where_somebody_outside_remembers")),
    24: Case("a key inside the package", "trust comes from outside only", (_L + "test_offline_verifier.py::test_an_invented_ledger_with_its_own_keys_is_not_believed",)),
    25: Case("damaged proofs", "ProofError", (_L + "test_merkle.py::test_damaged_inclusion_proofs_are_refused", _L + "test_merkle.py::test_damaged_consistency_proofs_are_refused", _L + "test_merkle.py::test_published_vectors_of_rfc6962_implementations", _L + "test_merkle.py::test_proofs_that_cannot_exist_are_not_made")),
    26: Case("a leaf taken for a node", "prefixes", (_L + "test_merkle.py::test_a_leaf_can_never_be_taken_for_a_node",)),
    27: Case("a bit flips before signing", "signer recomputes leaves", (_A + "test_27_a_bit_flips_in_a_leaf_before_it_is_signed", _L + "test_scan.py::test_the_signer_refuses_a_bit_flipped_leaf_before_it_signs")),
    28: Case("the storage cuts a long value", "limit before hashing; leaf and commitment", (_A + "test_28_the_storage_cuts_a_long_value", _L + "test_entry.py::test_an_entry_is_at_most_65535_bytes", _S + "test_limits_are_checked_before_anything_is_hashed_or_stored")),
    29: Case("precision of times", "bytes are stored as hashed", (_A + "test_29_no_precision_of_a_time_is_lost",)),
    30: Case("16 writer processes", "one contiguous chain, none lost", (_S + "test_writer_processes_leave_one_contiguous_chain",)),
    31: Case("a snapshot older than the lock", "refused with the isolation named", (_L + "test_postgres_hardening.py::test_a_snapshot_older_than_the_lock_is_refused",)),
    32: Case("a retried step", "one row or IdempotencyConflict", (_S + "test_a_repeated_key_returns_the_old_receipt_or_is_a_conflict", _S + "test_a_repeated_batch_returns_the_old_receipts")),
    33: Case("killed in mid-append", "acknowledged is stored; the retry finds it", (_S + "test_killed_writers_lose_nothing_they_acknowledged", _S + "test_an_append_killed_before_its_answer_is_found_by_its_key", _L + "test_postgres_crash.py::test_an_immediate_stop_in_the_middle_of_appends", "tests/faults/test_killed_process.py::test_after_the_kill_the_ledger_verifies_and_the_retry_goes_on")),
    34: Case("full or failing disk", "LedgerFull; the file is opened anew", (_L + "test_store.py::test_a_full_disk_is_an_error_and_loses_nothing", _L + "test_store.py::test_after_an_error_the_next_operation_opens_the_file_anew", _L + "test_group.py::test_a_failing_disk_fails_the_group_and_not_the_next_one", _L + "test_store.py::test_a_read_only_store_reads_and_refuses_to_write", "tests/faults/test_postgres_faults.py::test_a_full_disk_under_postgres_is_an_error_and_loses_nothing")),
    35: Case("the clock jumps", "time never decreases; a large step is refused; anchors bound it", (_S + "test_time_never_decreases_and_a_large_step_back_is_refused", _L + "test_anchors.py::test_anchored_time_is_pure_and_counts_only_what_holds")),
    36: Case("odd numbers and keys", "one canonical form or an error", (_L + "test_canonical.py::test_what_has_no_form_is_an_error_naming_the_path", _L + "test_canonical.py::test_parsing_is_strict", _L + "test_canonical.py::test_numbers_are_written_as_ecmascript_does", _S + "test_numbers_and_text_of_all_kinds_are_kept_byte_for_byte")),
    37: Case("deceptive text in names", "refused; notes forbid control characters", (_A + "test_37_38_what_could_deceive_or_exhaust_is_refused_before_it_is_hashed", _L + "test_entry.py::test_bad_origins", _L + "test_note.py::test_malformed_notes_are_refused")),
    38: Case("huge or deep values", "bounded error before hashing", (_A + "test_37_38_what_could_deceive_or_exhaust_is_refused_before_it_is_hashed", _L + "test_canonical.py::test_depth_is_bounded")),
    39: Case("statements past the guards", "refused where possible, else the verifier", (_A + "test_39_the_owner_of_a_file_edits_it_through_its_schema", _S + "test_changes_past_the_store_are_refused", _L + "test_postgres_hardening.py::test_what_a_superuser_does_past_the_guards_is_found_by_verification", _L + "test_postgres_hardening.py::test_the_owner_is_held_up_too")),
    40: Case("a payload removed without entry, with it, under hold", "TAMPERED, erased, refused", (_A + "test_40_a_payload_is_removed_without_and_with_its_erasure_entry", "tests/governance/test_retention.py::test_a_hold_refuses_erasure_until_two_people_lift_it")),
    41: Case("salts or payloads swapped", "commitment, TAMPERED", (_A + "test_41_salts_or_payloads_are_swapped_between_two_entries",)),
    42: Case("archive missing, foreign, edited, reordered", "manifest signature; tree of the ledger", (_L + "test_archive.py::test_every_change_of_a_file_is_found", _L + "test_archive.py::test_a_segment_of_another_ledger_is_refused", _L + "test_archive.py::test_an_edited_manifest_fails_its_signature", _L + "test_archive.py::test_without_its_archive_a_segment_is_named_in_the_error", _L + "test_archive.py::test_segments_leave_from_the_front_and_come_back_from_the_back")),
    43: Case("corrupt, empty or foreign input", "UNREADABLE or UNPROVEN, never HOLDS", (_A + "test_43_nothing_of_ours_is_never_fine", _L + "test_store.py::test_empty_foreign_and_newer_files_are_unreadable_not_empty_ledgers", _L + "test_store.py::test_a_damaged_file_is_unreadable")),
    44: Case("verification while others append", "a consistent snapshot, no alarm", (_L + "test_verify.py::test_verification_while_others_append_raises_no_alarm", _S + "test_readers_see_a_whole_ledger_while_others_write")),
    45: Case("a signature replayed or of another type", "subject digests and payload type are signed", ("tests/governance/test_signoff.py::test_another_payload_type_is_refused_even_over_the_same_bytes", "tests/governance/test_signoff.py::test_a_statement_about_an_older_package_is_refused", "tests/governance/test_signoff.py::test_a_statement_naming_other_model_bytes_is_refused", "tests/governance/test_signoff.py::test_a_replayed_envelope_returns_the_old_receipt")),
    46: Case("two requests race at a witness", "atomic check and store", (_L + "test_witness_races.py::test_no_interleaving_of_two_requests_breaks_the_witness", _L + "test_interleavings.py::test_no_crash_and_no_restored_database_makes_the_log_contradict_itself")),
    47: Case("a network during offline verification", "no socket is opened", (_L + "test_offline_verifier.py::test_it_opens_no_socket",)),
    48: Case("a million honest entries", "no alarm", ("tests/soak/test_soak.py::test_48_honest_entries_raise_no_alarm", _L + "test_state_machine.py::TestHistories")),
}  # fmt: skip
"""Numbered as in the project's attack catalogue."""


def node_ids(case: Case) -> list[str]:
    """Return the case's test ids, those of the conformance suite for each store."""
    found = []
    for test in case.tests:
        found += [test.format(store=store) for store in STORES] if "{store}" in test else [test]
    return found
