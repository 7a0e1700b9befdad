"""Several workspaces in one Dagster instance: what keeps their assets, partitions, sensors and ledgers apart.

A space is the short name that a code location gives one of its workspaces. Everything that Dagster knows of it carries that name:
asset keys and groups begin with it, partitions, sensors, pools and steps are named after it, and its `LedgerResource` has a resource key
of its own. A project with one workspace has no space, and plain names.

Invariants: what belongs to a space reaches its ledger through its own resource alone, and a resource that says it serves another
space is refused; the ledgers themselves are apart in any case, since every statement and entry names its ledger.
"""

import re
from dataclasses import dataclass
from typing import Any

import dagster as dg

from cognify_dagster.orchestration.names import UsageError
from cognify_dagster.orchestration.resource import LedgerResource

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
RESOURCE = "ledger"


@dataclass(frozen=True)
class Space:
    """How the things of one workspace are named; the empty name is that of a project with only one.

    Raises:
        UsageError: for a name of other characters than small letters, digits and single underscores, or of more than 40.
    """

    name: str = ""

    def __post_init__(self) -> None:
        if self.name and (len(self.name) > 40 or not _NAME.fullmatch(self.name)):
            raise UsageError(
                f"space {self.name!r}: use small letters, digits and single underscores, beginning with a letter, at most 40"
            )

    @property
    def ledger(self) -> str:
        """The resource key of its `LedgerResource`."""
        return f"{RESOURCE}_{self.name}" if self.name else RESOURCE

    def key(self, name: str) -> dg.AssetKey:
        """The key of an asset."""
        return dg.AssetKey([self.name, name] if self.name else [name])

    def upstream(self, item: Any) -> dg.AssetKey:
        """The key of an upstream asset, given as a definition, key or path; a bare name is one of this space."""
        if isinstance(item, (dg.AssetsDefinition, dg.AssetSpec)):
            return item.key
        if isinstance(item, dg.AssetKey):
            return item
        return dg.AssetKey(item.split("/")) if "/" in item else self.key(item)

    def named(self, name: str) -> str:
        """The name of a step, sensor, pool or partitions definition."""
        return f"{self.name}__{name}" if self.name else name

    def group(self, name: str) -> str:
        """The name of an asset group."""
        return f"{self.name}/{name}" if self.name else name

    def resource(self, context: Any) -> LedgerResource:
        """Return its resource from a step's, check's or sensor's context.

        Raises:
            UsageError: if what has that key is no `LedgerResource`, or one of another space.
        """
        return self.checked(getattr(context.resources, self.ledger))

    def checked(self, resource: Any) -> LedgerResource:
        """Return a resource if it is that of this space; raises as `resource`."""
        if not isinstance(resource, LedgerResource):
            raise UsageError(f'resource "{self.ledger}" is a {type(resource).__name__}, not a LedgerResource')
        if resource.space != self.name:
            raise UsageError(
                f'resource "{self.ledger}" serves the space {resource.space!r}: give it the workspace of this one, as in '
                f'resources={{"{self.ledger}": LedgerResource(space="{self.name}", workspace=…)}}'
            )
        return resource


def ledger_of(context: Any, model: Any) -> LedgerResource:
    """Return the resource of a governed model's space."""
    space: Space = model.where
    return space.resource(context)
