"""`signet gateway`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from serving.masking import masked_url
from serving.settings import Settings, settings_file


@click.command(
    epilog="Example: signet gateway --engine-url http://127.0.0.1:8100 --model-folder my-model=/models/my-model"
)
@click.option("--engine-url", "engine_urls", multiple=True, metavar="URL", help="An engine's base URL; repeatable.")
@click.option(
    "--engine-dns",
    "engine_dns",
    multiple=True,
    metavar="URL",
    help="URL whose host name is looked up again and again; every address it has is an engine. Repeatable.",
)
@click.option(
    "--engine-service",
    "engine_services",
    multiple=True,
    metavar="[NAMESPACE/]NAME[:PORT]",
    help="A Kubernetes Service whose ready endpoints are engines; repeatable.",
)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [default: 8000]")
@click.option(
    "--model-folder",
    "model_folders",
    multiple=True,
    metavar="NAME=FOLDER",
    help="A served model's name and the folder with its tokenizer; repeatable.",
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings file.  [default: signet.yaml when there]")
@click.option("--print-config", is_flag=True, help="Print the effective settings, secrets masked, and exit.")
@click.pass_obj
def gateway(
    load_settings: Callable[..., Settings],
    engine_urls: tuple[str, ...],
    engine_dns: tuple[str, ...],
    engine_services: tuple[str, ...],
    host: str | None,
    port: int | None,
    model_folders: tuple[str, ...],
    config: Path | None,
    print_config: bool,
) -> None:
    """Start the gateway in front of OpenAI-compatible engines."""
    values: dict[str, Any] = {
        "host": host,
        "port": port,
        "engine_urls": [_checked_url(url) for url in engine_urls] or None,
        "engine_dns": [_checked_url(url, "--engine-dns") for url in engine_dns] or None,
        "engine_services": list(engine_services) or None,
        "model_folders": dict(_named_folder(value) for value in model_folders) or None,
    }
    options = {"gateway": {name: value for name, value in values.items() if value is not None}}

    def load() -> Settings:
        return load_settings(config, options)

    settings = load()
    if print_config:
        click.echo(settings.masked(), nl=False)
        return
    if not settings.gateway.finds_engines:
        raise click.ClickException(
            "no engine is given: add --engine-url http://HOST:PORT, --engine-dns or --engine-service, "
            "or use 'signet serve'."
        )
    raise SystemExit(_run(settings, load, settings_file(config, os.environ)))


def _run(settings: Settings, load: Callable[[], Settings], file: Path | None) -> int:
    # Imported here: `signet gateway --help` must not wait for the server's packages.
    from serving.database import DatabaseError
    from serving.gateway.process.listen import PortTaken, bind
    from serving.gateway.process.serve import run
    from serving.identity import IdentityError
    from serving.provenance import KeyringError

    known = (PortTaken, DatabaseError, IdentityError, KeyringError, ValueError)

    def complain(error: Exception) -> int:
        if not isinstance(error, known):
            raise error
        click.ClickException(str(error)).show()
        return 1

    try:
        listeners = bind(settings.gateway)
        host, port = listeners[0].getsockname()[:2]
        scheme = "https" if settings.gateway.tls else "http"
        return run(
            settings,
            load,
            file,
            listeners,
            on_listening=lambda: click.echo(f"Gateway listens on {scheme}://{host}:{port}"),
            complain=complain,
        )
    except known as error:
        return complain(error)


def _checked_url(url: str, option: str = "--engine-url") -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter(f"{masked_url(url)!r} is not of the form http://HOST:PORT", param_hint=option)
    return url


def _named_folder(value: str) -> tuple[str, str]:
    name, separator, folder = value.partition("=")
    if not separator or not name or not Path(folder).is_dir():
        raise click.BadParameter(f"{value!r} is not NAME=FOLDER with an existing folder", param_hint="--model-folder")
    return name, folder
