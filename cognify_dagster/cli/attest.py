"""`cognify attest`: what people declare under their signature, and the register of it: agreements, licences, certification."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.act_away import act_options, carry_out
from cognify_dagster.cli.app import Group
from cognify_dagster.cli.attest_rows import bound, consequence, register_json, register_row, standing
from cognify_dagster.cli.frameworks_folder import own_folder
from cognify_dagster.cli.human_inputs import ABOUT_TYPE, END, NEVER, TEXT_ID, role_of
from cognify_dagster.cli.inputs import IN_FILE, json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, heading, moment, pairs, say, table, trial_banner
from cognify_dagster.cli.overseeing import now, reason_option, said, signer

if TYPE_CHECKING:
    from cognify_dagster.documents.catalogues.attestation_texts import AttestationText
    from cognify_dagster.governance import Attestation, Directory
    from cognify_dagster.records import EvidenceItem
    from cognify_dagster.workspace import Reading, Workspace

MAX_DOCUMENT = 64 * 1024 * 1024


class _TextFirst(Group):
    """`cognify attest baa …` is short for `cognify attest make baa …`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["make", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_TextFirst, name="attest")
def command() -> None:
    """Attestations: a person's signed word about a model, a version or a data set, up to a date.

    `cognify attest TEXT_ID …` is short for `cognify attest make TEXT_ID …`. The register of agreements and licences is
    `cognify attest list`.

    \b
    Example:
      cognify attest baa --about model/credit_default --party "Acme Cloud" --expires 2027-06-30 --as carl.key.json
      cognify attest list
    """


@command.command("make", short_help="Attest a text about a model, a version or a data set.")
@click.argument("text_id", type=TEXT_ID)
@click.option("--about", type=ABOUT_TYPE, required=True, help="model/KEY, model/KEY@VERSION or dataset/NAME.")
@click.option("--text", "text_file", type=IN_FILE, metavar="FILE", help="Your own text instead of the shipped one.")
@click.option("--expires", type=END, required=True, metavar="DATE", help=f"Until when it counts, or {NEVER!r}.")
@click.option("--party", default="", help="The other side: a vendor, a licensor.")
@click.option("--role", default="", help="The role in which you attest it; else the first of the text's that you hold.")
@click.option("--document", "documents", type=IN_FILE, multiple=True, metavar="FILE", help="Such as the contract.")
@click.option("--entry", type=click.IntRange(min=1), help="An earlier snapshot of the data set, by its entry.")
@act_options(names=("--as", "--key"))
@click.pass_context
def make(
    ctx: click.Context,
    text_id: str,
    about: str,
    text_file: Path | None,
    expires: str,
    party: str,
    role: str,
    documents: tuple[Path, ...],
    entry: int | None,
    **signing: Any,
) -> None:
    """Attest a text about a model, a version or a data set, in the state it has now. Documents are kept encrypted.

    \b
    Example:
      cognify attest make licence --about dataset/loans_train --party "UCI" --expires never --as carl.key.json
    """
    attest_subject(ctx, text_id, about, text_file, expires, party, role, documents, entry, signing)


def attest_subject(
    ctx: click.Context,
    text_id: str,
    about: str,
    text_file: Path | None,
    expires: str,
    party: str,
    role: str,
    documents: tuple[Path, ...],
    entry: int | None,
    signing: dict[str, Any],
    state: tuple[tuple[str, str], ...] = (),
) -> None:
    """Have a person attest a text: what `cognify attest make` and `cognify dataset attest` share.

    `state` is shown in place of the usual row about the state that it counts for.
    """
    from cognify_dagster.documents.catalogues.attestation_texts import load_text, read_attestation_text
    from cognify_dagster.governance import attestation_record, attested_already

    text = read_attestation_text(text_file, text_id) if text_file else load_text(text_id, _own_texts(ctx))
    until, party = (None if expires == NEVER else expires), party.strip()
    days = None if until is None else _days(until)
    problem = text.problem(about, party, days)
    if problem:
        raise click.UsageError(problem)
    workspace = open_workspace(ctx)
    then = consequence(workspace.read(), about)
    attached: list[EvidenceItem] = []

    def record(reading: Reading, signers: tuple[str, ...]) -> Any:
        person = signer(signers)
        chosen = role or role_of(reading, person, text.roles)
        if text.roles and chosen not in text.roles:
            raise click.UsageError(f"{text_id} is attested by {' or '.join(text.roles)}, not by {chosen}")
        if documents and not attached:
            attached.extend(_keep(workspace, path) for path in documents)
        made = attestation_record(
            reading,
            text_id,
            about,
            text.text,
            person,
            role=chosen,
            expires=until,
            text_version=text.version,
            party=party,
            documents=attached,
            state_seq=entry,
        )
        seq = attested_already(reading, made)
        if seq is not None:
            raise click.ClickException(f"this is attested already, by entry {seq}, and still counts")
        return made

    carry_out(
        ctx,
        record,
        signing,
        title="You attest this:",
        rows=[
            ("Text", f"{text_id}: {text.title}{f', version {text.version}' if text.version else ''}"),
            ("About", about),
            *(state or (("State", bound(about, entry)),)),
            ("With", party or "nobody named"),
            ("Until", until or "without end"),
            *(("Document", path.name) for path in documents),
            *([("Then", then)] if then else []),
            ("Reads", ""),
            *(("  |", line) for line in text.text.split("\n")),
        ],
        question="Attest this?",
        more={"text_id": text_id, "about": about, "expires": until},
    )


def _days(until: str) -> float:
    end = datetime.strptime(until, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return (end - now()) / timedelta(days=1)


def _keep(workspace: Workspace, path: Path) -> EvidenceItem:
    import mimetypes

    size = path.stat().st_size
    if size > MAX_DOCUMENT:
        raise click.UsageError(f"{path}: {size} bytes; a document has at most {MAX_DOCUMENT}")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return workspace.put(path.name, path.read_bytes(), kind, "confidential")


@command.command("list", short_help="Show the register: what is attested, by whom, until when.")
@click.option("--text", "text_id", type=TEXT_ID, metavar="TEXT_ID", help="Only this text, such as baa.")
@click.option("--about", type=ABOUT_TYPE, help="Only about this.")
@click.option("--expiring", type=click.IntRange(min=0), metavar="DAYS", help="Only what ends within so many days.")
@click.option("--all", "all_", is_flag=True, help="Also what counts no more.")
@json_option
@click.pass_context
def list_(
    ctx: click.Context, text_id: str | None, about: str | None, expiring: int | None, all_: bool, json_: bool
) -> None:
    """Show the register: what is attested, with whom, by whom, until when. It is the register of agreements with vendors.

    \b
    Example:
      cognify attest list --text baa --expiring 90
    """
    from cognify_dagster.governance import attestation_register, directory

    reading, when = open_workspace(ctx).read(), now()
    people = directory(reading)
    found, problems = attestation_register(reading, people, when)
    chosen = [
        item
        for item in found
        if (text_id is None or item.item.record.text_id == text_id)
        and (about is None or item.item.record.about == about)
        and (expiring is None or _ends_within(item, when, expiring))
    ]
    shown = [item for item in chosen if all_ or item.counts]
    if json_:
        items = [register_json(reading, item, people) for item in shown]
        left_out = [{"entry": seq, "why": why} for seq, why in problems]
        as_json({"attestations": items, "hidden": len(chosen) - len(shown), "without_effect": left_out})
        return
    trial_banner(reading.trial)
    heading(f"Attestations, {when.strftime('%Y-%m-%dT%H:%M:%SZ')}:")
    if shown:
        table(
            ("Entry", "Text", "About", "With", "By", "Until", "State"),
            [register_row(reading, i, people) for i in shown],
        )
    else:
        say("None. What can be attested: `cognify attest texts`.")
    if len(chosen) > len(shown):
        say(f"{len(chosen) - len(shown)} more that count no more; see --all")
    for seq, why in problems:
        say(f"Entry {seq} has no effect: {clean(why)}")


def _ends_within(item: Attestation, when: datetime, days: int) -> bool:
    from cognify_dagster.records import parse_utc

    end = item.item.record.expires
    return end is not None and parse_utc(end) <= when + timedelta(days=days)


@command.command("show")
@click.argument("entry", type=click.IntRange(min=1))
@json_option
@click.pass_context
def show(ctx: click.Context, entry: int, json_: bool) -> None:
    """Show an attestation with its whole text.

    \b
    Example:
      cognify attest show 42
    """
    from cognify_dagster.governance import directory

    reading = open_workspace(ctx).read()
    people = directory(reading)
    item = _found(reading, people, entry)
    record = item.item.record
    if json_:
        as_json({**register_json(reading, item, people), "text": record.text})
        return
    trial_banner(reading.trial)
    pairs(
        [
            ("Text", f"{record.text_id}{f', version {record.text_version}' if record.text_version else ''}"),
            ("About", record.about),
            (
                "State of it",
                f"{record.about_digest}, entry {record.about_seq}" if record.about_digest else "as a whole",
            ),
            ("With", record.party or "nobody named"),
            ("By", f"{people.name(record.attested_by)} as {record.role.replace('_', ' ')}"),
            ("Made", f"entry {item.item.seq}, {moment(item.item.time_us)}"),
            ("Until", record.expires or "without end"),
            ("Stands", standing(reading, item)),
            *(("Document", f"{document.name}, {document.digest}") for document in record.documents),
        ]
    )
    say()
    say(clean(record.text, keep_newlines=True))


def _found(reading: Reading, people: Directory, entry: int) -> Attestation:
    from cognify_dagster.governance import attestation_register

    found = next((i for i in attestation_register(reading, people, now())[0] if i.item.seq == entry), None)
    if found is None:
        raise click.ClickException(f"entry {entry} is no attestation; see `cognify attest list --all`")
    return found


@command.command("withdraw", short_help="Withdraw an attestation.")
@click.argument("entry", type=click.IntRange(min=1))
@reason_option
@act_options(names=("--as", "--key"))
@click.pass_context
def withdraw(ctx: click.Context, entry: int, reason: str | None, **signing: Any) -> None:
    """Withdraw an attestation: the person who made it, a compliance officer or a workspace admin.

    \b
    Example:
      cognify attest withdraw 42 --reason "the agreement was ended" --as carl.key.json
    """
    from cognify_dagster.governance import directory, withdrawal_record

    reading = open_workspace(ctx).read()
    record = _found(reading, directory(reading), entry).item.record
    why = said(reason, "Why is it withdrawn?")
    carry_out(
        ctx,
        lambda found, signers: withdrawal_record(found, entry, signer(signers), why),
        signing,
        title="This attestation is withdrawn:",
        rows=[
            ("Attestation", f"{entry}: {record.text_id}"),
            ("About", record.about),
            ("With", record.party or "nobody named"),
            ("Because", why),
        ],
        question="Withdraw it?",
    )


def _own_texts(ctx: click.Context) -> Path | None:
    """The organisation's own texts: `attestations`, beside its own frameworks; None where there is no such folder."""
    own = own_folder(ctx, None)
    return own / "attestations" if own is not None and (own / "attestations").is_dir() else None


@command.command("texts")
@click.argument("text_id", type=TEXT_ID, required=False)
@json_option
@click.pass_context
def texts(ctx: click.Context, text_id: str | None, json_: bool) -> None:
    """List the texts that can be attested, or show one. The shipped ones are a start: have yours read by your lawyers.

    Your own lie in `attestations`, in the folder that the workspace's setting `frameworks` names.

    \b
    Example:
      cognify attest texts baa
    """
    from cognify_dagster.documents.catalogues.attestation_texts import load_text, text_ids

    own = _own_texts(ctx)
    found = [load_text(name, own) for name in ([text_id] if text_id else text_ids(own))]
    if json_:
        as_json([_text_json(item) for item in found])
        return
    if text_id:
        pairs(
            [
                ("Text", f"{found[0].title}, version {found[0].version or 'none'}"),
                ("Attested by", " or ".join(found[0].roles) or "any role that acts"),
                ("About", " or ".join(found[0].about) or "anything"),
                ("Other side", found[0].party),
                ("At most", f"{found[0].max_days} days" if found[0].max_days else "without end"),
                ("Note", found[0].note or "none"),
            ]
        )
        say()
        say(clean(found[0].text, keep_newlines=True))
        return
    rows = [(i.text_id, i.title, " or ".join(i.roles) or "any", " or ".join(i.about) or "anything") for i in found]
    table(("Text", "Title", "Attested by", "About"), rows)


def _text_json(item: AttestationText) -> dict[str, Any]:
    return {
        "text_id": item.text_id,
        "title": item.title,
        "version": item.version,
        "roles": list(item.roles),
        "about": list(item.about),
        "party": item.party,
        "max_days": item.max_days,
        "note": item.note,
        "text": item.text,
    }
