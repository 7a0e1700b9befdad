"""Compares what two evaluations measured: metrics, fairness by group, gates. Pure.

Invariants: a number that differs needs a bound about it; a bound is judged on the new evaluation whether or not it differs; what
defines a measurement (unit, objective, groups, settings) must be the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cognify_dagster.governance.changes.bounds import ChangeBounds, MetricRule, exact, same
from cognify_dagster.governance.changes.values import ABSENT, Line, differ, flatten, judged, plain
from cognify_dagster.records import Evaluation

_SUFFIXES = (".ci_low", ".ci_high", ".n")
_NUMBERS = ("value", "ci_low", "ci_high", "n")
_RATES = ("selection_rate", "tpr", "fpr", "ppv")
_EXTREMES = ("lowest_group", "highest_group")


def compare_metrics(bounds: ChangeBounds, base: Evaluation, new: Evaluation) -> Iterable[Line]:
    """Judge every bound on the new evaluation; name every metric that differs without one."""
    before, after = measured(base), measured(new)
    for name, rule in sorted({**bounds.metrics, **bounds.groups}.items()):
        yield _ruled(name, rule, before, after)
    named = {_stem(name) for name in bounds.metrics}
    old, now = _by_name(base), _by_name(new)
    for name in sorted(set(old) | set(now)):
        if name not in old or name not in now or len(old[name]) != len(now[name]):
            yield differ(
                f"metric {name}", old.get(name, ABSENT), now.get(name, ABSENT), why="the same metrics must be measured"
            )
            continue
        for one, other in zip(old[name], now[name], strict=True):
            defined = [
                key
                for key in sorted(set(one) | set(other))
                if key not in _NUMBERS and not same(one.get(key), other.get(key))
            ]
            for key in defined:
                yield differ(f"metric {name}: {key}", one.get(key), other.get(key))
            moved = [key for key in _NUMBERS if not same(one.get(key), other.get(key))]
            if moved and name not in named:
                key = moved[0]
                yield differ(
                    f"metric {name}: {key}", one.get(key), other.get(key), why="the plan has no bound for this metric"
                )


def _ruled(name: str, rule: MetricRule, before: Mapping[str, Any], after: Mapping[str, Any]) -> Line:
    problem = rule.problem(before.get(name), after.get(name))
    bounds = ", ".join(f"{key} {value}" for key, value in rule.model_dump(exclude_defaults=True).items())
    place = "groups" if name.startswith("fairness.") else "metrics"
    old, new = before.get(name, ABSENT), after.get(name, ABSENT)
    return judged(f"metric {name}", old, new, f"{place}: {name} ({bounds})", problem is None, problem or "")


def _by_name(evaluation: Evaluation) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for metric in evaluation.metrics:
        data = metric.model_dump(mode="json")
        found.setdefault(data.pop("name"), []).append(data)
    return {name: sorted(items, key=repr) for name, items in found.items()}


def measured(evaluation: Evaluation) -> dict[str, Any]:
    """Every number of an evaluation by the flat name that gates use; None where it was not measured.

    A name that stands for two numbers is left out: no bound may be judged on it.
    """
    pairs: list[tuple[str, Any]] = []
    for metric in evaluation.metrics:
        pairs += [(metric.name, metric.value)]
        pairs += [(f"{metric.name}.{key}", getattr(metric, key)) for key in ("ci_low", "ci_high", "n")]
    for result in evaluation.fairness:
        pairs += _numbers_of(result)
    found: dict[str, Any] = {}
    twice: set[str] = set()
    for name, value in pairs:
        if name in found:
            twice.add(name)
        found[name] = value
    for outcome in evaluation.outcomes:  # data checks stand nowhere else
        found.setdefault(outcome.metric, outcome.value)
    return {name: value for name, value in found.items() if name not in twice}


def _numbers_of(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The numbers of one sensitive attribute by flat name."""
    prefix = f"fairness.{result.get('attribute')}"
    pairs: list[tuple[str, Any]] = [(f"{prefix}.insufficient_groups", len(result.get("excluded_groups") or ()))]
    for item in _dicts(result.get("disparities")):
        pairs += [
            (f"{prefix}.{item.get('name')}{_suffix(key)}", item.get(key)) for key in ("value", "ci_low", "ci_high")
        ]
    for group in _dicts(result.get("groups")):
        base = f"{prefix}.groups.{group.get('group')}"
        pairs += [(f"{base}.{key}", group.get(key)) for key in ("n", "auc")]
        for rate in _RATES:
            part = group.get(rate)
            pairs.append((f"{base}.{rate}", part.get("value") if isinstance(part, Mapping) else None))
    return pairs


def _bounded(bounds: ChangeBounds, evaluation: Evaluation) -> dict[str, tuple[str, set[str]]]:
    """The attributes about which the plan has a bound: the bound, and all the names of the attribute's numbers."""
    found: dict[str, tuple[str, set[str]]] = {}
    for result in evaluation.fairness:
        names = {name for name, _ in _numbers_of(result)}
        rules = sorted(names & set(bounds.groups))
        if rules:
            found[str(result.get("attribute"))] = (rules[0], names)
    return found


def compare_fairness(bounds: ChangeBounds, base: Evaluation, new: Evaluation) -> Iterable[Line]:
    """Attributes and groups must be the same; numbers may differ where the plan bounds that attribute."""
    before, after, bounded = _by_attribute(base), _by_attribute(new), _bounded(bounds, new)
    for name in sorted(set(before) | set(after)):
        item = f"fairness of {name}"
        if name not in before or name not in after:
            old, now = ("measured" if name in part else ABSENT for part in (before, after))
            yield differ(item, old, now, why="the same attributes must be measured")
            continue
        bound = bounded[name][0] if name in bounded else None
        yield from _attribute(item, before[name], after[name], bound, bounds.notes == "allowed")


def _attribute(item: str, before: Any, after: Any, bound: str | None, notes: bool) -> Iterable[Line]:
    moved: list[str] = []
    for path in sorted(set(before) | set(after)):
        if path in before and path in after and same(before[path], after[path]):
            continue
        old, new = before.get(path, ABSENT), after.get(path, ABSENT)
        if path == "notes":
            yield judged(f"{item}: {path}", old, new, "notes: allowed", notes)
        elif bound and path in before and path in after and _a_result(path, old, new):
            moved.append(path)
        elif bound is None:
            yield differ(f"{item}: {path}", old, new, why=f"the plan has no bound under groups for {item}")
        else:
            yield differ(f"{item}: {path}", old, new, why="this is more than another number")
    if moved:
        yield judged(f"{item}: {len(moved)} numbers", "", f"differ, such as {moved[0]}", f"groups: {bound}", True)


def _a_result(path: str, old: Any, new: Any) -> bool:
    top = path.split(".", 1)[0]
    if top not in ("groups", "disparities", "missing"):
        return False
    if path.rsplit(".", 1)[-1] in _EXTREMES:
        return isinstance(old, str) and isinstance(new, str)
    return exact(old) is not None and exact(new) is not None


def _by_attribute(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Each attribute's leaves by path, groups and disparities by their names instead of their places."""
    found: dict[str, dict[str, Any]] = {}
    for place, result in enumerate(evaluation.fairness):
        name = str(result.get("attribute", f"number {place + 1}"))
        data = dict(plain(result))
        for part, key in (("groups", "group"), ("disparities", "name")):
            items = data.get(part)
            if isinstance(items, list) and all(isinstance(item, dict) for item in items):
                labels = [str(item.get(key)) for item in items]
                if len(set(labels)) == len(labels):
                    data[part] = dict(zip(labels, items, strict=True))
        if name in found:  # nobody can say which is which: a difference of its own
            name = f"{name} (given twice, number {place + 1})"
        found[name] = flatten(data)
    return found


def compare_outcomes(bounds: ChangeBounds, base: Evaluation, new: Evaluation) -> Iterable[Line]:
    """The same gates must be judged, and let the new version through; their values need a bound like any other number."""
    before, after = _gates(base), _gates(new)
    named = {_stem(name) for name in (*bounds.metrics, *bounds.groups)}
    named |= {name for _, names in _bounded(bounds, new).values() for name in names}
    for gate in sorted(set(before) | set(after)):
        if gate not in before or gate not in after:
            old, now = ("judged" if gate in part else ABSENT for part in (before, after))
            yield differ(f"gate {gate}", old, now, why="the same gates must be judged")
            continue
        one, other = before[gate], after[gate]
        for key in sorted((set(one) | set(other)) - {"message", "value"}):
            if same(one.get(key), other.get(key)):
                continue
            better = (key == "status" and other[key] == "pass") or (key == "passed" and other[key] is True)
            if better:
                yield judged(f"gate {gate}: {key}", one.get(key), other.get(key), "a gate that passes", True)
            else:
                yield differ(f"gate {gate}: {key}", one.get(key), other.get(key))
        metric = str(other.get("metric"))
        ruled = metric in named or _stem(metric) in named
        if not same(one.get("value"), other.get("value")) and not ruled:
            yield differ(
                f"gate {gate}: value", one.get("value"), other.get("value"), why="the plan has no bound for this metric"
            )
    failed = sorted(gate for gate, item in after.items() if not item.get("passed"))
    for gate in failed:
        yield Line(f"gate {gate}", "", "fail", None, False, f"gate {gate} does not let the new version through")


def _gates(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for place, outcome in enumerate(evaluation.outcomes):
        data = outcome.model_dump(mode="json")
        name = data.pop("id")
        found[name if name not in found else f"{name} (given twice, number {place + 1})"] = data
    return found


def _stem(name: str) -> str:
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name


def _suffix(key: str) -> str:
    return "" if key == "value" else f".{key}"


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, (list, tuple)) else []
