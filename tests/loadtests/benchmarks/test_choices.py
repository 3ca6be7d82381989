from __future__ import annotations

import json

import pytest

from loadtests.benchmarks.choices import codecs, microseconds
from loadtests.tools.client import chat_body

BODY = chat_body(64, prompt='tab\t "quoted" – naïve ☃ \U0001f600')


@pytest.mark.parametrize("name", ["json", "orjson", "msgspec"])
def test_codecs_do_the_same_work(name: str) -> None:
    decode, encode = codecs()[name]

    assert decode(json.dumps(BODY).encode()) == BODY
    assert json.loads(encode(BODY)) == BODY


def test_microseconds_are_per_call() -> None:
    assert 0 < microseconds(lambda: None) < 10
