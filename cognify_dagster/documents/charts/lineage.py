"""A graph of what came from what, in layers from left to right. See `drawing` for the invariants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cognify_dagster.documents.charts.drawing import GRID, INK, PAPER, SOFT, Canvas, nothing
from cognify_dagster.documents.view.cleaning import Cleaner, clean_text

MAX_IN_LAYER = 12
MAX_LAYERS = 8
_BOX, _TALL, _ACROSS, _DOWN = 118, 46, 34, 14


@dataclass(frozen=True)
class Node:
    """One thing: what kind, its name, and the start of its digest."""

    id: str
    kind: str
    name: str
    digest: str


def lineage(title: str, nodes: Sequence[Node], edges: Sequence[tuple[str, str]], *, clean: Cleaner = clean_text) -> str:
    """Draw nodes as boxes and edges as arrows, sources left.

    Of more than 12 nodes in a layer, or 8 layers, the rest is counted in one box; the table has all of them. An edge that would
    close a circle, or names a node that is not there, is left out.
    """
    known = {node.id: node for node in nodes}
    if not known:
        return nothing(title, "Nothing to show: no lineage is recorded.", clean)
    kept = _without_circles(list(known), [(a, b) for a, b in edges if a in known and b in known and a != b])
    layers = _ordered(_layers(list(known), kept), kept)
    place: dict[str, tuple[float, float]] = {}
    rows = max(min(len(layer), MAX_IN_LAYER) for layer in layers)
    height = 8 + rows * (_TALL + _DOWN)
    canvas = Canvas(clean, max(1, len(layers)) * (_BOX + _ACROSS) - _ACROSS + 12)
    more: list[tuple[float, float, int]] = []
    for column, layer in enumerate(layers):
        shown = layer if len(layer) <= MAX_IN_LAYER else layer[: MAX_IN_LAYER - 1]
        boxes = len(shown) + (len(shown) < len(layer))
        x = 6.0 + column * (_BOX + _ACROSS)
        start = (height - boxes * (_TALL + _DOWN) + _DOWN) / 2
        for row, name in enumerate(shown):
            place[name] = (x, start + row * (_TALL + _DOWN))
        if len(shown) < len(layer):
            more.append((x, start + len(shown) * (_TALL + _DOWN), len(layer) - len(shown)))
    for source, target in kept:
        if source in place and target in place:
            (x1, y1), (x2, y2) = place[source], place[target]
            if x2 > x1:  # layers beyond the last share one
                canvas.arrow(x1 + _BOX, y1 + _TALL / 2, x2, y2 + _TALL / 2)
    for name, (x, y) in place.items():
        node = known[name]
        canvas.rect(x, y, _BOX, _TALL, PAPER, INK)
        canvas.text(x + 6, y + 12, node.kind, size=8.6, fill=SOFT, room=_BOX - 10)
        canvas.text(x + 6, y + 26, node.name, size=11, room=_BOX - 10)
        canvas.text(x + 6, y + 39, node.digest[:12] or "no digest", size=8.6, fill=SOFT, room=_BOX - 10)
    for x, y, count in more:
        canvas.rect(x, y, _BOX, _TALL, PAPER, GRID)
        canvas.text(x + 6, y + 26, f"{count} more in the table", size=10, fill=SOFT)
    words = "; ".join(f"{known[a].name} to {known[b].name}" for a, b in kept)
    return canvas.svg(height + 4, title, words or "no connection is recorded")


def _without_circles(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Keep each edge that closes no circle with those kept before it."""
    after: dict[str, set[str]] = {name: set() for name in names}
    kept: list[tuple[str, str]] = []
    for source, target in dict.fromkeys(edges):
        seen, open_ = {target}, [target]
        while open_:
            for following in after[open_.pop()]:
                if following not in seen:
                    seen.add(following)
                    open_.append(following)
        if source not in seen:
            after[source].add(target)
            kept.append((source, target))
    return kept


def _layers(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Layers by the longest way from a source; a source that feeds one late layer stands just before it."""
    depth = dict.fromkeys(names, 0)
    for _ in names:
        moved = False
        for source, target in edges:
            if depth[target] < depth[source] + 1:
                depth[target], moved = depth[source] + 1, True
        if not moved:
            break
    fed = {target for _, target in edges}
    for name in names:
        targets = [depth[target] for source, target in edges if source == name]
        if name not in fed and targets:
            depth[name] = min(targets) - 1
    last = min(max(depth.values()), MAX_LAYERS - 1)
    layers: list[list[str]] = [[] for _ in range(last + 1)]
    for name in names:
        layers[min(depth[name], last)].append(name)
    return [layer for layer in layers if layer]


def _ordered(layers: Sequence[Sequence[str]], edges: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Order each layer by the mean place of its neighbours, there and back, so that few arrows cross."""
    found = [list(layer) for layer in layers]
    for forward in (True, False, True):
        order = range(len(found)) if forward else range(len(found) - 1, -1, -1)
        place: dict[str, float] = {name: index for layer in found for index, name in enumerate(layer)}
        for number in order:
            found[number].sort(key=lambda name: (_middle(name, edges, place, forward), name))
            place.update({name: index for index, name in enumerate(found[number])})
    return found


def _middle(name: str, edges: Sequence[tuple[str, str]], place: Mapping[str, float], forward: bool) -> float:
    beside = [place[a] if forward else place[b] for a, b in edges if (b if forward else a) == name]
    return sum(beside) / len(beside) if beside else place[name]
