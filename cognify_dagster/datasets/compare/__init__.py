"""Differences: files, records, keys and columns, schema, distributions; and the one difference of two recorded snapshots.

`diff_snapshots` reads evidence only and `diff_digest` is what people sign. `diff_tables` compares tables at hand.
"""

from cognify_dagster.datasets.compare.snapshots import SnapshotDiff, diff_digest, diff_snapshots

__all__ = ["SnapshotDiff", "diff_digest", "diff_snapshots"]
