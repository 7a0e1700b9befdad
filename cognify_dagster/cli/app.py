"""The root of the command: options for all commands, commands loaded when called, one handler for every error."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import click

from cognify_dagster.cli.exits import BLOCKED, DEBUG_VARIABLE, INTERRUPTED, KEPT, OK, UNREADABLE, USAGE, explain

_COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "Found a workspace: the genesis ceremony."),
    "doctor": ("doctor", "Check workspace, keys, clock and Dagster; say what to do."),
    "status": ("status", "Show a model's versions, or one version stage by stage."),
    "sign": ("sign", "Sign off a model version, also from another machine."),
    "model": ("model", "Oversee a model: classify, block, review, roll back, change plans."),
    "finding": ("finding", "What is wrong with a model: open, list, resolve."),
    "raci": ("raci", "Who is responsible, accountable, consulted, informed."),
    "notify": ("notify", "Tell people what waits for them and what happened."),
    "deployments": ("deployments", "What is live since when, and who approved it."),
    "people": ("people", "Who is enrolled: enrol, rotate and revoke keys, delegate, recover."),
    "section": ("section", "What people write about a version: record, show, compare, sign."),
    "attest": ("attest", "What people attest: agreements, licences, certification; the register."),
    "act": ("act_away", "Sign acts of several people, each on their own machine."),
    "key": ("key", "Create and show personal signing keys."),
    "gates": ("gates", "Adopt and show gate sets (thresholds)."),
    "advisories": ("advisories", "Security advisories: import, show, judge a version's packages."),
    "policy": ("policy", "Check, explain, compare, show and adopt the release policy."),
    "ledger": ("ledger", "Verify, prove, sign, back up, restore, copy and archive the ledger."),
    "signer": ("signer", "Sign checkpoints as a process of its own."),
    "witness": ("witness", "Run a witness that cosigns ledgers; create its key."),
    "dataset": ("dataset", "Dataset snapshots: take, show, compare, prove, check, approve."),
    "spool": ("spool", "Runs of the Python SDK that wait on this machine: list, show, record."),
    "objectives": ("objectives", "What metrics are evidence for: plain words, requirements, thresholds."),
    "framework": ("framework", "Regulations and guidance as data: list, show, check your own."),
    "training": ("training", "Training runs: show the record, compare files with it."),
    "reproduce": ("reproduce", "Train a version again from its record, and compare."),
    "evaluation": ("evaluation", "Evaluations: show, compare versions, explain a decision, import lm-eval results."),
    "coverage": ("coverage", "What the ledger shows for each requirement of a framework."),
    "package": ("package", "Show, compare and list compliance packages; export a bundle."),
    "checkpoint": ("checkpoint", "Sharded checkpoints: manifest, check, consolidate, lineage of a model."),
    "model-signature": ("model_signature", "OpenSSF signatures over a version's files: sign, verify, export."),
    "document": ("document", "Documents from the record: model card, validation report, BOM and others."),
    "seal": ("seal", "Create the key that seals final copies; check a sealed PDF."),
    "review": ("review", "The review site: set up, serve, invite people."),
    "webhook": ("webhook", "Tell other systems what happens: add, test, replay endpoints."),
    "verify": ("verify", "Verify an exported bundle with a trust file."),
    "evidence": ("evidence", "Copy evidence out of the store, verified; collect garbage."),
    "erase": ("erase", "Erase payloads and evidence that hold personal data."),
    "hold": ("hold", "Legal holds: place, lift, list."),
    "retention": ("retention", "How long entries are kept: show, propose, adopt, what is due."),
    "mlflow": ("mlflow", "MLflow runs: mirror into the ledger, tag with where they stand, compare."),
    "tracker": ("tracker", "Import offline runs of W&B and Comet."),
    "dagster": ("dagster", "Rebuild a lost Dagster database; read the signed heads that runs remember."),
    "upgrade": ("upgrade", "Back up, migrate and verify the ledger after an upgrade of this package."),
    "schema": ("schema", "Print the JSON Schema of a record kind, the policy or the package."),
}

WORKSPACE_HELP = (
    "Project folder, its .cognify folder or cognify.toml. Default: $COGNIFY_WORKSPACE, else searched upward."
)


def remember_workspace(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    """Keep `--workspace` where `open_workspace` finds it; the one nearest to the command wins."""
    ctx.ensure_object(dict)
    if value:
        ctx.obj["workspace"] = value


def _workspace_option(*, hidden: bool) -> click.Option:
    return click.Option(
        ["--workspace", "_workspace"],
        metavar="PATH",
        expose_value=False,
        callback=remember_workspace,
        hidden=hidden,
        help=WORKSPACE_HELP,
    )


class Command(click.Command):
    """A command that also takes `--workspace` behind its own name, where people try it first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_workspace_option(hidden=True))


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


class Root(Group):
    """The `cognify` command itself."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"cognify_dagster.cli.{_COMMANDS[cmd_name][0]}")
        found: click.Command = module.command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run; a reader that went away (`| head`) gets no message, and never the code of a verdict it did not read."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            if sys.stderr.isatty():
                click.echo(err=True)  # the terminal shows ^C and stays on that line
            raise click.Abort from stop
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # no second error at interpreter exit
            raise click.exceptions.Exit(UNREADABLE) from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run and exit with an honest code."""

        def run() -> Any:
            return click.Group.main(
                self, args=args, prog_name=prog_name, complete_var=complete_var, standalone_mode=False, **extra
            )

        if not standalone_mode:
            return run()
        sys.exit(_guarded(run))


def _guarded(run: Callable[[], Any]) -> int:
    """Run a command; turn whatever it raises into one clear message and an exit code."""
    KEPT.clear()
    code = _code(run)
    if code != OK and KEPT:
        click.echo(f"Written before that, and kept: {', '.join(KEPT)}", err=True)
    return code


def _code(run: Callable[[], Any]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        result = run()
        return result if isinstance(result, int) else OK
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.FileError as error:
        error.show()
        return UNREADABLE
    except click.ClickException as error:
        error.show()
        return getattr(error, "code", error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        if _interrupted(error):
            click.echo("Stopped; nothing half-written was kept.", err=True)
            return INTERRUPTED
        click.echo("Stopped." if KEPT else "Stopped; nothing was written.", err=True)
        return BLOCKED
    except Exception as error:
        return _report(error)


def _interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C stopped the command, which click turns into the same error as the answer no."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)


def _report(error: Exception) -> int:
    from cognify_dagster.cli.output import clean

    if os.environ.get(DEBUG_VARIABLE) == "1":
        import traceback

        traceback.print_exception(error)
    text, code = explain(error)
    click.echo("Error: " + clean(text, keep_newlines=True), err=True)
    return code


@click.group(
    name="cognify",
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "Exit codes: 0 holds, 1 tampered, blocked or refused, 2 rolled back or forked, 3 unreadable, 4 unproven, 5 wrong usage, "
        "130 stopped by Ctrl-C."
    ),
)
@click.version_option(package_name="cognify-dagster", prog_name="cognify")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Audit-ready Dagster pipelines: a tamper-evident ledger, signed approvals, a release gate.

    \b
    Example:
      cognify init                      found a workspace in this folder
      cognify status credit_default 3   what version 3 still needs
    """
    state: MutableMapping[str, Any] = ctx.ensure_object(dict)
    state.setdefault("workspace", None)


main.params.insert(0, _workspace_option(hidden=False))
