"""`cognify key`: personal signing keys."""

from __future__ import annotations

from pathlib import Path

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.inputs import IN_FILE, OUT_FILE, PERSON, json_option, passphrase, passphrase_option
from cognify_dagster.cli.output import as_json, clean, pairs, say


@click.group(cls=Group, name="key")
def command() -> None:
    """Create and show personal signing keys.

    \b
    Example:
      cognify key new --person person/vera --out vera.key.json
    """


@command.command("new")
@click.option("--person", type=PERSON, required=True, help="Whose key it is. The id stays in the ledger for ever.")
@click.option(
    "--out", type=OUT_FILE, required=True, metavar="FILE", help="Where to write the encrypted key (mode 0600)."
)
@passphrase_option
@json_option
def new(person: str, out: Path, passphrase_files: tuple[Path, ...], json_: bool) -> None:
    """Create an Ed25519 key, encrypted with a pass phrase of at least 12 characters.

    Run it yourself, on your own machine: nobody else should ever see the file together with the pass phrase.

    \b
    Example:
      cognify key new --person person/vera --out vera.key.json
    """
    from cognify_dagster.governance import create_key

    if out.exists():
        raise click.UsageError(f"{out}: there is already a file; a key is never overwritten")
    if not out.parent.is_dir():
        raise click.UsageError(f"{out.parent}: no such folder; create it first")
    key = create_key(out, person, passphrase(f"New pass phrase for {person}", passphrase_files, new=True))
    if json_:
        as_json({"file": str(out), **public_half(person, key.key_id, key.public.public)})
        return
    say(f"Key written to {clean(out)}. There is no way to recover the pass phrase; keep a copy of the file offline.")
    pairs([("Person", person), ("Key id", key.key_id)])
    say("A workspace admin and a second person enrol it with:")
    say(
        f"  cognify people enrol --name NAME --role ROLE --public-key {clean(out.name)} --as ADMIN.key.json --as SECOND.key.json"
    )
    say(f"To hand over the public half only: cognify key show {clean(out.name)} --json > {clean(out.stem)}.pub.json")


@command.command("show")
@click.argument("file", type=IN_FILE)
@json_option
def show(file: Path, json_: bool) -> None:
    """Show whose key a file holds, without unlocking it. With --json: the public half, to hand to an admin.

    \b
    Example:
      cognify key show vera.key.json --json > vera.pub.json
    """
    from cognify_dagster.governance import read_public

    person, public = read_public(file)
    if json_:
        as_json(public_half(person, public.key_id, public.public))
        return
    mode = file.stat().st_mode & 0o777
    note = "" if not mode & 0o077 else "  (others can read this file; run `chmod 600` if it holds the private key)"
    pairs(
        [
            ("Person", person),
            ("Key id", public.key_id),
            ("Public key", public.public),
            ("Algorithm", f"{public.algorithm}, strength {public.strength}"),
            ("File mode", f"{mode:04o}{note}"),
        ]
    )


def public_half(person: str, key_id: str, public: str) -> dict[str, str]:
    """Return the part of a key file that may be handed around."""
    from cognify_dagster.governance.signing.keys import FORMAT

    return {"format": FORMAT, "person": person, "key_id": key_id, "public": public}
