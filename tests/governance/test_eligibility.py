"""What keeps somebody from signing is said before they try, by the rules that refuse afterwards."""

from __future__ import annotations

import pytest

from cognify_dagster.governance import Choice, SignOffDenied, obstacles, submit
from tests.governance.world import MODEL, World


def why(world: World, name: str, decision: str = "approve", **choice: object) -> list[str]:
    """Return the obstacles of a person."""
    chosen = Choice(decision, **choice)  # type: ignore[arg-type]
    return obstacles(world.workspace.read(), MODEL, "1", f"person/{name}", chosen)


def test_nothing_keeps_the_right_person(ready: World) -> None:
    before = ready.workspace.ledger.size()
    assert why(ready, "vera") == []
    assert ready.workspace.ledger.size() == before


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("ben", {"stage": "validation"}),
        ("carl", {"stage": "compliance"}),
        ("vera", {"stage": "business"}),
        ("vera", {"decision": "block"}),
        ("vera", {"targets": ()}),
        ("vera", {"expires": "2020-01-01T00:00:00Z"}),
        ("vera", {"decision": "approve_with_conditions"}),
    ],
)
def test_what_is_said_before_is_what_refuses_afterwards(ready: World, name: str, choice: dict[str, object]) -> None:
    given = {"decision": "approve"} | choice
    said = why(ready, name, **given)  # type: ignore[arg-type]
    with pytest.raises(SignOffDenied) as caught:
        submit(ready.workspace, ready.sign(name, **given))  # type: ignore[arg-type]
    assert said == caught.value.reasons


def test_the_strength_is_that_of_the_strongest_key_unless_given(ready: World) -> None:
    assert why(ready, "vera") == []
    weak = obstacles(ready.workspace.read(), MODEL, "1", "person/vera", Choice("approve"), strength="S2")
    assert weak == ["stage 'validation' needs a signature of strength S3; this one has S2"]
