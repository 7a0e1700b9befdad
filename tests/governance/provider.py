"""A real OpenID provider over HTTP, for as long as a test needs it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import oidc_provider_mock
import pytest
from oidc_provider_mock._storage import AuthorizationCode


@contextmanager
def running_provider() -> Iterator[str]:
    """Run a provider and give its address; it says when people signed in, as one that is asked for max_age has to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AuthorizationCode, "get_auth_time", lambda self: int(time.time()))
        with oidc_provider_mock.run_server_in_thread(require_nonce=True) as server:
            yield f"http://localhost:{server.server_port}"
