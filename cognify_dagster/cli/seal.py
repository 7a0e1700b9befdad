"""`cognify seal`: the key with which final copies are sealed, and checking a sealed PDF offline."""

from __future__ import annotations

from pathlib import Path

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import OK, TAMPERED, finish
from cognify_dagster.cli.inputs import IN_FILE, OUT_FILE, json_option
from cognify_dagster.cli.output import as_json, clean, pairs, say

MAX_PDF_BYTES = 256 * 1024 * 1024


@click.group(cls=Group, name="seal")
def command() -> None:
    """Create the key that seals final copies; check a sealed PDF.

    The seal shows that a PDF is as the workspace made it. Who approved is shown by the signatures on the package.

    \b
    Example:
      cognify seal create --name "Example Bank, model documents" --key .cognify/keys/seal.pem --certificate seal.crt
      cognify seal check final-copy.pdf --certificate seal.crt
    """


@command.command("create")
@click.option("--name", required=True, help="Whose seal it is, as readers see it.")
@click.option("--key", "key_file", type=OUT_FILE, required=True, metavar="FILE", help="Where to write the key (0600).")
@click.option("--certificate", type=OUT_FILE, required=True, metavar="FILE", help="Where to write the certificate.")
@json_option
def create(name: str, key_file: Path, certificate: Path, json_: bool) -> None:
    """Create a P-256 key and a self-signed certificate of ten years.

    A certificate of your own authority works too: name it in [seal] of cognify.toml, with its chain.

    \b
    Example:
      cognify seal create --name "Example Bank, model documents" --key .cognify/keys/seal.pem --certificate seal.crt
    """
    from cryptography.hazmat.primitives import hashes

    from cognify_dagster.documents.pdf.seal import create_seal

    fingerprint = create_seal(key_file, certificate, name).fingerprint(hashes.SHA256()).hex()
    if json_:
        as_json({"key": str(key_file), "certificate": str(certificate), "sha256": fingerprint})
        return
    pairs([("Key", key_file), ("Certificate", certificate), ("SHA-256", fingerprint)])
    say("Add to cognify.toml, with paths relative to it, and give the certificate to readers:")
    say('  [seal]\n  key = "…"\n  certificate = "…"')


@command.command("check")
@click.argument("pdf", type=IN_FILE)
@click.option(
    "--certificate", "certificates", type=IN_FILE, multiple=True, required=True, metavar="FILE",
    help="A certificate that you trust; may be repeated.",
)  # fmt: skip
@click.option(
    "--authority", "authorities", type=IN_FILE, multiple=True, metavar="FILE",
    help="Root certificate of a time-stamping authority; the seal then needs its time stamp. May be repeated.",
)  # fmt: skip
@json_option
def check(pdf: Path, certificates: tuple[Path, ...], authorities: tuple[Path, ...], json_: bool) -> None:
    """Check that a PDF has one seal, over the whole file, by a certificate you trust. No network is used.

    \b
    Example:
      cognify seal check final-copy.pdf --certificate seal.crt
    """
    from cognify_dagster.documents.pdf.seal import check_seal, read_certificate

    if pdf.stat().st_size > MAX_PDF_BYTES:
        raise click.UsageError(f"{pdf}: larger than {MAX_PDF_BYTES} bytes")
    trusted, roots = ([read_certificate(path) for path in paths] for paths in (certificates, authorities))
    state = check_seal(pdf.read_bytes(), trusted, roots)
    if json_:
        as_json(vars(state) | {"problems": list(state.problems)})
    else:
        say(f"{pdf}: {'the seal holds' if state.holds else 'the seal does NOT hold'}")
        for problem in state.problems:
            say(f"  {clean(problem)}")
        if state.subject:
            stamp = state.stamped_at or ("yes, not checked here" if state.time_stamped else "none")
            if authorities and not state.stamped_at:
                stamp = "none that counts"
            pairs(
                [
                    ("Sealed by", clean(state.subject)),
                    ("Certificate", f"serial {state.serial}, SHA-256 {state.fingerprint}"),
                    ("Machine's time", state.signed_at or "not stated"),
                    ("Time stamp", stamp),
                ]
            )
    finish(OK if state.holds else TAMPERED)
