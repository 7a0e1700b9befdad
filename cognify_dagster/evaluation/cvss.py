"""CVSS v3 base scores, computed from the vector.

Follows the CVSS v3.1 specification (FIRST), section 7.1, with its integer `Roundup`; v3.0 vectors have the same base equations.
"""

from __future__ import annotations

from typing import Literal

Severity = Literal["none", "low", "medium", "high", "critical", "unknown"]

#: From harmless to worst. `unknown` stands apart: it counts at every threshold.
ORDER: tuple[Severity, ...] = ("none", "low", "medium", "high", "critical")

#: What databases call the levels.
WORDS: dict[str, Severity] = {
    "none": "none", "low": "low", "medium": "medium", "moderate": "medium", "high": "high", "critical": "critical",
}  # fmt: skip

_WEIGHTS: dict[str, dict[str, float]] = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0},
    "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES = {"U": {"N": 0.85, "L": 0.62, "H": 0.27}, "C": {"N": 0.85, "L": 0.68, "H": 0.5}}
_BASE = (*_WEIGHTS, "PR", "S")


def base_score(vector: str) -> float:
    """Return the base score of a vector such as ``CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H``: 0.0 to 10.0.

    Temporal and environmental metrics in the vector are allowed and don't count.

    Raises:
        ValueError: it is no CVSS v3 vector, a base metric is missing, repeated or has an unknown value.
    """
    head, *parts = vector.strip().rstrip("/").split("/")
    if head not in ("CVSS:3.0", "CVSS:3.1"):
        raise ValueError(f"{vector[:80]!r} is no CVSS v3 vector")
    given: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition(":")
        if name in given:
            raise ValueError(f"CVSS vector: {name[:10]} is given twice")
        given[name] = value
    try:
        weight = {name: table[given[name]] for name, table in _WEIGHTS.items()}
        privileges = _PRIVILEGES[given["S"]][given["PR"]]
    except KeyError:
        wrong = next(name for name in _BASE if not _known(name, given))
        raise ValueError(f"CVSS vector: {wrong} is missing or has an unknown value") from None
    changed = given["S"] == "C"
    base = 1 - (1 - weight["C"]) * (1 - weight["I"]) * (1 - weight["A"])
    impact = 7.52 * (base - 0.029) - 3.25 * (base - 0.02) ** 15 if changed else 6.42 * base
    if impact <= 0:
        return 0.0
    exploitability = 8.22 * weight["AV"] * weight["AC"] * privileges * weight["UI"]
    return _round_up(min((1.08 if changed else 1.0) * (impact + exploitability), 10.0))


def severity_of(score: float) -> Severity:
    """Return the qualitative rating of a base score (CVSS v3.1, section 5)."""
    if score <= 0:
        return "none"
    if score < 4.0:
        return "low"
    if score < 7.0:
        return "medium"
    return "high" if score < 9.0 else "critical"


def _known(name: str, given: dict[str, str]) -> bool:
    if name == "S":
        return given.get(name) in _PRIVILEGES
    if name == "PR":
        return given.get(name) in ("N", "L", "H")
    return given.get(name) in _WEIGHTS[name]


def _round_up(value: float) -> float:
    """The smallest number with one decimal that is not below `value` (Appendix A: free of floating-point surprises)."""
    whole = round(value * 100_000)
    if whole % 10_000 == 0:
        return whole / 100_000
    return (whole // 10_000 + 1) / 10
