"""`cognify notify`: telling people without Dagster."""

from __future__ import annotations

import json
import sys

from tests.cli.conftest import Cognify
from tests.governance.world import MODEL, World

PROGRAM = "import sys; open('told.jsonl', 'a').write(sys.stdin.read() + chr(10))"


def configure(world: World, program: str = PROGRAM) -> None:
    path = world.workspace.config.path
    command = json.dumps([sys.executable, "-c", program])
    path.write_text(path.read_text() + f'\n[[notify]]\nkind = "command"\nname = "hook"\ncommand = {command}\n')


def test_a_dry_run_shows_who_would_be_told_and_remembers_nothing(ready: World, cognify: Cognify) -> None:
    for _ in range(2):
        result = cognify("notify", "--dry-run", at=ready)
        assert result.code == 0
        assert "would tell Vera (no address: enrol the alias mail:…)" in result.out
        assert f"{MODEL} 1 waits for your sign-off for production: Independent validation" in result.out
    assert not (ready.workspace.home / "notified.json").exists()
    assert cognify("notify", at=ready).code != 0  # there is no way to tell anybody


def test_each_news_is_told_once(ready: World, cognify: Cognify) -> None:
    configure(ready)
    assert "told Vera" in cognify("notify", at=ready).out
    assert "Nothing new to tell." in cognify("notify", at=ready).out
    ready.approve("vera")
    value = cognify("notify", "--json", at=ready).json
    assert [item["person"] for item in value["told"]] == ["person/carl"]
    lines = (ready.workspace.config.path.parent / "told.jsonl").read_text().splitlines()
    assert [json.loads(line)["person"] for line in lines] == ["person/vera", "person/carl"]


def test_what_is_not_taken_is_code_3_and_tried_again(ready: World, cognify: Cognify) -> None:
    configure(ready, "import sys; sys.exit(1)")
    result = cognify("notify", at=ready)
    assert result.code == 3
    assert "ended with status 1" in result.err
    assert cognify("notify", at=ready).code == 0  # not at once


def test_with_a_review_site_each_message_has_the_address_of_the_page(ready: World, cognify: Cognify) -> None:
    path = ready.workspace.config.path
    path.write_text(path.read_text() + '\n[review]\nurl = "https://review.bank.example"\n')
    result = cognify("notify", "--dry-run", at=ready)
    assert f"https://review.bank.example/models/{MODEL}/1" in result.out
