"""`make up`: the Dagster UI of the example, until Ctrl-C."""

from __future__ import annotations

import sys
import time

from cognify_dagster.workspace import Workspace, WorkspaceError
from examples.credit_default.instance import ROOT, InstanceError, interrupt_on_signals, prepare_home, start
from examples.credit_default.lock import BusyError, exclusive


def main() -> int:
    """Start `dagster dev` on a free port, print where it is, stop it on Ctrl-C; refuse while the demo runs."""
    interrupt_on_signals()
    try:
        with exclusive(ROOT, "make up"):
            return serve()
    except BusyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def serve() -> int:
    """Run the UI until Ctrl-C."""
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
    print(f"Dagster UI     {instance.url}")
    print(f"Lineage        {instance.url}/asset-groups")
    print(f"Package asset  {instance.url}/assets/credit_default_package")
    print(f"Ledger         {workspace.config.ledger}")
    print(f"Log            {instance.log}")
    print("Ctrl-C stops it.", flush=True)
    try:
        while True:
            instance.check_alive()
            time.sleep(1)
    except KeyboardInterrupt:
        print("\nStopping …", flush=True)
    except InstanceError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    finally:
        instance.stop()
    print("Stopped.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
