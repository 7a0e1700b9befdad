"""`cognify init`: the genesis ceremony, in an empty folder or inside an existing Dagster project."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import KEPT
from cognify_dagster.cli.inputs import (
    IN_FILE,
    PERSON,
    check_yaml,
    confirm,
    passphrase,
    signature_options,
    unlock,
)
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.governance import Founder, PersonalKey, Policy
    from cognify_dagster.records import PublicKey

_ADMIN = "workspace_admin"


@dataclass(frozen=True)
class _Named:
    """A founder as named on the command line or at the prompt."""

    name: str
    key_file: Path


@click.command(cls=Command, name="init")
@click.argument("directory", metavar="[DIR]", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--trial", is_flag=True, help="One founder is enough; TRIAL is stamped on everything, for ever.")
@click.option(
    "--origin", help="The ledger's name for ever, such as bank.example/credit. Default: made from the folder's name."
)
@click.option(
    "--founder",
    "founders",
    multiple=True,
    metavar="NAME=KEYFILE",
    help="A founder; repeat for each. Asked for by default.",
)
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="NAME=ALIAS",
    help="git:MAIL, user:LOGIN, os:LOGIN or schedule:NAME of a founder: who launches runs and writes code.",
)
@click.option(
    "--policy", "policy_file", type=IN_FILE, help="First policy; by default policy.yaml in DIR, else a standard one."
)
@click.option(
    "--recovery-key",
    "recovery_files",
    type=IN_FILE,
    multiple=True,
    help="Public half kept offline; default: the founders' keys.",
)
@click.option(
    "--recovery-threshold",
    type=click.IntRange(1),
    help="How many of them recover a person; at least and by default 2, with --trial 1.",
)
@click.option(
    "--ledger-url",
    metavar="URL",
    help="Keep the ledger in Postgres: env:NAME of a variable that holds the URL (made by `cognify ledger init`).",
)
@signature_options
def command(
    directory: Path,
    trial: bool,
    origin: str | None,
    founders: tuple[str, ...],
    aliases: tuple[str, ...],
    policy_file: Path | None,
    recovery_files: tuple[Path, ...],
    recovery_threshold: int | None,
    ledger_url: str | None,
    yes: bool,
    passphrase_files: tuple[Path, ...],
    json_: bool,
) -> None:
    """Found a workspace: at least two people sign origin, log key, first policy and recovery keys.

    Writes cognify.toml, policy.yaml, trust.txt and .cognify/ into DIR. Inside a Dagster project it also says what to add to
    your code.

    \b
    Example:
      cognify key new --person person/ada --out ada.key.json
      cognify key new --person person/finn --out finn.key.json
      cognify init --origin bank.example/credit --founder "Ada=ada.key.json" --founder "Finn=finn.key.json"
    Alone, to try it:
      cognify init --trial
    In Postgres, after `cognify ledger init`:
      cognify init --ledger-url env:COGNIFY_LEDGER_URL --founder "Ada=ada.key.json" --founder "Finn=finn.key.json"

    To have dependencies judged for known vulnerabilities, add `security` to the gates of the automated stage in the file of
    --policy, and import advisories afterwards (cognify advisories import --help; docs/security-gate.md).
    """
    from cognify_dagster.governance import found_workspace
    from cognify_dagster.ledger import EntryError, check_origin

    folder = directory.expanduser().resolve()
    _check_free(folder)
    _check_url(ledger_url)
    policy, text = _policy(folder, policy_file)
    name = origin or _origin_of(ledger_url) or _default_origin(folder)
    try:
        check_origin(name)
    except EntryError as error:
        raise click.UsageError(f"--origin: {error}") from error
    recovery = _recovery(recovery_files)
    if founders:
        named = [_parse_founder(item) for item in founders]
        keys = None
    else:
        named, keys = _ask_founders(1 if trial else 2, passphrase_files)
    wanted = 1 if trial else 2
    if len(named) < wanted:
        raise click.UsageError(
            "a ledger is founded by at least two people (--founder twice); use --trial to try it alone"
        )
    if keys is None:
        keys = [unlock(item.key_file, passphrase_files, index) for index, item in enumerate(named)]
    if not json_:
        trial_banner(trial)
        say("This ledger will be founded; none of it can be changed later:")
        rows: list[tuple[str, object]] = [("Folder", folder), ("Origin", name), ("Policy", policy.digest)]
        rows += [("Ledger", f"in Postgres ({ledger_url})")] if ledger_url else []
        rows += [("Founder", f"{item.name}, {item.key_file}") for item in named]
        pairs(rows)
    confirm("Found this ledger?", yes)
    workspace = found_workspace(
        folder,
        origin=name,
        founders=_founders(named, keys, _aliases(aliases, named), policy, trial),
        policy=policy,
        policy_text=text,
        recovery_keys=recovery,
        recovery_threshold=recovery_threshold,
        trial=trial,
        ledger_url=ledger_url,
    )
    reading = workspace.read()
    project = dagster_project(folder)
    if json_:
        as_json(
            {
                "workspace": str(workspace.config.path),
                "origin": workspace.origin,
                "trial": trial,
                "genesis_leaf": reading.at(0).leaf if reading.at(0) else None,  # type: ignore[union-attr]
                "trust": str(workspace.config.trust),
                "policy": str(workspace.config.policy),
                "policy_digest": policy.digest,
                "founders": [key.person for key in keys],
                "dagster_project": project,
            }
        )
        return
    say()
    heading(f"Workspace founded: {workspace.origin}")
    pairs(
        [
            ("Configuration", workspace.config.path),
            ("Keys" if ledger_url else "Ledger, keys", workspace.config.home),
            ("Policy", workspace.config.policy),
            ("Trust file", workspace.config.trust),
        ]
    )
    say(
        "Copy trust.txt now to where nobody who runs this workspace can change it (an auditor, another machine, paper):"
    )
    say("every later verification is only as good as that copy. Back up .cognify/keys the same careful way.")
    trial_banner(trial)
    _print_next(project, policy)


def _check_free(folder: Path) -> None:
    """Refuse before anybody types a pass phrase."""
    if (folder / "cognify.toml").exists() or (folder / ".cognify").exists():
        raise click.UsageError(f"{folder}: there is a workspace here already; see `cognify doctor`")
    if (folder / "trust.txt").exists():
        raise click.UsageError(f"{folder / 'trust.txt'}: belongs to another ledger; move it away first")


def _check_url(url: str | None) -> None:
    """cognify.toml is read by many and goes into repositories: no password is written into it."""
    if url is None:
        return
    if not url.startswith(("env:", "postgresql://", "postgres://")):
        raise click.UsageError("--ledger-url: env:NAME of a variable, or postgresql://LOGIN@HOST/DATABASE, is expected")
    if re.search(r"//[^/@]*:[^/@]*@|password=", url) or re.search(r"[\"\\\s]", url):
        raise click.UsageError(
            "--ledger-url: the URL would be written to cognify.toml; put one with a password into a variable and give env:NAME"
        )


def _origin_of(url: str | None) -> str | None:
    """A ledger in Postgres has its origin already."""
    if url is None:
        return None
    from cognify_dagster.ledger.postgres.store import PostgresStore
    from cognify_dagster.workspace.stores import resolve_url

    return PostgresStore(resolve_url(url, "--ledger-url")).origin


def _policy(folder: Path, file: Path | None) -> tuple[Policy, str]:
    import yaml

    from cognify_dagster.governance import DEFAULT_POLICY_YAML, GovernanceError, load_policy, parse_policy

    existing = folder / "policy.yaml"
    if file is not None and existing.exists() and file.resolve() != existing.resolve():
        raise GovernanceError(f"{existing} exists; found with it, or move it away to use {file}")
    source = file or (existing if existing.exists() else None)
    if source is None:
        return parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML), "the standard policy"), DEFAULT_POLICY_YAML
    check_yaml(source, "a policy")
    return load_policy(source), source.read_text(encoding="utf-8")


def _default_origin(folder: Path) -> str:
    slug = re.sub(r"[^a-z0-9-]+", "-", folder.name.lower()).strip("-") or "ledger"
    return f"local/{slug[:60]}-{secrets.token_hex(4)}"


def _parse_founder(text: str) -> _Named:
    name, separator, path = text.partition("=")
    if not separator or not name.strip() or not path:
        raise click.UsageError(f"--founder {text[:80]!r}: NAME=KEYFILE is expected")
    file = Path(path).expanduser()
    if not file.is_file():
        raise click.UsageError(f"--founder {name.strip()}: {file}: no such key file; make one with `cognify key new`")
    return _Named(name.strip(), file)


def _aliases(texts: Sequence[str], named: Sequence[_Named]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {item.name: () for item in named}
    for text in texts:
        name, separator, alias = text.partition("=")
        if (
            not separator
            or name.strip() not in found
            or not re.fullmatch(r"(git|user|os|schedule|sensor):\S+", alias.strip())
        ):
            raise click.UsageError(
                f"--alias {text[:80]!r}: FOUNDER=git:MAIL, user:LOGIN, os:LOGIN, schedule:NAME or sensor:NAME is expected"
            )
        found[name.strip()] += (alias.strip(),)
    return found


def _founders(
    named: Sequence[_Named],
    keys: Sequence[PersonalKey],
    aliases: dict[str, tuple[str, ...]],
    policy: Policy,
    trial: bool,
) -> list[Founder]:
    """Founders are workspace admins; who tries it alone gets every role and this machine's login, so that each step can be tried."""
    from cognify_dagster.governance import Founder
    from cognify_dagster.workspace import os_login

    if trial and len(named) == 1:
        name = named[0].name
        aliases = {name: (*aliases[name], f"os:{os_login()}")}
    roles = (_ADMIN, *(role for role in policy.roles if role != _ADMIN)) if trial else (_ADMIN,)
    return [
        Founder(key, item.name, roles=roles, aliases=aliases[item.name]) for item, key in zip(named, keys, strict=True)
    ]


def _recovery(files: Sequence[Path]) -> list[PublicKey]:
    from cognify_dagster.governance import read_public

    return [read_public(path)[1] for path in files]


def _ask_founders(count: int, passphrase_files: Sequence[Path]) -> tuple[list[_Named], list[PersonalKey]]:
    """Ask for each founder's name and make, or unlock, their key."""
    from cognify_dagster.governance import create_key

    if not sys.stdin.isatty():
        raise click.UsageError(
            "there is no terminal to ask for the founders; name them with --founder NAME=KEYFILE (see `cognify key new`)"
        )
    if count > 1:
        say("Each founder types their own name and pass phrase; the others look away.", err=True)
    named: list[_Named] = []
    keys: list[PersonalKey] = []
    for number in range(count):
        name = click.prompt(f"Name of founder {number + 1}", err=True).strip()
        letters = "".join(part[0] for part in re.findall(r"[a-z0-9]+", name.lower()))[:4] or "p"
        say("The person's id stays in the ledger for ever, so the proposed one does not spell the name.", err=True)
        person = click.prompt("Id", default=f"person/{letters}-{secrets.token_hex(3)}", type=PERSON, err=True)
        file = _ask_key_file(person)
        if file.exists():
            key = unlock(file, passphrase_files, number)
        else:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = create_key(file, person, passphrase("New pass phrase", passphrase_files, number, new=True))
            KEPT.append(str(file))
            say(f"Key {key.key_id} written to {clean(file)}", err=True)
        named.append(_Named(name, file))
        keys.append(key)
    return named, keys


def _ask_key_file(person: str) -> Path:
    """Ask where the founder's key is or shall be; a file that holds somebody else's key is not taken."""
    from cognify_dagster.governance import KeyFileError, read_public

    default = Path(click.get_app_dir("cognify")) / "keys" / f"{person.removeprefix('person/')}.key.json"
    while True:
        file = Path(click.prompt("Key file", default=str(default), err=True)).expanduser()
        if not file.exists():
            return file
        try:
            holder = read_public(file)[0]
        except KeyFileError as error:
            say(f"{clean(error)}. Name another file.", err=True)
            continue
        if holder == person:
            return file
        say(
            f"{clean(file)} holds the key of {holder}, not of {person}. Name another file, or stop and use that id.",
            err=True,
        )


def dagster_project(folder: Path) -> str | None:
    """Return the file that makes a folder a Dagster project, None if it is none."""
    project = folder / "pyproject.toml"
    if project.is_file():
        try:
            text = project.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            text = ""
        if re.search(r"^\s*\[tool\.(dagster|dg)[\].]", text, re.MULTILINE):
            return "pyproject.toml"
    for name in ("workspace.yaml", "definitions.py"):
        if (folder / name).is_file():
            return name
    return None


def _print_next(project: str | None, policy: Policy) -> None:
    where = f"this Dagster project ({project})" if project else "your Dagster project"
    tier = next((name for name in ("medium", "low", "high") if name in policy.tiers), next(iter(policy.tiers)))
    say()
    say(f"What to add to the definitions of {where}:")
    for line in (
        "+ import cognify_dagster as cg",
        "+",
        f'+ model = cg.GovernedModel(key="my_model", owner="team:me", risk_tier="{tier}", intended_use="…")',
        "  defs = dg.Definitions.merge(",
        '+     dg.Definitions(resources={"ledger": cg.LedgerResource(workspace=".cognify")}),',
        "+     model.build_defs(assets=[my_training, my_evaluation, my_deployment]),",
        "      defs_you_have,",
        "  )",
    ):
        say(f"  {line}")
    say(
        'A resource "ledger" is needed once: leave its line out where your definitions have it already (README, "Adopting").'
    )
    say("The assets get @cg.training_run(model, …), @cg.eval_suite(model, …) and @cg.governed_deployment(model, …).")
    say(
        "Next: enrol people (`cognify people enrol --help`), adopt gates (`cognify gates adopt --help`), take the first snapshot "
        "(`cognify dataset snapshot --help`), `cognify doctor`."
    )
