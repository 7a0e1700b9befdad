"""The policy in force in words, and every policy before it with what changed."""

from __future__ import annotations

import json

from starlette.responses import Response

from cognify_dagster.governance import Policy, directory
from cognify_dagster.governance.policy.text import explain_policy, policy_changes
from cognify_dagster.records import Genesis
from cognify_dagster.review.errors import not_found
from cognify_dagster.review.pages.ledger import number
from cognify_dagster.review.reading.files import Shelf
from cognify_dagster.review.reading.signed import signed_statements
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.visit import Visit


@page("/policy", Need.READ)
def policy(visit: Visit) -> Response:
    """Show the policy that is in force, or was from entry `at` on, and the history."""
    reading, people = visit.reading, directory(visit.reading)
    at = number(visit.query("at"), "at")
    chosen = next((one for one in people.policies if one[0] == at), None) if at is not None else people.policies[-1]
    if chosen is None:
        raise not_found(f"A policy that came into force with entry {at}")
    seq, shown, digest = chosen
    visit.subject = "policy"
    history, shelf = [], Shelf(visit)
    before: Policy | None = None
    for entry, one, its_digest in people.policies:
        item = reading.at(entry)
        record = item.record if item is not None else None
        reason = "founding of the workspace" if isinstance(record, Genesis) else str(getattr(record, "reason", ""))
        history.append(
            {
                "seq": entry,
                "time_us": item.time_us if item is not None else None,
                "digest": its_digest,
                "reason": reason,
                "signed": signed_statements(reading, item) if item is not None else (),
                "files": shelf.of_entry(entry),
                "changes": [] if before is None else policy_changes(before, one),
                "in_force": entry == people.policies[-1][0],
            }
        )
        before = one
    return visit.render(
        "policy.html.j2",
        title=shown.title,
        digest=digest,
        seq=seq,
        current=seq == people.policies[-1][0],
        sections=explain_policy(shown),
        history=list(reversed(history)),
        problems=[*people.policy_problems, *people.policy_unreadable],
    )


@page("/policy/download", Need.READ)
def policy_download(visit: Visit) -> Response:
    """Give a policy as canonical facts in JSON: the one in force, or that of entry `at`."""
    people = directory(visit.reading)
    at = number(visit.query("at"), "at")
    found = next((one for one in people.policies if one[0] == at), None) if at is not None else people.policies[-1]
    if found is None:
        raise not_found(f"A policy that came into force with entry {at}")
    visit.subject, visit.detail = "policy", found[2]
    data = json.dumps(found[1].as_json(), indent=2, ensure_ascii=False).encode() + b"\n"
    return visit.download(data, f"policy-entry-{found[0]}.json", "application/json")
