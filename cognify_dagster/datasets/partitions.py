"""Names of partitions: `loans@2026-01` is the partition `2026-01` of the dataset `loans`, a dataset version of its own.

Invariants: two partition keys never have the same name; names are ASCII, as subjects of the ledger are. What a name cannot hold stands
in it as `+` and two hexadecimal digits for each UTF-8 byte (`2026-01-01-00:00` becomes `2026-01-01-00+3A00`).
"""

from __future__ import annotations

import re

from cognify_dagster.datasets.errors import DatasetError

MAX_PARTITION = 60
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


def partition_name(dataset: str, key: str) -> str:
    """Return the name of a partition of a dataset.

    Args:
        dataset: the dataset's name.
        key: the partition key, any text.

    Raises:
        DatasetError: if the key is empty, or its name would have more than 60 characters.
    """
    written = "".join(chr(byte) if byte in _PLAIN else f"+{byte:02X}" for byte in key.encode("utf-8"))
    if not written or len(written) > MAX_PARTITION:
        raise DatasetError(
            f"dataset {dataset}: partition key {key[:80]!r} gives a name of {len(written)} characters; 1 to {MAX_PARTITION} are possible"
        )
    return f"{dataset}@{written}"


def partition_key(name: str) -> str | None:
    """Return the partition key that a name stands for; None if it is the name of a whole dataset.

    Raises:
        DatasetError: for a name that `partition_name` does not give.
    """
    _, at, written = name.partition("@")
    if not at:
        return None
    if not re.fullmatch(r"(?:[A-Za-z0-9_.-]|\+[0-9A-F]{2})+", written):
        raise DatasetError(f"{name!r} is no name of a partition")
    data = re.sub(rb"\+([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), written.encode("ascii"))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{name!r} is no name of a partition") from error
