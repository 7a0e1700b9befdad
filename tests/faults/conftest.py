"""Faults are tried on the tiny project of the orchestration tests; its workspaces and desks serve here too."""

from tests.orchestration.conftest import (  # noqa: F401
    _no_foreign_settings,
    desk,
    founded,
    instance,
    new_desk,
    own_instance,
    packaged,
    sit,
)
