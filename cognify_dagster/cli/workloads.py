"""What `cognify people enrol-workload` works out before anything is signed: the machine's key and what it may write.

Invariant: a new workload gets no kind that nobody named.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cognify_dagster.governance import Directory

KEY_SIZE = 32


def machine_key(key_file: Path | None, new_key: Path | None, public: str | None) -> tuple[bytes, bytes | None]:
    """Return the public key, and the private one if it has yet to be written.

    Raises:
        click.UsageError: if not exactly one source is given, or it is malformed.
        LedgerUnreadable: if the key file is no private key file, or others can read it.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from cognify_dagster.ledger import read_secret

    if sum(item is not None for item in (key_file, new_key, public)) != 1:
        raise click.UsageError("name the machine's key with one of --key-file, --new-key and --public")
    if public is not None:
        try:
            raw = base64.b64decode(public, validate=True)
        except ValueError as error:
            raise click.UsageError("--public: not base64") from error
        if len(raw) != KEY_SIZE:
            raise click.UsageError(f"--public: an Ed25519 key has {KEY_SIZE} bytes, this has {len(raw)}")
        return raw, None
    if new_key is not None:
        if new_key.exists():
            raise click.UsageError(f"{new_key}: there is already a file; a key is never overwritten")
        if not new_key.parent.is_dir():
            raise click.UsageError(f"{new_key.parent}: no such folder; create it first")
    secret = os.urandom(KEY_SIZE) if key_file is None else read_secret(key_file, KEY_SIZE)
    raw = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    return raw, secret if new_key is not None else None


def kinds_for(people: Directory, workload: str, wanted: tuple[str, ...], all_kinds: bool) -> tuple[str, ...]:
    """Return the record kinds that the workload may write.

    Raises:
        click.UsageError: if a kind is unknown or not for machines, or none is named for a new workload.
    """
    from cognify_dagster.governance.genesis import NOT_FOR_WORKLOADS
    from cognify_dagster.records import kinds

    allowed = sorted(set(kinds()) - NOT_FOR_WORKLOADS)
    if all_kinds and wanted:
        raise click.UsageError("use either --kind or --all-kinds")
    if all_kinds:
        return tuple(allowed)
    for name in wanted:
        if name not in allowed:
            raise click.UsageError(
                f"--kind {name[:60]!r}: no machine writes that; `cognify schema --list` names the kinds"
            )
    if wanted:
        return tuple(sorted(set(wanted)))
    known = [item.kinds for _, item in people.workloads if item.workload == workload]
    if not known:
        raise click.UsageError(f"{workload} is new: name what it may write with --kind, or --all-kinds")
    return tuple(known[-1])
