"""What the commands that oversee models share: who signs alone or together, reasons, pairs of words."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from cognify_dagster.cli.act_away import Make
    from cognify_dagster.records import Record

F = TypeVar("F", bound=Callable[..., Any])

reason_option = click.option("--reason", help="Why; it stands in the ledger. Asked for at a terminal.")


def signer(signers: Sequence[str]) -> str:
    """Return the one person who signs.

    Raises:
        click.UsageError: if several are named.
    """
    if len(set(signers)) != 1:
        raise click.UsageError("one person signs this: give one --as, or one --signer")
    return signers[0]


def alone(kind: type[Record], facts: Mapping[str, Any], field: str) -> Make:
    """Return what makes an act that one person signs, for `carry_out`; `field` is the fact that names them."""
    from cognify_dagster.governance.signing.acts import UNSIGNED

    return lambda _, signers: kind.model_validate({**facts, field: signer(signers), "envelope": UNSIGNED})


def together(kind: type[Record], facts: Mapping[str, Any], field: str = "signers") -> Make:
    """Return what makes an act that several people sign, for `carry_out`; `field` is the fact that names them."""
    return lambda _, signers: kind.model_validate({**facts, field: tuple(sorted(set(signers))), "envelopes": ()})


def said(reason: str | None, question: str) -> str:
    """Return a reason, asking for it at a terminal.

    Raises:
        click.UsageError: if there is none and no terminal to ask at.
    """
    text = (reason or "").strip()
    while not text:
        if not sys.stdin.isatty():
            raise click.UsageError("say why with --reason; an act without a reason helps nobody")
        text = str(click.prompt(question, default="", show_default=False, err=True)).strip()
    return text


def assigned(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Read `ACTIVITY=person/…` pairs.

    Raises:
        click.UsageError: naming the option and the pair.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        activity, separator, person = (part.strip() for part in pair.partition("="))
        if not separator or not activity or not re.fullmatch(r"person/[a-z0-9][a-z0-9-]{1,60}", person):
            raise click.UsageError(
                f"{option} {pair[:80]!r}: expected an activity and a person, such as monitoring=person/ben"
            )
        found[activity] = person
    return found


def now() -> datetime:
    """Return the time to the second, UTC."""
    return datetime.now(timezone.utc).replace(microsecond=0)
