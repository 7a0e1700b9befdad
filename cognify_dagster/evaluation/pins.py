"""Which package versions are judged: those a training run recorded, and those a requirements file pins.

Invariant: a line that names a package without naming one version is reported as such; it is never skipped.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from cognify_dagster.evaluation.advisories import normalise

MAX_REQUIREMENTS_BYTES = 1_000_000
_OPTIONS_WITHOUT_PACKAGE = (
    "-i", "--index-url", "--extra-index-url", "--no-index", "-f", "--find-links", "--no-binary", "--only-binary", "--prefer-binary",
    "--require-hashes", "--pre", "--trusted-host", "--use-feature",
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Pin:
    """A package version and where it is from: ``environment``, or ``requirements`` for a requirements file.

    ``files_sha256`` is the digest of its installed files' list, as the training recorded it; empty where none was recorded.
    """

    name: str
    version: str
    origin: str
    files_sha256: str = field(default="", compare=False)


@dataclass(frozen=True)
class Pins:
    """What is to be judged, and in words what cannot be."""

    pins: tuple[Pin, ...]
    problems: tuple[str, ...] = ()

    def __add__(self, other: Pins) -> Pins:
        return Pins(tuple(sorted({*self.pins, *other.pins})), self.problems + other.problems)

    @property
    def names(self) -> frozenset[str]:
        """Normalised names of all packages."""
        return frozenset(pin.name for pin in self.pins)


def environment_pins(detail: bytes, packages_digest: str) -> Pins:
    """Read the packages out of a training run's environment evidence.

    Args:
        detail: The evidence named by the training run.
        packages_digest: The run's digest of its sorted lines ``name==version``; another list is not judged for it.
    """
    try:
        packages = json.loads(detail)["packages"]
        listed = [(str(item["name"]), str(item["version"])) for item in packages]
        digests = {str(item["name"]): str(item.get("files_sha256") or "") for item in packages}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Pins((), ("the recorded environment has no readable list of packages",))
    lines = "".join(sorted(f"{name}=={version}\n" for name, version in listed))
    if hashlib.sha256(lines.encode()).hexdigest() != packages_digest:
        return Pins((), ("the recorded list of packages is not the one that the training run names",))
    if not listed:
        return Pins((), ("the recorded environment lists no package",))
    found = {Pin(normalise(name), version, "environment", digests[name]) for name, version in listed}
    return Pins(tuple(sorted(found)))


def requirement_pins(path: Path) -> Pins:
    """Read a requirements or constraints file. Markers are not weighed: a pin counts wherever it would be installed.

    What cannot be read is a problem of the result, so that the gate fails on it instead of the run.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_REQUIREMENTS_BYTES + 1)
        if len(data) > MAX_REQUIREMENTS_BYTES:
            return Pins((), (f"{path.name}: larger than {MAX_REQUIREMENTS_BYTES} bytes",))
        text = data.decode("utf-8-sig")
    except OSError as error:
        return Pins((), (f"{path.name}: can't be read ({error.strerror or error})",))
    except UnicodeDecodeError:
        return Pins((), (f"{path.name}: not UTF-8 text",))
    pins: set[Pin] = set()
    problems: list[str] = []
    for number, line in _logical_lines(text):
        found = _read_line(line)
        if isinstance(found, Pin):
            pins.add(found)
        elif found:
            problems.append(f"{path.name}, line {number}: {found}")
    if not pins and not problems:
        problems.append(f"{path.name}: pins no package")
    return Pins(tuple(sorted(pins)), tuple(problems))


def _logical_lines(text: str) -> Iterable[tuple[int, str]]:
    """Lines without comments, continued ones joined; with the number of the first."""
    start, kept = 0, ""
    for number, raw in enumerate(text.splitlines(), 1):
        start = start if kept else number
        line = re.sub(r"(^|\s)#.*$", "", raw)
        if line.endswith("\\"):
            kept += line[:-1] + " "
            continue
        whole, kept = (kept + line).strip(), ""
        if whole:
            yield start, whole
    if kept.strip():
        yield start, kept.strip()


def _read_line(line: str) -> Pin | str | None:
    shown = line[:80]
    if line.startswith("-"):
        option = re.split(r"[\s=]", line, maxsplit=1)[0]
        return None if option in _OPTIONS_WITHOUT_PACKAGE else f"{shown!r} cannot be judged: list its pins in this file"
    try:
        requirement = Requirement(re.split(r"\s--hash[=\s]", line, maxsplit=1)[0].strip())
    except InvalidRequirement:
        return f"{shown!r} cannot be judged: it is no line name==version"
    versions = [item for item in requirement.specifier if item.operator in ("==", "===")]
    if requirement.url or len(requirement.specifier) != 1 or len(versions) != 1 or versions[0].version.endswith(".*"):
        return f"{shown!r} cannot be judged: pin one version with =="
    return Pin(normalise(requirement.name), versions[0].version, "requirements")
