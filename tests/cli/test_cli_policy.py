"""Policy files: checked with line and field, compared and explained in words, adopted by people on two machines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cognify_dagster.governance import DEFAULT_POLICY_YAML, Policy, parse_policy, policy_in_force
from cognify_dagster.governance.policy.text import explain_policy, policy_changes
from tests.cli.conftest import Cognify, key_file
from tests.governance.world import World

BASE = parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML))
SECOND_STAGE = {"kind": "sign_off", "role": "auditor", "meaning": "I looked at it."}


def changed(**changes: Any) -> Policy:
    return parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML) | changes)


def tier(**changes: Any) -> Policy:
    tiers = yaml.safe_load(DEFAULT_POLICY_YAML)["tiers"]
    return changed(tiers={**tiers, "high": {**tiers["high"], **changes}})


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        (tier(approval_days=365), "tier high: approvals last 365 days instead of 180"),
        (tier(review_days=90), "tier high: what is live is reviewed every 90 days instead of every 365 days"),
        (tier(overdue_review="show"), "tier high: an overdue review means show instead of block"),
        (tier(stages=["automated", "business"]), "tier high: stages: drops validation, compliance"),
        (changed(voids=["incident", "data_change"]), "voids: adds data_change and drops base_model_change, drift_breach, "),
        (changed(break_glass={"enabled": True}), "break glass: enabled: yes instead of no"),
        (changed(targets={"production": {"after": ["canary"]}}), "target production: new: after canary"),
        (changed(people={"vouchers": 3}), "people: vouchers: 3 instead of 2"),
        (changed(title="Other"), "title: Other instead of Model release policy"),
        (changed(stages={**yaml.safe_load(DEFAULT_POLICY_YAML)["stages"], "x": SECOND_STAGE}), "stage x: new: "),
        (changed(separation_of_duties={"exclude": []}), "separation of duties: exclude: drops run_launcher, "),
    ],
)  # fmt: skip
def test_a_difference_is_told_in_words(after: Policy, sentence: str) -> None:
    lines = policy_changes(BASE, after)
    assert len(lines) == 1
    assert lines[0].startswith(sentence)
    assert policy_changes(after, BASE), "and the other way round"
    assert policy_changes(after, after) == []


def test_every_field_of_a_policy_is_compared() -> None:
    """Another value in any field of the whole policy gives a line that is about it."""
    other: dict[type, Any] = {bool: lambda v: not v, int: lambda v: v + 1, str: lambda v: v + "x"}

    def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        if isinstance(value, dict) and value:
            return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
        return [path]

    data = BASE.as_json()
    for path in leaves(data):
        copy = json.loads(json.dumps(data))
        holder = copy
        for key in path[:-1]:
            holder = holder[key]
        old = holder[path[-1]]
        special = ["x"] if isinstance(old, list) else {"x": {}} if isinstance(old, dict) else 7
        holder[path[-1]] = other[type(old)](old) if type(old) in other else special
        changes = policy_changes(BASE, _Raw(copy))  # type: ignore[arg-type]
        assert len(changes) == 1, path
        assert "/".join(path[:1]).rstrip("s").replace("_", " ") in changes[0], path


class _Raw:
    """A policy as JSON values that need not be valid."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def as_json(self) -> dict[str, Any]:
        return self.data


def test_the_commented_lines_show_the_defaults() -> None:
    """Uncommenting every option of the standard policy changes nothing."""
    top = "people|targets|findings|break_glass|voids|blocked_live|classifiers|rollback_roles|review_roles|unclassified_tier"
    text = re.sub(rf"(?m)^# ((?:{top}):.*)$", r"\1", DEFAULT_POLICY_YAML)
    text = re.sub(r"(?m)^#   (\w+:.*)$", r"  \1", text)
    inner = "overdue_review|change_plans|quorum|further_roles|min_strength|conflicts"
    text = re.sub(rf"(?m)^(\s+)# ((?:{inner}):.*)$", r"\1\2", text)
    assert text.count("#") < DEFAULT_POLICY_YAML.count("#") - 20
    assert parse_policy(yaml.safe_load(text)).digest == BASE.digest


def test_plain_sentences_name_every_stage_tier_and_number() -> None:
    said = "\n".join(line for _, lines in explain_policy(changed(break_glass={"enabled": True})) for line in lines)
    for part in (
        "1 model validator signs",
        "Approvals last 180 days",
        "every 365 days",
        "at most 72 hours",
        "an auditor",
    ):
        assert part in said
    for stage in BASE.stages.values():
        assert stage.title in said
    assert "_" not in said


def test_explain_and_schema(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    shown = cognify("policy", "explain", at=founded)
    assert shown.code == 0
    assert "in force since entry 0" in shown.out
    value = cognify("policy", "explain", "--json", at=founded).json
    assert "Tier high" in [item["title"] for item in value["sections"]]
    file = tmp_path / "policy.yaml"
    file.write_text(DEFAULT_POLICY_YAML)
    assert "Business sign-off" in cognify("policy", "explain", file).out
    schema = cognify("policy", "schema").json
    assert {"tiers", "stages", "break_glass"} <= set(schema["properties"])
    assert schema["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize(
    ("old", "new", "code", "part"),
    [
        ("quorum: 1 ", "quorum: 0 ", 0, ""),
        ("title: Model release policy", "titel: Model release policy", 1, "policy.yaml: titel: "),
        ("approval_days: 180", "approval_days: 0", 1, "policy.yaml: tiers.high.approval_days: "),
        ("unattributed: block", "unattributed: block\nunattributed: warn", 3, "key 'unattributed' is repeated"),
    ],
)
def test_check_names_file_and_field(old: str, new: str, code: int, part: str, cognify: Cognify, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(DEFAULT_POLICY_YAML.replace(old, new, 1))
    result = cognify("policy", "check", file)
    assert result.code == code
    assert part in result.err
    if code == 3:
        assert re.search(r"policy\.yaml, line \d+: key", result.err)


def test_a_policy_is_compared_and_adopted_by_two_people_on_two_machines(
    founded: World, cognify: Cognify, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(DEFAULT_POLICY_YAML.replace("approval_days: 180", "approval_days: 90"))
    sentence = "tier high: approvals last 90 days instead of 180"
    assert sentence in cognify("policy", "diff", file, at=founded).out
    assert "Only the first policy" in cognify("policy", "diff", at=founded).out
    draft = tmp_path / "draft.json"
    words = ("policy", "adopt", file, "--reason", "yearly review", "--export", draft, "--signer", "person/ada")
    assert "2 different people" in cognify(*words, at=founded).err
    assert cognify(*words, "--signer", "person/finn", at=founded).code == 0
    copies = [tmp_path / f"{name}.json" for name in ("ada", "finn")]
    for name, copy in zip(("ada", "finn"), copies, strict=True):
        assert cognify("act", "sign", draft, "--key", key_file(founded, name), "--out", copy, "--yes").code == 0
    done = cognify("act", "submit", *copies, "--json", at=founded)
    assert done.code == 0, done.err
    found = policy_in_force(founded.workspace.read())
    assert (found.seq, found.policy.tiers["high"].approval_days) == (done.json["entry"], 90)
    value = cognify("policy", "diff", "--json", at=founded).json
    assert (value["from"]["entry"], value["changes"]) == (0, [sentence])
    back = cognify("policy", "diff", "--from", found.seq, "--to", 0, at=founded).out
    assert "approvals last 180 days instead of 90" in back
    assert "They say the same" in cognify("policy", "diff", file, at=founded).out
    wrong = cognify("policy", "diff", "--to", 3, at=founded)
    assert wrong.code == 5
    assert f"those that did: 0, {found.seq}" in wrong.err


def test_adopting_here_tells_what_changes(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(DEFAULT_POLICY_YAML.replace("approval_days: 180", "approval_days: 90"))
    keys = ("--key", key_file(founded, "ada"), "--as", key_file(founded, "finn"))
    done = cognify("policy", "adopt", file, "--reason", "r", *keys, "--yes", at=founded)
    assert done.code == 0, done.err
    assert "Change     tier high: approvals last 90 days instead of 180" in done.out
    assert "In force from entry" in done.out
