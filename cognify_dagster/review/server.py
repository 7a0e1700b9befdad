"""Serves the site with uvicorn."""

from __future__ import annotations

import socket
import sys

from cognify_dagster.review.access.ends import connection_refused
from cognify_dagster.review.app import make_app, open_site
from cognify_dagster.review.collecting import take_over
from cognify_dagster.review.config import ReviewConfig
from cognify_dagster.review.errors import ReviewError
from cognify_dagster.workspace import Workspace

_SWITCH_S = 0.001
"""After each answer of the database a page waits for the interpreter, behind whatever computes: a fifth of Python's usual wait. What that
gains is not measured by itself."""


def serve(workspace: Workspace, config: ReviewConfig) -> None:
    """Serve until SIGINT or SIGTERM; requests that run are finished.

    Raises:
        ReviewError: if the port is taken or the database cannot be opened.
    """
    import uvicorn

    from cognify_dagster.review.security.slow import GuardedConfig, GuardedProtocol

    listening = listen(config.host, config.port)
    sys.setswitchinterval(_SWITCH_S)
    try:
        site = open_site(workspace, config)
        take_over(site)
        settings = GuardedConfig(
            make_app(site), log_level="warning", access_log=False, server_header=False, date_header=True,
            timeout_keep_alive=15, timeout_graceful_shutdown=10, proxy_headers=False,
            h11_max_incomplete_event_size=32_768, http=GuardedProtocol, ws="none", lifespan="on",
        )  # fmt: skip
        settings.refused = connection_refused(site)
        server = uvicorn.Server(settings)
        server.run(sockets=[listening])
    finally:
        listening.close()


def listen(host: str, port: int) -> socket.socket:
    """Bind the port.

    Raises:
        ReviewError: if it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise ReviewError(f"{host}:{port} cannot be used: {error.strerror}; choose another with --port") from error
    return found
