"""The training run as printed: what ran, from which model, on what, at which cost, and how to run it again. Pure.

What a run did not record is said where a reader looks for it ("not measured", "none found"); parts that an older record could not hold
are left out for it.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from cognify_dagster.documents.coverage.gpai_compute import plain_number
from cognify_dagster.documents.facts.earlier import parent_of
from cognify_dagster.documents.labels import label
from cognify_dagster.documents.view.blocks import (
    Block,
    Cell,
    digest_text,
    entry,
    heading,
    key_values,
    mono,
    number,
    paragraph,
    small,
    table,
)

Json = dict[str, Any]
#: How a record of each origin came to be.
_CAPTURED = {
    "dagster": "a Dagster asset",
    "sdk": "the Python SDK",
    "spool": "the Python SDK, kept locally and sealed later",
    "import": "an import from another tool",
}
#: Whose word it is when training began, where the ledger held nothing of the run before it ended.
_BEGAN = {
    "spool": "the word of the machine that kept the journal; the ledger does not show it",
    "import": "the word of the tool that the run was imported from; the ledger does not show it",
}
_BASE_SHOWN = ("name", "sha256", "digest", "licence", "license", "source", "revision", "parent")
_ARCHITECTURE_SHOWN = ("name", "kind", "library", "framework", "framework_version", "parameters")
_SHOWN_FILES = 200


def training_run_blocks(run: Json | None) -> list[Block]:
    """Who ran what on which code, the settings, and what came of it."""
    if run is None:
        return [heading("Training run", 2), paragraph("No sealed training run is on record.")]
    people = ", ".join(person["name"] for person in run["touched_by"]) or "nobody on record"
    by = _CAPTURED.get(run.get("captured_by", ""), run.get("captured_by", ""))
    blocks = [
        heading("Training run", 2),
        key_values(
            [
                ("Recorded", f"{entry(run['entry'])}, {run['entry']['time']}{f', through {by}' if by else ''}"),
                *([("When training began", began)] if (began := _BEGAN.get(run.get("captured_by", ""))) else []),
                ("Launched by", run["launched_by"]["name"]),
                (
                    "Worked on by",
                    people + (f"; not identified: {', '.join(run['unattributed'])}" if run["unattributed"] else ""),
                ),
                ("Code", code_cell(run["code"])),
                *_feature_code(run),
                *_environment(run),
                ("Seed", _seed(run)),
                *_model(run),
                ("Why this model", run["selection_note"] or "not stated"),
            ]
        ),
    ]
    blocks += _files(run)
    blocks += _base(run["base_model"])
    rows = [
        *settings(run["architecture"], "architecture.", _ARCHITECTURE_SHOWN),
        *settings(run["base_model"], "base_model.", _BASE_SHOWN if run["base_model"].get("name") else ()),
        *settings(run["config"], "config."),
    ]
    blocks += table(["Setting", "Value"], [40, 60], rows, caption="Configuration")
    blocks += extra_blocks(run)
    if run["metrics"]:
        found: list[list[Cell]] = [[label(key), number(value)] for key, value in run["metrics"].items()]
        blocks += table(["Metric in training", "Value"], [40, 60], found)
    return (
        blocks + _compute(run) + _checkpoints(run) + _distributed(run) + _signatures(run) + _external(run) + _rerun(run)
    )


def experiment_blocks(package: Json) -> list[Block]:
    """That experiments exist which stand behind nothing here; nothing where none was recorded."""
    found = package.get("experiments")
    if not found:
        return []
    ended = ", ".join(f"{number(found[name])} {name}" for name in ("completed", "failed", "killed") if found[name])
    text = (
        f"The model's project also recorded {number(found['count'])} experiments ({ended}) from {found['first']} to {found['last']}. "
        "An experiment is about no version: none of them is evidence for anything in this document."
    )
    return [paragraph(small(text))]


def code_cell(code: Json) -> Cell:
    """The commit that ran, or that none was recorded."""
    if not code["commit"] or code["vcs"] == "none":
        return "no commit was recorded: the code was not under version control"
    dirty = {True: "with local changes", False: "clean", None: "not known to be clean"}[code["dirty"]]
    changed = f", difference {digest_text(code['diff_digest'], 16)}" if code.get("diff_digest") else ""
    return [mono(code["commit"]), {"v": f" ({code['vcs']}, {dirty}{changed})"}]


def _feature_code(run: Json) -> list[tuple[str, Cell]]:
    code = run.get("feature_code")
    if code is None:
        return []
    cell = code_cell(code)
    same = bool(code["commit"]) and code["commit"] == run["code"]["commit"]
    said = "the same commit as the training" if same else "another commit than the training's"
    return [("Feature pipeline", [*([{"v": cell}] if isinstance(cell, str) else cell), small(said, n=True)])]


def _environment(run: Json) -> list[tuple[str, Cell]]:
    found = run["environment"]
    gpu = found["gpu"] or "none"
    rows: list[tuple[str, Cell]] = [
        ("Environment", f"Python {found['python']}, {found['platform']}, GPU {gpu}"),
        ("Packages", [mono(digest_text(found["packages_digest"]))]),
    ]
    image, lock, later = found["container_image"], found.get("lock_file", ""), "captured_by" in run
    if image == "undeclared":
        rows.append(("Container image", "a container, but the digest of its image was not declared"))
    elif image not in ("", "none", "absent"):
        rows.append(("Container image", [mono(image)]))
    elif later:
        rows.append(("Container image", "none: no container, or its digest was not declared"))
    if lock:
        found_locks = [one.rpartition(" ") for one in lock.split(", ")]
        cell = [run for at, (name, _, value) in enumerate(found_locks) for run in _named(name, value, at > 0)]
        rows.append(("Lock file" if len(found_locks) == 1 else "Lock files", cell))
    elif later:
        rows.append(("Lock file", "none found beside the code"))
    return rows


def _named(name: str, digest: str, line: bool) -> list[Json]:
    """A file's name and digest, on a line of its own where it is not the first."""
    return [{"v": f"{name} ", "n": line}, mono(digest_text(digest))]


def _seed(run: Json) -> str:
    seeds = ", ".join(f"{name} {value}" for name, value in sorted(run.get("seeds", {}).items()))
    if run["seed"] is None:
        return seeds or "–"
    return f"{run['seed']}{f' (by library: {seeds})' if seeds else ''}"


def _model(run: Json) -> list[tuple[str, Cell]]:
    made, file = run["architecture"], run["model_file"]
    framework = " ".join(str(made[name]) for name in ("framework", "framework_version") if made.get(name))
    kind = "; ".join(
        str(part) for part in (made.get("name") or made.get("kind"), framework or made.get("library")) if part
    )
    count = made.get("parameters")
    if count is not None:
        kind = f"{kind or 'kind not stated'}; {number(int(count)) if str(count).isdigit() else count} parameters"
    later = "captured_by" in run
    rows: list[tuple[str, Cell]] = [("Kind of model", kind or "not recorded")] if kind or later else []
    if later and not run["base_model"]:
        rows.append(("Base model", "none: not made from another model, as far as recorded"))
    several = run.get("model_files", ())
    name = "List of model files" if several else "Model file"
    size = sum(item["size"] for item in several) if several else file["size"]
    said = f"{number(len(several))} files, {number(size)} bytes" if several else f"{number(size)} bytes"
    return [*rows, (name, [mono(digest_text(file["digest"])), small(said, n=True)])]


def _files(run: Json) -> list[Block]:
    """The files of a model that is a folder."""
    rows: list[list[Cell]] = [
        [item["name"], [mono(digest_text(item["digest"]))], number(item["size"])] for item in run.get("model_files", ())
    ]
    if not rows:
        return []
    blocks = table(
        ["File", "SHA-256", "Bytes"],
        [24, 64, 12],
        rows[:_SHOWN_FILES],
        caption="Files of the model",
        right=(2,),
        size=8.2,
    )
    return [*blocks, *_more(rows, _SHOWN_FILES, "files")]


def _more(rows: list[list[Cell]], shown: int, what: str) -> list[Block]:
    return [paragraph(small(f"{len(rows) - shown} more {what} stand in package.json."))] if len(rows) > shown else []


def _base(base: Json) -> list[Block]:
    """The model that training started from, with what a reader checks: digest, licence, origin, and its own governed run."""
    name = base.get("name")
    if not isinstance(name, str) or not name:
        return []
    digest = str(base.get("sha256") or base.get("digest") or "")
    governed = parent_of(base)
    rows: list[tuple[str, Cell]] = [
        ("Name", name + (f", revision {base['revision']}" if base.get("revision") else "")),
        ("SHA-256", [mono(digest_text(digest))] if digest else "not recorded"),
        ("Licence", str(base.get("licence") or base.get("license") or "not recorded")),
        ("From", str(base.get("source") or "not stated")),
        (
            "Its own training",
            f"governed here: {governed[0]}, version {governed[1]}" if governed else "not in this ledger",
        ),
    ]
    return [heading("Base model", 3), key_values(rows)]


def _compute(run: Json) -> list[Block]:
    """What it cost; a number that nobody measured is said to be missing, since readers look for it here."""
    found = run.get("compute")
    if found is None:
        if "captured_by" not in run:
            return []
        taken = f"The training took {seconds(run['duration_s'])}. " if "duration_s" in run else ""
        text = f"{taken}Operations and energy were not measured (set_compute records them)."
        return [heading("Compute and energy", 3), paragraph(text)]
    energy = found["energy_kwh"]
    rows: list[tuple[str, Cell]] = [
        ("Operations", f"{figure(found['flops'])} FLOP ({found['flops_method'] or 'method not stated'})" if found["flops"] is not None else "not measured"),
        ("Parameters, tokens", f"{_count(found['parameters'])} parameters (P); {_count(found['tokens'])} training tokens (D)"),
        ("Hardware", found["hardware"] or f"GPU {run['environment']['gpu'] or 'none'}"),
        ("Duration", seconds(run["duration_s"]) if "duration_s" in run else "not recorded"),
        ("Time of devices", seconds(found["device_seconds"]) if found["device_seconds"] is not None else "not measured"),
        ("Energy", f"{figure(energy)} kWh ({found['energy_method'] or 'method not stated'})" if energy is not None else "not measured"),
    ]  # fmt: skip
    return [heading("Compute and energy", 3), key_values(rows), *_criterion(run.get("compute_criterion"))]


def _criterion(found: Json | None) -> list[Block]:
    """The compute criterion for those who modify a general-purpose model, worked out from the figures above."""
    if found is None:
        return []
    notes = [*found["basis"], *(f"Assumed: {text}." for text in found["assumptions"])]
    notes += [f"Not recorded: {text}." for text in found["missing"]]
    return [
        paragraph(
            {
                "v": "Compute criterion for modified general-purpose models (EU AI Act, Commission guidelines). ",
                "b": True,
            },
            {"v": f"{found['words'][:1].upper()}{found['words'][1:]}."},
        ),
        paragraph(small(" ".join(notes))),
    ]


def figure(value: Any) -> str:
    """Return an amount of compute or energy for print; one beyond 2^53 stands in the package as decimal text."""
    known = plain_number(value)
    if known is None:
        return str(value)
    return f"{known:.4g}" if known >= 1e6 or 0 < known < 1e-3 else number(value)


def _count(value: Any) -> str:
    return "not recorded" if value is None else number(value)


def seconds(value: Any) -> str:
    """Return a duration in seconds for print."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return str(value)
    if value < 120:
        return f"{value:.1f} s"
    hours, rest = divmod(round(value), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def _checkpoints(run: Json) -> list[Block]:
    rows: list[list[Cell]] = [
        [
            "–" if item["step"] is None else str(item["step"]),
            item["name"],
            f"{number(item['file_count'])}, {number(item['size'])} bytes",
            [mono(item["root"][:32])],
            "; ".join(part for part in (item["note"], f"{len(item['kept'])} kept" if item["kept"] else "") if part)
            or "–",
        ]
        for item in run.get("checkpoints", ())
    ]
    if not rows:
        return []
    return [
        heading("Checkpoints", 3),
        *table(
            ["Step", "Name", "Files", "Root over the files, first 32 digits", "For"],
            [8, 22, 22, 34, 14],
            rows[:_SHOWN_FILES],
            right=(0,),
            size=8.4,
        ),
        *_more(rows, _SHOWN_FILES, "checkpoints"),
        paragraph(
            small("The register of evidence has the list of files, with the digest of each, for every checkpoint.")
        ),
    ]


def _distributed(run: Json) -> list[Block]:
    found = run.get("distributed")
    if found is None:
        return []
    manifest = found["manifest"]
    rows: list[tuple[str, Cell]] = [
        ("Processes", number(found["world_size"])),
        ("How", ", ".join(part for part in (found["strategy"], found["backend"]) if part) or "not stated"),
        ("Mesh", json.dumps(found["mesh"], sort_keys=True) if found["mesh"] else "not stated"),
        ("Root over all shards", [mono(found["root"])] if found["root"] else "no shards recorded"),
        ("Manifest", [mono(digest_text(manifest["digest"]))] if manifest else "none"),
    ]
    return [heading("Distributed training", 3), key_values(rows)]


def _signatures(run: Json) -> list[Block]:
    """Signatures that other tools verify: over the model's files, by a key; they approve nothing."""
    rows: list[list[Cell]] = [
        [
            entry(item["entry"]),
            f"{number(item['file_count'])} files, {item['algorithm']}",
            [mono(item["key_hint"])],
            [mono(digest_text(item["bundle"]["digest"], 16))],
        ]
        for item in run.get("model_signatures", ())
    ]
    if not rows:
        return []
    caption = "Signatures over the model's files (OpenSSF model signing); they name a key and approve nothing"
    return table(
        ["Entry", "Over", "SHA-256 of the public key (PEM)", "Signature file"],
        [12, 26, 44, 18],
        rows,
        caption=caption,
        size=8.4,
    )


def _external(run: Json) -> list[Block]:
    rows: list[list[Cell]] = [
        [
            {"mlflow": "MLflow", "wandb": "Weights & Biases", "comet": "Comet"}.get(item["system"], item["system"]),
            item["run"],
            item["experiment"] or "–",
            item["uri"] or "–",
            [mono(digest_text(item["snapshot"]["digest"], 16))] if item["snapshot"] else "not kept",
        ]
        for item in run.get("external", ())
    ]
    if not rows:
        return []
    caption = "The same run in other tools; they can change after sealing, this record cannot"
    head = ["Tool", "Run", "Experiment", "Where", "State when sealed"]
    return table(head, [14, 24, 18, 28, 16], rows, caption=caption, size=8.4)


def _rerun(run: Json) -> list[Block]:
    found = run.get("rerun")
    if found is None:
        return []
    allowed = "; ".join(f"{name} by {number(value)}" for name, value in sorted(found["tolerances"].items()))
    rows: list[tuple[str, Cell]] = [
        ("Command", [mono(shlex.join(found["command"]))]),
        ("Folder", found["folder"]),
        ("Results may differ", allowed or "not at all"),
        ("Model file", "has to come out byte for byte" if found["same_bytes"] else "may come out with other bytes"),
    ]
    return [heading("To run it again", 3), key_values(rows)]


def extra_blocks(part: Json) -> list[Block]:
    """Fields that the record's schema does not know; they are shown, never dropped."""
    if not part.get("extra"):
        return []
    return table(["Further recorded field", "Value"], [40, 60], settings(part["extra"]))


def settings(value: Json, prefix: str = "", left_out: tuple[str, ...] = ()) -> list[list[Cell]]:
    """Return nested values as rows of dotted name and value."""
    found: list[list[Cell]] = []
    for key, item in value.items():
        if key in left_out:
            continue
        if isinstance(item, dict) and item:
            found += settings(item, f"{prefix}{key}.")
        elif isinstance(item, str):
            found.append([f"{prefix}{key}", item])
        elif isinstance(item, bool):
            found.append([f"{prefix}{key}", number(item)])
        elif isinstance(item, (int, float)):
            found.append([f"{prefix}{key}", str(item)])
        else:
            found.append([f"{prefix}{key}", json.dumps(item, sort_keys=True)])
    return found
