"""The directory of people is used again until an entry from which it follows is added or erased."""

from __future__ import annotations

from cognify_dagster.governance import directory
from cognify_dagster.governance.people import directory as module
from cognify_dagster.records import ReleaseGranted
from tests.governance.world import MODEL, World


def _grant(world: World) -> ReleaseGranted:
    package = "sha256:" + "a" * 64
    return ReleaseGranted(
        model=MODEL, version="1", target="production", round="b" * 64, package_digest=package, package_seq=1, model_digest=package,
        sign_off_seqs=(), gate_seqs=(), decided_on_size=1, decided_at="2026-11-20T10:00:00Z", policy_digest=package,
        relied_on=("people", "policy"),
    )  # fmt: skip


def test_a_release_names_people_and_policy_and_changes_neither(founded: World) -> None:
    before = directory(founded.workspace.read())
    founded.write(_grant(founded))
    reading = founded.workspace.read()
    assert reading.view.heads["people"] == reading.size - 1
    assert directory(reading) is before
    assert directory(reading).newest < reading.size - 1


def test_an_enrolment_a_revocation_and_an_erasure_are_taken_in(founded: World) -> None:
    before = directory(founded.workspace.read())
    founded.enrol("nina", "model_validator")
    reading = founded.workspace.read()
    assert directory(reading) is not before
    assert "person/nina" in directory(reading).standings
    assert "person/nina" not in before.standings
    founded.erase(reading.size - 1)
    assert directory(founded.workspace.read()).valid_keys("person/nina", founded.workspace.ledger.size()) == {}


def test_an_older_reading_has_the_directory_of_then(founded: World) -> None:
    size = founded.workspace.ledger.size()
    founded.enrol("nina", "model_validator")
    assert "person/nina" in directory(founded.workspace.read()).standings
    old = founded.workspace.read(size)
    assert "person/nina" not in directory(old).standings
    assert "person/nina" in directory(founded.workspace.read()).standings


def test_what_is_kept_equals_what_is_built_anew(founded: World) -> None:
    directory(founded.workspace.read())
    founded.write(_grant(founded))
    founded.enrol("nina", "model_validator")
    founded.write(_grant(founded))
    reading = founded.workspace.read()
    assert directory(reading) == module._build(reading)
