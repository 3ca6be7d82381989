"""Taking a model that others made into the registry: checked, copied without what an engine would not read, signed.

The signature says that these are the files that were imported, not who made them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from training.code_version import code_version
from training.compress.older import quantization_of, require_served
from training.disk import work_folder
from training.errors import SourceError
from training.progress import track, track_bytes
from training.registry import Checkpoint, ManifestDraft, RecipeRecord, Registry, UnusableFolder
from training.registry.manifest import is_name

# Pickles, which run what they say when they are read, code, and what the registry writes itself.
_LEFT_OUT = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5", "*.py", "manifest.*", ".*")


def import_model(
    folder: Path, name: str, license_: str | None, home: Path, registry: Registry, show_progress: bool = True
) -> Checkpoint:
    """Register a copy of a language model's folder; what cannot be served is refused before anything is copied.

    The file in which AutoGPTQ and AutoAWQ once kept how they had quantized goes into `config.json`, where engines look.
    Raises SourceError or RegistryError.
    """
    if not is_name(name):
        raise UnusableFolder(f"{name!r} is not a checkpoint name: use lower-case letters, digits, '.', '_', '-'")
    config = _config(folder)
    quantization = quantization_of(folder, config)
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not _is_left_out(path)]
    matrices = _tensor_names(folder, files)
    if quantization is not None:
        require_served(folder, quantization, matrices)
        config["quantization_config"] = quantization
    draft = ManifestDraft(
        kind="base" if quantization is None else "quantized",
        recipe=RecipeRecord(
            name="import", settings={"folder": folder.resolve().name, "quantization": quantization or {}}
        ),
        code_version=code_version(),
        license=license_,
    )
    with work_folder(home) as work:
        with track(f"Copying {folder}", show_progress) as progress:
            for number, path in enumerate(files, start=1):
                shutil.copyfile(path, work / path.name)
                progress(number, len(files), path.name)
        (work / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        with track_bytes(f"Registering {name}", show_progress) as on_progress:
            return registry.register(work, name, draft, on_progress)


def _is_left_out(path: Path) -> bool:
    return any(path.match(pattern) for pattern in _LEFT_OUT)


def _config(folder: Path) -> dict[str, Any]:
    if (folder / "adapter_config.json").exists():
        raise SourceError(f"{folder} is an adapter: import the merged model, as nothing vouches for its base")
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        raise SourceError(f"{folder} is not a model: it has no config.json") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{folder / 'config.json'} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise SourceError(f"{folder / 'config.json'} holds no JSON object")
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not any(
        str(architecture).endswith("ForCausalLM") for architecture in architectures
    ):
        raise SourceError(f"{folder} is not a language model: its config.json names no architecture …ForCausalLM")
    return config


def _tensor_names(folder: Path, files: list[Path]) -> set[str]:
    """The names of all weights; raises SourceError where there are none that can be read safely."""
    from safetensors import SafetensorError, safe_open

    weights = [path for path in files if path.suffix == ".safetensors"]
    if not weights:
        raise SourceError(
            f"{folder} has no *.safetensors: pickled weights can run code when they are read, convert them"
        )
    names: set[str] = set()
    for path in weights:
        try:
            with safe_open(path, "np") as file:
                names.update(file.keys())
        except (SafetensorError, OSError) as error:
            raise SourceError(f"{path} cannot be read: {error}") from None
    return names
