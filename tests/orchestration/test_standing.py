"""What the approval sensor tells Dagster about where each version stands: every change, once, and nothing it must decide anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cognify_dagster import LedgerResource
from cognify_dagster.governance import Choice, Condition, create_key, decide, enrol_person, revoke_key, sign_off
from cognify_dagster.orchestration import standing
from cognify_dagster.orchestration.sensors import sign_off_key
from cognify_dagster.records import DeploymentCompleted, Person, ReleaseRefused
from tests.orchestration import project
from tests.orchestration.desk import Desk

PACKAGE, SERVICE = dg.AssetKey("tiny_package"), dg.AssetKey(project.SERVICE)
CHECK = sign_off_key(PACKAGE)


class Daemon:
    """The approval sensor over several ticks, with what the daemon does with its result, save launching runs."""

    def __init__(self, desk: Desk, instance: dg.DagsterInstance) -> None:
        self.desk, self.instance = desk, instance
        desk.instance = instance
        self.cursor: str | None = None

    def tick(self) -> Any:
        """Evaluate the sensor; report its events and run the checks that it asks for. Releases are left to the test."""
        context = dg.build_sensor_context(
            instance=self.instance,
            instance_ref=self.instance.get_ref(),
            definitions=project.defs,
            resources={"ledger": LedgerResource()},
            cursor=self.cursor,
        )
        data = project.defs.resolve_sensor_def("tiny_approval_sensor").evaluate_tick(context)
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = data.cursor
        self.reports = [item for item in data.run_requests if item.tags.get("cognify/purpose") == "report_sign_off"]
        for item in self.reports:
            assert item.asset_selection == []
            assert item.asset_check_keys == [CHECK]
            ran = self.desk.run([], item.partition_key, checks=[("tiny_package", "sign_off")], tags=dict(item.tags))
            assert ran.success, ran.failure
        return data

    def releases(self) -> list[str | None]:
        """Tick; return the versions whose release is requested."""
        return [item.partition_key for item in self.tick().run_requests if "cognify/release_round" in item.tags]

    def page(self, asset: dg.AssetKey, version: str) -> dict[str, Any]:
        """Metadata as the partition's page shows it: the newest observation over the materialization before it."""
        where = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[version])
        made = self.instance.fetch_materializations(where, limit=1).records
        seen = self.instance.fetch_observations(where, limit=1).records
        shown: dict[str, Any] = dict(made[0].asset_materialization.metadata) if made else {}
        if seen and (not made or seen[0].timestamp >= made[0].timestamp):
            shown |= seen[0].asset_observation.metadata
        return shown

    def check(self, version: str) -> dg.AssetCheckEvaluation:
        """The newest evaluation of the sign-off check about a version."""
        for record in self.instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=100):
            found = record.event.asset_check_evaluation if record.event else None
            if found is not None and found.partition == version:
                return found
        raise AssertionError(f"no evaluation about {version}")


def rows(table: Any) -> list[Mapping[str, Any]]:
    return [record.data for record in table.records]


@pytest.fixture
def daemon(new_desk: Desk, own_instance: dg.DagsterInstance) -> Daemon:
    """Version v1 was built on an instance of its own and waits."""
    found = Daemon(new_desk, own_instance)
    new_desk.build()
    return found


def release(daemon: Daemon, version: str) -> None:
    """Everybody signs, the sensor asks for the release run, and that run goes through."""
    daemon.desk.approve(version=version)
    assert daemon.releases() == [version]
    ran = daemon.desk.run([project.SERVICE], version, checks=[("tiny_package", "sign_off")])
    assert ran.success, ran.failure


def test_each_signature_is_told_once_on_the_package_and_on_the_check(daemon: Daemon):
    assert len(daemon.tick().asset_events) == 1
    assert daemon.reports == []  # the run that built the package has evaluated the check
    assert daemon.check("v1").description.endswith("Signed by: nobody yet.")
    assert daemon.page(PACKAGE, "v1")["cognify/state"].value.startswith("**v1 waits for Vera** (Independent")

    daemon.desk.approve("vera")
    assert len(daemon.tick().asset_events) == 1
    assert [item.partition_key for item in daemon.reports] == ["v1"]
    assert daemon.tick().asset_events == []
    assert daemon.reports == []
    page = daemon.page(PACKAGE, "v1")
    assert page["cognify/state"].value.startswith("**v1 waits for Carl**")
    (signed,) = rows(page["cognify/signed_by"])
    assert (signed["signed by"], signed["role"]) == ("Vera", "model validator")
    assert page["cognify/validation_status"].value == "signed"
    assert page["cognify/compliance_review"].value == "pending"
    assert page["cognify/pdf"].value.endswith("-review-copy.pdf")  # what does not change stays as it was built
    told = daemon.check("v1")
    assert not told.passed
    assert told.severity == dg.AssetCheckSeverity.WARN
    assert told.description.startswith("v1 waits for Carl (Compliance and legal review), then Olga")
    assert "Signed by: Vera (Independent validation, 2" in told.description

    daemon.desk.approve("carl")
    daemon.tick()
    assert len(daemon.reports) == 1
    assert daemon.check("v1").description.startswith("v1 waits for Olga (Business sign-off). Signed by: Vera (")

    daemon.desk.approve("olga")
    assert daemon.releases() == ["v1"]
    assert daemon.reports == []  # the release run evaluates it
    assert daemon.page(PACKAGE, "v1")["cognify/state"].value.startswith("**v1 is signed by everyone**")


def test_a_signature_that_no_longer_counts_is_told_too(daemon: Daemon):
    daemon.desk.approve("vera")
    daemon.tick()
    desk = daemon.desk
    revoke_key(desk.workspace, "person/vera", desk.keys["vera"].key_id, "lost laptop", desk.keys["ada"])
    daemon.tick()
    assert len(daemon.reports) == 1
    assert "the key was revoked since" in daemon.check("v1").description
    assert daemon.page(PACKAGE, "v1")["cognify/state"].value.startswith("**v1 is blocked**: ")


def test_a_report_tag_on_a_release_run_opens_no_door(daemon: Daemon):
    """Anyone may set a tag. Then the check warns, the deployment's body is reached, and refuses."""
    ran = daemon.desk.run(
        [project.SERVICE], checks=[("tiny_package", "sign_off")], tags={"cognify/purpose": "report_sign_off"}
    )
    assert not ran.success
    assert "Independent validation is not signed" in ran.failure
    assert daemon.desk.entered("deployment") == 0


def test_after_the_release_the_package_leads_with_it_and_names_the_signed_pdf(daemon: Daemon):
    daemon.tick()
    assert not daemon.desk.run([project.SERVICE]).success  # refused: nobody has signed
    daemon.tick()
    (*_, last) = rows(daemon.page(PACKAGE, "v1")["cognify/refused"])
    assert "Business sign-off is not signed" in last["refused because"]
    release(daemon, "v1")
    daemon.tick()
    page = daemon.page(PACKAGE, "v1")
    (done,) = daemon.desk.all(DeploymentCompleted)
    assert next(iter(page)) == "cognify/state"
    assert page["cognify/state"].value.startswith("**v1 is live on production** since 2")
    assert page["cognify/state"].value.endswith(f"(entry {done.seq})")
    assert page["cognify/waiting_for"].value == "nobody: it was released"
    assert [row["signed by"] for row in rows(page["cognify/signed_by"])] == ["Vera", "Carl", "Olga"]
    assert {
        page[f"cognify/{name}"].value for name in ("validation_status", "compliance_review", "business_approval")
    } == {"signed"}
    assert Path(page["cognify/final_copy"].value).read_bytes().startswith(b"%PDF")
    refused = rows(page["cognify/refused"])
    assert refused[0]["launched by"] == "Ben"
    assert refused[0]["entry"].isdecimal()
    assert refused[0]["when"].endswith(" UTC")
    assert "Independent validation is not signed" in refused[0]["refused because"]
    assert [row["when"] for row in refused[1:]] == [""] * (len(refused) - 1)
    service = daemon.page(SERVICE, "v1")
    assert service["cognify/state"].value.startswith("**v1 is live on production**")
    assert rows(service["cognify/refused_before"]) == refused
    assert daemon.check("v1").passed


def test_a_release_with_conditions_shows_them_wherever_it_is_shown(daemon: Daemon):
    daemon.tick()
    daemon.desk.approve("vera")
    terms = (Condition(text="Write the notice", due="2099-01-31T23:59:59Z"), Condition(text="Look again"))
    desk = daemon.desk
    sign_off(desk.workspace, "tiny", "v1", desk.keys["carl"], Choice("approve_with_conditions", conditions=terms))
    daemon.tick()
    page = daemon.page(PACKAGE, "v1")
    assert [row["decision"] for row in rows(page["cognify/signed_by"])] == ["approved", "approved with 2 conditions"]
    wanted = [("Write the notice", "2099-01-31", "Carl"), ("Look again", "no date", "Carl")]
    assert [(row["condition"], row["due"], row["set by"]) for row in rows(page["cognify/conditions"])] == wanted
    stage = next(row for row in rows(page["cognify/stages"]) if "Carl" in row["signed by / result"])
    assert stage["signed by / result"].endswith("), approved with 2 conditions")
    check = daemon.check("v1")
    assert "approved with 2 conditions" in check.description
    assert [row["due"] for row in rows(check.metadata["cognify/conditions"])] == ["2099-01-31", "no date"]
    desk.approve("olga")
    ran = desk.run([project.SERVICE], checks=[("tiny_package", "sign_off")])
    assert ran.success, ran.failure
    told = ran.materialized[project.SERVICE]["cognify/who_approved"].value
    assert (
        "**approved with 2 conditions**\n    - Write the notice (due 2099-01-31)\n    - Look again (due no date)"
        in told
    )
    daemon.tick()  # the approvals that the release used are read from the ledger again
    assert len(rows(daemon.page(PACKAGE, "v1")["cognify/conditions"])) == 2


def test_a_refusal_stands_on_the_page_of_the_partition_that_was_not_materialized(daemon: Daemon):
    """Told by the refused run itself, and kept up to date by the sensor."""
    assert not daemon.desk.run([project.SERVICE], checks=()).success
    (refusal,) = daemon.desk.all(ReleaseRefused)
    page = daemon.page(SERVICE, "v1")
    assert page["cognify/state"].value.startswith("**v1 waits for Vera**")
    assert "→ **Vera**" in page["cognify/waiting_for"].value
    assert page["cognify/refusal_entry"].value == str(refusal.seq)
    assert (
        page["cognify/launched_by"].value == "Ben (person/ben); the run's tag user=ben is enrolled as an alias of Ben"
    )
    assert rows(page["cognify/refused"])[0]["entry"] == str(refusal.seq)
    daemon.tick()
    daemon.desk.approve("vera")
    daemon.tick()
    assert daemon.page(SERVICE, "v1")["cognify/state"].value.startswith("**v1 waits for Carl**")
    release_rest(daemon)
    assert daemon.page(SERVICE, "v1")["cognify/state"].value.startswith("**v1 went live**")


def release_rest(daemon: Daemon) -> None:
    """Carl and Olga sign, and somebody deploys."""
    daemon.desk.approve("carl", "olga")
    ran = daemon.desk.run([project.SERVICE], checks=[("tiny_package", "sign_off")])
    assert ran.success, ran.failure


def test_the_check_of_the_release_run_says_nothing_that_the_release_makes_untrue(daemon: Daemon):
    daemon.tick()
    assert daemon.page(PACKAGE, "v1")["cognify/signed_by"].value == "nobody yet"
    release(daemon, "v1")
    check = daemon.check("v1")
    assert check.description.startswith("v1 is signed by everyone, so its release to production may go ahead; ")
    for told in (check.description, check.metadata["cognify/state"].value):
        assert "is requested" not in told
        assert "what came of it stands under Partitions → v1" in told


def test_a_deployment_launched_by_hand_without_the_check_gets_its_check(daemon: Daemon):
    daemon.tick()
    daemon.desk.approve()
    assert daemon.desk.run([project.SERVICE], checks=()).success
    daemon.tick()
    assert len(daemon.reports) == 1
    assert daemon.check("v1").passed
    assert daemon.check("v1").description.startswith("v1 is live on production since ")


def test_a_version_that_was_superseded_says_so_on_its_own_page(daemon: Daemon):
    release(daemon, "v1")
    daemon.tick()
    assert daemon.desk.run(project.BUILD, "v2").success
    waiting = daemon.tick()
    assert waiting.skip_message.startswith("v2 waits for Vera (Independent validation)")
    assert "; v1 is live on production since " in waiting.skip_message
    release(daemon, "v2")
    after = daemon.tick()
    assert after.skip_message.startswith("v2 is live on production since ")
    assert after.skip_message.endswith("; superseded: 1")
    for asset in (PACKAGE, SERVICE):
        state = daemon.page(asset, "v1")["cognify/state"].value
        assert state.startswith("**v1 was superseded by v2** on production on ")
        assert "it was live from" in state
        assert daemon.page(asset, "v2")["cognify/state"].value.startswith("**v2 is live on production**")
        newest = daemon.instance.fetch_observations(asset, limit=1).records[0]
        assert newest.partition_key == "v2"  # the asset's last word is about its newest version
    assert daemon.tick().asset_events == []


def test_the_present_is_told_again_once_a_new_materialization_covers_it(daemon: Daemon):
    """The UI shows only observations after the newest materialization, whichever of the two was written first."""
    daemon.desk.approve("vera")
    daemon.tick()
    assert daemon.desk.run(["tiny_package"]).success
    assert len(daemon.tick().asset_events) == 1
    assert daemon.page(PACKAGE, "v1")["cognify/state"].value.startswith("**v1 waits for Carl**")
    assert "When it was built" not in daemon.page(PACKAGE, "v1")["cognify/state"].value


def test_a_sensor_that_lost_its_cursor_tells_again_and_no_more(daemon: Daemon):
    daemon.tick()
    for broken in (None, "not json", json.dumps({"told": 3, "seen": [], "offset": "x"})):
        daemon.cursor = broken
        assert len(daemon.tick().asset_events) == 1
        assert daemon.tick().asset_events == []


def test_nothing_is_told_about_a_version_that_dagster_does_not_know(desk: Desk, own_instance: dg.DagsterInstance):
    daemon = Daemon(desk, own_instance)
    assert daemon.tick().asset_events == []
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    assert len(daemon.tick().asset_events) == 1


def test_superseded_versions_are_not_decided(daemon: Daemon, monkeypatch: pytest.MonkeyPatch):
    release(daemon, "v1")
    assert daemon.desk.run(project.BUILD, "v2").success
    release(daemon, "v2")
    assert daemon.desk.run(project.BUILD, "v3").success
    decided: list[str] = []

    def counting(reading: Any, model: str, version: str, *rest: Any, **more: Any) -> Any:
        decided.append(version)
        return decide(reading, model, version, *rest, **more)

    monkeypatch.setattr(standing, "decide", counting)
    daemon.tick()
    assert sorted(decided) == ["v2", "v3"]  # v2 is live: whether it would be released again is worth saying


def test_a_live_version_that_would_not_be_released_again_says_why(daemon: Daemon):
    release(daemon, "v1")
    desk = daemon.desk
    revoke_key(desk.workspace, "person/carl", desk.keys["carl"].key_id, "lost laptop", desk.keys["ada"])
    daemon.tick()
    text = daemon.tick().skip_message
    assert text.startswith("v1 is live on production since ")
    assert "; it would not be released again today: " in text


def test_a_key_revoked_after_the_release_brings_no_superseded_version_back(daemon: Daemon, tmp_path: Path):
    """Without the revoked signature the approvals are a smaller set, but a release has used every one of them."""
    desk = daemon.desk
    second = create_key(tmp_path / "walt.key.json", "person/walt", "a long pass phrase")
    walt = Person(person="person/walt", name="Walt", roles=("model_validator",), keys=(second.public,))
    enrol_person(desk.workspace, walt, desk.keys["ada"], desk.keys["finn"])
    desk.approve("vera")
    sign_off(desk.workspace, "tiny", "v1", second, Choice("approve", stage="validation"))
    desk.approve("carl", "olga")
    assert daemon.releases() == ["v1"]
    assert desk.run([project.SERVICE], checks=[("tiny_package", "sign_off")]).success
    assert desk.run(project.BUILD, "v2").success
    release(daemon, "v2")
    revoke_key(desk.workspace, "person/walt", second.key_id, "left the bank", desk.keys["ada"])
    now = datetime.now(timezone.utc)
    decision = decide(desk.workspace.read(), "tiny", "v1", "production", now)
    assert [reason.code for reason in decision.reasons] == ["already_released"]
    assert daemon.releases() == []


def test_new_signatures_on_a_superseded_version_are_looked_at_again(daemon: Daemon):
    release(daemon, "v1")
    assert daemon.desk.run(project.BUILD, "v2").success
    release(daemon, "v2")
    daemon.tick()
    assert daemon.desk.run(["tiny_eval", "tiny_package"], "v1").success  # a second package: v1 may come back
    daemon.tick()
    text = daemon.tick().skip_message
    assert "v1 waits for Vera (Independent validation)" in text
    assert "(an earlier release went live on production on " in text
    daemon.desk.approve(version="v1")
    assert daemon.releases() == ["v1"]


def test_a_failed_installation_is_what_the_version_waits_for(daemon: Daemon):
    daemon.desk.approve()
    daemon.desk.switch("fail-deployment", "3")
    assert not daemon.desk.run([project.SERVICE]).success
    daemon.tick()
    state = daemon.page(PACKAGE, "v1")["cognify/state"].value
    assert state.startswith("**the installation of v1 failed** (entry ")
    assert "RuntimeError: deployment fails on purpose. Launch it again; the release still holds" in state


def test_a_blocking_reason_comes_before_open_signatures(daemon: Daemon):
    sign_off(daemon.desk.workspace, "tiny", "v1", daemon.desk.keys["vera"], Choice("reject", comments="not reproduced"))
    daemon.tick()
    text = daemon.tick().skip_message
    assert text.startswith("v1 is blocked: Vera rejected this package (entry ")
    assert "not reproduced" in text


def test_the_sensors_page_leads_with_the_present(daemon: Daemon):
    daemon.tick()
    assert daemon.cursor is not None
    assert daemon.cursor.startswith('{"now": "v1 waits for Vera (Independent validation)')


def test_the_sensor_names_the_assets_it_launches():
    sensor = project.defs.resolve_sensor_def("tiny_approval_sensor")
    (target,) = sensor.targets
    assert str(target.resolvable_to_job.selection) == f'key:"tiny_package" or key:"{project.SERVICE}"'
    assert sensor.tags["cognify/sensor"] == "approval"


def test_many_open_versions_take_turns_and_the_text_stays_short(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, count: Callable[[], list[str]]
):
    monkeypatch.setattr("cognify_dagster.orchestration.watching.VERSIONS_A_LOOK", 2)
    monkeypatch.setattr("cognify_dagster.orchestration.sensors.VERSIONS_IN_TEXT", 1)
    for version in ("v2", "v3", "v4"):
        assert daemon.desk.run(project.BUILD, version).success
    count()
    seen: list[str] = []
    more = "more of 4 versions are open: see `cognify status tiny`"
    for end in (f"; 1 {more}; 2 versions were not looked at yet", f"; 3 {more}"):
        text = daemon.tick().skip_message
        assert text.startswith("v4 waits for Vera")
        assert text.endswith(end)
        decided = count()
        assert len(decided) <= 3
        seen += decided
    assert set(seen) == {"v1", "v2", "v3", "v4"}


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return the versions that were decided since the last call."""
    decided: list[str] = []
    real = standing.decide

    def counting(reading: Any, model: str, version: str, *rest: Any, **more: Any) -> Any:
        decided.append(version)
        return real(reading, model, version, *rest, **more)

    monkeypatch.setattr(standing, "decide", counting)

    def taken() -> list[str]:
        found = list(decided)
        decided.clear()
        return found

    return taken
