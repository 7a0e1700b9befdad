"""Frameworks are data: shipped ones are sound, wrong ones are refused with file and field, conditions are a tiny pure language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.documents import FrameworkError, framework_ids, load_framework, template_root
from cognify_dagster.documents.frameworks.loading import Condition, parse_framework, template_path

# the headings of the guidance; a citation of anything else is invented
SR26_2_SECTIONS = {"II", "III", "IV", "V", "VI", "VII"}


def text_of(name: str) -> str:
    return (template_root() / "frameworks" / f"{name}.yaml").read_text(encoding="utf-8")


def changed(name: str, change: Any) -> str:
    data = yaml.safe_load(text_of(name))
    change(data)
    return yaml.safe_dump(data, allow_unicode=True)


@pytest.mark.parametrize("name", ["sr26-2", "fair-lending"])
def test_shipped_frameworks_load_with_their_scope_determination_first(name: str) -> None:
    framework = load_framework(name)
    requirements = list(framework.requirements())
    assert framework.id in framework_ids()
    assert requirements[0].scope_determination
    assert framework.scored("2026-11-21")
    assert all(item.basis in ("primary", "secondary", "memory") for item in requirements)
    assert all(len(item.paraphrase) <= 300 for item in requirements)


def test_sr26_2_covers_the_guidance_and_cites_only_its_sections() -> None:
    framework = load_framework("sr26-2")
    ids = {item.id for item in framework.requirements()}
    assert len(ids) == 21
    assert {"mrm.scope", "mrm.effective_challenge", "mrm.val.before_use", "mrm.mon.plan", "mrm.vendor"} <= ids
    assert "mrm.gov.audit" not in ids, "its placement in the text could not be confirmed"
    for item in framework.requirements():
        sections = {part.strip(",.;") for part in item.citation.replace("§", " ").split()} & {
            "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX",
        }  # fmt: skip
        assert sections, item.citation
        assert sections <= SR26_2_SECTIONS, item.citation
        assert item.force == "guidance"


def test_fair_lending_marks_rows_that_were_not_read_again_and_never_scores_the_withdrawn_circulars() -> None:
    framework = load_framework("fair-lending")
    basis = {item.id: item.basis for item in framework.requirements()}
    assert {name for name, value in basis.items() if value == "memory"} == {"fl.edds", "fl.records", "fl.attr"}
    assert "fl.circulars" not in basis
    assert any("withdrawn" in note for note in framework.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(extra_field=1), "extra_field: is not a known field"),
        (lambda d: d.pop("as_of"), "as_of: is required"),
        (lambda d: d.update(status="certified"), "status"),
        (lambda d: d["sections"][0]["requirements"][0].update(paraphrase="x" * 301), "mrm.scope"),
        (lambda d: d["sections"][0]["requirements"][0].update(scope_determination=False), "scope determination"),
        (lambda d: d["sections"][1]["requirements"][0].update(evidence={"kind": "auto:magic"}), "auto:magic"),
        (lambda d: d["sections"][1]["requirements"][0].update(evidence={"all_of": []}), "exactly one of"),
        (
            lambda d: d["sections"][1]["requirements"][0].update(evidence={"kind": "auto:eval", "checks": ["vibes"]}),
            "no check 'vibes'",
        ),
        (lambda d: d["sections"][1]["requirements"][0].update(applies_when={"moon_phase": "full"}), "moon_phase"),
        (lambda d: d["sections"][1]["requirements"][0].update(applies_when={"a": 1, "b": 2}), "exactly one key"),
        (lambda d: d["sections"][1]["requirements"][1].update(id="mrm.risk_profile"), "occurs twice"),
        (lambda d: d["sections"][1]["requirements"][0].update(evidence={"kind": "human"}), "names its section"),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_field(tmp_path: Path, change: Any, words: str) -> None:
    (tmp_path / "sr26-2.yaml").write_text(changed("sr26-2", change), encoding="utf-8")
    with pytest.raises(FrameworkError) as caught:
        load_framework("sr26-2", tmp_path)
    assert "sr26-2.yaml" in str(caught.value)
    assert words in str(caught.value)


def test_a_wrong_item_is_named_alone_and_in_words_for_people(tmp_path: Path) -> None:
    """The section is not called too short because its only requirement is wrong."""

    def wrong(data: Any) -> None:
        data["sections"] = [{"id": "ours", "title": "Ours", "requirements": [data["sections"][0]["requirements"][0]]}]
        data["sections"][0]["requirements"][0].update(force="mandatory", mandatory="perhaps")

    (tmp_path / "sr26-2.yaml").write_text(changed("sr26-2", wrong), encoding="utf-8")
    with pytest.raises(FrameworkError) as caught:
        load_framework("sr26-2", tmp_path)
    told = str(caught.value)
    assert ".force: has to be 'law', 'guidance', 'voluntary' or 'draft'" in told
    assert ".mandatory: has to be true or false" in told
    assert "at least" not in told
    assert "Input should" not in told


@pytest.mark.parametrize(
    ("text", "words"),
    [("id: a\nid: b\n", "repeated"), ("a: &x 1\nb: *x\n", "aliases"), ("[1, 2]", "mapping"), ("id: [", "YAML")],
)
def test_yaml_traps_are_refused(text: str, words: str) -> None:
    with pytest.raises(FrameworkError, match=words):
        parse_framework(text, source="mine.yaml")


def test_an_own_folder_takes_precedence_and_paths_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "sr26-2.yaml").write_text(changed("sr26-2", lambda d: d.update(version="bank-1")), encoding="utf-8")
    assert load_framework("sr26-2", tmp_path).version == "bank-1"
    assert load_framework("fair-lending", tmp_path).version == "1"
    with pytest.raises(FrameworkError, match="no framework"):
        load_framework("../../etc/passwd", tmp_path)
    with pytest.raises(FrameworkError, match="outside"):
        template_path("../../pyproject.toml")


def test_drafts_and_texts_out_of_force_are_not_scored() -> None:
    framework = load_framework("sr26-2")
    assert not framework.scored("2026-04-16")
    assert not framework.model_copy(update={"status": "draft"}).scored("2026-11-21")
    assert not framework.model_copy(update={"effective_to": "2026-10-01"}).scored("2026-11-21")


NAMES = ["a", "b", "c"]
conditions = st.recursive(
    st.builds(lambda n, v: {n: v}, st.sampled_from(NAMES), st.booleans()),
    lambda inner: st.one_of(
        st.builds(lambda x: {"all": x}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda x: {"any": x}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda x: {"not": x}, inner),
    ),
    max_leaves=8,
)


def naive(data: dict[str, Any], facts: dict[str, bool]) -> bool:
    key, value = next(iter(data.items()))
    if key == "all":
        return all(naive(item, facts) for item in value)
    if key == "any":
        return any(naive(item, facts) for item in value)
    return not naive(value, facts) if key == "not" else facts[key] == value


@settings(deadline=None)
@given(conditions, st.fixed_dictionaries({name: st.one_of(st.none(), st.booleans()) for name in NAMES}))
def test_conditions_agree_with_every_way_to_fill_in_what_is_not_stated(
    data: dict[str, Any], facts: dict[str, bool | None]
) -> None:
    steps: list[dict[str, Any]] = []
    result = Condition.parse(data).evaluate(facts, steps)
    unknown = [name for name in NAMES if facts[name] is None]
    answers = set()
    for number in range(2 ** len(unknown)):
        filled = {**facts, **{name: bool(number >> i & 1) for i, name in enumerate(unknown)}}
        answers.add(naive(data, filled))  # type: ignore[arg-type]
    if result is not None:
        assert answers == {result}, "an answer given never depends on facts that are not stated"
    if not unknown:
        assert result is not None
    assert all({"fact", "expected", "actual", "holds"} == set(step) for step in steps)


def test_one_is_not_true() -> None:
    assert Condition.parse({"a": True}).evaluate({"a": 1}, []) is None
    assert Condition.parse({"a": [1, 2]}).evaluate({"a": 2}, []) is True
