"""How the sensors of a governed model are named and tagged, shared by those who make them and `health`, which looks for them.

The tag is what counts: a project may rename a sensor. The name is only used where the code location cannot be loaded and all
that is left are the names in the instance.
"""

POOL = "cognify/pool"
SPACE_METADATA = "cognify/space"
LEDGER_TAG = "cognify/ledger"
SENSOR_ROLE = "cognify/sensor"
APPROVAL = "approval"
RECONCILIATION = "reconciliation"
NOTIFICATION = "notification"
AUTOMATION = "automation"
REGISTRY = "registry"
_SUFFIXES = tuple(f"_{role}_sensor" for role in (APPROVAL, RECONCILIATION))


class UsageError(Exception):
    """A governed function or model is declared wrongly; the message names it and says what to do."""


def sensor_name(model: str, role: str) -> str:
    """Return the name of a model's sensor."""
    return f"{model}_{role}_sensor"


def looks_like_ours(name: str) -> bool:
    """Whether a sensor of this name is probably a governed model's; use the tag where there is one."""
    return name.endswith(_SUFFIXES)
