"""`cognify training`: what a version's sealed run recorded, and whether files on this machine are those of its record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, OK, UNREADABLE, Failure, finish
from cognify_dagster.cli.inputs import MODEL, VERSION, json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.records import CodeRef, TrainingFailed, TrainingRun
    from cognify_dagster.workspace import Reading, Recorded

_SHOWN = 40


@click.group(cls=Group, name="training")
def command() -> None:
    """Training runs: what a version's sealed run recorded, and whether files are those of its record.

    \b
    Example:
      cognify training show credit_default 3
      cognify training verify credit_default 3 ./model
    """


@command.command("show")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@json_option
@click.pass_context
def show(ctx: click.Context, model: str, version: str, json_: bool) -> None:
    """Show a version's training run: data, code, environment, settings, seeds, cost, checkpoints, and failed attempts.

    Ends with 1 if the version has no sealed run.

    \b
    Example:
      cognify training show credit_default 3
      cognify training show credit_default 3 --json
    """
    reading = open_workspace(ctx).read()
    found, failures = _runs(reading, model, version)
    if json_:
        as_json(_json(reading, found, failures))
    else:
        trial_banner(reading.trial)
        if found is None:
            say(f"{model} {version}: no sealed training run is on record.")
        else:
            _print(found)
        _print_failures(failures)
    finish(OK if found is not None else BLOCKED)


@command.command("verify")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--checkpoint", metavar="NAME", help="Compare with this checkpoint (its name or step), not with the model."
)
@json_option
@click.pass_context
def verify(ctx: click.Context, model: str, version: str, path: Path, checkpoint: str | None, json_: bool) -> None:
    """Compare a file or folder on this machine with a version's model, or with one of its checkpoints.

    Every file that is missing, additional or has other bytes is named; the command then ends with 1.

    \b
    Example:
      cognify training verify credit_default 3 ./model
      cognify training verify credit_default 3 --checkpoint checkpoint-500 out/checkpoint-500
    """
    from cognify_dagster.training.files import differences
    from cognify_dagster.training.reading import checkpoint_of, files_of_checkpoint, model_files

    workspace = open_workspace(ctx)
    reading = workspace.read()
    found, _ = _runs(reading, model, version)
    if found is None:
        raise Failure(f"{model} {version} has no sealed training run, so nothing to compare with", BLOCKED)
    if checkpoint is None:
        what, files = "model", model_files(workspace, found.record)
    else:
        _refuse_sharded(found.record, checkpoint, path)
        point = checkpoint_of(found.record, checkpoint)
        what, files = f"checkpoint {point.name}", files_of_checkpoint(workspace, point)
    if not path.exists() and not path.is_symlink():
        raise Failure(f"{path}: there is no such file or folder", UNREADABLE)
    lines = differences(files, path)
    if json_:
        as_json(
            {
                "model": model,
                "version": version,
                "compared_with": what,
                "entry": found.seq,
                "path": str(path),
                "files": len(files),
                "holds": not lines,
                "differences": lines,
            }
        )
    else:
        trial_banner(reading.trial)
        if lines:
            say(f"{clean(path)} is NOT the {clean(what)} of {model} {version} (entry {found.seq}):")
            for line in lines:
                say(f"  {clean(line)}")
        else:
            some = "1 file" if len(files) == 1 else f"{len(files)} files"
            say(f"{clean(path)} is the {clean(what)} of {model} {version} as recorded in entry {found.seq}: {some}.")
    finish(BLOCKED if lines else OK)


def _refuse_sharded(record: TrainingRun, name: str, path: Path) -> None:
    """A distributed checkpoint has a manifest of shards and no list of files; say which command reads that."""
    from cognify_dagster.instrument.distributed.recorded import MEDIA_TYPE, artifact_name

    if any(name in (item.name, str(item.step)) for item in record.checkpoints):
        return
    sharded = [item.name for item in record.artefacts if item.media_type == MEDIA_TYPE]
    if sharded and (artifact_name(name) in sharded or not record.checkpoints):
        raise Failure(
            f"{name!r} is no checkpoint with a list of files; what this run recorded of its distributed checkpoints is compared by "
            f"`cognify checkpoint verify {path} --model {record.model} --version {record.version} --checkpoint {name}`",
            BLOCKED,
        )


def _runs(
    reading: Reading, model: str, version: str
) -> tuple[Recorded[TrainingRun] | None, list[Recorded[TrainingFailed]]]:
    from cognify_dagster.records import TrainingFailed, TrainingRun
    from cognify_dagster.workspace import unknown_version

    problem = unknown_version(reading, model, version)
    if problem:
        raise Failure(problem, BLOCKED)
    subject = f"model/{model}@{version}"
    runs = reading.all(TrainingRun, subject)
    return (runs[0] if runs else None), reading.all(TrainingFailed, subject)


def _json(
    reading: Reading, found: Recorded[TrainingRun] | None, failures: list[Recorded[TrainingFailed]]
) -> dict[str, Any]:
    run = None
    if found is not None:
        run = {
            "entry": found.seq,
            "leaf": found.leaf,
            **found.record.facts(),
            "observed": dict(found.record.observed),
        }
    return {
        "origin": reading.origin,
        "trial": reading.trial,
        "training_run": run,
        "failed_attempts": [
            {"entry": item.seq, "run": item.record.run, "reason": item.record.reason} for item in failures
        ],
    }


def _print(found: Recorded[TrainingRun]) -> None:
    record = found.record
    heading(f"{record.model} {record.version}, training run")
    base = record.base_model
    parent = base.get("parent") or {}
    environment = record.environment
    rows: list[tuple[str, object]] = [
        ("Entry", f"{found.seq}, leaf {found.leaf}"),
        ("Run", str(record.observed.get("run", "not stated"))),
        ("Written by", record.captured_by or "not stated"),
        ("Launched by", record.launched_by),
        ("Ended", f"{record.observed.get('ended_at') or 'not stated'}, after {record.observed.get('duration_s')} s"),
        ("Model", f"{record.model_file.name}, {_files(record)}"),
        ("Digest", record.model_file.digest),
        ("Architecture", _words(record.architecture, "name", "framework", "framework_version")),
        ("Base model", _words(base, "name", "licence") + (f", digest {base.get('sha256')}" if base else "")),
        *([("Base run", f"{parent['model']} {parent['version']}, entry {parent['entry']}")] if parent else []),
        ("Code", _code(record.code)),
        *([("Feature code", _code(record.feature_code))] if record.feature_code else []),
        ("Environment", f"Python {environment.python}, {environment.platform}, GPU {environment.gpu or 'absent'}"),
        ("Container image", _image(environment.container_image)),
        ("Lock file", environment.lock_file or "none found"),
        ("Seeds", _seeds(record)),
        ("Compute", _compute(record)),
        ("Why this one", record.selection_note or "not stated"),
        *((("Also in", f"{link.system} run {link.run} {link.uri}".rstrip())) for link in record.external),
        *([("Run again", " ".join(record.rerun.command))] if record.rerun else []),
    ]
    pairs(rows)
    table(("dataset", "role", "root", "entry"), [(ref.name, ref.role, ref.root, ref.seq) for ref in record.datasets])
    if record.metrics:
        table(("metric", "last value"), sorted(record.metrics.items()))
    if record.checkpoints:
        shown = record.checkpoints[:_SHOWN]
        table(
            ("checkpoint", "step", "files", "bytes", "root", "note"),
            [(item.name, item.step, item.file_count, item.size, item.root, _note(item)) for item in shown],
        )
        if len(record.checkpoints) > _SHOWN:
            say(f"{len(record.checkpoints) - _SHOWN} more checkpoints; --json names all.")


def _seeds(record: TrainingRun) -> str:
    named = ", ".join(f"{name} {value}" for name, value in record.seeds.items())
    return named or ("not recorded" if record.seed is None else str(record.seed))


def _image(value: str) -> str:
    return "a container; the digest of its image was not declared" if value == "undeclared" else value or "none"


def _note(item: Any) -> str:
    return ", ".join(text for text in (item.note, "bytes kept" if item.kept else "") if text)


def _files(record: TrainingRun) -> str:
    if not record.model_files:
        return f"{record.model_size} bytes"
    return f"a folder of {len(record.model_files)} files, {record.model_size} bytes"


def _words(facts: dict[str, Any], *names: str) -> str:
    return ", ".join(str(facts[name]) for name in names if facts.get(name)) or "not stated"


def _code(code: CodeRef) -> str:
    if code.vcs != "git":
        return "not under version control" if code.vcs == "none" else f"{code.vcs}: no commit could be read"
    dirty = {True: "with local changes", False: "clean", None: "not known to be clean"}[code.dirty]
    return f"{code.commit} ({dirty})"


def _compute(record: TrainingRun) -> str:
    cost = record.compute
    if cost is None:
        return "not stated"
    found = []
    if cost.flops is not None:
        found.append(f"{cost.flops:g} FLOP" if not isinstance(cost.flops, str) else f"{cost.flops} FLOP")
        found.append(f"by {cost.flops_method or 'a method that is not stated'}")
    found.append(cost.hardware)
    found.append(f"{cost.device_seconds} device seconds" if cost.device_seconds is not None else "")
    found.append(f"{cost.energy_kwh} kWh" if cost.energy_kwh is not None else "energy not measured")
    return ", ".join(text for text in found if text)


def _print_failures(failures: list[Recorded[TrainingFailed]]) -> None:
    if failures:
        table(
            ("failed attempt", "run", "reason"),
            [(f"entry {item.seq}", item.record.run, item.record.reason) for item in failures],
        )
