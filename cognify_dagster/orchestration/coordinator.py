"""A run coordinator that takes the user from a header which an authenticating proxy sets. Optional; see docs/dagster.md.

Invariants: the `user` tag of a run that came through the webserver is what the proxy says, whatever the request claims; a
request without the header is refused, or its run belongs to nobody; a run that came another way (sensor, schedule, backfill)
has no user tag that counts, save a retry, which keeps that of the run it repeats. Tags of a run cannot be removed, so a false
one is overwritten with a name that nobody may have as an alias.

The proxy must remove the header from requests of its clients, and the webserver must be reachable through the proxy only.
"""

import re
from collections.abc import Mapping
from typing import Any

import dagster as dg

from cognify_dagster.orchestration._compat import ConfigurableClassData, QueuedRunCoordinator, SubmitRunContext
from cognify_dagster.orchestration.attribution import UNAUTHENTICATED, USER_TAG

SOURCE_TAG = "cognify/user_from"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+@\\-]{0,199}")
_PARENT_TAG = "dagster/parent_run_id"


class UserNotAuthenticated(RuntimeError):
    """A run was launched through the webserver without the header that names its user."""


class ProxyUserRunCoordinator(QueuedRunCoordinator):
    """Queues runs as Dagster's own coordinator does, after setting their `user` tag from a request header.

    Configuration, besides that of `QueuedRunCoordinator`:
        header: name of the header, such as `X-Forwarded-User`.
        missing: `refuse` (the run fails and never starts) or `mark` (it runs and is attributed to nobody).
    """

    def __init__(self, header: str = "X-Forwarded-User", missing: str = "refuse", **queue: Any) -> None:
        super().__init__(**queue)
        self.header, self.missing = header, missing

    @classmethod
    def config_type(cls) -> Any:
        """Return the configuration schema for dagster.yaml."""
        own: dict[str, Any] = {
            "header": dg.Field(dg.StringSource, is_required=False, default_value="X-Forwarded-User"),
            "missing": dg.Field(dg.StringSource, is_required=False, default_value="refuse"),
        }
        inherited: Mapping[str, Any] = super().config_type()  # type: ignore[assignment]
        return {**inherited, **own}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "ProxyUserRunCoordinator":
        """Make one from dagster.yaml.

        Raises:
            ValueError: naming the field that is wrong.
        """
        value = dict(config_value)
        header, missing = str(value.pop("header")), str(value.pop("missing"))
        if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", header):
            raise ValueError(f"run_coordinator: header {header!r} is no name of a header")
        if missing not in ("refuse", "mark"):
            raise ValueError(f"run_coordinator: missing must be refuse or mark, not {missing!r}")
        return cls(header=header, missing=missing, inst_data=inst_data, **value)

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Set the user of a run, then queue it.

        Raises:
            UserNotAuthenticated: if the run came through the webserver without a usable header; it is failed then.
        """
        run = context.dagster_run
        tags = self._requested(context) if _through_webserver(context) else self._otherwise(run)
        if tags:
            self._instance.add_run_tags(run.run_id, tags)
        return super().submit_run(context)

    def _requested(self, context: SubmitRunContext) -> dict[str, str]:
        name = context.get_request_header(self.header)
        if name is not None and _NAME.fullmatch(name):
            return {USER_TAG: name, SOURCE_TAG: f"header {self.header}"}
        if self.missing == "refuse":
            raise UserNotAuthenticated(
                f"the request names no user in the header {self.header}, so nothing is launched. Reach Dagster through the "
                "proxy that authenticates you; whoever runs it: see docs/dagster.md"
            )
        return {USER_TAG: UNAUTHENTICATED, SOURCE_TAG: f"no header {self.header}"}

    def _otherwise(self, run: dg.DagsterRun) -> dict[str, str]:
        """Nobody was asked who they are: a retry keeps the user of the run that it repeats, any other has none."""
        claimed = run.tags.get(USER_TAG)
        parent = self._instance.get_run_by_id(run.tags.get(_PARENT_TAG, "")) if claimed else None
        if claimed is None or (parent is not None and parent.tags.get(USER_TAG) == claimed):
            return {}
        return {USER_TAG: UNAUTHENTICATED, SOURCE_TAG: "not authenticated"}


def _through_webserver(context: SubmitRunContext) -> bool:
    """Whether somebody's request launched the run; the daemon has none."""
    source = getattr(context.workspace, "source", None)
    return getattr(source, "headers", None) is not None
