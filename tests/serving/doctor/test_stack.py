"""A sound `signet serve` has no problem."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from tests.support.engine_client import ENGINE_KEY
from tests.support.running import run_signet
from tests.support.stack import Stack

pytestmark = pytest.mark.engine


def test_a_sound_stack_has_no_problem(stack: Stack) -> None:
    ports = {
        f"SIGNET_{section}__PORT": str(urlsplit(url).port)
        for section, url in (("GATEWAY", stack.gateway_url), ("ENGINE", stack.engine_url))
    }
    result = run_signet(
        stack.home, "doctor", "--json", **ports, SIGNET_DRIFT__PORT="0", SIGNET_GATEWAY__ENGINE_API_KEY=ENGINE_KEY
    )

    assert result.returncode == 0, result.stdout
    shown = json.loads(result.stdout)
    assert (shown["ok"], shown["findings"], shown["not_checked"]) == (True, [], {})
