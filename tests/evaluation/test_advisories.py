"""Advisories: CVSS scores, the OSV evaluation algorithm for PyPI, and reading snapshots within bounds."""

from __future__ import annotations

import json
import random
import zipfile
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.evaluation import AdvisoryError, snapshots
from cognify_dagster.evaluation.advisories import fixes, judge, merge, normalise, read_advisory
from cognify_dagster.evaluation.cvss import base_score, severity_of
from cognify_dagster.evaluation.snapshots import (
    current_info,
    import_snapshot,
    read_snapshot,
    sample_path,
    snapshot_of,
)

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)


def osv(
    name: str = "GHSA-aaaa-bbbb-cccc",
    package: str = "demo",
    *,
    events: list[dict[str, str]] | None = None,
    versions: list[str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    affected: dict[str, Any] = {"package": {"ecosystem": "PyPI", "name": package}}
    if events is not None:
        affected["ranges"] = [{"type": "ECOSYSTEM", "events": events}]
    if versions is not None:
        affected["versions"] = versions
    return {"id": name, "modified": "2026-11-01T00:00:00Z", "affected": [affected], **more}


def verdict(data: dict[str, Any], version: str, package: str = "demo") -> str:
    return judge(read_advisory(data, "here"), package, version, NOW)


# -- CVSS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vector", "score"),
    [  # the first six are worked examples that FIRST publishes with the standard
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.0/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4),
        ("CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N", 3.1),
        ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:H/I:H/A:H", 9.9),
        ("CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:H/I:H/A:N", 7.4),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
        ("CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:H/I:N/A:N/E:P/RL:O", 5.9),
    ],
)
def test_the_base_score_is_that_of_the_standard(vector: str, score: float) -> None:
    assert base_score(vector) == score


@pytest.mark.parametrize(
    "vector",
    [
        "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
        "AV:N/AC:L/Au:N/C:P/I:P/A:P",
        "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H",
        "CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
        "CVSS:3.1/AV:N/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
    ],
)
def test_what_is_no_whole_v3_vector_has_no_score(vector: str) -> None:
    with pytest.raises(ValueError, match="CVSS"):
        base_score(vector)


def test_the_ratings_have_the_standard_s_limits() -> None:
    assert [severity_of(n) for n in (0.0, 0.1, 3.9, 4.0, 6.9, 7.0, 8.9, 9.0)] == [
        "none", "low", "low", "medium", "medium", "high", "high", "critical",
    ]  # fmt: skip


def test_severity_is_the_worst_that_is_stated_and_unknown_without_a_readable_statement() -> None:
    low = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N"}]
    assert read_advisory(osv(severity=low), "x").severity == "low"
    assert read_advisory(osv(severity=low, database_specific={"severity": "MODERATE"}), "x").severity == "medium"
    assert read_advisory(osv(severity=[{"type": "CVSS_V3", "score": "rubbish"}]), "x").severity == "unknown"
    assert read_advisory(osv(severity=[{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N"}]), "x").severity == "unknown"


# -- matching -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Demo_Pkg", "demo.pkg", "DEMO--pkg", "demo-pkg"])
def test_package_names_are_compared_as_pep_503_says(name: str) -> None:
    data = osv(package="Demo.Pkg", events=[{"introduced": "0"}])
    assert verdict(data, "1.0", name) == "affected"
    assert normalise(name) == "demo-pkg"
    assert verdict(data, "1.0", "demopkg") == "unaffected"


@pytest.mark.parametrize(
    ("events", "affected", "unaffected"),
    [
        ([{"introduced": "0"}, {"fixed": "2.0"}], ["0.0.dev1", "1.9.9", "2.0rc1"], ["2.0", "2.0.post1", "1!0.1"]),
        ([{"introduced": "1.0"}, {"last_affected": "1.5"}], ["1.0", "1.5", "1.5.0"], ["0.9", "1.5.1", "1.5.post1"]),
        ([{"introduced": "1.0"}], ["1.0", "99"], ["1.0rc1"]),
        ([{"introduced": "1.0"}, {"last_affected": "1.0"}], ["1.0"], ["1.1"]),
        (
            [{"fixed": "3.1"}, {"introduced": "3.0"}, {"introduced": "1.0"}, {"fixed": "1.2"}],
            ["1.1", "3.0.5"],
            ["1.2", "2.0", "3.1"],
        ),
        ([{"introduced": "0"}, {"limit": "1.0"}], ["0.5"], ["1.0", "2.0"]),
        ([{"introduced": "0"}, {"limit": "*"}], ["0.5", "7"], []),
    ],
)
def test_ranges_hold_what_the_osv_algorithm_says(events: Any, affected: list[str], unaffected: list[str]) -> None:
    assert [verdict(osv(events=events), v) for v in affected] == ["affected"] * len(affected)
    assert [verdict(osv(events=events), v) for v in unaffected] == ["unaffected"] * len(unaffected)


@given(bounds=st.lists(st.integers(0, 60), unique=True, max_size=10), version=st.integers(0, 60), seed=st.integers())
def test_alternating_ranges_agree_with_counting_the_bounds(bounds: list[int], version: int, seed: int) -> None:
    """Oracle without any walk: affected where more introductions than fixes lie at or below the version."""
    kinds = ["introduced" if place % 2 == 0 else "fixed" for place in range(len(bounds))]
    events = [{kind: f"1.{bound}"} for kind, bound in zip(kinds, sorted(bounds), strict=True)]
    below = [event for event, bound in zip(kinds, sorted(bounds), strict=True) if bound <= version]
    random.Random(seed).shuffle(events)
    wanted = "affected" if below.count("introduced") > below.count("fixed") else "unaffected"
    assert verdict(osv(events=events, versions=["0.1"]), f"1.{version}") == wanted or not events


@given(first=st.integers(0, 30), last=st.integers(0, 30), version=st.integers(0, 30))
def test_a_last_affected_version_closes_its_range_behind_itself(first: int, last: int, version: int) -> None:
    events = [{"introduced": f"1.{first}"}, {"last_affected": f"1.{last}"}]
    found = verdict(osv(events=events), f"1.{version}")
    assert found == ("affected" if first <= version <= last else "unaffected") or last < first


def test_listed_versions_are_affected_in_any_spelling() -> None:
    data = osv(versions=["1.0", "2.0-legacy-x"])
    assert [verdict(data, v) for v in ("1.0", "1.0.0", "v1.0", "1.1")] == ["affected"] * 3 + ["unaffected"]
    assert verdict(data, "2.0-legacy-x") == "affected"  # its very text, though PEP 440 cannot read it


@pytest.mark.parametrize(
    "data",
    [
        osv(versions=["2.5.1"]),
        osv(events=[{"introduced": "0"}, {"last_affected": "2.5.1"}]),
        osv(events=[{"introduced": "0"}, {"fixed": "2.6"}]),
    ],
)
def test_a_local_label_does_not_mend_a_version(data: dict[str, Any]) -> None:
    assert verdict(data, "2.5.1+cu121") == "affected"


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (osv(), "1.0"),
        (osv(events=[{"introduced": "0"}, {"fixed": "not a version"}]), "1.0"),
        (osv(events=[{"fixed": "2.0"}]), "1.0"),
        (osv(events=[{"introduced": "0"}, {"fixed": "2.0"}]), "unknown"),
    ],
)
def test_what_cannot_be_compared_is_unjudged_and_never_unaffected(data: dict[str, Any], version: str) -> None:
    assert verdict(data, version) == "unjudged"


def test_other_ecosystems_and_commit_ranges_are_not_ours() -> None:
    data = osv(events=[{"introduced": "5.0"}])
    data["affected"].append(
        {"package": {"ecosystem": "npm", "name": "demo"}, "ranges": [{"type": "SEMVER", "events": []}]}
    )
    data["affected"][0]["ranges"].append({"type": "GIT", "repo": "x", "events": [{"introduced": "0"}]})
    assert verdict(data, "1.0") == "unaffected"


def test_a_withdrawn_advisory_counts_for_nothing_from_then_on() -> None:
    data = osv(events=[{"introduced": "0"}])
    assert verdict({**data, "withdrawn": "2026-11-20T00:00:00.123456789Z"}, "1.0") == "unaffected"
    assert verdict({**data, "withdrawn": "2027-01-01T00:00:00+02:00"}, "1.0") == "affected"
    assert verdict({**data, "withdrawn": None}, "1.0") == "affected"


@given(st.permutations(range(5)))
def test_aliases_make_one_vulnerability_whatever_the_order(order: list[int]) -> None:
    rows = [
        osv("GHSA-1111-2222-3333", aliases=["CVE-2026-1"]),
        osv("PYSEC-2026-1", aliases=["CVE-2026-1"]),
        osv("OTHER-1", aliases=["PYSEC-2026-1"]),
        osv("GHSA-4444-5555-6666", aliases=["CVE-2026-2"]),
        osv("PYSEC-2026-9"),
    ]
    found = merge(read_advisory(rows[place], "x") for place in order)
    assert [[item.id for item in group] for group in found] == [
        ["GHSA-1111-2222-3333", "OTHER-1", "PYSEC-2026-1"],
        ["GHSA-4444-5555-6666"],
        ["PYSEC-2026-9"],
    ]


def test_the_next_fixed_version_is_named() -> None:
    data = osv(events=[{"introduced": "0"}, {"fixed": "1.26.17"}, {"introduced": "2.0"}, {"fixed": "2.0.6"}])
    assert fixes(read_advisory(data, "x"), "demo", "1.26.5") == ("1.26.17", "2.0.6")
    assert fixes(read_advisory(data, "x"), "demo", "2.0.1") == ("2.0.6",)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "../../etc"}, "id"),
        ({"id": None}, "id"),
        ({"modified": "yesterday"}, "modified"),
        ({"modified": None}, "modified"),
        ({"aliases": "CVE-1"}, "aliases"),
        ({"affected": {}}, "affected"),
        ({"withdrawn": 5}, "withdrawn"),
        ({"severity": ["high"]}, "severity"),
    ],
)
def test_a_malformed_advisory_is_an_error_that_names_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(AdvisoryError, match=f"file.jsonl, line 3.*{field}"):
        read_advisory({**osv(events=[{"introduced": "0"}]), **change}, "file.jsonl, line 3")


# -- snapshots ----------------------------------------------------------------------------------------------------------


HEADER = {"cognify_advisories": 1, "date": "2026-11-20", "partial": True, "source": "a test"}


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def zipped(path: Path, rows: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in rows.items():
            archive.writestr(name, data)
    return path


def test_the_shipped_sample_says_that_it_is_partial_and_of_when() -> None:
    found = read_snapshot(sample_path())
    assert found.info.partial
    assert "partial sample" in found.info.why_partial
    assert found.info.age_days(date(2026, 11, 21)) > 30  # so it never makes the gate pass by default
    assert found.info.advisories == len({item.id for group in found.by_package.values() for item in group}) == 21


@pytest.mark.parametrize(
    ("package", "bad", "good", "cve"),
    [
        ("PyYAML", "5.3.1", "5.4", "CVE-2020-14343"),
        ("pillow", "10.0.0", "10.0.1", "CVE-2023-4863"),
        ("setuptools", "65.5.0", "65.5.1", "CVE-2022-40897"),
        ("setuptools", "69.5.1", "70.0.0", "CVE-2024-6345"),
        ("urllib3", "1.26.16", "1.26.17", "CVE-2023-43804"),
        ("urllib3", "2.0.5", "2.0.6", "CVE-2023-43804"),
        ("torch", "2.5.1+cu121", "2.6.0", "CVE-2025-32434"),
        ("mlflow", "2.2.0", "2.2.1", "CVE-2023-1177"),
        ("Werkzeug", "2.2.2", "2.2.3", "CVE-2023-25577"),
    ],
)
def test_the_sample_knows_well_known_vulnerabilities(package: str, bad: str, good: str, cve: str) -> None:
    advisories = read_snapshot(sample_path()).by_package[normalise(package)]
    about = [item for item in advisories if cve in item.names]
    assert [judge(item, package, bad, NOW) for item in about] == ["affected"]
    assert [judge(item, package, good, NOW) for item in about] == ["unaffected"]


def test_json_lines_and_a_zip_of_the_same_advisories_say_the_same(tmp_path: Path) -> None:
    rows = [osv("A-1", "one", events=[{"introduced": "0"}]), osv("A-2", "two", versions=["1"])]
    one = read_snapshot(lines(tmp_path / "a.jsonl", *rows))
    two = read_snapshot(zipped(tmp_path / "a.zip", {f"{row['id']}.json": json.dumps(row).encode() for row in rows}))
    assert one.by_package == two.by_package
    assert one.info.date == two.info.date == "2026-11-01"
    assert one.info.partial
    assert "more than 3000" in two.info.why_partial


def test_a_full_export_is_not_partial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MIN_FULL", 2)
    rows = [osv(f"A-{n}", f"p{n}", events=[{"introduced": "0"}]) for n in range(3)]
    rows.append(osv("A-9", "p9", events=[{"introduced": "0"}], withdrawn="2026-01-01T00:00:00Z"))
    found = read_snapshot(
        zipped(tmp_path / "all.zip", {f"{r['id']}.json": json.dumps(r).encode() for r in rows}), {"p1"}
    )
    assert not found.info.partial
    assert found.info.advisories == 3  # withdrawn ones don't count
    assert list(found.by_package) == ["p1"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([HEADER], "no advisory"),
        ([{**HEADER, "date": "soon"}, osv()], "line 1: date"),
        ([{**HEADER, "partial": "no"}, osv()], "partial"),
        ([{**HEADER, "sauce": 1}, osv()], "sauce"),
        ([osv(), osv()], "stands twice"),
        ([osv(), {"id": 1}], "line 2"),
        ([osv(), "text"], "line 2"),
    ],
)
def test_an_unusable_line_makes_the_whole_file_unusable(tmp_path: Path, rows: list[Any], says: str) -> None:
    with pytest.raises(AdvisoryError, match=says):
        read_snapshot(lines(tmp_path / "a.jsonl", *rows))


def test_no_json_deep_nesting_and_binary_files_are_refused(tmp_path: Path) -> None:
    for data in (b"\x80\x04\x95pickle", b"[" * 100_000, b"", b"PK\x03\x04broken", b"{}\n"):
        path = tmp_path / "a"
        path.write_bytes(data)
        with pytest.raises(AdvisoryError):
            read_snapshot(path)
    with pytest.raises(AdvisoryError, match="can't be read"):
        read_snapshot(tmp_path / "missing")


def test_a_zip_bomb_is_refused_after_the_bound_and_not_unpacked(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "bomb.zip", {"A.json": b" " * (64 * 1024 * 1024)})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(AdvisoryError, match="unpacks to more"):
        read_snapshot(bomb)
    assert sorted(tmp_path.iterdir()) == [bomb]


def test_many_files_that_unpack_to_too_much_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MAX_TOTAL_BYTES", 1_000)
    rows = {f"A-{n}.json": json.dumps(osv(f"A-{n}")).encode() for n in range(20)}
    with pytest.raises(AdvisoryError, match="unpacks to more"):
        read_snapshot(zipped(tmp_path / "a.zip", rows))


def test_false_sizes_in_a_zip_do_not_widen_the_bound(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"A.json": b" " * (64 * 1024 * 1024)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (100).to_bytes(4, "little")  # uncompressed size in the central directory
    path.write_bytes(bytes(data))
    with pytest.raises(AdvisoryError):
        read_snapshot(path)


@pytest.mark.parametrize("name", ["readme.txt", "run.pkl"])
def test_a_zip_with_other_files_is_no_export(tmp_path: Path, name: str) -> None:
    with pytest.raises(AdvisoryError, match=r"plain \.json"):
        read_snapshot(zipped(tmp_path / "a.zip", {"A.json": json.dumps(osv()).encode(), name: b"x"}))


def test_names_that_climb_out_of_the_folder_write_nothing(tmp_path: Path) -> None:
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    read_snapshot(zipped(inside / "a.zip", {"../../evil.json": json.dumps(osv(versions=["1"])).encode()}))
    assert not (tmp_path / "evil.json").exists()


def test_too_many_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "a.jsonl", *(osv(f"A-{n}") for n in range(5)))
    monkeypatch.setattr(snapshots, "MAX_ADVISORIES", 4)
    with pytest.raises(AdvisoryError, match="more than 4"):
        read_snapshot(path)
    monkeypatch.setattr(snapshots, "MAX_ADVISORY_BYTES", 50)
    with pytest.raises(AdvisoryError, match="line 1: longer"):
        read_snapshot(path)
    monkeypatch.setattr(snapshots, "MAX_FILE_BYTES", 50)
    with pytest.raises(AdvisoryError, match="at most 50"):
        read_snapshot(path)


# -- the workspace's snapshot -------------------------------------------------------------------------------------------


def test_an_imported_snapshot_is_used_and_the_shipped_one_before(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert current_info(home) is None
    assert snapshot_of(home, {"pyyaml"}).info.digest == read_snapshot(sample_path()).info.digest
    info = import_snapshot(home, lines(tmp_path / "a.jsonl", HEADER, osv(versions=["1"])))
    assert current_info(home) == info
    assert snapshot_of(home, {"demo"}).info == info
    assert list(snapshot_of(home, {"demo"}).by_package) == ["demo"]


def test_an_unusable_file_changes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    info = import_snapshot(home, lines(tmp_path / "a.jsonl", HEADER, osv(versions=["1"])))
    before = sorted(path.name for path in (home / "advisories").iterdir())
    with pytest.raises(AdvisoryError, match=r"b\.jsonl, line 2"):
        import_snapshot(home, lines(tmp_path / "b.jsonl", osv(), 5))
    assert current_info(home) == info
    assert sorted(path.name for path in (home / "advisories").iterdir()) == before


def test_one_that_knows_less_is_refused_unless_that_is_meant(tmp_path: Path) -> None:
    home = tmp_path / "home"
    import_snapshot(home, lines(tmp_path / "a.jsonl", HEADER, osv(versions=["1"])))
    older = lines(tmp_path / "b.jsonl", {**HEADER, "date": "2026-11-19"}, osv(versions=["1"]))
    with pytest.raises(AdvisoryError, match="knows less"):
        import_snapshot(home, older)
    assert import_snapshot(home, older, allow_older=True).date == "2026-11-19"


def test_a_snapshot_changed_after_the_import_is_not_used(tmp_path: Path) -> None:
    home = tmp_path / "home"
    info = import_snapshot(home, lines(tmp_path / "a.jsonl", HEADER, osv(versions=["1"])))
    file = home / "advisories" / (info.digest.removeprefix("sha256:") + ".osv")
    lines(file, HEADER, osv("A-2", "other", versions=["1"]))
    with pytest.raises(AdvisoryError, match="changed since"):
        snapshot_of(home, {"demo"})
    file.unlink()
    with pytest.raises(AdvisoryError, match="can't be read"):
        snapshot_of(home, {"demo"})
    (home / "advisories" / "current.json").write_text("{")
    with pytest.raises(AdvisoryError, match="import a snapshot again"):
        snapshot_of(home, {"demo"})
