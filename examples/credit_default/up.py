"""`make up`: the Dagster UI and the review site of the example, until Ctrl-C."""

from __future__ import annotations

import sys
import time

from cognify_dagster.workspace import Workspace, WorkspaceError
from examples.credit_default.instance import ROOT, InstanceError, interrupt_on_signals, prepare_home, start
from examples.credit_default.lock import BusyError, exclusive
from examples.credit_default.people import PASSPHRASE
from examples.credit_default.review_site import SITE_PORT, Site, start_site


def main() -> int:
    """Start `dagster dev` and the review site, print where they are, stop them on Ctrl-C; refuse while the demo runs."""
    interrupt_on_signals()
    try:
        with exclusive(ROOT, "make up"):
            return serve()
    except BusyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def serve() -> int:
    """Run both until Ctrl-C."""
    try:
        workspace = Workspace.open(ROOT)
    except WorkspaceError as error:
        print(f"{error}\nRun `make demo` first: it founds the demo's workspace.", file=sys.stderr)
        return 1
    print("Starting Dagster (10 to 30 seconds) …", flush=True)
    try:
        instance = start(prepare_home(workspace.home))
    except InstanceError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    site = None
    try:
        site = _site(workspace, instance.url)
    except KeyboardInterrupt:
        instance.stop()
        return 0
    print(f"Dagster UI     {instance.url}")
    print(f"Lineage        {instance.url}/asset-groups")
    print(f"Package asset  {instance.url}/assets/credit_default_package")
    print(f"Ledger         {workspace.config.ledger}")
    print(f"Log            {instance.log}")
    if site is not None:
        _tell(workspace, site)
    print("Ctrl-C stops it.", flush=True)
    try:
        while True:
            instance.check_alive()
            if site is not None:
                site.check_alive()
            time.sleep(1)
    except KeyboardInterrupt:
        print("\nStopping …", flush=True)
    except InstanceError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    finally:
        if site is not None:
            site.stop()
        instance.stop()
    print("Stopped.")
    return 0


def _site(workspace: Workspace, dagster_url: str) -> Site | None:
    """Start the review site; without it Dagster is of use all the same."""
    print("Starting the review site …", flush=True)
    try:
        return start_site(workspace, dagster_url)
    except InstanceError as error:
        print(f"The review site is not running: {error}", file=sys.stderr)
        return None


def _tell(workspace: Workspace, site: Site) -> None:
    place = workspace.config.path.parent
    print(f"Review site    {site.url}")
    print(f"               {site.url}/models/credit_default")
    print("First sign-in  one-time links for the two admins, and for others who read and sign:")
    print(f"               .venv/bin/cognify --workspace {place} review setup")
    print(f"               .venv/bin/cognify --workspace {place} review invite person/vera")
    people = workspace.config.people_keys
    print("To sign there  register a passkey; two people vouch for it (KEY is on the account page), then it may sign:")
    print(f"               .venv/bin/cognify --workspace {place} review vouch person/vera --passkey KEY \\")
    print(f"                 --as {people / 'ada.key.json'} --as {people / 'finn.key.json'}")
    print(f"               (pass phrase of each key: {PASSPHRASE})")
    if site.url != f"http://localhost:{SITE_PORT}":
        print(f"               (port {SITE_PORT} was taken: in links, put {site.url} for http://localhost:{SITE_PORT})")


if __name__ == "__main__":
    raise SystemExit(main())
