"""`signet serve` and `signet engine`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from serving.settings import Settings

MODEL_HELP = "NAME[@VERSION] in the registry, a folder, or a Hugging Face id.  [default: the embedded model]"
CONFIG_HELP = "Settings file.  [default: signet.yaml when there]"


@click.command(epilog="Example: signet serve --model support-bot@3 --port 8000")
@click.option("--model", metavar="REF", help=MODEL_HELP)
@click.option("--host", help="Address of the gateway.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the gateway; 0 takes a free one.  [default: 8000]")
@click.option("--allow-unverified", is_flag=True, help="Load a model although no signed manifest vouches for it.")
@click.option("--config", type=click.Path(path_type=Path), help=CONFIG_HELP)
@click.option("--print-config", is_flag=True, help="Print the effective settings, secrets masked, and exit.")
@click.pass_obj
def serve(
    load_settings: Callable[..., Settings],
    model: str | None,
    host: str | None,
    port: int | None,
    allow_unverified: bool,
    config: Path | None,
    print_config: bool,
) -> None:
    """Start an engine and the gateway, and supervise both.

    Prepares the embedded model on the first start, makes an API key, and prints a request to paste.
    Ctrl-C stops everything.
    """
    settings = load_settings(
        config, {"gateway": _given(host=host, port=port), "engine": _engine_options(model, allow_unverified)}
    )
    if print_config:
        click.echo(settings.masked(), nl=False)
        return
    # Imported here: `signet serve --help` need not wait for it.
    from serving.engine.supervisor import Supervisor
    from serving.engine.terminal import Terminal

    terminal = Terminal()
    with _one_line_errors(terminal.clear):
        Supervisor(settings, terminal, config).run()


@click.command(epilog="Example: signet engine --model support-bot@3 --host 0.0.0.0 --port 8100")
@click.option("--model", metavar="REF", help=MODEL_HELP)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the engine.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the engine.  [default: 8100]")
@click.option(
    "--runner", type=click.Choice(["auto", "generate", "pooling"]), help="pooling: embeddings.  [default: auto]"
)
@click.option("--prepare-only", is_flag=True, help="Find, make and verify the model, then exit.")
@click.option("--allow-unverified", is_flag=True, help="Load a model although no signed manifest vouches for it.")
@click.option("--config", type=click.Path(path_type=Path), help=CONFIG_HELP)
@click.pass_obj
def engine(
    load_settings: Callable[..., Settings],
    model: str | None,
    host: str,
    port: int | None,
    runner: str | None,
    prepare_only: bool,
    allow_unverified: bool,
    config: Path | None,
) -> None:
    """Start one engine in the foreground: verify the model, then become vLLM's server.

    This is what runs in an engine's container. Signals go to vLLM itself; its log goes to standard output.
    """
    settings = load_settings(
        config, {"engine": _engine_options(model, allow_unverified) | _given(port=port, runner=runner)}
    )
    with _one_line_errors():
        _run_engine(settings, host, prepare_only)


def _run_engine(settings: Settings, host: str, prepare_only: bool) -> None:
    from serving.engine.address import Address, require_free
    from serving.engine.command import engine_command, engine_environment, live_adapters
    from serving.engine.errors import ModelRefused
    from serving.engine.memory import free_memory, require_memory
    from serving.engine.processor import require_kernels
    from serving.engine.resolve import resolve
    from serving.engine.supervisor import stop_on_signals, traces_endpoint
    from serving.engine.terminal import Terminal
    from serving.provenance import Keyring

    terminal = Terminal()
    address = Address(host, settings.engine.port or 8100)
    with stop_on_signals():
        if not prepare_only:
            require_free(address.host, address.port, "--port")
        source = resolve(
            settings.engine.model, settings, lambda what, done, total: terminal.busy("model", what, done, total)
        )
        if source.warning:
            terminal.warn("model", source.warning)
        terminal.done("model", f"{source.checkpoint.ref if source.checkpoint else source.served_name} in {source.path}")
        if prepare_only:
            return
        require_kernels(source, settings.engine)
        require_memory(source, settings.engine, free_memory())
        live = live_adapters(source, settings)
        if live is not None and not settings.engine_key:
            raise ModelRefused("engine.live_adapters: set gateway.engine_api_key too, or anybody could load adapters")
        Keyring.open(settings.keyring_file, create=True)
    traces = traces_endpoint(settings)
    command = engine_command(source, address, settings.engine, settings.keyring_file, traces)
    environment = engine_environment(settings.engine, os.environ, traces, settings.engine_key, live)
    sys.stdout.flush()
    os.execve(command[0], command, environment)  # noqa: S606


def _engine_options(model: str | None, allow_unverified: bool) -> dict[str, Any]:
    return _given(model=model, allow_unverified=allow_unverified or None)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given: the others leave file and variables in force."""
    return {name: value for name, value in options.items() if value is not None}


@contextmanager
def _one_line_errors(before: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Turn what a user can get wrong into one line and exit code 1."""
    from serving.database import DatabaseError
    from serving.engine.errors import EngineError
    from serving.engine.supervisor import StopRequested
    from serving.identity import IdentityError
    from serving.provenance import KeyringError
    from training.registry import RegistryError

    try:
        yield
    except (EngineError, RegistryError, IdentityError, DatabaseError, KeyringError) as error:
        before()
        raise click.ClickException(str(error)) from None
    except StopRequested:
        before()
        raise click.exceptions.Exit(130) from None
    except PermissionError as error:
        before()
        raise click.ClickException(
            f"{error.filename} cannot be used: permission denied. Fix its owner or mode"
        ) from None
