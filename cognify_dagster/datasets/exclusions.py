"""Whether what was left out of a dataset is what its provenance says: counts, digests, and the difference of the record sets.

Invariants: a stated digest of left-out records is believed only after it was computed from these records; counts and records are
compared as multisets; with a key nothing but keyed digests is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.provenance import ExclusionRule, Provenance
from cognify_dagster.datasets.records.digests import RecordManifest, RecordSet, record_set
from cognify_dagster.datasets.records.tables import to_arrow
from cognify_dagster.datasets.sources.opening import read_table

COUNT = "count"
DIGEST = "count and digest"
DIFFERENCE = "count, digest and difference of the record sets"


def check_exclusions(
    provenance: Provenance,
    kept: RecordManifest | RecordSet,
    excluded: Mapping[str, Any],
    *,
    before: Any = None,
    key: bytes | None = None,
) -> tuple[Provenance, dict[str, str]]:
    """Check the rules of a provenance against the records that they left out.

    Args:
        provenance: with the rules, in order.
        kept: the records of the snapshot.
        excluded: the records left out (path, address or table), by the name of their rule. They have the snapshot's columns.
        before: the records that the first rule began with (path, address, table or record manifest), if they are at hand.
        key: the record key, where the snapshot's digests are keyed.

    Returns:
        The provenance with the digest of each checked rule filled in, and what each rule was checked against, by its name.

    Raises:
        DatasetError: naming the rule and what differs.
    """
    names = [rule.name for rule in provenance.processing]
    unknown = sorted(set(excluded) - set(names))
    if unknown:
        raise DatasetError(f"left-out records are given for {unknown[0]!r}, but the provenance has no such rule")
    if len(set(names)) != len(names):
        raise DatasetError("two processing rules have the same name; left-out records are given by name")
    rules: list[ExclusionRule] = []
    found: dict[str, RecordSet] = {}
    for rule in provenance.processing:
        if rule.name not in excluded:
            rules.append(rule)
            continue
        found[rule.name] = _records(excluded[rule.name], kept, key, f"the records that rule {rule.name!r} left out")
        rules.append(_checked(rule, found[rule.name]))
    told = dict.fromkeys(found, DIGEST)
    if before is not None:
        _check_difference(provenance, kept, found, before, key)
        told = dict.fromkeys(found, DIFFERENCE)
    return provenance.model_copy(update={"processing": tuple(rules)}), told


def _checked(rule: ExclusionRule, left_out: RecordSet) -> ExclusionRule:
    if len(left_out.digests) != rule.excluded:
        raise DatasetError(
            f"rule {rule.name!r} says that it left out {rule.excluded} records, but {len(left_out.digests)} are given"
        )
    root = left_out.root().hex()
    if rule.excluded_digest_root not in (None, root):
        raise DatasetError(
            f"rule {rule.name!r}: the records given have the root {root[:16]}…, the rule says {str(rule.excluded_digest_root)[:16]}…"
        )
    return rule.model_copy(update={"excluded_digest_root": root})


def _check_difference(
    provenance: Provenance,
    kept: RecordManifest | RecordSet,
    found: Mapping[str, RecordSet],
    before: Any,
    key: bytes | None,
) -> None:
    without = [rule.name for rule in provenance.processing if rule.name not in found]
    if without:
        raise DatasetError(
            f"the difference cannot be checked: the records that rule {without[0]!r} left out are not given"
        )
    whole = _records(before, kept, key, "the records before the first rule")
    difference = Counter(map(bytes, whole.digests))
    difference.subtract(map(bytes, kept.digests))
    stated: Counter[bytes] = Counter()
    for left_out in found.values():
        stated.update(map(bytes, left_out.digests))
    missing, more = +(stated - difference), +(difference - stated)
    negative = -difference
    if missing or more or negative:
        raise DatasetError(
            f"what was left out is not the difference of the record sets: {sum(more.values())} records are gone that no rule left "
            f"out, {sum(missing.values())} were left out and are still there or were never there, {sum(negative.values())} are "
            "kept that were not there before"
        )


def _records(given: Any, like: RecordManifest | RecordSet, key: bytes | None, what: str) -> RecordSet:
    """The record digests of data at hand, or of a manifest; of the same columns and kind as those of the snapshot."""
    if isinstance(given, (RecordManifest, RecordSet)):
        made = (
            given
            if isinstance(given, RecordSet)
            else RecordSet((), given.algorithm, given.schema_id, list(given.digests))
        )
    else:
        is_place = isinstance(given, (str, bytes)) or hasattr(given, "__fspath__")
        table = read_table(given) if is_place else to_arrow(given)
        made = record_set(table, key=key)
    if made.schema_id != like.schema_id:
        raise DatasetError(f"{what} have other columns than the snapshot; give them with the same columns")
    if made.algorithm != like.algorithm:
        raise DatasetError(f"{what} are digested in another way than the snapshot (with or without a key)")
    return made
