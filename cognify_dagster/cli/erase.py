"""`cognify erase`: destroy payloads and evidence that hold personal data; chain, proofs and decisions stay."""

from __future__ import annotations

from pathlib import Path

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.inputs import (
    DIGEST,
    confirm,
    open_workspace,
    signature_options,
    signers_option,
    unlock_all,
)
from cognify_dagster.cli.output import as_json, clean, moment, say, table, trial_banner


@click.command(cls=Command, name="erase")
@click.option("--seq", "seqs", type=click.IntRange(0), multiple=True, help="Entry whose payload goes. May be repeated.")
@click.option(
    "--evidence", "digests", type=DIGEST, multiple=True, metavar="DIGEST",
    help="Encrypted evidence of these entries, whose data key goes.",
)  # fmt: skip
@click.option("--basis", help="The duty or request, without personal data: it stays for ever.")
@signers_option(required=False)
@click.option("--resume", is_flag=True, help="Finish erasures that were cut off; nobody needs to sign again.")
@signature_options
@click.pass_context
def command(
    ctx: click.Context,
    seqs: tuple[int, ...],
    digests: tuple[str, ...],
    basis: str | None,
    key_files: tuple[Path, ...],
    resume: bool,
    yes: bool,
    passphrase_files: tuple[Path, ...],
    json_: bool,
) -> None:
    """Erase payloads of entries, and evidence, for good. Two compliance officers or workspace admins sign.

    What decisions depend on can never be erased. A legal hold or a retention rule that still runs refuses it; every reason is
    told, with exit code 1. Doing it again appends nothing and finishes what was cut off.

    \b
    Example:
      cognify erase --seq 17 --basis "request 2026-114 under Art. 17 GDPR" --as carl.key.json --as ada.key.json
      cognify erase --resume
    """
    from datetime import datetime, timezone

    from cognify_dagster.governance import ErasureRefused, erase, erasure_refusals, resume_erasures

    if resume:
        if seqs or digests or basis or key_files:
            raise click.UsageError("--resume takes no other option")
        done = resume_erasures(open_workspace(ctx))
        if json_:
            as_json({"erased": sorted(done)})
        else:
            say(f"Payloads destroyed now: {', '.join(map(str, sorted(done))) or 'none was left'}")
        return
    if not (seqs and basis and key_files):
        raise click.UsageError("--seq, --basis and --as are needed (or --resume)")
    keys = unlock_all(key_files, passphrase_files)
    workspace = open_workspace(ctx)
    reading = workspace.read()
    if not json_:
        trial_banner(reading.trial)
        present = [reading.view.entries[seq].entry for seq in sorted(set(seqs)) if seq < reading.size]
        table(
            ("entry", "time", "kind", "about"),
            [(item.seq, moment(item.time_us), item.kind, ", ".join(item.subjects)) for item in present],
        )
        for digest in digests:
            say(f"Evidence {digest}")
        say(f"Basis: {clean(basis)}")
    gone = all(seq < reading.size and reading.view.entries[seq].payload is None for seq in seqs)
    if not gone:  # said before anybody is asked
        reasons = erasure_refusals(reading, seqs, digests, datetime.now(timezone.utc))
        if reasons:
            raise ErasureRefused(reasons)
    confirm("Destroy this for good?", yes)
    receipt = erase(workspace, seqs, basis, keys, evidence=digests)
    if json_:
        as_json(
            {
                "entry": receipt.seq,
                "leaf": receipt.leaf.hex(),
                "duplicate": receipt.duplicate,
                "erased": sorted(set(seqs)),
            }
        )
        return
    already = " (it was recorded before)" if receipt.duplicate else ""
    say(
        f"Erased; recorded as entry {receipt.seq}{already}. Copies in backups age out on their own: see docs/retention.md"
    )
