"""Whatever is done to a bundle's bytes: no traceback, and no "holds" for a content that is not the honest one.

`COGNIFY_FUZZ_EXAMPLES=5000` runs it longer.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as given_
from hypothesis import strategies as st

from cognify_dagster.ledger import offline_verifier as ov
from tests.ledger import bundle_factory as bf

EXAMPLES = int(os.environ.get("COGNIFY_FUZZ_EXAMPLES", "40"))
RELAXED = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
UNSIGNED = {"README.txt", "verify.py", "bundle.json", "evidence/register.json"}  # what no entry names


class Honest:
    """The honest bundle, its trust file and its report."""

    def __init__(self, folder: Path) -> None:
        world = bf.tell(folder)
        self.folder = bf.export(world, folder / "bundle")
        self.trust = world.trust()
        self.report = ov.verify_bundle(self.folder, self.trust)
        assert self.report["exit_code"] == 0
        self.files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        self.signed = [path for path in self.files if path.relative_to(self.folder).as_posix() not in UNSIGNED]

    def judge(self, bundle: Path) -> dict[str, Any]:
        report = ov.verify_bundle(bundle, self.trust)
        assert ov.report_text(report)
        assert json.dumps(report)
        assert report["exit_code"] in range(5)
        if report["exit_code"] == 0:
            assert report == self.report, "what holds is what was exported"
        return report


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    return Honest(tmp_path_factory.mktemp("honest"))


def mutated(data: bytes, at: int, kind: str, raw: bytes) -> bytes:
    at %= len(data)
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ (raw[0] or 1)]) + data[at + 1 :]
    if kind == "cut":
        return data[:at]
    return {"put": data[:at] + raw + data[at:], "replace": data[:at] + raw + data[at + len(raw) :], "all": raw}[kind]


MUTATIONS = (
    st.integers(0, 2**20),
    st.sampled_from(["flip", "flip", "flip", "cut", "put", "replace", "all"]),
    st.one_of(
        st.binary(min_size=1, max_size=8), st.text('0123456789abcdef{}[]",:\\ntrue-.eE', min_size=1).map(str.encode)
    ),
)


@RELAXED
@given_(st.integers(0, 10**6), *MUTATIONS)
def test_a_changed_file_never_holds(honest: Honest, which: int, at: int, kind: str, raw: bytes) -> None:
    path = honest.files[which % len(honest.files)]
    before = path.read_bytes()
    after = mutated(before, at, kind, raw)
    try:
        path.write_bytes(after)
        report = honest.judge(honest.folder)
        if after != before and path.name != "bundle.json":
            assert report["exit_code"] != 0, path.name
    finally:
        path.write_bytes(before)


@RELAXED
@given_(st.integers(0, 10**6), *MUTATIONS)
def test_nor_if_the_list_was_rewritten_to_fit(honest: Honest, which: int, at: int, kind: str, raw: bytes) -> None:
    path = honest.signed[which % len(honest.signed)]
    before, listed = path.read_bytes(), (honest.folder / "bundle.json").read_bytes()
    after = mutated(before, at, kind, raw)
    try:
        path.write_bytes(after)
        bf.reseal(honest.folder)
        report = honest.judge(honest.folder)
        if after != before:
            assert report["exit_code"] != 0, path.name
    finally:
        path.write_bytes(before)
        (honest.folder / "bundle.json").write_bytes(listed)


@RELAXED
@given_(*MUTATIONS)
def test_a_damaged_zip_is_refused_or_holds_the_same(
    honest: Honest, tmp_path: Path, at: int, kind: str, raw: bytes
) -> None:
    whole = tmp_path / "whole.zip"
    if not whole.exists():
        bf.zipped(honest.folder, whole)
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(mutated(whole.read_bytes(), at * 37, kind, raw))
    honest.judge(damaged)


@settings(max_examples=2 * EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given_(
    st.integers(0, 2**20), st.sampled_from(["flip", "cut", "put", "replace", "all"]), st.binary(min_size=1, max_size=8)
)
def test_a_changed_trust_file_never_breaks_the_verifier(honest: Honest, at: int, kind: str, raw: bytes) -> None:
    text = mutated(honest.trust.encode(), at, kind, raw).decode("utf-8", "replace")
    outcome = ov.UNREADABLE
    try:
        ov.Trust(text)
    except ov.Bad as error:
        outcome = error.outcome
    assert outcome == ov.UNREADABLE


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 20), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)  # fmt: skip
MEMBERS = ("bundle.json", "evidence/register.json")


@RELAXED
@given_(st.sampled_from(MEMBERS), st.data())
def test_a_member_of_another_type_never_breaks_the_verifier(honest: Honest, name: str, data: st.DataObject) -> None:
    """Every member of the lists that nobody signs may hold anything."""
    path = honest.folder / name
    before = path.read_bytes()
    value = json.loads(before)
    target = value if isinstance(value, dict) else data.draw(st.sampled_from(value))
    if name == "bundle.json" and data.draw(st.booleans()):
        target = data.draw(st.sampled_from(value["files"]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(JSON)
    copy = honest.folder.parent / "typed"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(honest.folder, copy)
    (copy / name).write_bytes(ov.canonical(value))
    if name != "bundle.json":
        bf.reseal(copy)
    report = ov.verify_bundle(copy, honest.trust)
    assert ov.report_text(report)
    if name == "bundle.json" and report["exit_code"] == 0:
        assert report == honest.report
