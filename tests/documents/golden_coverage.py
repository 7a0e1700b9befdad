"""What coverage says about the story's two versions, framework by framework, for comparison with `golden/coverage/*.json`.

Write these files anew, after looking at what changed, with `python -m tests.documents.golden_coverage`.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cognify_dagster.documents import VersionFacts, assess_coverage, framework_ids, load_framework
from cognify_dagster.documents.coverage.engine import Line
from cognify_dagster.documents.frameworks.conditions import Condition
from cognify_dagster.documents.frameworks.model import DERIVED_FACTS, Framework

FOLDER = Path(__file__).parent / "golden" / "coverage"


def expected(framework: Framework, unsigned: VersionFacts, released: VersionFacts, now: datetime) -> dict[str, Any]:
    """Return the coverage of three cases: the story's own facts; all facts stated so that the most applies; that, released."""
    stated = in_scope(framework)
    return {
        "framework": framework.id,
        "stated_for_in_scope": stated,
        "as_the_story_states": _report(framework, unsigned, now),
        "in_scope_unsigned": _report(framework, _with(unsigned, framework, stated), now),
        "in_scope_released": _report(framework, _with(released, framework, stated), now),
    }


def in_scope(framework: Framework) -> dict[str, Any]:
    """Choose a value for each fact that the conditions ask for, the first that lets them hold."""
    found: dict[str, Any] = {}
    conditions = [framework.applicability, *(item.applies_when for item in framework.requirements())]
    for condition in conditions:
        if condition is not None:
            _choose(condition, found, wanted=True)
    return dict(sorted(found.items()))


def _choose(condition: Condition, found: dict[str, Any], *, wanted: bool) -> None:
    if condition.op == "fact" and condition.fact not in DERIVED_FACTS:
        first = condition.values[0]
        other = (not first) if isinstance(first, bool) else "other" if isinstance(first, str) else -1
        found.setdefault(condition.fact, first if wanted else other)
    for part in condition.parts:
        _choose(part, found, wanted=wanted != (condition.op == "not"))


def _with(facts: VersionFacts, framework: Framework, stated: dict[str, Any]) -> VersionFacts:
    assert facts.registered is not None
    record = facts.registered.record
    own = {**record.framework_facts, framework.id: stated}
    return replace(
        facts, registered=replace(facts.registered, record=record.model_copy(update={"framework_facts": own}))
    )


def _report(framework: Framework, facts: VersionFacts, now: datetime) -> dict[str, Any]:
    report = assess_coverage(facts, framework, now)
    kinds = _kinds(facts)
    return {
        "scope": report.scope,
        "scored": report.scored,
        "law": report.counts("law"),
        "guidance": report.counts("guidance"),
        "needs_work": [line.requirement.id for line in report.to_do()],
        "lines": {line.requirement.id: _line(line, kinds) for line in report.lines},
    }


def _kinds(facts: VersionFacts) -> dict[int, str]:
    """The kind of each entry that may be cited: hashes differ from run to run, since the story makes new keys."""
    found = {item.seq: "oversight" for item in facts.oversight.cited()}
    found.update({item.seq: item.record.kind for item in facts.events})
    single = [facts.registered, facts.gate_set, *(item.snapshot for item in facts.all_datasets()), *facts.overlaps]
    found.update({item.seq: item.record.kind for item in single if item is not None})
    found[0] = "genesis"
    return found


def _line(line: Line, kinds: dict[int, str]) -> dict[str, Any]:
    told: dict[str, Any] = {"status": line.status}
    if line.entries:
        told["entries"] = [f"{ref.seq} {kinds[ref.seq]}" for ref in line.entries]
    if line.supports:
        told["supports"] = list(line.supports)
    if line.gaps:
        told["gaps"] = [f"{gap.status}: {gap.text} | {gap.who}" for gap in line.gaps]
    if line.derivation:
        told["derivation"] = [f"{step['fact']} is {step['actual']!r}: {step['holds']}" for step in line.derivation]
    return told


def text_of(value: dict[str, Any]) -> str:
    """Return a golden file's text."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Tell the story anew and write all files."""
    from cognify_dagster.documents import collect
    from tests.documents.conftest import NOW, tell_two_versions

    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        story = tell_two_versions(Path(folder))
        reading = story.ws.read()
        unsigned, released = collect(reading, story.model, "2"), collect(reading, story.model, "1")
    names = framework_ids()
    for path in FOLDER.glob("*.json"):
        if path.stem not in names:
            path.unlink()
    for name in names:
        value = expected(load_framework(name), unsigned, released, NOW)
        (FOLDER / f"{name}.json").write_text(text_of(value), encoding="utf-8")
        print(f"written: {name}")


if __name__ == "__main__":
    main()
