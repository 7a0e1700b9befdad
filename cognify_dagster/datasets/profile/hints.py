"""Hints that a column may hold personal data: what its values look like and what it is called.

Invariants: a hint says what kind of thing was seen and in how many rows, never a value; it is a reason to look, and its absence
proves nothing. IBANs are checked by their check digits (ISO 13616), card numbers by Luhn's (ISO/IEC 7812-1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

MAX_SCANNED = 1_000_000
"""Values of a column that are looked at, from the first on."""
FEWER_THAN = 10

_EMAIL = r"[A-Za-z0-9._%+\-]+@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)*\.[A-Za-z]{2,}"
_PHONE = r"(?:^|[^\w+])(?:\+\d[\d ()./\-]{6,17}\d|\(\d{3}\) ?\d{3}[ .\-]\d{4}|\d{3}[.\-]\d{3}[.\-]\d{4})(?:$|[^\w\-])"
_IBAN = r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"
_CARD = r"\b[2-6]\d{3}[ \-]?(?:\d[ \-]?){8,14}\d\b"
_SSN = r"\b\d{3}-\d{2}-\d{4}\b"


def luhn(digits: str) -> bool:
    """Whether the last digit is Luhn's check digit of the others."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _is_iban(text: str) -> bool:
    text = text.replace(" ", "")
    if not 15 <= len(text) <= 34:
        return False
    return int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)


def _is_ssn(text: str) -> bool:
    area, group, serial = text.split("-")
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


_KINDS: tuple[tuple[str, str, Callable[[str], bool] | None], ...] = (
    ("e-mail address", _EMAIL, None),
    ("phone number", _PHONE, None),
    ("IBAN", _IBAN, _is_iban),
    ("payment card number", _CARD, _is_card),
    ("US social security number", _SSN, _is_ssn),
)
_NAMES: tuple[tuple[str, str], ...] = (
    ("birth date", r"birth|birthday|birthdate|dob|date of birth|geburtsdatum|geboren"),
    (
        "name of a person",
        r"(first|last|full|given|family|middle|sur|maiden|customer|patient|person) ?name|surname|vorname|nachname",
    ),
    ("e-mail address", r"e ?mail|email address|mail address"),
    ("phone number", r"phone|telephone|mobile|cell phone|phone ?number|tel|fax"),
    ("postal address", r"address|street|postcode|post code|postal code|zip|zip code|zipcode"),
    ("identity document", r"passport|ssn|social security|national id|tax id|driver'?s? licen[cs]e|identity card"),
    ("account or card", r"iban|account (no|number)|card (no|number)|credit card|sort code|routing number"),
    ("health record number", r"mrn|medical record|patient id|health plan"),
    ("network address", r"ip|ip address|mac address|device id|imei"),
)
_NAME_PATTERNS = tuple((kind, re.compile(rf"(?<![a-z])(?:{pattern})s?(?![a-z])")) for kind, pattern in _NAMES)


def name_hints(name: str) -> list[str]:
    """Kinds of personal data that a column's name speaks of."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    words = " ".join(re.split(r"[^a-z']+", spaced.lower())).strip()
    return [kind for kind, pattern in _NAME_PATTERNS if pattern.search(words)]


@dataclass
class HintScan:
    """Counts of rows that look like personal data, over the first million values of a column."""

    scanned: int = 0
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, values: pa.ChunkedArray) -> None:
        """Look at the next values (present ones, text or integers)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        left = MAX_SCANNED - self.scanned
        if left <= 0 or not len(values):
            return
        values = values.slice(0, left)
        self.scanned += len(values)
        kinds: Iterable[tuple[str, str, Callable[[str], bool] | None]] = _KINDS
        if pa.types.is_integer(values.type):
            if (pc.max(values).as_py() or 0) < 10**12:
                return
            values, kinds = values.cast(pa.string()), [kind for kind in _KINDS if kind[2] is _is_card]
        for kind, pattern, check in kinds:
            matching = pc.match_substring_regex(values, pattern)
            count = pc.sum(matching).as_py() or 0
            if count and check is not None:
                found = re.compile(pattern, re.ASCII)
                texts = values.filter(matching).to_pylist()
                count = sum(any(check(item) for item in found.findall(text)) for text in texts)
            if count:
                self.rows[kind] = self.rows.get(kind, 0) + count

    def result(self, name: str, *, personal: bool) -> list[dict[str, Any]]:
        """The hints of a column, as JSON; counts below 10 are not shown for personal data."""
        out: list[dict[str, Any]] = [{"kind": kind, "by": "name"} for kind in name_hints(name)]
        for kind in sorted(self.rows):
            few = personal and self.rows[kind] < FEWER_THAN
            shown: Any = f"fewer than {FEWER_THAN}" if few else self.rows[kind]
            out.append({"kind": kind, "by": "values", "rows": shown, "scanned": self.scanned})
        return out
