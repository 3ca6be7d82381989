"""`signet plan`: what a model needs, gives and costs on an accelerator, before anything is rented."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import click

from monitoring.plan.accelerators import ACCELERATORS, GIB, HERE, Accelerator
from monitoring.plan.capacity import Objective
from monitoring.plan.cost import Choices
from monitoring.plan.errors import PlanError
from monitoring.plan.grids import GRIDS
from monitoring.plan.memory import Adapters, adapters_of
from monitoring.plan.planning import Plan, Question, plan
from monitoring.plan.prices import ELECTRICITY
from monitoring.plan.queueing import Load
from monitoring.plan.sources import look_up
from monitoring.plan.weights import PRECISIONS
from training.registry import Registry, RegistryError

_MOST = 1e12


class _Number(click.FloatRange):
    """Of a range, and no infinity or NaN, which a range lets pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        return number if number <= _MOST else self.fail(f"{value} is no number to plan with", param, ctx)


_POSITIVE = _Number(min=0, min_open=True)
_COUNT = click.IntRange(min=1)


class _EngineSettings(Protocol):
    @property
    def kv_cache_gb(self) -> int: ...


class _Settings(Protocol):
    """What this command reads of the settings tree."""

    @property
    def home(self) -> Path: ...
    @property
    def engine(self) -> _EngineSettings: ...


LoadSettings = Callable[[], _Settings]


@dataclass(frozen=True)
class _Model:
    """What MODEL names."""

    name: str
    config: Mapping[str, Any]
    adapter: Mapping[str, Any] | None = None
    stored_bytes: int | None = None


@click.command("plan")
@click.argument("model")
@click.option(
    "--accelerator",
    default=HERE,
    show_default=True,
    help=f"{', '.join(ACCELERATORS)}, or {HERE}: this machine's processor, measured in a few seconds.",
)
@click.option("--gpus", type=_COUNT, default=1, show_default=True, help="Devices of one engine (tensor parallelism).")
@click.option("--precision", default="auto", show_default=True, help=f"Of the weights: {', '.join(PRECISIONS)}.")
@click.option(
    "--kv-precision", type=click.Choice(["auto", "fp8"]), default="auto", show_default=True, help="Of the cache."
)
@click.option("--requests-per-second", type=_POSITIVE, default=1.0, show_default=True, help="At the busiest.")
@click.option("--average-requests-per-second", type=_POSITIVE, help="Over the month. Default: as at the busiest.")
@click.option("--prompt-tokens", type=_COUNT, default=1000, show_default=True, help="Of a request.")
@click.option("--answer-tokens", type=_COUNT, default=250, show_default=True, help="Of a request.")
@click.option("--ttft-ms", type=_POSITIVE, default=500.0, show_default=True, help="Time to first token, for 95%.")
@click.option(
    "--inter-token-ms",
    type=_POSITIVE,
    default=50.0,
    show_default=True,
    help="Mean between two tokens, for 95%.",
)
@click.option("--concurrency", type=_COUNT, help="Answers open at once that the cache of an engine must hold.")
@click.option(
    "--live-adapters", type=click.IntRange(min=0), default=0, show_default=True, help="As engine.live_adapters."
)
@click.option("--max-lora-rank", type=_COUNT, default=32, show_default=True, help="As engine.max_lora_rank.")
@click.option("--hour-price", type=_POSITIVE, help="US dollars a device and hour, of your own contract.")
@click.option("--server-price", type=_POSITIVE, help="US dollars a device, with its part of the server, on premises.")
@click.option(
    "--electricity", type=_POSITIVE, default=ELECTRICITY.value, show_default=True, help="US dollars a kWh, on premises."
)
@click.option("--years", type=_POSITIVE, default=4.0, show_default=True, help="In which hardware is written off.")
@click.option("--staff", type=_Number(min=0), default=0.25, show_default=True, help="Full positions, on premises.")
@click.option("--grid", default="world", show_default=True, help=f"Carbon of electricity: {', '.join(GRIDS)}.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="SVG file: cost a month against load.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, in base units.")
@click.pass_context
def plan_command(
    ctx: click.Context, /, model: str, accelerator: str, plot: Path | None, as_json: bool, **asked: Any
) -> None:
    """Say what MODEL needs, gives and costs: memory, tokens per second, engines for a load, money, energy.

    MODEL is a name in the registry, a checkpoint's folder, or a config.json. Nothing is loaded. Ends with 1 where it
    does not fit, or no number of engines keeps to the times.

    Example: signet plan ./Llama-3.1-8B --accelerator h100 --precision fp8 --requests-per-second 5
    """
    from monitoring.plan.picture import as_svg
    from monitoring.plan.report import as_json as to_json
    from monitoring.plan.report import as_text

    try:
        if plot is not None and plot.suffix != ".svg":
            raise PlanError(f"--plot writes SVG: name the file {plot.with_suffix('.svg').name}")
        _check(asked)
        found, device = _find(model, ctx.obj), _device(accelerator.lower(), asked["gpus"])
        # An engine on a processor takes as much for its cache as it is told; one on a GPU, what is left.
        cache_bytes = ctx.obj().engine.kv_cache_gb * GIB if device.is_here else None
        made = plan(_question(found, device, cache_bytes, asked))
    except (PlanError, RegistryError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(to_json(made), indent=2) if as_json else as_text(made))
    if plot is not None:
        _draw(made, plot, as_svg)
    ctx.exit(0 if made.holds else 1)


def _draw(made: Plan, plot: Path, as_svg: Callable[[Plan], str]) -> None:
    try:
        plot.write_text(as_svg(made))
    except ValueError as error:
        click.echo(f"{plot} is not written: {error}", err=True)
    except OSError as error:
        raise click.ClickException(f"{plot} cannot be written: {error.strerror}") from error


def _check(asked: Mapping[str, Any]) -> None:
    """Names and rates, before a processor is measured for seconds."""
    look_up(GRIDS, asked["grid"], "grid")
    look_up(dict.fromkeys(PRECISIONS), asked["precision"], "precision")
    if (asked["average_requests_per_second"] or 0) > asked["requests_per_second"]:
        raise PlanError(
            "--average-requests-per-second is above --requests-per-second, which is the rate at the busiest"
        )


def _device(name: str, devices: int) -> Accelerator:
    if name != HERE:
        try:
            return look_up(ACCELERATORS, name, "accelerator")
        except PlanError as error:
            raise PlanError(f"{error}, and {HERE}: this machine's processor") from None
    if devices > 1:
        raise PlanError(f"--gpus is for accelerators: {HERE} is one processor")
    from monitoring.plan.probe import here

    click.echo("measuring this machine's processor …", err=True)
    return here()[0]


def _question(model: _Model, accelerator: Accelerator, cache_bytes: int | None, asked: Mapping[str, Any]) -> Question:
    from monitoring.plan.probe import here_dtype

    adapters = Adapters(asked["live_adapters"], asked["max_lora_rank"] if asked["live_adapters"] else 0)
    if model.adapter is not None:
        adapters = adapters_of(model.adapter, adapters)
    return Question(
        model=model.name,
        config=model.config,
        accelerator=accelerator,
        devices=asked["gpus"],
        precision=asked["precision"],
        auto_dtype=here_dtype() if accelerator.is_here else None,
        kv_bytes=1 if asked["kv_precision"] == "fp8" else None,
        load=Load(asked["requests_per_second"], asked["prompt_tokens"], asked["answer_tokens"]),
        average_requests_per_s=asked["average_requests_per_second"] or asked["requests_per_second"],
        objective=Objective(asked["ttft_ms"] / 1000, asked["inter_token_ms"] / 1000),
        answers=asked["concurrency"],
        adapters=adapters,
        cache_bytes=cache_bytes,
        grid=look_up(GRIDS, asked["grid"], "grid"),
        choices=Choices(
            server_price=asked["server_price"],
            hour_price=asked["hour_price"],
            electricity=asked["electricity"],
            years=asked["years"],
            staff=asked["staff"],
        ),
        stored_bytes=model.stored_bytes,
    )


def _find(model: str, load_settings: LoadSettings) -> _Model:
    """A file, a folder, or a name in the registry; raises PlanError or RegistryError."""
    path = Path(model).expanduser()
    if path.is_file():
        return _Model(path.parent.resolve().name or path.name, _read(path))
    if path.is_dir():
        folder = path.resolve()
        # As the registry calls it, where it is one of its checkpoints.
        is_checkpoint = (folder / "manifest.json").is_file()
        return _in_folder(folder, f"{folder.parent.name}@{folder.name}" if is_checkpoint else folder.name)
    if model.startswith(("/", ".", "~")) or path.suffix == ".json":
        raise PlanError(f"there is no {model}: give a config.json, a folder that holds one, or a name in the registry")
    settings = load_settings()
    registry = Registry(settings.home / "registry", settings.home / "keys")
    checkpoint = registry.resolve(model)
    base = checkpoint.manifest.base
    if checkpoint.manifest.kind != "adapter" or base is None:
        return _in_folder(checkpoint.path, checkpoint.ref)
    below = _in_folder(registry.resolve(base.digest).path, checkpoint.ref)
    return _Model(checkpoint.ref, below.config, _read(checkpoint.path / "adapter_config.json"), below.stored_bytes)


def _in_folder(folder: Path, name: str) -> _Model:
    config = folder / "config.json"
    if not config.is_file() and (folder / "adapter_config.json").is_file():
        raise PlanError(f"{folder} is an adapter: give its base, with --live-adapters 1 --max-lora-rank RANK")
    return _Model(name, _read(config), stored_bytes=_tensor_bytes(folder))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise PlanError(f"there is no {path}: give a config.json, or a folder that holds one") from None
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise PlanError(f"{path} is not JSON") from None
    if not isinstance(content, dict):
        raise PlanError(f"{path} holds no JSON object")
    return content


def _tensor_bytes(folder: Path) -> int | None:
    """Of the weights' files without their headers; None where there are none that can be read."""
    total = 0
    for file in folder.glob("*.safetensors"):
        try:
            with file.open("rb") as opened:
                header = int.from_bytes(opened.read(8), "little")
            total += file.stat().st_size - 8 - header
        except OSError:
            return None
    return total or None
