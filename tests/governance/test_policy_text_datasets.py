"""What `cognify policy diff` says of rules for data."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from cognify_dagster.governance.policy.default import DEFAULT_POLICY_YAML
from cognify_dagster.governance.policy.document import Policy, parse_policy
from cognify_dagster.governance.policy.text import policy_changes

LOANS = {"names": ["loans*"], "reason": "required"}


def policy(rules: Sequence[dict[str, object]]) -> Policy:
    return parse_policy({**yaml.safe_load(DEFAULT_POLICY_YAML), "datasets": list(rules)})


def test_a_new_rule_for_data_is_told_in_a_sentence() -> None:
    assert policy_changes(policy([]), policy([LOANS])) == [
        "datasets: adds No model is trained or evaluated on datasets named loans* after a change without a declared reason."
    ]


def test_a_rule_that_is_gone_is_told_and_the_same_rules_are_no_change() -> None:
    assert policy_changes(policy([LOANS]), policy([LOANS])) == []
    (line,) = policy_changes(policy([LOANS]), policy([]))
    assert line.startswith("datasets: drops No model")
