"""`cognify section`: texts of a version are recorded from files, shown, compared and signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cognify, key_file
from tests.governance.world import MODEL, World

HEAD = "---\nai_drafted: {}\nauthor: {}\n---\n"


def put(world: World, name: str, text: str, *, drafted: bool = False, author: str = "person/ben") -> Path:
    folder = world.folder / "project" / "sections" / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(HEAD.format(str(drafted).lower(), author) + text, encoding="utf-8")
    return folder


def sync(cognify: Cognify, world: World, folder: Path, version: str = "1", *more: object) -> str:
    result = cognify("section", "sync", MODEL, version, folder, *more, at=world)
    assert result.code == 0, result.err
    return result.out


def test_texts_are_recorded_listed_and_shown(ready: World, cognify: Cognify) -> None:
    put(ready, "limitations", "# One issuer\n\nTaiwan, 2005.\x07".replace("\x07", ""))
    folder = put(ready, "failure_modes", "Drifts.", author="Zoe")
    assert "written" in sync(cognify, ready, folder)
    assert "unchanged, nothing written" in sync(cognify, ready, folder)
    assert "'Zoe' is not enrolled; recorded as not stated" in sync(cognify, ready, folder)
    listed = cognify("section", "list", MODEL, "1", at=ready)
    assert "Ben (stated, not signed)" in listed.out
    assert "not stated" in listed.out
    shown = cognify("section", "show", MODEL, "1", "limitations", "--history", at=ready)
    assert "# One issuer\n\nTaiwan, 2005." in shown.out
    assert "sections/credit_default/limitations.md" in shown.out
    value = cognify("section", "show", MODEL, "1", "limitations", "--json", at=ready).json
    assert (value["text"], value["author"], value["author_signed"]) == (
        "# One issuer\n\nTaiwan, 2005.",
        "person/ben",
        False,
    )
    both = cognify("section", "list", MODEL, "1", "--json", at=ready).json["sections"]
    assert [item["section"] for item in both] == ["failure_modes", "limitations"]


def test_a_draft_counts_once_it_is_signed(ready: World, cognify: Cognify) -> None:
    folder = put(ready, "limitations", "What the program thinks.", drafted=True)
    sync(cognify, ready, folder)
    assert "does not count until signed" in cognify("section", "list", MODEL, "1", at=ready).out.replace("\n", " ")
    words = ("section", "approve", MODEL, "1", "limitations", "--yes")
    refused = cognify(*words, "--as", key_file(ready, "ben"), "--role", "data_scientist", at=ready)
    assert refused.code == 5
    assert "is answered for by" in refused.err
    done = cognify(*words, "--as", key_file(ready, "vera"), "--comment", "read it", at=ready)
    assert done.code == 0, done.err
    assert "What the program thinks." in done.out, "what is signed is shown in full"
    (item,) = cognify("section", "list", MODEL, "1", "--json", at=ready).json["sections"]
    assert (item["counts"], item["ai_drafted"], item["approvals"][0]["name"]) == (True, True, "Vera")
    again = cognify(*words, "--as", key_file(ready, "vera"), "--json", at=ready)
    assert again.code == 1
    assert "Vera signed under this text already" in again.err
    author = cognify(*words, "--as-author", "--as", key_file(ready, "ben"), at=ready)
    assert author.code == 0, author.err
    assert cognify("section", "list", MODEL, "1", "--json", at=ready).json["sections"][0]["author_signed"]


def test_it_is_signed_on_another_machine(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    sync(cognify, ready, put(ready, "limitations", "A draft.", drafted=True))
    draft, signed = tmp_path / "draft.json", tmp_path / "signed.json"
    words = ("section", "approve", MODEL, "1", "limitations")
    out = cognify(*words, "--export", draft, "--signer", "person/vera", at=ready)
    assert out.code == 0, out.err
    away = cognify("act", "sign", draft, "--key", key_file(ready, "vera"), "--out", signed, "--yes")
    assert away.code == 0, away.err
    assert cognify("act", "submit", signed, at=ready).code == 0
    assert cognify("section", "list", MODEL, "1", "--json", at=ready).json["sections"][0]["counts"]


def test_a_new_version_takes_texts_over_and_shows_what_nobody_reviewed(ready: World, cognify: Cognify) -> None:
    folder = put(ready, "limitations", "One issuer.")
    sync(cognify, ready, put(ready, "failure_modes", "Drifts."))
    ready.train("2")
    (folder / "failure_modes.md").unlink()
    put(ready, "limitations", "Two issuers.")
    out = sync(cognify, ready, folder, "2", "--carry-over")
    assert "taken over from version 1" in out
    assert f"section approve {MODEL} 2 SECTION" in out
    listed = cognify("section", "list", MODEL, "2", at=ready).out
    assert "not reviewed since" in " ".join(listed.split())
    changes = cognify("section", "diff", MODEL, "2", at=ready)
    assert "-One issuer.\n+Two issuers." in changes.out
    assert "The same in 1 and 2: failure_modes" in changes.out
    value = cognify("section", "diff", MODEL, "2", "limitations", "--against", "1", "--json", at=ready).json
    assert value["against"] == "1"
    assert "+Two issuers." in value["sections"]["limitations"]


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("sync", MODEL, "1"), 5, "name the folder"),
        (("sync", MODEL, "1", "nowhere"), 1, "there is no such folder"),
        (("sync", MODEL, "1", ".", "--from", "0"), 5, "--from goes with --carry-over"),
        (("sync", MODEL, "9", "."), 1, "was never opened"),
        (("list", MODEL, "9"), 1, "no version '9'"),
        (("show", MODEL, "1", "limitations"), 1, "has no text; recorded are: none"),
        (("show", MODEL, "1", "Limits!"), 5, "not the name of a section"),
        (("diff", MODEL, "1"), 1, "name one with --against"),
    ],
)
def test_what_cannot_be_done_is_said(
    words: tuple[str, ...], code: int, part: str, ready: World, cognify: Cognify
) -> None:
    result = cognify("section", *words, at=ready)
    assert result.code == code
    assert part in result.err


def test_text_cannot_play_tricks_on_a_terminal(ready: World, cognify: Cognify) -> None:
    sync(cognify, ready, put(ready, "limitations", "safe \u202eevil\u2066"))
    shown = cognify("section", "show", MODEL, "1", "limitations", at=ready).out
    assert "\u202e" not in shown
    assert "<U+202E>" in shown
