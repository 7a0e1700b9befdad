"""Keeps secrets out of what is recorded.

Invariants: the value of a setting whose name says that it is a secret is replaced by a text that says so, never dropped silently;
credentials inside addresses, headers, connection strings and command lines, private keys, and texts that have the form of a known access
token are replaced wherever they stand; going over a value twice changes nothing more. This is a net for accidents, not a proof: what a
script writes into free text is its own.
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
# A key for one of these services is a secret, however short it is.
_SERVICES = frozenset(
    {
        "anthropic", "aws", "azure", "cohere", "comet", "databricks", "gcp", "github", "gitlab", "google", "groq", "hf", "huggingface",
        "mistral", "neptune", "openai", "replicate", "sendgrid", "slack", "stripe", "together", "wandb",
    }
)  # fmt: skip
# Keys of these are names of columns, fields and places, or public: record_key, sort_key, query_key, public_key.
_NAMING_KEYS = frozenset(
    {
        "attention", "audio", "blocking", "business", "cache", "column", "composite", "config", "data", "dataset", "dedup", "dict", "digest",
        "entity", "event", "feature", "field", "file", "foreign", "group", "grouping", "hash", "head", "heads", "id", "idempotency", "image",
        "index", "input", "join", "json", "label", "link", "linking", "lookup", "map", "matching", "merge", "message", "messages", "metric",
        "model", "monitor", "name", "natural", "num", "object", "order", "output", "param", "partition", "path", "primary", "prompt", "public",
        "query", "record", "registry", "response", "row", "shard", "short", "sort", "state", "surrogate", "target", "text", "time", "topic",
        "translation", "unique", "value", "yaml",
    }
)  # fmt: skip
# Tokens of a vocabulary, and counts of them, are no secrets: pad_token, max_new_tokens, tokens_per_second.
_VOCABULARY = frozenset(
    {
        "additional", "begin", "boi", "bos", "classifier", "cls", "count", "decoder", "delimiter", "dir", "dropout", "end", "eoi", "eos",
        "fake", "file", "forced", "id", "ids", "image", "index", "instruction", "len", "length", "level", "limit", "map", "mask", "max",
        "min", "model", "name", "new", "newline", "num", "pad", "padding", "path", "per", "pooling", "position", "prefix", "response",
        "sep", "separator", "sos", "special", "start", "stop", "strategy", "suffix", "suppress", "tool", "total", "type", "unk", "video",
    }
)  # fmt: skip
_HEADERS = frozenset({"authorization", "bearer", "cookie", "cookies", "session"})
_LONG = 16
_SPECIAL = re.compile(r"[<\[].*[>\]]", re.DOTALL)
_NAME_PART = re.compile(r"[A-Za-z]+[0-9]{0,4}|[0-9]{1,4}")

_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{1,30}://)[^/\s]+@")
_KNOWN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{30,})"
)
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]*")
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
_HEADER = re.compile(
    r"(?i)\b(?P<name>(?:proxy-)?authorization)(?P<mark>['\"]?\s*[:=]\s*['\"]?)(?:(?:bearer|basic|digest|negotiate|token)\s+)?[^\s'\",;]+"
)
_COOKIE = re.compile(r"(?i)\b(?P<name>(?:set-)?cookie)(?P<mark>['\"]?:\s*['\"]?)[^\s'\"=]+=[^\r\n'\"]+")
_BEARER = re.compile(
    r"\b(?P<name>Bearer|BEARER)(?P<mark>\s+)(?!(?:tokens?|auth\w*|of|and|or|is|schemes?|[a-z]{1,6})\b(?!\.\w))[^\s'\",;]+"
    r"|\b(?P<low>bearer)(?P<gap>\s+)(?=[^\s'\",;]*\d)[^\s'\",;]{6,}"
)
_ACCOUNT = re.compile(r"(?i)\b(?P<name>AccountKey|SharedAccessKey|SharedAccessSignature)(?P<mark>\s*=\s*)[^;\s'\"]+")
_SIGNED = re.compile(
    r"(?i)(?P<name>(?:^|[?&;])(?:sig|signature)|\bx-(?:amz|goog)-(?:signature|credential|security-token))(?P<mark>=)(?![\d.]+(?:$|[^\w%/+-]))[^&\s'\"]+"
)
_PARAMETER = re.compile(
    r"(?i)(?<![\w-])(?P<name>[\w-]{0,40}?(?:password|passwd|pwd|passphrase|secret|api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key)"
    r"|(?:-{0,2}(?:access|api|auth|bearer|csrf|hf|hub|id|oauth|refresh|security|session)[_-]?)?token)"
    r"(?P<mark>['\"]?\s{0,3}[=:]\s{0,3})(?P<value>'[^'\n]{1,400}'|\"[^\"\n]{1,400}\"|[^\s&;,'\"]+)"
)
_NUMBER = re.compile(r"[+-]?[\d.]+(?:[eE][+-]?\d+)?%?")
_PROSE = frozenset({"a", "an", "is", "no", "none", "not", "see", "the"})
_MAX_DEPTH = 40


def _opaque(value: str) -> bool:
    """Whether a text looks like a key: long, without spaces, and no name of words such as `eval/accuracy_overall`."""
    if len(value) < _LONG or any(char.isspace() for char in value):
        return False
    parts = re.split(r"[_./:@-]+", value)
    return len(parts) < 2 or not all(not part or _NAME_PART.fullmatch(part) for part in parts)


def _names_key(words: Sequence[str], value: Any) -> bool:
    """Whether `…_key` of a text is a secret: that of a known service, or an opaque text under a name that is not one of data."""
    if len(words) < 2 or words[-1] not in {"key", "keys"}:
        return False
    texts = (
        [value]
        if isinstance(value, str)
        else [item for item in value if isinstance(item, str)]
        if _listed(value)
        else []
    )
    if _SERVICES & set(words[:-1]):
        return bool(texts)
    return words[-2] not in _NAMING_KEYS and any(_opaque(text) for text in texts)


def _listed(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset))


def _names_header(words: Sequence[str], value: Any) -> bool:
    """Whether it is a header or cookie that signs in: `Authorization`, `Set-Cookie`, `session`, `session_id`, `auth`."""
    if not isinstance(value, (str, Mapping)) and not _listed(value):
        return False
    last = words[-2] if len(words) > 1 and words[-1] in {"header", "headers", "value"} else words[-1]
    if last in _HEADERS:
        return True
    if last == "auth":
        return (isinstance(value, str) and ":" in value) or (_listed(value) and len(value) == 2)
    return "session" in words and last in {"id", "key"} and isinstance(value, str) and _opaque(value)


def _names_token(words: Sequence[str], value: Any) -> bool:
    known = set(words)
    if isinstance(value, (int, float)) or not known & {"token", "tokens"}:
        return False
    if isinstance(value, str) and _SPECIAL.fullmatch(value):
        return False  # a token of a vocabulary: <pad>, [CLS]
    if words[-2:] == ["id", "token"] and isinstance(value, str) and len(value) >= 8:
        return not known & (_VOCABULARY - {"id"})
    return not known & _VOCABULARY


def is_secret(name: str, value: Any) -> bool:
    """Whether a setting of this name and value is taken for a secret."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or value is None or isinstance(value, bool) or (isinstance(value, str) and not value):
        return False
    if set(words) & _ALWAYS or "apikey" in "".join(words):
        return True
    if any(left in _KEYS and right in {"key", "keys"} for left, right in itertools.pairwise(words)):
        return True
    return _names_key(words, value) or _names_header(words, value) or _names_token(words, value)


def _parameter(found: re.Match[str]) -> str:
    name, mark, value = found["name"], found["mark"], found["value"]
    if value.startswith(REDACTED[:-1]):
        return found[0]
    if mark.strip() == ":" and value[:1] not in "'\"":  # it may be prose: "per token: 0.3", "the secret: a good recipe"
        short = name.lower().endswith("token") and (_NUMBER.fullmatch(value) or not re.search(r"\d", value))
        if short or value.lower() in _PROSE:
            return found[0]
    return f"{name}{mark}{REDACTED}"


def _bearer(found: re.Match[str]) -> str:
    return f"{found['name'] or found['low']}{found['mark'] or found['gap']}{REDACTED}"


def redact_text(text: str) -> str:
    """Return a text without credentials in addresses and headers, without `password=…`, private keys and known forms of access tokens."""
    if len(text) < 6:
        return text
    if "://" in text:
        text = _USERINFO.sub(rf"\g<scheme>{REDACTED}@", text)
    if "-----BEGIN " in text:
        text = _PEM.sub(REDACTED, text)
    for pattern in (_HEADER, _COOKIE, _ACCOUNT, _SIGNED):
        text = pattern.sub(rf"\g<name>\g<mark>{REDACTED}", text)
    text = _BEARER.sub(_bearer, text)
    text = _PARAMETER.sub(_parameter, text)
    return _KNOWN.sub(REDACTED, _JWT.sub(REDACTED, text))


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
    """Return a command line with the values of secret options replaced: `--api-key X`, `--api-key=X`, `password=X`, `-H 'Cookie: X'`."""
    shown: list[str] = []
    option = ""
    for word in words:
        name, mark, value = word.partition("=")
        if option and not word.startswith("-") and is_secret(option, word):
            shown.append(REDACTED)
        elif mark and ("/" not in name and " " not in name) and is_secret(name, value):
            shown.append(f"{name}={REDACTED}")
        else:
            shown.append(redact_text(word))
        option = word if not mark and word.startswith("-") else ""
    return tuple(shown)
