"""Security advisories in the OSV format, and whether one is about a version of a package.

Follows the Open Source Vulnerability schema 1.x (https://ossf.github.io/osv-schema) and its evaluation algorithm for the
ecosystem PyPI; versions are compared as PEP 440 says.

Invariants:

* Nothing foreign is executed or unpickled: JSON only.
* What cannot be judged is said to be so, never taken for unaffected: a range whose bounds are no versions, or an entry about
  the package without any version, makes the version `UNJUDGED`.
* Withdrawn advisories count for nothing; advisories that share an id or an alias are one vulnerability.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from packaging.version import InvalidVersion, Version

from cognify_dagster.evaluation._errors import AdvisoryError
from cognify_dagster.evaluation.cvss import ORDER, WORDS, Severity, base_score, severity_of

ECOSYSTEM = "PyPI"
_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$")
_EVENTS = ("introduced", "fixed", "last_affected", "limit")
_MAX_SUMMARY = 300

Verdict = Literal["affected", "unaffected", "unjudged"]


@dataclass(frozen=True, slots=True)
class Affected:
    """One package that an advisory is about. `ranges` are those of type ECOSYSTEM, each a tuple of (event, version text)."""

    package: str
    versions: tuple[str, ...]
    ranges: tuple[tuple[tuple[str, str], ...], ...]


@dataclass(frozen=True, slots=True)
class Advisory:
    """One advisory, cut down to what is needed to judge.

    Attributes:
        id: The database's id, such as ``GHSA-…`` or ``PYSEC-…``.
        aliases: The same vulnerability's ids elsewhere.
        modified: When it was last changed.
        withdrawn: When it was withdrawn, or None.
        severity: The highest of the CVSS v3 base scores and the database's own word; ``unknown`` without either.
        score: The highest CVSS v3 base score, or None.
        summary: Its first line, cut to 300 characters.
        affected: The PyPI packages it is about.
    """

    id: str
    aliases: tuple[str, ...]
    modified: datetime
    withdrawn: datetime | None
    severity: Severity
    score: float | None
    summary: str
    affected: tuple[Affected, ...]

    @property
    def names(self) -> frozenset[str]:
        """Its id and its aliases."""
        return frozenset((self.id, *self.aliases))


def normalise(name: str) -> str:
    """Return a package name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).strip().lower()


def read_advisory(data: Any, where: str) -> Advisory:
    """Read one OSV object.

    Args:
        data: The decoded JSON.
        where: Named in errors: the file, and the line or entry.

    Raises:
        AdvisoryError: it is no OSV advisory; the message names the field.
    """
    if not isinstance(data, dict):
        raise AdvisoryError(f"{where}: an OSV advisory is a JSON object")
    identity = data.get("id")
    if not isinstance(identity, str) or not _ID.match(identity):
        raise AdvisoryError(f"{where}: id is missing or not an advisory id")
    where = f"{where} ({identity})"
    aliases = tuple(_texts(data.get("aliases"), f"{where}: aliases"))
    affected = tuple(
        _affected(item, where) for item in _objects(data.get("affected"), f"{where}: affected") if _ours(item)
    )
    scores = list(_scores(data, where))
    word = _word(data)
    known = [severity_of(score) for score in scores] + ([word] if word != "unknown" else [])
    withdrawn = data.get("withdrawn")
    summary = data.get("summary") or data.get("details") or ""
    return Advisory(
        id=identity,
        aliases=aliases,
        modified=_moment(data.get("modified"), f"{where}: modified"),
        withdrawn=None if withdrawn is None else _moment(withdrawn, f"{where}: withdrawn"),
        severity=max(known, key=ORDER.index) if known else "unknown",
        score=max(scores, default=None),
        summary=_line(summary) if isinstance(summary, str) else "",
        affected=affected,
    )


def judge(advisory: Advisory, package: str, version: str, now: datetime) -> Verdict:
    """Judge whether a version of a package is affected (OSV evaluation algorithm).

    A local version such as ``2.5.1+cu121`` is affected where it or its public part ``2.5.1`` is: a label does not mend.

    Args:
        advisory: The advisory.
        package: Name of the package, in any spelling.
        version: The installed version; one that PEP 440 cannot read is ``unjudged`` unless the advisory lists its very text.
        now: An advisory withdrawn up to then is not about anything.

    Returns:
        ``affected``, ``unaffected`` or ``unjudged``.
    """
    if advisory.withdrawn is not None and advisory.withdrawn <= now:
        return "unaffected"
    name = normalise(package)
    verdicts = {_judge_one(item, version) for item in advisory.affected if item.package == name}
    if "affected" in verdicts:
        return "affected"
    return "unjudged" if "unjudged" in verdicts else "unaffected"


def _judge_one(item: Affected, text: str) -> Verdict:
    if text in item.versions:
        return "affected"
    try:
        found = Version(text)
    except InvalidVersion:
        return "unjudged"
    public = Version(found.public)
    for listed in item.versions:
        try:
            same = Version(listed)
        except InvalidVersion:  # no PEP 440 version is this one
            continue
        if same in (found, public):
            return "affected"
    if not item.ranges and not item.versions:
        return "unjudged"
    doubtful = False
    for events in item.ranges:
        if all(kind != "introduced" for kind, _ in events):  # the schema demands one
            doubtful = True
            continue
        try:
            if _in_range(found, events) or _in_range(public, events):
                return "affected"
        except InvalidVersion:
            doubtful = True
    return "unjudged" if doubtful else "unaffected"


def _in_range(version: Version, events: Sequence[tuple[str, str]]) -> bool:
    read = [(kind, None if kind == "introduced" and text == "0" else _bound(kind, text)) for kind, text in events]
    limits = [bound for kind, bound in read if kind == "limit"]
    if limits and not any(bound is None or version < bound for bound in limits):
        return False
    vulnerable = False
    # None is before every version. The specification leaves open what comes first of two events at the same version: a fix
    # counts before an introduction, which is the cautious order, and a last affected version after one.
    steps = [(kind, bound) for kind, bound in read if kind != "limit"]
    for kind, bound in sorted(steps, key=_place):
        if kind == "introduced" and (bound is None or version >= bound):
            vulnerable = True
        elif bound is not None and (version >= bound if kind == "fixed" else version > bound):
            vulnerable = False
    return vulnerable


def _bound(kind: str, text: str) -> Version | None:
    return None if kind == "limit" and text == "*" else Version(text)


_LOWEST = Version("0.dev0")


def _place(step: tuple[str, Version | None]) -> tuple[bool, Version, int]:
    kind, bound = step
    return (
        bound is not None,
        _LOWEST if bound is None else bound,
        ("fixed", "introduced", "last_affected").index(kind),
    )


def fixes(advisory: Advisory, package: str, version: str) -> tuple[str, ...]:
    """Return the versions above this one in which the advisory says it is fixed, lowest first."""
    try:
        found = Version(version)
    except InvalidVersion:
        return ()
    later: set[Version] = set()
    for item in advisory.affected:
        if item.package != normalise(package):
            continue
        for events in item.ranges:
            for kind, text in events:
                try:
                    if kind == "fixed" and Version(text) > found:
                        later.add(Version(text))
                except InvalidVersion:
                    continue
    return tuple(str(item) for item in sorted(later))


def merge(advisories: Iterable[Advisory]) -> list[tuple[Advisory, ...]]:
    """Group advisories that share an id or alias, directly or through others: each group is one vulnerability.

    The order of the input does not matter; groups and their members are sorted by id.
    """
    groups: list[tuple[set[str], dict[str, Advisory]]] = []
    for advisory in advisories:
        names, members = set(advisory.names), {advisory.id: advisory}
        rest = []
        for known, others in groups:
            if known & names:
                names |= known
                members |= others
            else:
                rest.append((known, others))
        groups = [*rest, (names, members)]
    found = [tuple(members[key] for key in sorted(members)) for _, members in groups]
    return sorted(found, key=lambda group: group[0].id)


def _affected(item: Mapping[str, Any], where: str) -> Affected:
    package = normalise(item["package"]["name"])
    ranges = []
    for part in _objects(item.get("ranges"), f"{where}: affected.ranges"):
        if part.get("type") != "ECOSYSTEM":  # commits (GIT) don't say which released version; SEMVER is not PyPI's
            continue
        events = []
        for event in _objects(part.get("events"), f"{where}: affected.ranges.events"):
            for kind, text in event.items():
                if kind not in _EVENTS or not isinstance(text, str):
                    raise AdvisoryError(f"{where}: affected.ranges.events: {str(kind)[:40]!r} is no event of OSV")
                events.append((kind, text))
        ranges.append(tuple(events))
    versions = tuple(_texts(item.get("versions"), f"{where}: affected.versions"))
    return Affected(package, versions, tuple(ranges))


def _ours(item: Mapping[str, Any]) -> bool:
    package = item.get("package")
    if not isinstance(package, dict) or not isinstance(package.get("name"), str):
        return False
    ecosystem = package.get("ecosystem")
    return isinstance(ecosystem, str) and ecosystem.partition(":")[0] == ECOSYSTEM


def _scores(data: Mapping[str, Any], where: str) -> Iterable[float]:
    holders = [data, *(item for item in _objects(data.get("affected"), f"{where}: affected") if _ours(item))]
    for holder in holders:
        for item in _objects(holder.get("severity"), f"{where}: severity"):
            if item.get("type") == "CVSS_V3":
                try:
                    yield base_score(str(item.get("score")))
                except ValueError:  # an unreadable vector says nothing; without another statement it counts as unknown
                    continue


def _word(data: Mapping[str, Any]) -> Severity:
    for holder in (data, *(item for item in data.get("affected") or () if isinstance(item, dict) and _ours(item))):
        for part in ("database_specific", "ecosystem_specific"):
            own = holder.get(part)
            word = own.get("severity") if isinstance(own, dict) else None
            if isinstance(word, str) and word.lower() in WORDS:
                return WORDS[word.lower()]
    return "unknown"


def _objects(value: Any, where: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise AdvisoryError(f"{where}: expected a list of objects")
    return value


def _texts(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise AdvisoryError(f"{where}: expected a list of texts")
    return value


def _moment(value: Any, where: str) -> datetime:
    try:
        text = str(value)
        # Python 3.10 reads no "Z" and only 3 or 6 digits of a second, RFC 3339 allows any number
        match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", text)
        if not match:
            raise ValueError(text)
        found = datetime.fromisoformat(match[1] + ("+00:00" if match[2] == "Z" else match[2]))
    except ValueError:
        raise AdvisoryError(f"{where}: {str(value)[:40]!r} is not a time such as 2026-11-21T08:00:00Z") from None
    return found.astimezone(timezone.utc)


def _line(text: str) -> str:
    first = " ".join(text.split("\n\n", 1)[0].split())
    return first if len(first) <= _MAX_SUMMARY else first[: _MAX_SUMMARY - 1] + "…"
