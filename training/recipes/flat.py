"""Recipes without sections: read into whatever model they have."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from training.errors import RecipeError

Model = TypeVar("Model", bound=BaseModel)


def read_flat(path: Path, model: type[Model]) -> Model:
    """Read a recipe.

    Raises:
        RecipeError: one line that names the file and the setting.
    """
    try:
        return model.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: cannot be read: {type(error).__name__}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise RecipeError(f"{path}: {where}: {problem['msg']}") from None
