"""What a sensor told about each version, kept where Dagster keeps the cursors of its daemons.

A tick stores its whole cursor again, so a cursor must not grow with the number of versions. The marks of a sensor lie in Dagster's
key-value table instead, under a random token that stands in the cursor together with the tick's number.

Invariants: a mark counts only if it was written by a tick whose cursor was stored: one that was cut off between its evaluation and
that is as if it had never been, and what it told is told again. Lost with the cursor, or with Dagster's database, everything is told
again. Nothing of this decides anything.
"""

import json
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

SHARDS = 64


class Values(Protocol):
    """A table of texts by key."""

    def get_cursor_values(self, keys: set[str]) -> Mapping[str, str]:
        """Return the values of those keys that there are."""

    def set_cursor_values(self, pairs: Mapping[str, str]) -> None:
        """Set values; the keys are all new or all there."""


class Mark(NamedTuple):
    """What was told about a version: the fingerprint of its pages and of its sign-off check. Empty: nothing."""

    told: str = ""
    shown: str = ""
    tick: int = 0


@dataclass
class Memory:
    """The marks of one sensor, by (target, version). `tick` is the number of the tick whose cursor was stored last."""

    token: str
    tick: int
    marks: dict[tuple[str, str], Mark] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    stored: bool = False

    def get(self, target: str, version: str) -> Mark:
        """Return what was told about a version."""
        return self.marks.get((target, version), Mark())

    def told(self, target: str, version: str, mark: str) -> None:
        """Note what the pages of a version say; empty if that is not known."""
        self._put(target, version, self.get(target, version)._replace(told=mark))

    def shown(self, target: str, version: str, mark: str) -> None:
        """Note what the check of a version says."""
        self._put(target, version, self.get(target, version)._replace(shown=mark))

    def _put(self, target: str, version: str, mark: Mark) -> None:
        key = (target, version)
        if self.get(target, version)[:2] != mark[:2]:
            self.marks[key] = mark._replace(tick=self.tick + 1)
            self.changed.add(_shard(key))

    def save(self, values: Values) -> dict[str, Any]:
        """Write what changed, and return what the cursor has to hold. The tick ends with this."""
        self.tick += 1
        shards = range(SHARDS) if not self.stored else sorted(self.changed)
        pairs: dict[int, dict[str, dict[str, list[Any]]]] = {number: {} for number in shards}
        if pairs:
            for (target, version), mark in self.marks.items():
                part = pairs.get(_shard((target, version)))
                if part is not None:
                    part.setdefault(target, {})[version] = list(mark)
            values.set_cursor_values(
                {_name(self.token, number): json.dumps(part, separators=(",", ":")) for number, part in pairs.items()}
            )
        self.stored, self.changed = True, set()
        return {"token": self.token, "tick": self.tick}


def new_memory() -> Memory:
    """Return the memory of a sensor that has told nothing yet."""
    return Memory(secrets.token_hex(8), 0)


def recall(values: Values, cursor: object, kept: Memory | None = None) -> Memory:
    """Return the memory that a cursor names; a new one where it names none.

    Args:
        values: where marks are kept.
        cursor: what `Memory.save` returned at the tick before.
        kept: the memory of that tick, if this process still has it; it is read anew if the cursor is not of that tick.
    """
    if not isinstance(cursor, dict):
        return new_memory()
    token, tick = cursor.get("token"), cursor.get("tick")
    if not isinstance(token, str) or len(token) != 16 or not isinstance(tick, int) or isinstance(tick, bool):
        return new_memory()
    if kept is not None and (kept.token, kept.tick) == (token, tick) and not kept.changed:
        return kept
    memory = Memory(token, tick)
    found = values.get_cursor_values({_name(token, number) for number in range(SHARDS)})
    if len(found) != SHARDS:
        return new_memory()
    for text in found.values():
        _read(memory, text)
    memory.stored = True
    return memory


def _read(memory: Memory, text: str) -> None:
    try:
        for target, versions in json.loads(text).items():
            for version, (told, shown, tick) in versions.items():
                if tick <= memory.tick:
                    memory.marks[target, version] = Mark(str(told), str(shown), int(tick))
                else:  # of a tick that was cut off: written over, before a later tick bears its number
                    memory.changed.add(_shard((target, version)))
    except (ValueError, TypeError, AttributeError):  # told again
        return


def _shard(key: tuple[str, str]) -> int:
    return zlib.crc32("\n".join(key).encode()) % SHARDS


def _name(token: str, number: int) -> str:
    return f"cognify/told/{token}/{number:02x}"
