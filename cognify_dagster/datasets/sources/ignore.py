"""Ignore rules: which paths of a source stay outside the dataset. The rules are part of the root.

A rule is a glob: ``*`` and ``?`` match within one path part, ``**`` across parts; everything else, brackets included, is
literal. A rule without ``/`` matches a part at any depth, one with ``/`` matches from the root. A match covers the whole
subtree. There is no negation, so the order of rules does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.tree import ignore_digest

MAX_RULES = 1_000
MAX_RULE_CHARS = 1_024


class IgnoreRules:
    """Compiled ignore rules.

    Args:
        rules: globs, see the module description.

    Raises:
        DatasetError: a rule is empty or too long, starts with ``!``, or there are too many.
    """

    def __init__(self, rules: Sequence[str] = ()) -> None:
        if isinstance(rules, str):
            raise DatasetError("ignore takes a list of rules, not one string")
        if len(rules) > MAX_RULES:
            raise DatasetError(f"{len(rules)} ignore rules; at most {MAX_RULES} are accepted")
        self.rules = tuple(sorted(set(rules), key=str.encode))
        self.digest = ignore_digest(self.rules)
        self._patterns = [re.compile(_to_regex(rule), re.DOTALL) for rule in self.rules]

    def match(self, path: bytes) -> bool:
        """Whether a relative path is left out."""
        if not self._patterns:
            return False
        text = path.decode("utf-8", "surrogateescape")
        return any(pattern.fullmatch(text) for pattern in self._patterns)


def _to_regex(rule: str) -> str:
    body = rule.rstrip("/")
    if not body or len(rule) > MAX_RULE_CHARS or rule.startswith("!"):
        raise DatasetError(f"ignore rule {rule[:80]!r} is empty, longer than {MAX_RULE_CHARS}, or a negation")
    anchored = "/" in body
    pieces = []
    for token in re.split(r"(\*\*/|\*\*|\*|\?)", body.lstrip("/")):
        pieces.append({"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token) or re.escape(token))
    start = "" if anchored else "(?:.*/)?"
    return start + "".join(pieces) + "(?:/.*)?"
