"""`cognify witness`: remember the heads of other people's ledgers, so that nobody can rewrite them unseen."""

from __future__ import annotations

from pathlib import Path

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.inputs import IN_FILE, OUT_FILE, json_option, load_trust
from cognify_dagster.cli.output import as_json, clean, moment, pairs, say, table

_key_option = click.option("--key", "key_file", type=IN_FILE, required=True, metavar="FILE", help="The witness's key.")
_state_option = click.option(
    "--state", "state_file", type=OUT_FILE, required=True, metavar="FILE", help="What the witness remembers."
)


@click.group(cls=Group, name="witness")
def command() -> None:
    """Run a witness that cosigns ledgers (C2SP tlog-witness); create its key.

    A witness belongs to other people than the ledger: to Risk or Internal Audit, on their own machine.

    \b
    Example:
      cognify witness new-key --name risk.bank.example/w1 --key witness.key --state witness.db
      cognify witness run --key witness.key --state witness.db --trust trust.txt
    """


@command.command("new-key")
@click.option("--name", required=True, help="The witness's name, such as risk.bank.example/w1. It stays for ever.")
@click.option("--key", "key_file", type=OUT_FILE, required=True, metavar="FILE", help="Where to write the key (0600).")
@click.option("--state", "state_file", type=OUT_FILE, required=True, metavar="FILE", help="Where to begin its memory.")
@click.option(
    "--algorithm",
    type=click.Choice(["ed25519", "ml-dsa-44"]),
    default="ed25519",
    show_default=True,
    help="ml-dsa-44 also withstands quantum computers; the offline verifier cannot check it.",
)
@json_option
def new_key(name: str, key_file: Path, state_file: Path, algorithm: str, json_: bool) -> None:
    """Create a witness's key and its empty memory, which belong together for ever.

    \b
    Example:
      cognify witness new-key --name risk.bank.example/w1 --key witness.key --state witness.db
    """
    from cognify_dagster.ledger.note import COSIGNATURE, MLDSA_COSIGNATURE
    from cognify_dagster.ledger.witness import WitnessKey, WitnessStore

    for path in (key_file, state_file):
        if path.exists():
            raise click.UsageError(f"{path}: there is already a file; it is never overwritten")
        if not path.parent.is_dir():
            raise click.UsageError(f"{path.parent}: no such folder; create it first")
    key = WitnessKey.create(key_file, name, COSIGNATURE if algorithm == "ed25519" else MLDSA_COSIGNATURE)
    try:
        WitnessStore.create(state_file, key.verifier)
    except BaseException:
        key_file.unlink(missing_ok=True)  # a key without its memory must not exist
        raise
    if json_:
        as_json({"key": str(key_file), "state": str(state_file), "vkey": str(key.verifier)})
        return
    say(f"Key written to {clean(key_file)}, memory to {clean(state_file)}. Do not restore either from a backup.")
    _show(str(key.verifier), name)


@command.command("show-key")
@click.argument("file", type=IN_FILE)
@json_option
def show_key(file: Path, json_: bool) -> None:
    """Show the public half of a witness's key, as it stands in trust files.

    \b
    Example:
      cognify witness show-key witness.key
    """
    from cognify_dagster.ledger.witness import WitnessKey

    key = WitnessKey.load(file)
    if json_:
        as_json({"name": key.name, "vkey": str(key.verifier)})
        return
    _show(str(key.verifier), key.name)


@command.command("run")
@_key_option
@_state_option
@click.option(
    "--log", "vkeys", multiple=True, metavar="VKEY", help="Verifier key of a ledger to cosign for; repeatable."
)
@click.option(
    "--trust", type=IN_FILE, metavar="FILE", help="A trust file; its `log` lines are the ledgers to cosign for."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen. Put a TLS proxy before it.")
@click.option("--port", type=click.IntRange(0, 65535), default=7380, show_default=True, help="0 takes a free one.")
@click.option("--prefix", default="", metavar="PATH", help="Path before /add-checkpoint, such as /witness.")
def run(
    key_file: Path,
    state_file: Path,
    vkeys: tuple[str, ...],
    trust: Path | None,
    host: str,
    port: int,
    prefix: str,
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in flight end first.

    \b
    Example:
      cognify witness run --key witness.key --state witness.db --trust trust.txt --port 7380
    """
    import logging

    from cognify_dagster.ledger import NoteError, VerifierKey
    from cognify_dagster.ledger.witness import Witness, WitnessKey, WitnessServer, WitnessStore, serve

    try:
        logs = [VerifierKey.parse(vkey) for vkey in vkeys]
    except NoteError as error:
        raise click.UsageError(f"--log: {error}") from error
    if trust is not None:
        logs += [log for log in load_trust(trust).logs if log not in logs]
    if not logs:
        raise click.UsageError("say which ledgers to cosign for: --log VKEY or --trust FILE")
    key = WitnessKey.load(key_file)
    witness = Witness(WitnessStore(state_file, key.verifier), key, logs)
    try:
        server = WitnessServer(witness, host, port, prefix)
    except NoteError as error:
        raise click.UsageError(str(error)) from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    serve(
        server, ready=lambda: say(f"Witness {clean(key.name)} listens at {server.url} for {', '.join(witness.origins)}")
    )
    say("Witness stopped.")


@command.command("status")
@_key_option
@_state_option
@json_option
def status(key_file: Path, state_file: Path, json_: bool) -> None:
    """Show what the witness remembers, and the evidence of forks. With --json: with the notes that prove them.

    \b
    Example:
      cognify witness status --key witness.key --state witness.db
    """
    from cognify_dagster.ledger.witness import WitnessKey, WitnessStore

    store = WitnessStore(state_file, WitnessKey.load(key_file).verifier)
    heads, forks = store.heads(), store.forks()
    if json_:
        as_json(
            {
                "heads": [{"ledger": origin, "size": size, "time": time} for origin, size, time in heads],
                "forks": [
                    {"ledger": origin, "size": size, "time": time, "cosigned": ours, "other": other}
                    for origin, size, time, ours, other in forks
                ],
            }
        )
        return
    table(["Ledger", "Entries", "Cosigned at"], [(o, s, moment(t * 1_000_000)) for o, s, t in heads])
    for origin, size, _, _, _ in forks:
        say(f"FORK: {clean(origin)} signed two different heads of size {size}; the notes are in --json.")


def _show(vkey: str, name: str) -> None:
    pairs([("Name", name), ("Verifier key", vkey)])
    say("In a trust file:")
    say(f"  witness NAME {clean(vkey)} https://HOST/PREFIX")
