"""These tests run beside the real libraries (torch, transformers, MLflow and others), as `make test-adapters` does.

Where one of them is not installed none is collected: the core's tests need none. With COGNIFY_ADAPTERS=1 a missing one is an error.
"""

from __future__ import annotations

import importlib.util
import os

NEEDED = (
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "trl",
    "mlflow",
    "datasets",
    "aif360",
    "lm_eval",
    "model_signing",
    "wandb",
    "comet_ml",
)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if missing and os.environ.get("COGNIFY_ADAPTERS") == "1":
    raise RuntimeError(f"not installed: {', '.join(missing)}; run `make test-adapters`, which installs them")
if missing:
    collect_ignore_glob = ["*"]
