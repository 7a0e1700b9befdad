"""Installs a released model folder, and asks the live one about a message.

Invariants: which model is live is asked of the ledger; the folder is used only after the digest over all its files equalled the live
one; installing replaces nothing, each model lies in a folder named by its digest.

Try it: `python -m examples.sms_finetune.service --workspace FOLDER "You have won a prize, call 09061234567"`
"""

from __future__ import annotations

import argparse
import hmac
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cognify_dagster.governance import live
from cognify_dagster.training import TrainingError, digest_files
from cognify_dagster.workspace import Workspace, WorkspaceError
from examples.sms_finetune.finetune import QUIET, spam_scores

MODEL = "sms_spam"
TARGET = "production"


class RefusedModel(RuntimeError):
    """There is no model that may be used; the message says why."""


def install(folder: Path, digest: str, target: Path) -> Path:
    """Copy a released model folder below `target`, under its digest. Doing it again changes nothing.

    Raises:
        RefusedModel: the folder has another digest.
    """
    plain = digest.removeprefix("sha256:")
    place = target / plain
    if place.exists():
        return checked(place, plain)
    target.mkdir(parents=True, exist_ok=True)
    new = target / f".{plain}.new"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(folder, new)
    checked(new, plain)
    new.rename(place)
    return place


def checked(folder: Path, digest: str) -> Path:
    """Return the folder if its files have this digest.

    Raises:
        RefusedModel: they have not.
    """
    try:
        found = digest_files(folder).sha256
    except TrainingError as error:
        raise RefusedModel(f"not used: {error}") from None
    if not hmac.compare_digest(found, digest.removeprefix("sha256:")):
        raise RefusedModel(f"not used: the files in {folder} have digest {found}, released is {digest}")
    return folder


def live_folder(workspace: Workspace) -> Path:
    """Return the live model's folder, checked against the ledger.

    Raises:
        RefusedModel: nothing is live, or its files are not what was released.
    """
    found = live(workspace.read(), MODEL, TARGET)
    if found is None:
        raise RefusedModel(f"no version of {MODEL} is live on {TARGET}")
    return checked(
        service_folder(workspace) / found.record.model_digest.removeprefix("sha256:"), found.record.model_digest
    )


def service_folder(workspace: Workspace) -> Path:
    """Where released models are installed."""
    return workspace.home / "service" / MODEL


def main(argv: Sequence[str] | None = None) -> int:
    """Say how likely each message is spam. Returns 1 where no model may be used."""
    parser = argparse.ArgumentParser(prog="python -m examples.sms_finetune.service", description=__doc__.split("\n")[0])
    parser.add_argument("--workspace", type=Path, required=True, help="the folder that the demo made")
    parser.add_argument("message", nargs="+")
    arguments = parser.parse_args(argv)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        folder = live_folder(Workspace.open(arguments.workspace))
    except (RefusedModel, WorkspaceError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    for text, score in zip(arguments.message, spam_scores(folder, arguments.message), strict=True):
        print(f"{score:.3f}  {text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
