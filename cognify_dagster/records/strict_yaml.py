"""The strict way to read YAML that people write: gate sets, change plans and framework files.

Invariants: only plain data comes out (no tag makes an object); a repeated key is an error, where YAML would silently keep the last;
aliases are an error, since a short file could expand without bound; keys are plain text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class YamlError(ValueError):
    """The text is not YAML, or YAML that is not accepted here; the message is one line and names the place."""


class _StrictLoader(yaml.SafeLoader):
    """Refuses repeated keys and aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "keys have to be plain text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is repeated", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_small_text(path: str | Path, limit: int, what: str, error: type[ValueError]) -> str:
    """Return the text of a file that people write.

    Args:
        path: the file.
        limit: how many bytes it may have at most.
        what: what it is, for the message: `a gate set`.
        error: what is raised.

    Raises:
        ValueError: of the type given, naming the file, if it is missing, too large or not UTF-8.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            raw = stream.read(limit + 1)
    except OSError as problem:
        raise error(f"{file}: can't be read ({problem.strerror or problem})") from None
    if len(raw) > limit:
        raise error(f"{file}: larger than {limit} bytes; {what} is a short file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{file}: not UTF-8 (byte {problem.start}); save it as UTF-8") from None


def load_yaml(text: str) -> Any:
    """Return the data of a YAML text.

    Raises:
        YamlError: if it cannot be read, repeats a key or uses an alias.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (a SafeLoader that refuses more)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: impossible dates
        raise YamlError(" ".join(str(error).split())) from None
