"""Real Chromium: how it is started, people's passkeys in it (the virtual authenticator of the DevTools protocol), and axe-core."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, CDPSession, Error, Page, sync_playwright

# Without the flags about background work it looks up hosts outside at every start.
_ARGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-extensions",
)  # fmt: skip
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
PATIENCE_MS = 20_000  # a busy machine


def chromium_program() -> str | None:
    """The installed Chromium; COGNIFY_CHROMIUM names another."""
    named = os.environ.get("COGNIFY_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def started() -> Iterator[Browser]:
    """Run a browser until the block ends."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_program(), args=list(_ARGS), timeout=120_000)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Someone:
    """A person at a browser of their own: cookies, and a security key in the machine that verifies them."""

    context: BrowserContext
    page: Page
    devtools: CDPSession | None = None
    authenticator: str = ""
    complaints: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What stands in the page's main part."""
        return self.page.locator("main").inner_text()

    @property
    def shown(self) -> str:
        """What a failed test tells of this window."""
        try:
            return f"{self.page.url}\n{self.page.locator('body').inner_text(timeout=2000)[:2500]}\n{self.complaints}"
        except Error as error:
            return str(error)

    def verifies_user(self, value: bool) -> None:
        """Whether the security key finds its user (fingerprint, PIN) from now on."""
        assert self.devtools is not None
        self.devtools.send("WebAuthn.setUserVerified", {"authenticatorId": self.authenticator, "isUserVerified": value})

    def credentials(self) -> list[dict[str, Any]]:
        """What the security key holds."""
        assert self.devtools is not None
        answer = self.devtools.send("WebAuthn.getCredentials", {"authenticatorId": self.authenticator})
        return list(answer["credentials"])


def someone(browser: Browser, base_url: str, *, scripts: bool = True, **settings: Any) -> Someone:
    """Open a browser window of its own; `settings` are those of a playwright context (`viewport`, `color_scheme`)."""
    context = browser.new_context(base_url=base_url, java_script_enabled=scripts, locale="en-GB", **settings)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    found = Someone(context, page)
    # A script that fails, or one that the Content-Security-Policy stops, is a fault of the page.
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            found.complaints.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    if scripts:
        found.devtools = context.new_cdp_session(page)
        found.devtools.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
            "isUserVerified": True, "automaticPresenceSimulation": True,
        }  # fmt: skip
        answer = found.devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        found.authenticator = str(answer["authenticatorId"])
    return found


@cache
def _axe() -> str:
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    """Run axe-core over a page as it is; return what is wrong, one line for each element."""
    page.evaluate(_axe())
    result = page.evaluate(
        "tags => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})", list(TAGS)
    )
    return [
        f"{item['id']}: {' '.join(str(part) for part in node['target'])} — {node['html'][:140]} — {node.get('failureSummary', '')[:200]}"
        for item in result["violations"]
        for node in item["nodes"]
    ]


def too_wide(page: Page) -> list[str]:
    """Elements that reach past the right edge, so that the page itself would scroll sideways."""
    return list(
        page.evaluate(
            """() => {
              const edge = document.documentElement.clientWidth;
              if (document.documentElement.scrollWidth <= edge) return [];
              return [...document.body.querySelectorAll('*')].filter(found => found.getBoundingClientRect().right > edge + 1
                && !found.closest('.wide, pre, .hidden, .skip')).slice(0, 5).map(found => found.outerHTML.slice(0, 160));
            }"""
        )
    )
