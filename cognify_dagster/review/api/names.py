"""Which models, versions, targets and datasets there are, from the subjects of verified entries.

Kept in the site and brought up to date with what was appended since, so that a list costs its page and not the ledger.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from cognify_dagster.review.site import Site
from cognify_dagster.workspace import Reading

_ANEW = 20_000
"""With more new entries than this the subjects are listed anew, which costs less than reading the entries."""


@dataclass
class Names:
    """Names by what they are of. What was first named after a reading's end is not among `…_in` that reading."""

    size: int = 0
    versions: dict[str, set[str]] = field(default_factory=dict)
    targets: dict[str, set[str]] = field(default_factory=dict)
    datasets: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def models_in(self, reading: Reading) -> list[str]:
        """Return the models that a reading knows, sorted."""
        return [name for name in sorted(self.versions) if f"model/{name}" in reading.view.heads]

    def datasets_in(self, reading: Reading) -> list[str]:
        """Return the datasets that a reading knows, sorted."""
        return [name for name in sorted(self.datasets) if f"dataset/{name}" in reading.view.heads]

    def targets_of(self, reading: Reading, model: str) -> list[str]:
        """Return the targets that a model was ever released to, sorted, production among them."""
        found = {name for name in self.targets.get(model, ()) if f"release/{model}.{name}" in reading.view.heads}
        return sorted(found | {"production"})

    def count(self, reading: Reading, model: str) -> int:
        """Return how many versions a reading knows of a model."""
        return sum(f"model/{model}@{name}" in reading.view.heads for name in self.versions.get(model, ()))

    def add(self, subject: str) -> None:
        """Note a subject."""
        kind, _, name = subject.partition("/")
        if kind == "model":
            model, _, version = name.partition("@")
            self.versions.setdefault(model, set()).update({version} if version else ())
        elif kind == "release":
            model, _, target = name.partition(".")
            self.targets.setdefault(model, set()).add(target)
        elif kind == "dataset":
            self.datasets.add(name)


def names_of(site: Site, reading: Reading) -> Names:
    """Return the names, up to date with a reading of now."""
    found: Names = site.remember("api-names", Names)
    with found.lock:
        if reading.size - found.size > _ANEW or found.size == 0:
            for subject in reading.view.heads:
                found.add(subject)
        else:
            for item in reading.view.entries[found.size : reading.size]:
                for subject in item.entry.subjects:
                    found.add(subject)
        found.size = max(found.size, reading.size)
    return found
