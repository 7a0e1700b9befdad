"""What rules left out: counts, digests and the difference of the record sets are checked, not believed."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import DatasetError, ExclusionRule, Provenance, record_set
from cognify_dagster.datasets.exclusions import DIFFERENCE, DIGEST, check_exclusions

KEY = bytes(range(32))


def table(*numbers: int) -> pa.Table:
    return pa.table({"x": pa.array(list(numbers), pa.int64())})


def rules(*steps: tuple[str, int, int], **more: object) -> Provenance:
    made = [ExclusionRule(name=name, description="why", rows_before=b, rows_after=a, **more) for name, b, a in steps]
    return Provenance(processing=tuple(made))


def test_counts_and_digest_are_those_of_the_records() -> None:
    kept = record_set(table(1, 2, 3))
    checked, told = check_exclusions(rules(("dedupe", 5, 3)), kept, {"dedupe": table(2, 3)})
    assert told == {"dedupe": DIGEST}
    assert checked.processing[0].excluded_digest_root == record_set(table(2, 3)).root().hex()
    with pytest.raises(DatasetError, match="left out 2 records, but 3 are given"):
        check_exclusions(rules(("dedupe", 5, 3)), kept, {"dedupe": table(2, 3, 4)})
    with pytest.raises(DatasetError, match="the rule says abababab"):
        check_exclusions(rules(("dedupe", 5, 3), excluded_digest_root="ab" * 32), kept, {"dedupe": table(2, 3)})
    with pytest.raises(DatasetError, match="no such rule"):
        check_exclusions(rules(("dedupe", 5, 3)), kept, {"split": table(2, 3)})
    with pytest.raises(DatasetError, match="other columns"):
        check_exclusions(rules(("dedupe", 5, 3)), kept, {"dedupe": table(2, 3).rename_columns(["y"])})


def test_what_was_left_out_is_exactly_the_difference() -> None:
    made, kept = rules(("dedupe", 6, 5), ("split", 5, 3)), record_set(table(1, 2, 3))
    left_out = {"dedupe": table(1), "split": table(4, 5)}
    _, told = check_exclusions(made, kept, left_out, before=table(1, 1, 2, 3, 4, 5))
    assert set(told.values()) == {DIFFERENCE}
    with pytest.raises(
        DatasetError, match="1 records are gone that no rule left out, 1 were left out and are still there"
    ):
        check_exclusions(made, kept, left_out, before=table(1, 1, 2, 3, 4, 6))
    with pytest.raises(DatasetError, match="1 are kept that were not there before"):
        check_exclusions(made, kept, left_out, before=table(1, 1, 2, 4, 5, 9))
    with pytest.raises(DatasetError, match="the records that rule 'split' left out are not given"):
        check_exclusions(made, kept, {"dedupe": table(1)}, before=table(1, 1, 2, 3, 4, 5))


def test_personal_data_are_compared_by_keyed_digests() -> None:
    kept = record_set(table(1, 2), key=KEY)
    checked, _ = check_exclusions(rules(("cut", 3, 2)), kept, {"cut": table(7)}, before=table(1, 2, 7), key=KEY)
    assert checked.processing[0].excluded_digest_root == record_set(table(7), key=KEY).root().hex()
    with pytest.raises(DatasetError, match="with or without a key"):
        check_exclusions(rules(("cut", 3, 2)), kept, {"cut": table(7)})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=12), st.data())
def test_every_split_of_a_multiset_passes_and_a_changed_record_never(numbers: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(numbers) - 1))
    kept, gone = record_set(table(*numbers[:cut])), numbers[cut:]
    made = rules(("cut", len(numbers), cut))
    check_exclusions(made, kept, {"cut": table(*gone)}, before=table(*reversed(numbers)))
    with pytest.raises(DatasetError):
        check_exclusions(made, kept, {"cut": table(*[*gone[:-1], 9])}, before=table(*numbers))
