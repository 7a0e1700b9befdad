"""Reads the messages and splits them twice: at random, as is common, and by groups of messages that are nearly the same.

The random split is here to be caught: advertising is sent in variants, so a random holdout holds messages that the model saw. The
grouped split keeps a message and its variants on one side. Both are pure functions of the published file and a seed.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

SOURCE_PATH = Path(__file__).with_name("data") / "sms_spam_collection.tsv.gz"

#: SHA-256 of the uncompressed text as obtained.
SOURCE_SHA256 = "883079d805cda90c823827a5237496f114d1eb823d95fe909dbea2038707180d"

KEY, TEXT, LABEL = "id", "text", "label"
SPAM, HAM = "spam", "ham"

#: Messages at least this alike (Jaccard index of their word 3-shingles) stay together. The overlap check asks for 0.6.
TOGETHER = 0.5
NGRAM = 13
SHINGLE = 3
_MAX_SOURCE_BYTES = 16 * 1024 * 1024
_WORD = re.compile(r"[^\W_]+")


class MessageDataError(ValueError):
    """The source is not what this example expects; the message names file and line."""


@dataclass(frozen=True)
class Message:
    """One message; `id` is its line in the published file, from 1."""

    id: int
    text: str
    label: str


@dataclass(frozen=True)
class Split:
    """Training and holdout, and how they came about.

    Attributes:
        method: `random` or `grouped`.
        rules: each step with its name, description and rows before and after, as the data sheet wants them.
        groups: groups of messages that are nearly the same, single ones included; 0 for a random split.
        largest_group: messages in the largest of them.
    """

    method: str
    seed: int
    train: tuple[Message, ...]
    holdout: tuple[Message, ...]
    rules: tuple[dict[str, Any], ...]
    groups: int = 0
    largest_group: int = 0

    def to_facts(self) -> dict[str, Any]:
        """Counts and rules as plain JSON."""
        facts = asdict(self)
        for side in ("train", "holdout"):
            messages = getattr(self, side)
            facts[side] = {"rows": len(messages), "spam": sum(item.label == SPAM for item in messages)}
        return facts


def load_messages(path: str | Path = SOURCE_PATH, *, expected_sha256: str | None = SOURCE_SHA256) -> list[Message]:
    """Read the published lines, plain or gzip-compressed.

    Raises:
        MessageDataError: missing, damaged, another digest, or a line of another form.
    """
    file = Path(path)
    try:
        raw = file.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            with gzip.open(BytesIO(raw)) as stream:
                raw = stream.read(_MAX_SOURCE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise MessageDataError(f"{file}: can't be read ({error})") from None
    if len(raw) > _MAX_SOURCE_BYTES:
        raise MessageDataError(f"{file}: larger than {_MAX_SOURCE_BYTES} bytes; this is not the published file")
    digest = hashlib.sha256(raw).hexdigest()
    if expected_sha256 is not None and digest != expected_sha256:
        raise MessageDataError(
            f"{file}: SHA-256 of the text is {digest}, expected {expected_sha256}; restore the published file"
        )
    messages = []
    for number, line in enumerate(raw.decode("utf-8").split("\n"), start=1):
        if not line:
            continue
        label, tab, text = line.partition("\t")
        if label not in (HAM, SPAM) or not tab or not text.strip():
            raise MessageDataError(f"{file}, line {number}: expected ham or spam, a tab, and a text")
        messages.append(Message(number, text.rstrip("\r"), label))
    if not messages:
        raise MessageDataError(f"{file}: holds no message")
    return messages


def take(messages: Sequence[Message], count: int | None, *, seed: int) -> list[Message]:
    """At most `count` messages, chosen by seed and text, in their order; repeated texts come together, so that repeats stay."""
    if count is None or count >= len(messages):
        return list(messages)
    chosen = sorted(messages, key=lambda item: (_place(seed, item.text), item.id))[:count]
    return sorted(chosen, key=lambda item: item.id)


def split_random(messages: Sequence[Message], *, seed: int, holdout: float = 0.2) -> Split:
    """Split lines at random, without looking at what they say."""
    order = sorted(messages, key=lambda item: _place(seed, f"line {item.id}"))
    size = round(len(order) * holdout)
    return _made(
        "random",
        seed,
        order[size:],
        order[:size],
        [
            (
                "split",
                f"Lines in the order of SHA-256 of seed {seed} and line number; the first {holdout:.0%} are the holdout.",
            )
        ],
        len(messages),
        [],
    )


def split_grouped(messages: Sequence[Message], *, seed: int, holdout: float = 0.2) -> Split:
    """Drop repeated messages, then split so that a message and its variants stay on one side.

    Raises:
        MessageDataError: a text stands in the source as spam and as ham.
    """
    kept = _without_repeats(messages)
    groups = near_groups([item.text for item in kept])
    by_group: dict[int, list[Message]] = defaultdict(list)
    for item, group in zip(kept, groups, strict=True):
        by_group[group].append(item)
    # Within each label, so that both sides have the same share of spam; a group counts with its first message's label.
    holdout_side: list[Message] = []
    for label in (HAM, SPAM):
        members = [items for items in by_group.values() if items[0].label == label]
        members.sort(key=lambda items: _place(seed, items[0].text))
        wanted, taken = round(sum(map(len, members)) * holdout), 0
        for items in members:
            if taken + len(items) <= wanted:
                holdout_side += items
                taken += len(items)
    chosen = {item.id for item in holdout_side}
    steps = [
        (
            "repeats",
            "Messages that equal an earlier one after Unicode and white-space normalisation are dropped; the first stays.",
        ),
        (
            "split",
            f"Messages stay together where the Jaccard index of their word 3-shingles is {TOGETHER} or more or they share {NGRAM} words "
            f"in a row; the groups of each label, in the order of SHA-256 of seed {seed} and first text, fill the holdout to {holdout:.0%}.",
        ),
    ]
    train = [item for item in kept if item.id not in chosen]
    return _made(
        "grouped", seed, train, holdout_side, steps, len(messages), list(map(len, by_group.values())), len(kept)
    )


def near_groups(texts: Sequence[str]) -> list[int]:
    """The group of each text: texts that are nearly the same, also by way of a third, have one number."""
    words = [_words(text) for text in texts]
    parent = list(range(len(texts)))

    def find(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    shingles = [_grams(item, SHINGLE) for item in words]
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, own in enumerate(shingles):
        shared: dict[int, int] = defaultdict(int)
        for shingle in own:
            for other in places[shingle]:
                shared[other] += 1
            places[shingle].append(number)
        for other, count in shared.items():
            if count >= TOGETHER * (len(own) + len(shingles[other]) - count):
                parent[find(number)] = find(other)
    first: dict[tuple[str, ...], int] = {}
    for number, item in enumerate(words):
        for gram in _grams(item, NGRAM):
            other = first.setdefault(gram, number)
            parent[find(number)] = find(other)
    return [find(number) for number in range(len(texts))]


def normal(text: str) -> str:
    """A text in NFKC, case-folded, white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _without_repeats(messages: Sequence[Message]) -> list[Message]:
    kept: dict[str, Message] = {}
    for item in messages:
        earlier = kept.setdefault(normal(item.text), item)
        if earlier.label != item.label:
            raise MessageDataError(
                f"lines {earlier.id} and {item.id}: the same text as {earlier.label} and as {item.label}"
            )
    return list(kept.values())


def _words(text: str) -> list[str]:
    # Punctuation inside a word vanishes, as in the check's own form: "txt-rate" is one word, "txtrate".
    return ["".join(_WORD.findall(part)) for part in normal(text).split() if _WORD.search(part)]


def _grams(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
    """The runs of so many words; a shorter text counts as one run."""
    if len(words) < length:
        return {tuple(words)} if words else set()
    return {tuple(words[at : at + length]) for at in range(len(words) - length + 1)}


def _made(
    method: str,
    seed: int,
    train: Sequence[Message],
    holdout: Sequence[Message],
    steps: Sequence[tuple[str, str]],
    before: int,
    sizes: Sequence[int],
    after_repeats: int | None = None,
) -> Split:
    if not train or not holdout:
        raise MessageDataError("split: one side would be empty; give more messages")
    rules = []
    rows = before
    for name, description in steps:
        after = after_repeats if name == "repeats" and after_repeats is not None else rows
        rules.append({"name": name, "description": description, "rows_before": rows, "rows_after": after})
        rows = after
    return Split(
        method,
        seed,
        tuple(sorted(train, key=lambda item: item.id)),
        tuple(sorted(holdout, key=lambda item: item.id)),
        tuple(rules),
        len(sizes),
        max(sizes, default=0),
    )


def _place(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode()).digest()
