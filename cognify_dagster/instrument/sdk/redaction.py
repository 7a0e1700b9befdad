"""Keeps secrets out of what is recorded.

Invariants: the value of a setting whose name says that it is a secret is replaced by a text that says so, never dropped silently;
credentials inside addresses and texts that have the form of a known access token are replaced wherever they stand. This is a net for
accidents, not a proof: what a script writes into free text is its own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

REDACTED = "[redacted]"

_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_ALWAYS = frozenset(
    {"password", "passwd", "pwd", "passphrase", "secret", "secrets", "apikey", "credential", "credentials"}
)
_KEYS = frozenset({"api", "access", "private", "secret", "signing", "encryption", "ssh", "auth", "account"})
# Tokens of a vocabulary, and counts of them, are no secrets: pad_token, max_new_tokens, tokens_per_second.
_VOCABULARY = frozenset(
    {
        "additional", "begin", "bos", "classifier", "cls", "decoder", "end", "eos", "fake", "forced", "id", "ids", "image", "index",
        "instruction", "len", "length", "map", "mask", "max", "min", "model", "new", "num", "pad", "per", "position", "prefix", "response",
        "sep", "special", "start", "suffix", "suppress", "tool", "total", "type", "unk", "video",
    }
)  # fmt: skip
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{1,30}://)[^/\s@]+@")
_KNOWN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|AKIA[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{30,})"
)
_PARAMETER = re.compile(
    r"(?i)\b(?P<name>password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key)(?P<mark>[=:]\s*)[^\s&;,'\"]+"
)
_MAX_DEPTH = 40


def is_secret(name: str, value: Any) -> bool:
    """Whether a setting of this name and value is taken for a secret."""
    words = [word.lower() for word in _WORDS.findall(name)]
    known = set(words)
    if value is None or isinstance(value, bool) or (isinstance(value, str) and not value):
        return False
    if known & _ALWAYS or "apikey" in "".join(words):
        return True
    if any(left in _KEYS and right in {"key", "keys"} for left, right in itertools.pairwise(words)):
        return True
    if "token" in known or ("tokens" in known and not isinstance(value, (int, float))):
        return not isinstance(value, (int, float)) and not known & _VOCABULARY
    return False


def redact_text(text: str) -> str:
    """Return a text without credentials in addresses, without `password=…` and without known forms of access tokens."""
    if len(text) < 6:
        return text
    text = _USERINFO.sub(rf"\g<scheme>{REDACTED}@", text)
    text = _PARAMETER.sub(rf"\g<name>\g<mark>{REDACTED}", text)
    return _KNOWN.sub(REDACTED, text)


def redact(value: Any, name: str = "", _depth: int = 0) -> Any:
    """Return a value with secrets replaced; mappings and lists are copied, other values kept as they are.

    Args:
        value: what somebody wants recorded.
        name: the setting's name.
    """
    if _depth > _MAX_DEPTH:
        return value  # the recorder refuses what is nested so deeply
    if name and is_secret(name, value):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {key: redact(item, str(key), _depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item, "", _depth + 1) for item in value]
    return value


def redact_command(words: Sequence[str]) -> tuple[str, ...]:
    """Return a command line with the values of secret options replaced: `--api-key X`, `--api-key=X`, `password=X`."""
    shown: list[str] = []
    hide = False
    for word in words:
        name, mark, value = word.partition("=")
        if hide and not word.startswith("-"):
            shown.append(REDACTED)
        elif mark and is_secret(name, value):
            shown.append(f"{name}={REDACTED}")
        else:
            shown.append(redact_text(word))
        hide = not mark and word.startswith("-") and is_secret(word, "x")
    return tuple(shown)
