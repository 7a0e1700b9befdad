"""`python -m examples.sms_finetune.demo`: a transformer fine-tuned under governance, in a workspace of its own.

The published messages are split at random first. The overlap check finds that the holdout holds variants of training messages, records
it, and nothing is trained. Split anew by groups, they pass; MiniLM is fine-tuned, evaluated, packaged, signed and installed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.sms_finetune import people
from examples.sms_finetune.finetune import QUIET
from examples.sms_finetune.people import BEN, CARL

MODEL, VERSION = "sms_spam", "v1"
DATA = ("sms_split", "sms_train", "sms_holdout")
BUILD = ("sms_model", "sms_eval", f"{MODEL}_package")
CARL_SAYS = (
    "Read: scope, limits, evaluation and what is open. The scope determinations are as I see them. No objection to the use in the "
    "demonstration; nothing here is evidence about messages of today."
)


class DemoError(RuntimeError):
    """The story did not go as it must; the message says where."""


@dataclass(frozen=True)
class Size:
    """How much is done: messages (0: all), and the model's settings."""

    messages: int
    train: dict[str, Any]


FULL = Size(0, {"tiny": False, "epochs": 2.0, "batch_size": 16, "learning_rate": 5e-5})
TINY = Size(700, {"tiny": True, "epochs": 4.0, "batch_size": 32, "learning_rate": 2e-3})


class Story:
    """Prints what happens, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._number = 0

    def step(self, text: str) -> None:
        """Begin a step."""
        self._number += 1
        print(f"\n[{time.monotonic() - self._start:6.1f} s] {self._number}. {text}", flush=True)

    def say(self, text: str) -> None:
        """Print indented lines."""
        for line in text.rstrip().splitlines():
            print(f"           {line}".rstrip(), flush=True)


class Pipeline:
    """The example's assets on a Dagster instance of the workspace; runs are in this process, launched as Ben's."""

    def __init__(self, home: Path) -> None:
        import dagster as dg

        from examples.sms_finetune.definitions import defs

        place = home / "dagster_home"
        place.mkdir(parents=True, exist_ok=True)
        (place / "dagster.yaml").write_text("telemetry:\n  enabled: false\n", encoding="utf-8")
        self.instance = dg.DagsterInstance.from_config(str(place))
        self.instance.add_dynamic_partitions(f"{MODEL}_versions", [VERSION])
        self._job = defs.resolve_implicit_global_asset_job_def()

    def run(self, assets: Sequence[str], *, version: str | None = None, config: dict[str, Any] | None = None) -> Any:
        """Materialize assets; return Dagster's result."""
        import dagster as dg

        job = self._job.get_subset(asset_selection={dg.AssetKey(name) for name in assets})
        return job.execute_in_process(
            instance=self.instance,
            partition_key=version,
            tags={"user": "ben"},
            run_config={
                "ops": {name: {"config": value} for name, value in (config or {}).items()},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )


def tell(root: Path, size: Size) -> None:
    """Tell the story in an empty folder."""
    from cognify_dagster.governance import Choice, SignOffDenied, live, sign_off
    from cognify_dagster.records import Evaluation, OverlapChecked, Package, ReleaseRefused, TrainingRun
    from cognify_dagster.training.recording import register_model
    from examples.sms_finetune.definitions import sms

    story = Story()
    story.step("A ledger is opened; people are enrolled, two vouch for each")
    workspace = people.found(root)
    os.environ["COGNIFY_WORKSPACE"] = str(root)
    story.say(f"{workspace.origin} in {root}")
    register_model(workspace, sms.definition())
    story.step("Tier and thresholds are signed before any result exists")
    entry, rules = people.sign_before(workspace, MODEL, tiny=bool(size.train["tiny"]))
    story.say(f"{len(rules)} thresholds in ledger entry {entry}")
    for rule in rules:
        story.say(f"- {rule.metric} {rule.op} {rule.threshold:g}")

    pipeline = Pipeline(workspace.home)
    try:
        story.step("The messages are split at random, as is common")
        split = {"sms_split": {"method": "random", "messages": size.messages}}
        if pipeline.run(DATA, config=split).success:
            raise DemoError("the random split was not refused")
        found = workspace.read().all(OverlapChecked)[-1]
        story.say(f"Refused. Ledger entry {found.seq}, {found.record.train.name} against {found.record.holdout.name}:")
        for level in found.record.levels:
            story.say(
                f"- {level.level}: {level.overlap_holdout} of {found.record.detail['holdout_rows']} holdout messages"
            )
        waiting = pipeline.run([*DATA, *BUILD], version=VERSION, config={**split, "sms_model": size.train})
        if waiting.success or workspace.read().all(TrainingRun):
            raise DemoError("a model was trained although the check had failed")
        story.say("In a run of the whole pipeline the check stops training and evaluation too: nothing was trained.")

        story.step("Repeats are dropped, and variants of a message stay on one side")
        split["sms_split"]["method"] = "grouped"
        succeed(pipeline.run(DATA, config=split), "the grouped split")
        found = workspace.read().all(OverlapChecked)[-1]
        rows = {level.level: level.overlap_holdout for level in found.record.levels}
        story.say(f"Passed, ledger entry {found.seq}: {', '.join(f'{name} {count}' for name, count in rows.items())}")

        story.step(
            "Training, evaluation and package" + (" (a tiny model of random weights)" if size.train["tiny"] else "")
        )
        succeed(pipeline.run(BUILD, version=VERSION, config={"sms_model": size.train}), "the build")
        reading = workspace.read()
        training = reading.latest(TrainingRun, f"model/{MODEL}@{VERSION}")
        evaluation = reading.latest(Evaluation, f"model/{MODEL}@{VERSION}")
        package = reading.latest(Package, f"model/{MODEL}@{VERSION}")
        if training is None or evaluation is None or package is None:
            raise DemoError("training, evaluation or package is not in the ledger")
        say_training(story, training)
        for metric in evaluation.record.metrics:
            story.say(
                f"{metric.name:12} {_number(metric.value)}  from {_number(metric.ci_low)} to {_number(metric.ci_high)}, n {metric.n}"
            )
        story.say(f"Gates: {evaluation.record.status}; package in entry {package.seq}, {package.record.package.digest}")

        story.step("The builder may not approve, and nothing is released before somebody signed")
        try:
            sign_off(workspace, MODEL, VERSION, people.unlock(workspace, BEN), Choice("approve", stage="compliance"))
        except SignOffDenied as denied:
            story.say(f"{BEN.name}: {str(denied).splitlines()[0]}")
        else:
            raise DemoError("the builder approved his own model")
        if pipeline.run(["sms_filter"], version=VERSION).success:
            raise DemoError("the model was deployed without a signature")
        refusal = workspace.read().all(ReleaseRefused)[-1]
        story.say(f"Release refused, ledger entry {refusal.seq}: {refusal.record.reasons[0].text}")

        story.step("The compliance officer signs, and the version is released")
        sign_off(workspace, MODEL, VERSION, people.unlock(workspace, CARL), Choice("approve", comments=CARL_SAYS))
        story.say(f"{CARL.name}: “{CARL_SAYS}”")
        succeed(pipeline.run(["sms_filter"], version=VERSION), "the release")
        current = live(workspace.read(), MODEL, "production")
        if current is None:
            raise DemoError("nothing is live")
        story.say(f"{MODEL} {VERSION} is live, ledger entry {current.seq}")
    finally:
        pipeline.instance.dispose()
    say_where(story, workspace)


def succeed(result: Any, what: str) -> None:
    """Demand that a run succeeded.

    Raises:
        DemoError: with what the failed step said.
    """
    if not result.success:
        failed = [event.event_specific_data.error for event in result.all_events if event.is_step_failure]
        told = [str((error.cause or error).message).strip() for error in failed if error is not None]
        raise DemoError(f"{what} failed: {' / '.join(told) or 'a check did not pass'}")


def say_training(story: Story, training: Any) -> None:
    """Say what the record of the training holds."""
    record = training.record
    story.say(f"Sealed run: ledger entry {training.seq}; model {record.model_file.digest}")
    story.say(
        f"Base model: {record.base_model['name']}, licence {record.base_model['licence']}, sha256 {record.base_model['sha256']}"
    )
    kept = ", ".join(f"{item.name} (step {item.step}, root {item.root[:12]}…)" for item in record.checkpoints)
    story.say(f"Checkpoints: {kept}")
    cost = record.compute
    if cost is not None and cost.flops is not None:
        story.say(
            f"Compute: {float(cost.flops):.3g} floating point operations, {float(cost.device_seconds or 0):.0f} device seconds, {cost.hardware}"
        )


def say_where(story: Story, workspace: Any) -> None:
    """Say where things are, as commands that can be copied."""
    root = workspace.config.path.parent
    pdf = next((workspace.home / "packages" / MODEL / VERSION).glob("*-review-copy.pdf"), None)
    story.step("Done. Where things are")
    story.say(f"PDF       {pdf}")
    story.say(f"Status    cognify --workspace {root} status {MODEL} {VERSION}")
    story.say(f"Verify    cognify --workspace {root} ledger verify")
    story.say(
        f"Dagster   DAGSTER_HOME={workspace.home}/dagster_home COGNIFY_WORKSPACE={root} dagster dev -m examples.sms_finetune.definitions"
    )
    story.say(
        f'Ask it    python -m examples.sms_finetune.service --workspace {root} "You have won a prize, call 09061234567"'
    )
    story.say(f"Start over: remove {root}")


def _number(value: Any) -> str:
    return "–" if value is None else f"{float(value):.4f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Tell the story; return 0 if every part of it happened."""
    parser = argparse.ArgumentParser(prog="python -m examples.sms_finetune.demo", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--folder", type=Path, help="an empty folder for the workspace (default: a new one in the temporary folder)"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="a two-layer model of random weights on 700 messages: seconds, not minutes"
    )
    parser.add_argument("--messages", type=int, default=None, metavar="N", help="only so many of the messages")
    parser.add_argument("--epochs", type=float, default=None, metavar="E", help="passes over the training messages")
    arguments = parser.parse_args(argv)
    chosen = TINY if arguments.tiny else FULL
    size = Size(
        chosen.messages if arguments.messages is None else arguments.messages,
        {**chosen.train, **({} if arguments.epochs is None else {"epochs": arguments.epochs})},
    )
    root = arguments.folder or Path(tempfile.mkdtemp(prefix="cognify-sms-"))
    if root.exists() and any(root.iterdir()):
        print(f"Error: {root} is not empty; name an empty folder, the example founds a ledger there", file=sys.stderr)
        return 2
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        tell(root.absolute(), size)
    except (RuntimeError, ValueError, OSError) as error:
        print(f"\nThe example stopped: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
