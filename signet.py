"""The `signet` command line. Mounts each package's commands lazily: `signet --help` imports none of them.

The only module that may see all three packages.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from serving import VERSION
from serving.errors import SettingsError

# command -> module, attribute, summary. A module is imported when its command runs or its help is asked for.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("serving.engine.cli", "serve", "Start an engine and the gateway, and supervise both."),
    "gateway": ("serving.gateway.cli", "gateway", "Start the gateway in front of OpenAI-compatible engines."),
    "engine": ("serving.engine.cli", "engine", "Start one engine in the foreground."),
    "keys": ("serving.identity.cli", "keys", "Manage API keys and tenants."),
    "adapters": (
        "serving.gateway.adapters.cli",
        "adapters",
        "Serve LoRA adapters beside their base, without a restart.",
    ),
    "prompts": ("serving.gateway.prompts.cli", "prompts", "List, check and render prompt templates."),
    "policy": ("serving.guard.policy.cli", "policy", "Check, show and test the policy of questions and answers."),
    "ledger": ("serving.ledger.cli", "ledger", "Sum up usage, export requests and feedback, upgrade the database."),
    "verify": (
        "serving.ledger.receipt_cli",
        "verify",
        "Check a receipt and its text, down to model and data.",
    ),
    "receipts": ("serving.provenance.receipts.cli", "receipts", "Manage the keys that sign receipts."),
    "audit": ("serving.ledger.audit_cli", "audit", "Verify the ledger's hash chains; list administrative actions."),
    "marks": ("serving.provenance.cli", "marks", "Manage the keys of the watermark."),
    "detect": ("serving.provenance.cli", "detect", "Tell whether a text carries one of our marks."),
    "data": ("training.data.cli", "data", "Build data sets, look at them, read their cards."),
    "train": ("training.cli", "train", "Run a training recipe."),
    "tune": ("training.tune.cli", "tune", "Search for a recipe's best settings."),
    "quantize": ("training.compress.cli", "quantize", "Compress a checkpoint."),
    "export": ("training.export.cli", "export", "Write a checkpoint for llama.cpp, ONNX Runtime or a browser."),
    "evaluate": ("training.evaluate.cli", "evaluate", "Measure models."),
    "explain": ("training.explain.cli", "explain", "Show what a model reads, and where it looks."),
    "study": ("training.studies.cli", "study", "Run claims about language models again."),
    "registry": ("training.registry_cli", "registry", "List, show, verify and promote checkpoints."),
    "redteam": ("training.redteam.cli", "redteam", "Attack a served model; report what got through."),
    "plan": ("monitoring.plan.cli", "plan_command", "Say what a model needs, gives and costs on an accelerator."),
    "doctor": ("serving.doctor.cli", "doctor", "Say what of an installation does not work, or soon will not."),
    "drift": ("monitoring.cli", "drift", "Compare today's traffic with a checkpoint's reference."),
}


class LazyCommands(click.Group):
    """A group whose subcommands are imported only when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="signet")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Serve language models, and prove where every answer came from."""
    ctx.obj = _load_settings


def _load_settings(*arguments: Any) -> Any:
    """`load_settings` of the settings, which take a second to import: a command's help needs none."""
    from serving.settings import load_settings

    return load_settings(*arguments)


def main(argv: list[str] | None = None) -> Any:
    """Run a command. An unusable setting ends, as every user's mistake, in one line and a non-zero exit code."""
    try:
        return cli.main(args=argv, prog_name="signet")
    except SettingsError as error:
        click.echo(f"Error: {error}", err=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
