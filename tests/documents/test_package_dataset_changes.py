"""How each data set changed since the last release: who, why, what, and who agreed; in the package and as printed."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from cognify_dagster.documents import collect
from cognify_dagster.documents.package.building import package_schema
from cognify_dagster.documents.view.dataset_changes import dataset_change_blocks
from cognify_dagster.documents.view.registers import change_blocks
from cognify_dagster.governance import decide_change, give_reason
from cognify_dagster.records import DatasetDiffRecorded, DatasetRef
from tests.documents.conftest import NOW
from tests.documents.story import Story
from tests.documents.test_pdf import lines_of

DIGEST = "sha256:" + "7e" * 32


def differ(story: Story, old: DatasetRef, new: DatasetRef, **summary: Any) -> int:
    return story.put(
        DatasetDiffRecorded(
            name=new.name,
            old_root=old.root,
            new_root=new.root,
            old_seq=old.seq,
            new_seq=new.seq,
            diff_digest=DIGEST,
            summary=summary or {"text": "40 records added", "records": {"added": 40, "removed": 0, "changed": 0}},
        )
    )


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Version 1 released; the training data changed twice, the first change approved, the second rejected after it was used."""
    story = Story(tmp_path_factory.mktemp("changed"))
    story.prepare_version("1")
    story.package([], NOW)
    story.sign_all()
    story.release()
    first = story.train_ref
    second = story.snapshot(
        "loans_train", "c", 24010, author="person/ben", change_reason="March was added", parent_root=first.root
    )
    differ(story, first, second)
    decide_change(story.ws, story.keys["person/vera"], "loans_train", None, "approve", comment="as announced")
    third = story.snapshot("loans_train", "e", 24000, author="person/ben")
    differ(story, second, third, text="10 records removed", records={"removed": 10, "secret": "Ada"}, examples=["Ada"])
    give_reason(story.ws, story.keys["person/ben"], "loans_train", None, "Ten records were erased")
    story.train_ref = third
    story.train("2")
    story.evaluate()
    decide_change(story.ws, story.keys["person/vera"], "loans_train", None, "reject", comment="too many went")
    story.content = story.package([], NOW)
    return story


def by_name(package: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in package["changes"]["datasets"]}


def test_each_step_says_who_why_what_and_who_agreed(changed: Story) -> None:
    jsonschema.validate(changed.content, package_schema())
    item = by_name(changed.content)["loans_train"]
    assert (item["roles"], item["before"]["root"], item["after"]["root"]) == (["train"], "a" * 64, "e" * 64)
    one, two = item["changes"]
    assert (one["old_root"], one["root"], two["old_root"], two["root"]) == ("a" * 64, "c" * 64, "c" * 64, "e" * 64)
    assert one["author"] == {"id": "person/ben", "name": "Ben Okafor"}
    assert (one["reason"]["text"], one["reason"]["person"]) == ("March was added", None), "the snapshot itself says it"
    assert one["difference"]["digest"] == DIGEST
    assert one["difference"]["counts"] == {"records": {"added": 40, "changed": 0, "removed": 0}}
    assert one["state"] == "approved"
    (approval,) = one["decisions"]
    assert (approval["person"]["name"], approval["counts"], approval["before_use"]) == ("Vera Marković", True, True)
    assert two["reason"]["person"]["name"] == "Ben Okafor"
    assert two["state"] == "rejected"
    assert [(d["decision"], d["before_use"]) for d in two["decisions"]] == [("reject", False)]


def test_no_value_of_a_record_passes_from_a_summary(changed: Story) -> None:
    two = by_name(changed.content)["loans_train"]["changes"][1]
    assert two["difference"]["counts"] == {"records": {"removed": 10}}
    assert "Ada" not in json.dumps(changed.content["changes"])


def test_data_that_did_not_change_say_so_and_every_entry_can_be_cited(changed: Story) -> None:
    assert by_name(changed.content)["loans_holdout"]["changes"] == []
    facts = collect(changed.ws.read(), changed.model, "2")
    cited = facts.entries()
    for item in changed.content["changes"]["datasets"]:
        for change in item["changes"]:
            for part in (change, change["reason"], change["difference"], *change["decisions"]):
                assert cited[part["entry"]["seq"]] == part["entry"]["leaf"]


def test_print_shows_it(changed: Story) -> None:
    shown = "\n".join(lines_of({"blocks": change_blocks(changed.content)}))
    for said in (
        "2 steps since version 1",
        "the same data as in version 1",
        "“March was added”",
        "by Ben Okafor",
        "40 records added",
        DIGEST[7:23],
        "● approved by Vera Marković (model validator) “as announced”",
        "○ rejected by Vera Marković (model validator), after it was used “too many went”",
        "signed by Ben Okafor",
    ):
        assert said in shown


def test_a_step_without_reason_difference_or_decision_says_so(two_versions: Story) -> None:
    package = json.loads(json.dumps(two_versions.content))
    jsonschema.validate(package, package_schema())
    (step,) = by_name(package)["loans_train"]["changes"]
    assert (step["reason"], step["difference"], step["author"], step["state"]) == (None, None, None, "not_approved")
    shown = "\n".join(lines_of({"blocks": dataset_change_blocks(package["changes"])}))
    for said in ("no reason declared", "the difference is not on record", "nobody decided", "nobody on record"):
        assert said in shown


def test_a_first_release_shows_what_brought_the_data(story: Story) -> None:
    story.prepare_version("1")
    package = story.package([], NOW)
    jsonschema.validate(package, package_schema())
    item = by_name(package)["loans_train"]
    assert (item["before"], item["changes"][0]["old_root"]) == (None, None)
    shown = "\n".join(lines_of({"blocks": change_blocks(package)}))
    assert "No earlier version" in shown
    assert "first snapshot" in shown


def test_going_back_to_older_data_is_told(changed: Story, tmp_path: Any) -> None:
    item = dict(by_name(changed.content)["loans_train"])
    item["before"], item["after"] = item["after"], item["before"]
    shown = "\n".join(lines_of({"blocks": dataset_change_blocks({"since": "1", "datasets": [item]})}))
    assert "an earlier state than version 1 used" in shown
    assert dataset_change_blocks({"since": "1"}) == [], "packages of earlier builds do not say"
