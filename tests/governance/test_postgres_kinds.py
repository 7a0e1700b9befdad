"""The ledger room may not import this one, so what both have to agree on stands in both, and is compared here."""

from __future__ import annotations

from cognify_dagster.governance.people.authority import PERSON_SIGNED
from cognify_dagster.ledger.postgres import schema
from cognify_dagster.records import KeyRevoked, WorkloadEnrolled


def test_postgres_asks_for_a_writer_where_governance_does() -> None:
    assert sorted(schema.PERSON_SIGNED) == sorted(PERSON_SIGNED)


def test_postgres_follows_the_acts_about_machines() -> None:
    assert f"{{genesis,{WorkloadEnrolled.kind},{KeyRevoked.kind}}}" == schema.ACT_KINDS
