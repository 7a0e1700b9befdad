"""What changed in each data set, why and who agreed, as printed. Pure."""

from __future__ import annotations

from typing import Any

from cognify_dagster.documents.labels import words
from cognify_dagster.documents.view.blocks import Block, Cell, entry, heading, mono, number, paragraph, small, table

Json = dict[str, Any]


def dataset_change_blocks(changes: Json) -> list[Block]:
    """Return the changes of each data set; packages of earlier builds do not say and get nothing."""
    found = changes.get("datasets")
    if not found:
        return []
    blocks = [heading("Changes of the data sets: why, what, and who agreed", 2)]
    for item in found:
        blocks += _dataset(item, changes["since"])
    return blocks


def _dataset(item: Json, since: str | None) -> list[Block]:
    told = f"Data set {item['name']} ({', '.join(words(role) for role in item['roles'])}): "
    before, after = item["before"], item["after"]
    if before is None:
        where = "this is the first release of this model" if since is None else f"version {since} did not use it"
        told += f"{where}; below stands the step that brought the root in use (entry {after['entry']['seq']})."
    elif before["root"] == after["root"]:
        return [paragraph(told + f"the same data as in version {since}.")]
    elif before["entry"]["seq"] > after["entry"]["seq"]:
        told += f"an earlier state than version {since} used; below stands the step that brought it."
    else:
        steps = len(item["changes"]) + item["cut"]
        told += f"{number(steps)} {'step' if steps == 1 else 'steps'} since version {since}."
    rows: list[list[Cell]] = [
        [_step(change), _reason(change), _difference(change["difference"]), _agreed(change)]
        for change in item["changes"]
    ]
    blocks = [
        paragraph(told),
        *table(["Step", "Declared reason", "What changed", "Who agreed"], [22, 26, 26, 26], rows),
    ]
    if item["cut"]:
        blocks.append(paragraph(small(f"{item['cut']} older steps are not listed.")))
    return blocks


def _step(change: Json) -> Cell:
    old = f"{change['old_root'][:12]}…" if change["old_root"] else "nothing"
    author = change["author"]["name"] if change["author"] else ""
    unknown = f"not identified: {', '.join(change['unattributed'])}" if change["unattributed"] else ""
    return [
        mono(f"{old} to {change['root'][:12]}…"),
        small(f"by {author or unknown or 'nobody on record'}", n=True),
        small(f"{entry(change['entry'])}, {change['entry']['time']}", n=True),
    ]


def _reason(change: Json) -> Cell:
    reason = change["reason"]
    if reason is None:
        return "○ no reason declared" if change["old_root"] else "– (first snapshot)"
    whose = f"signed by {reason['person']['name']}" if reason["person"] else "with the snapshot"
    return [{"v": f"“{reason['text']}”"}, small(f"{whose}{_cited(reason['entry'])}", n=True)]


def _cited(item: Json | None) -> str:
    return "" if item is None else f", {entry(item)}"


def _difference(found: Json | None) -> Cell:
    if found is None:
        return "○ the difference is not on record"
    counts = [
        f"{words(kind)}: " + ", ".join(f"{number(count)} {words(name)}" for name, count in numbers.items())
        for kind, numbers in found["counts"].items()
        if any(numbers.values())
    ]
    return [
        {"v": found["text"] or "not summarised"},
        *(small(line, n=True) for line in counts),
        mono(found["digest"].removeprefix("sha256:")[:16] + "…", n=True),
        small(entry(found["entry"]), n=True),
    ]


def _agreed(change: Json) -> Cell:
    told: list[Json] = []
    for item in change["decisions"]:
        verb = {"approve": "● approved", "reject": "○ rejected"}[item["decision"]]
        if not item["counts"]:
            verb = f"△ does not count ({item['why']}): {words(item['decision'])}"
        late = ", after it was used" if item["before_use"] is False else ""
        said = f" “{item['comment']}”" if item["comment"] else ""
        told.append({"v": f"{verb} by {item['person']['name']} ({words(item['role'])}){late}{said}", "n": bool(told)})
        told.append(small(f"{entry(item['entry'])}, {item['entry']['time']}", n=True))
    if change["unreadable"]:
        numbers = ", ".join(str(seq) for seq in change["unreadable"])
        told.append({"v": f"○ a decision in entry {numbers} cannot be read", "n": bool(told)})
    return told or "nobody decided about it"
