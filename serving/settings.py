"""The typed settings tree: `signet.yaml` and `SIGNET_…` variables, read once, at the edge.

Nothing deeper reads the environment. Unknown keys are errors. Nested values use two underscores, as in
`SIGNET_GATEWAY__PORT=9000`; variables win over the file, command-line options over both.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from monitoring.telemetry.settings import DriftSettings, TelemetrySettings
from serving.database import DatabaseSettings
from serving.engine.settings import EngineSettings
from serving.errors import SettingsError
from serving.gateway.settings import GatewaySettings, ReceiptSettings
from serving.guard.settings import GuardSettings
from serving.identity.settings import IdentitySettings
from serving.ledger import LedgerSettings, ModelPrice
from serving.masking import masked

ENV_PREFIX = "SIGNET_"
# Read before the tree exists, or by the tests.
_OTHER_VARIABLES = {"SIGNET_CONFIG", "SIGNET_TEST_DATA"}


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid")

    home: Path = Field(
        default=Path(".signet"), description="Folder of all state: registry, keys, ledger, caches, logs."
    )
    keyring: Path | None = Field(
        default=None, description="File with the secrets of the watermark; default: keyring.json in `home`."
    )
    gateway: GatewaySettings = GatewaySettings()
    engine: EngineSettings = EngineSettings()
    guard: GuardSettings = GuardSettings()
    identity: IdentitySettings = IdentitySettings()
    database: DatabaseSettings = DatabaseSettings()
    ledger: LedgerSettings = LedgerSettings()
    prices: dict[str, ModelPrice] = Field(
        default_factory=dict,
        description='What tokens cost, by served model: `{MODEL: {prompt_per_million: "0.15", '
        'completion_per_million: "0.60"}}` in US dollars; the entry `default` holds for all others.',
    )
    receipts: ReceiptSettings = ReceiptSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    drift: DriftSettings = DriftSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # File and options arrive merged by `load_settings`, variables above the file and below the options.
        return (init_settings,)

    def model_post_init(self, _: Any) -> None:
        self.home = self.home.expanduser().absolute()
        self.keyring = (self.keyring or self.home / "keyring.json").expanduser().absolute()

    @property
    def keyring_file(self) -> Path:
        assert self.keyring is not None
        return self.keyring

    @property
    def receipt_keys_file(self) -> Path:
        return (self.receipts.keys or self.home / "receipt-keys.json").expanduser().absolute()

    @property
    def database_url(self) -> str:
        return self.database.resolve(self.home)

    @property
    def engine_key(self) -> str | None:
        """What engines are asked with, and what ours ask for."""
        key = self.gateway.engine_api_key
        return key.get_secret_value() if key is not None else None

    @property
    def spill_folder(self) -> Path:
        return self.home / "ledger-journal"

    def masked(self) -> str:
        """The effective settings as YAML; secrets show as asterisks."""
        return yaml.safe_dump(masked(self.model_dump()), sort_keys=False)


def load_settings(
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings once.

    Args:
        config: a settings file; default: `SIGNET_CONFIG`, else `signet.yaml` in the working directory when there.
        overrides: nested values that win over everything, from command-line options.
        environment: default: the process's own.

    Raises:
        SettingsError: a file or value is unreadable, unknown or out of range.
    """
    environment = os.environ if environment is None else environment
    file = settings_file(config, environment)
    values = _read_file(file) if file else {}
    sources = {_dotted(path): str(file) for path in _leaves(values)}
    for variable, value in environment.items():
        if variable.startswith(ENV_PREFIX) and variable not in _OTHER_VARIABLES:
            path = variable.removeprefix(ENV_PREFIX).lower().split("__")
            _check_known(path, variable)
            _put(values, path, _parse(value))
            sources[_dotted(path)] = variable
    collector = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if collector and isinstance(telemetry := values.setdefault("telemetry", {}), dict):
        telemetry.setdefault("otlp_endpoint", collector)
    for names, value in _leaves(overrides or {}).items():
        _put(values, list(names), value)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error, sources)) from None


def settings_file(config: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The file that settings come from: the named one, `SIGNET_CONFIG`'s, or `signet.yaml` where there is one."""
    named = config or (Path(value) if (value := environment.get("SIGNET_CONFIG")) else None)
    return named or (default if (default := Path("signet.yaml")).is_file() else None)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text()) or {}
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"the settings file {file} is not text in UTF-8.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise SettingsError(f"the settings file {file} is not valid YAML{where}.") from None
    if not isinstance(values, dict):
        raise SettingsError(f"the settings file {file} must hold a mapping of settings.")
    return values


def _parse(value: str) -> Any:
    """Lists and mappings are given as JSON; everything else is left to the field's type."""
    if value[:1] in "[{":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        nested = values.setdefault(part, {})
        if not isinstance(nested, dict):
            raise SettingsError(f"setting {part!r} must hold a mapping of settings.")
        values = nested
    values[path[-1]] = value


def _leaves(values: Mapping[str, Any], before: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and not before:
            found |= _leaves(value, (str(key),))
        else:
            found[*before, str(key)] = value
    return found


def _check_known(path: list[str], variable: str) -> None:
    model: type[BaseModel] = Settings
    for depth, part in enumerate(path):
        if part not in model.model_fields:
            raise SettingsError(f"{variable}: {_unknown(path[: depth + 1], model)}")
        annotation = model.model_fields[part].annotation
        if depth == len(path) - 1 or not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return
        model = annotation


def _unknown(path: list[str], model: type[BaseModel]) -> str:
    close = difflib.get_close_matches(path[-1], model.model_fields, n=1)
    dotted = _dotted([*path[:-1], close[0]]) if close else ""
    hint = f"did you mean {dotted!r}?" if close else f"known here: {', '.join(model.model_fields)}."
    return f"unknown setting {_dotted(path)!r}; {hint}"


def _explain(error: ValidationError, sources: Mapping[str, str]) -> str:
    """The first problem as one line: which setting, where it was given, what is wrong."""
    problem = error.errors(include_url=False, include_input=False)[0]
    path = [str(part) for part in problem["loc"]]
    source = next((place for name, place in sources.items() if _dotted(path).startswith(name)), "")
    where = f"{source}: " if source else ""
    if problem["type"] == "extra_forbidden":
        model: type[BaseModel] = Settings
        for part in path[:-1]:
            annotation = model.model_fields[part].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
        return where + _unknown(path, model)
    return f"{where}setting {_dotted(path)!r}: {problem['msg']}."


def _dotted(path: tuple[str, ...] | list[str]) -> str:
    return ".".join(path)
