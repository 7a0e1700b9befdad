"""`make demo-reset`: removes the demo's ledger, evidence, keys and Dagster home. Standard library only."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from examples.credit_default.lock import BusyError, exclusive

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = "northbank.example/credit-risk/ledger"
FOLDERS = (".cognify", ".cognify.partial", ".cognify-demo-keys")
SEAL_CERTIFICATE = "seal.crt"
FILES = ("cognify.toml", "policy.yaml", "trust.txt", SEAL_CERTIFICATE)


def reset(root: Path) -> list[str]:
    """Remove what the demo made; return the names.

    Raises:
        BusyError: if `make demo` or `make up` is running.
        ValueError: if the workspace in the folder is not the demo's.
    """
    with exclusive(root, "make demo-reset"):
        config = root / "cognify.toml"
        if config.is_file() and ORIGIN not in config.read_text(encoding="utf-8", errors="replace"):
            raise ValueError(
                f"{config} is not the demo's workspace ({ORIGIN}); nothing was removed. A ledger that is removed is lost."
            )
        removed = []
        for name in (*FOLDERS, *FILES):
            path = root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists() or path.is_symlink():
                path.unlink()
            else:
                continue
            removed.append(name)
        return removed


def main() -> int:
    """Reset the demo in this checkout; return 0 unless it was refused."""
    try:
        removed = reset(ROOT)
    except (BusyError, ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"Removed: {', '.join(removed)}" if removed else "Nothing to remove.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
