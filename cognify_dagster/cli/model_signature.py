"""`cognify model-signature`: OpenSSF model-signing bundles over the files of a sealed model version."""

from __future__ import annotations

from pathlib import Path

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, OK, finish
from cognify_dagster.cli.inputs import (
    IN_FILE,
    MODEL,
    PASSPHRASE_VARIABLE,
    VERSION,
    json_option,
    open_workspace,
    passphrase,
    write_new,
)
from cognify_dagster.cli.output import as_json, clean, pairs, say, table, trial_banner


@click.group(cls=Group, name="model-signature")
def command() -> None:
    """Signatures over a version's files, in the form that the `model_signing` command verifies.

    They say whose key signed which bytes, and nothing about approval: that is `cognify sign`.

    \b
    Example:
      cognify model-signature sign credit_default 3 --key signing.pem
      cognify model-signature verify credit_default 3 --public-key signing.pub
    """


@command.command("sign", short_help="Sign the files of a sealed version and record the bundle.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option(
    "--key", type=IN_FILE, required=True, metavar="PEM", help="Elliptic-curve key (P-256, P-384, P-521), mode 0600."
)
@click.option("--encrypted", is_flag=True, help="The key has a pass phrase.")
@click.option(
    "--passphrase-file",
    type=IN_FILE,
    metavar="FILE",
    help=f"The key's pass phrase, in a file of mode 0600; otherwise ${PASSPHRASE_VARIABLE}, otherwise it is asked for.",
)
@json_option
@click.pass_context
def sign(
    ctx: click.Context, model: str, version: str, key: Path, encrypted: bool, passphrase_file: Path | None, json_: bool
) -> None:
    """Sign every file of the version's sealed model, taken from the evidence store. Needs the extra `model-signing`, and no network.

    \b
    Example:
      openssl ecparam -name prime256v1 -genkey -noout -out signing.pem && chmod 600 signing.pem
      cognify model-signature sign credit_default 3 --key signing.pem
    """
    from cognify_dagster.instrument.model_signing import sign_version

    workspace = open_workspace(ctx)
    secret = None
    if encrypted or passphrase_file is not None:
        secret = passphrase(f"Pass phrase of {key}", [passphrase_file] if passphrase_file else [])
    receipt = sign_version(workspace, model, version, key, password=secret)
    if json_:
        as_json({"entry": receipt.seq, "recorded_before": receipt.duplicate})
        return
    trial_banner(workspace.read().trial)
    word = "was recorded before" if receipt.duplicate else "is recorded"
    say(f"The signature over the files of {model} {version} {word} in entry {receipt.seq}.")


@command.command("add", short_help="Record a bundle that was made elsewhere.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.argument("bundle", type=IN_FILE)
@click.option("--public-key", type=IN_FILE, required=True, metavar="PEM", help="The key that it has to hold under.")
@json_option
@click.pass_context
def add(ctx: click.Context, model: str, version: str, bundle: Path, public_key: Path, json_: bool) -> None:
    """Verify BUNDLE and record it, if it lists exactly the version's sealed files.

    For keys that are not on this machine: write the files with `export`, sign them where the key is (`model_signing sign key …`), add the
    bundle here.

    \b
    Example:
      cognify model-signature add credit_default 3 model.sig --public-key signing.pub
    """
    from cognify_dagster.instrument.model_signing import MAX_BUNDLE, ModelSignatureError, record_bundle

    if bundle.stat().st_size > MAX_BUNDLE:
        raise ModelSignatureError(f"{bundle}: larger than {MAX_BUNDLE} bytes; this is no bundle")
    receipt = record_bundle(open_workspace(ctx), model, version, bundle.read_bytes(), public_key.read_bytes())
    if json_:
        as_json({"entry": receipt.seq, "recorded_before": receipt.duplicate})
        return
    say(f"The signature over the files of {model} {version} is recorded in entry {receipt.seq}.")


@command.command("verify", short_help="Verify the recorded signatures over a version's files.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option(
    "--public-key", type=IN_FILE, metavar="PEM", help="Only signatures of this key count; get it from the signer."
)
@json_option
@click.pass_context
def verify(ctx: click.Context, model: str, version: str, public_key: Path | None, json_: bool) -> None:
    """Verify signatures against the sealed files in the evidence store, every byte. Needs no extra.

    Without --public-key each is verified with the key in its own entry: it shows that the files are those that were signed, and
    not whose key that is. Exit code 1 if one does not hold.

    \b
    Example:
      cognify model-signature verify credit_default 3 --public-key signing.pub
    """
    from cognify_dagster.instrument.model_signing import verify_version

    given = public_key.read_bytes() if public_key is not None else None
    found = verify_version(open_workspace(ctx), model, version, given)
    bad = any(problem for _, problem in found)
    if json_:
        as_json(
            [
                {
                    "entry": entry.seq,
                    "holds": not problem,
                    "problem": problem,
                    "key_hint": entry.record.key_hint,
                    "key_given": given is not None,
                    "algorithm": entry.record.algorithm,
                    "files": entry.record.file_count,
                }
                for entry, problem in found
            ]
        )
        finish(BLOCKED if bad else OK)
    table(
        ("Entry", "Key", "Files", "Result"),
        [(entry.seq, entry.record.key_hint, entry.record.file_count, problem or "ok") for entry, problem in found],
    )
    if given is None and not bad:
        say("Verified with the keys in the entries. Whose they are is not shown: give --public-key.")
    finish(BLOCKED if bad else OK)


@command.command("export", short_help="Write a version's files and a bundle, for the `model_signing` command.")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="A folder that does not exist yet.",
)
@json_option
@click.pass_context
def export(ctx: click.Context, model: str, version: str, out: Path, json_: bool) -> None:
    """Write DIR/model/ (the sealed files), and beside it DIR/model.sig and DIR/model.pub if a signature is recorded.

    The newest signature is written. Check that model.pub is the key you know before you rely on it.

    \b
    Example:
      cognify model-signature export credit_default 3 -o out
      model_signing verify key out/model --signature out/model.sig --public_key signing.pub
    """
    from cognify_dagster.instrument.model_signing import export_model, sealed_run, signatures

    workspace = open_workspace(ctx)
    run = sealed_run(workspace, model, version)
    if out.exists():
        raise click.UsageError(f"{out}: it exists already; nothing is overwritten")
    path = export_model(workspace, run.record, out / "model")
    found = signatures(workspace, model, version)
    if found:
        write_new(out / "model.sig", workspace.evidence.get(found[-1].record.bundle.digest))
        write_new(out / "model.pub", found[-1].record.public_key.encode("ascii"))
    if json_:
        as_json({"model": str(path), "signature": str(out / "model.sig") if found else None})
        return
    rows: list[tuple[str, object]] = [("Model", path)]
    rows += [("Signature", out / "model.sig"), ("Key as recorded", out / "model.pub")] if found else []
    pairs(rows)
    if found:
        say(f"model_signing verify key {clean(path)} --signature {clean(out / 'model.sig')} --public_key KEY.pub")
    else:
        say(
            "No signature is recorded; sign these files where the key is and add the bundle with `cognify model-signature add`."
        )
