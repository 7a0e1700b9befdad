"""Steps of signing as a browser takes them, for the tests of signing."""

from __future__ import annotations

import html
import json
import re
from typing import Any

from tests.governance.world import MODEL
from tests.review.authenticator import Authenticator
from tests.review.site_world import Client

SIGN = f"/models/{MODEL}/1/sign"


def prepared(client: Client, **fields: str) -> str:
    """Fill in the form; return the address of the confirmation page."""
    answer = client.submit(SIGN, **fields)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def options_of(page: str) -> dict[str, Any]:
    """Return what the script of a confirmation page asks the passkey."""
    found = re.search(r'data-passkey="([^"]*)"', page)
    assert found, page
    return dict(json.loads(html.unescape(found[1])))


def signed(client: Client, passkey: Authenticator, address: str, **changes: Any) -> Any:
    """Read the confirmation page, use the passkey, send its answer."""
    page = client.get(address)
    assert page.status_code == 200, page.text
    return client.submit(address, assertion=json.dumps(passkey.answer(options_of(page.text), **changes)))


def sign_act(client: Client, passkey: Authenticator, address: str) -> Any:
    """Sign an act on its page; return the last answer."""
    answer = client.submit(f"{address}/sign")
    assert answer.status_code == 303, answer.text
    return signed(client, passkey, answer.headers["location"])
