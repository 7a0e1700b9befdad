"""Records of two versions by digest, compared as multisets from their manifests alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.records.digests import RecordManifest
from cognify_dagster.datasets.records.packed import PackedDigests, difference, sort_packed


@dataclass(frozen=True)
class RecordDiff:
    """Records by digest, each as often as it occurs. A changed record counts as one removed and one added."""

    added: int
    removed: int
    unchanged: int
    added_digests: Sequence[bytes] = field(repr=False)
    removed_digests: Sequence[bytes] = field(repr=False)


def diff_record_manifests(old: RecordManifest, new: RecordManifest) -> RecordDiff:
    """Compare two record manifests. What it needs besides them is a few megabytes and what differs.

    Raises:
        DatasetError: the digests were made in different ways (columns or algorithm), so they cannot be compared.
    """
    if (old.algorithm, old.schema_id) != (new.algorithm, new.schema_id):
        raise DatasetError(
            "the two snapshots digest their records differently (other columns, or only one is keyed); compare the tables "
            "with diff_tables"
        )
    before, after = (_sorted(side.digests) for side in (old, new))
    come, gone = difference(before, after)
    return RecordDiff(
        added=len(come),
        removed=len(gone),
        unchanged=len(after) - len(come),
        added_digests=come,
        removed_digests=gone,
    )


def _sorted(digests: Sequence[bytes]) -> PackedDigests:
    """Manifests read from bytes are packed and known to be in order; lists made by hand may not be."""
    return digests if isinstance(digests, PackedDigests) else sort_packed(digests)
