"""The site as `make up` starts it: a real process that tells another system what is signed, and stops when asked."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.request

import pytest
from click.testing import CliRunner
from standardwebhooks import Webhook

from cognify_dagster.cli import main
from examples.credit_default import review_site, up
from examples.credit_default.instance import InstanceError
from tests.review.site_world import SiteWorld
from tests.review.webhooks.receiver import Receiver


def test_the_site_starts_tells_what_is_signed_and_stops(site_world: SiteWorld, receiver: Receiver) -> None:
    workspace = site_world.world.workspace
    site = review_site.start_site(workspace, "http://localhost:3000")
    try:
        with urllib.request.urlopen(f"{site.url}/healthz", timeout=10) as answer:
            assert answer.read() == b"ok\n"
        words = ["webhook", "add", "grc", receiver.url, "--allow-http", "--allow-private", "--json"]
        added = CliRunner().invoke(main, ["--workspace", str(workspace.config.path), *words])
        secret = json.loads(added.output)["secret"]
        site_world.world.approve("vera")
        end = time.monotonic() + 20
        while not receiver.got and time.monotonic() < end:
            site.check_alive()
            time.sleep(0.1)
        (got,) = receiver.got
        told = Webhook(secret).verify(got.body, got.headers)
        assert told["type"] == "signoff.recorded"
        assert told["data"]["url"] == "http://localhost:3070/models/credit_default/1".replace(
            "http://localhost:3070", site.url
        )
    finally:
        site.stop()
    assert site.process.returncode in (0, -signal.SIGTERM)  # it ended by itself and had not to be killed
    with pytest.raises(InstanceError, match="the review site ended"):
        site.check_alive()


class Process:
    """Stands for Dagster or the site in `make up`: alive until it is stopped."""

    url, log = "http://localhost:3000", "log"

    def __init__(self) -> None:
        self.stopped = 0

    def check_alive(self) -> None:
        assert not self.stopped

    def stop(self) -> None:
        self.stopped += 1


@pytest.mark.parametrize("with_site", [True, False])
def test_make_up_shows_both_and_stops_both_and_does_without_the_site(
    with_site: bool, site_world: SiteWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dagster, site = Process(), Process()
    site.url = f"http://localhost:{review_site.SITE_PORT}"

    def start_site(*_: object) -> Process:
        if not with_site:
            raise InstanceError("no room")
        return site

    def ctrl_c(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(up, "ROOT", site_world.world.workspace.config.path.parent)
    monkeypatch.setattr(up, "start", lambda _: dagster)
    monkeypatch.setattr(up, "start_site", start_site)
    monkeypatch.setattr(up.time, "sleep", ctrl_c)
    assert up.serve() == 0
    told = capsys.readouterr()
    assert dagster.stopped == 1
    assert site.stopped == int(with_site)
    assert ("review setup" in told.out) == with_site
    assert ("no room" in told.err) != with_site


def test_another_port_is_taken_where_the_usual_one_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(review_site, "SITE_PORT", other.getsockname()[1])
        assert review_site.site_port() != other.getsockname()[1]


def test_without_the_extra_it_says_what_to_install(site_world: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InstanceError, match="extra 'review'"):
        review_site.start_site(site_world.world.workspace)
