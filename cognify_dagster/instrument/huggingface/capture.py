"""Reads what a Trainer is really using: arguments, optimizer, data, model, adapters, cost. Pure reading; nothing is written here.

Invariants: no token, password or key leaves this module (the SDK's redaction goes over every setting); a value without a JSON form is
named by its type, never dumped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from cognify_dagster.instrument.sdk.redaction import redact

_MAX_DEPTH = 12
_MAX_TEXT = 20_000
_MAX_COLUMNS = 200
_METRIC_NAME = re.compile(r"[^A-Za-z0-9._/@-]")
_SHAPE = (
    "model_type",
    "hidden_size",
    "n_embd",
    "d_model",
    "num_hidden_layers",
    "n_layer",
    "num_attention_heads",
    "n_head",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "num_labels",
    "problem_type",
)


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON would have it; objects as the name of their type, sets sorted."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (str, PurePath)):
        return str(value)[:_MAX_TEXT]
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            return {str(name): plain(item, depth + 1) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item, depth + 1) for item in value]
        if isinstance(value, (set, frozenset)):
            return sorted((plain(item, depth + 1) for item in value), key=str)
    kind = type(value)
    if kind.__module__ == "torch" and kind.__name__ in ("dtype", "device"):
        return str(value)
    if kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return plain(value.tolist(), depth + 1)
    return f"<{kind.__module__}.{kind.__qualname__}>"


def training_arguments(args: Any) -> dict[str, Any]:
    """Return the `TrainingArguments` as they stand, after the Trainer and accelerate filled them in.

    Secrets are redacted. What is None was not set and is left out: half of some 120 arguments say nothing else.
    """
    found = {}
    for name, value in sorted(args.to_dict().items()):
        # to_dict() blanks whatever ends with _token, such as the end-of-sequence token, which is a setting and no secret
        real = getattr(args, name, value) if name.endswith("_token") else value
        if real is not None:
            found[name] = plain(real)
    kept: dict[str, Any] = redact(found)
    return kept


def resolved(args: Any, state: Any, optimizer: Any, scheduler: Any, trainer: Any | None) -> dict[str, Any]:
    """Return what follows from the arguments on this machine: devices, batch in all, steps, optimizer and schedule."""
    per_process = state.train_batch_size or args.train_batch_size
    total = per_process * args.gradient_accumulation_steps * max(args.world_size, 1)
    if trainer is not None and hasattr(trainer, "get_total_train_batch_size"):
        total = trainer.get_total_train_batch_size(args)
    found: dict[str, Any] = {
        "device": str(args.device),
        "accelerators_per_process": args.n_gpu,
        "processes": args.world_size,
        "parallel_mode": plain(args.parallel_mode),
        "batch_size_per_process": per_process,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "effective_batch_size": total,
        "max_steps": state.max_steps,
        "epochs": state.num_train_epochs,
        "logging_steps": state.logging_steps,
        "eval_steps": state.eval_steps,
        "save_steps": state.save_steps,
    }
    if trainer is not None and getattr(trainer, "accelerator", None) is not None:
        found["mixed_precision"] = str(trainer.accelerator.mixed_precision)
        found["distributed_type"] = plain(trainer.accelerator.distributed_type)
    if optimizer is not None:
        found["optimizer"] = optimizer_facts(optimizer)
    if scheduler is not None:
        found["scheduler"] = {"class": type(getattr(scheduler, "scheduler", scheduler)).__name__}
        found["scheduler"]["warmup_steps"] = args.get_warmup_steps(state.max_steps)
    return found


def optimizer_facts(optimizer: Any) -> dict[str, Any]:
    """Return class and settings of each parameter group; the learning rate is the one before the schedule."""
    inner = getattr(optimizer, "optimizer", optimizer)
    groups = []
    for group in inner.param_groups:
        settings = {name: plain(value) for name, value in group.items() if name not in ("params", "initial_lr")}
        settings["lr"] = plain(group.get("initial_lr", group.get("lr")))
        groups.append({**settings, "tensors": len(group["params"])})
    return {"class": f"{type(inner).__module__}.{type(inner).__qualname__}", "groups": groups}


def seeds(args: Any) -> dict[str, int]:
    """Return the seeds by library: the Trainer seeds Python, NumPy and torch with one number, the order of the data with another."""
    seed = int(args.seed)
    data = seed if args.data_seed is None else int(args.data_seed)
    return {"python": seed, "numpy": seed, "torch": seed, "data": data}


def dataset_facts(dataset: Any) -> dict[str, Any] | None:
    """Describe a dataset that a Trainer holds: type, rows, columns, and the fingerprint that the `datasets` library keeps.

    The fingerprint names a chain of operations, not bytes: what the data were is said by the bound snapshot's root.
    """
    if dataset is None:
        return None
    if isinstance(dataset, Mapping):
        return {str(name): dataset_facts(item) for name, item in dataset.items()}
    facts: dict[str, Any] = {"type": f"{type(dataset).__module__}.{type(dataset).__qualname__}"}
    try:
        facts["rows"] = len(dataset)
    except TypeError:
        facts["rows"] = None  # a stream
    fingerprint = getattr(dataset, "_fingerprint", None)
    if isinstance(fingerprint, str):
        facts["fingerprint"] = fingerprint
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        facts["features"] = {str(name): str(kind)[:500] for name, kind in list(features.items())[:_MAX_COLUMNS]}
    split = getattr(dataset, "split", None)
    if split is not None:
        facts["split"] = str(split)
    info = getattr(dataset, "info", None)
    for name in ("dataset_name", "config_name", "version", "license"):
        value = getattr(info, name, None)
        if value:
            facts[name] = str(value)[:500]
    return facts


def unwrapped(model: Any) -> Any:
    """Return the model below `DistributedDataParallel` and `torch.compile`."""
    for _ in range(4):
        inner = getattr(model, "module", None) if "Parallel" in type(model).__name__ else None
        inner = getattr(model, "_orig_mod", None) if inner is None else inner
        if inner is None:
            return model
        model = inner
    return model


def without_adapters(model: Any) -> Any:
    """Return the base model below PEFT adapters, or the model itself."""
    model = unwrapped(model)
    if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        return model.get_base_model()
    return model


def parameter_counts(model: Any) -> tuple[int, int]:
    """Return how many parameters there are, and how many of them are trained; shared ones count once."""
    total = trained = 0
    for parameter in unwrapped(model).parameters():
        count = int(getattr(parameter, "ds_numel", 0) or parameter.numel())
        total += count
        trained += count if parameter.requires_grad else 0
    return total, trained


def architecture(model: Any) -> dict[str, Any]:
    """Return name, framework, versions, parameter counts, shape and adapters, as `set_architecture` takes them."""
    import torch
    import transformers

    top, base = unwrapped(model), without_adapters(model)
    total, trained = parameter_counts(top)
    config = getattr(base, "config", None)
    details: dict[str, Any] = {
        "trainable_parameters": trained,
        "torch": str(torch.__version__),
        "dtype": str(getattr(base, "dtype", None) or next(top.parameters()).dtype),
    }
    shape = {name: plain(getattr(config, name, None)) for name in _SHAPE}
    details["shape"] = {name: value for name, value in shape.items() if value is not None}
    adapters = adapter_facts(top)
    if adapters:
        import peft

        details["adapters"] = adapters
        details["peft"] = str(peft.__version__)
    return {
        "name": type(base).__name__,
        "framework": "transformers",
        "framework_version": str(transformers.__version__),
        "parameters": total,
        **details,
    }


def adapter_facts(model: Any) -> dict[str, dict[str, Any]]:
    """Return the settings of each PEFT adapter by its name; empty where there is none."""
    configs = getattr(model, "peft_config", None)
    if not isinstance(configs, Mapping):
        return {}
    found = {}
    for name, config in configs.items():
        given = config.to_dict() if hasattr(config, "to_dict") else vars(config)
        kept = {key: plain(value) for key, value in sorted(given.items()) if value not in (None, "", [], {})}
        found[str(name)] = redact({key: value for key, value in kept.items() if key != "base_model_name_or_path"})
    return found


def compute(args: Any, state: Any, model: Any) -> dict[str, Any]:
    """Return the cost of training, as `set_compute` takes it. Energy is not measured here, so nothing is said about it."""
    total, _ = parameter_counts(model)
    found: dict[str, Any] = {"parameters": total, "hardware": hardware(args)}
    if state.total_flos:
        found["flops"] = float(state.total_flos)
        found["flops_method"] = (
            "the Trainer's own count: 6 x input tokens (padding included) x parameters without embeddings, summed over processes "
            "and, where training was resumed, from the first start"
        )
    if state.num_input_tokens_seen:
        found["tokens"] = int(state.num_input_tokens_seen)
    runtime = next((entry["train_runtime"] for entry in reversed(state.log_history) if "train_runtime" in entry), None)
    if isinstance(runtime, (int, float)):
        found["device_seconds"] = float(runtime) * max(args.world_size, 1) * max(args.n_gpu, 1)
    return found


def hardware(args: Any) -> str:
    """Say what the training ran on, such as `4 x NVIDIA H200` or `2 x cpu (2 threads each)`."""
    import torch

    processes, device = max(args.world_size, 1), args.device
    if device.type == "cuda":
        return f"{processes * max(args.n_gpu, 1)} x {torch.cuda.get_device_name(device)}"
    return f"{processes} x {device.type} ({torch.get_num_threads()} threads each)"


def metric_points(entry: Mapping[str, Any]) -> list[tuple[str, float, int | None]]:
    """Return the numbers of one entry of the log history as (name, value, step); what is no number is left out."""
    step = entry.get("step")
    at = int(step) if isinstance(step, int) and not isinstance(step, bool) else None
    points = []
    for name, given in entry.items():
        value = given
        if name == "step" or isinstance(value, bool):
            continue
        if (
            type(value).__module__.partition(".")[0] in ("numpy", "torch")
            and math.prod(getattr(value, "shape", (2,))) == 1
        ):
            value = value.item()
        if isinstance(value, (int, float)):
            points.append((metric_name(str(name)), float(value), at))
    return points


def metric_name(name: str) -> str:
    """Return a name that records take; other characters become underscores."""
    usable = _METRIC_NAME.sub("_", name)[:200]
    return usable if usable[:1].isalnum() else f"m{usable}"[:200]
