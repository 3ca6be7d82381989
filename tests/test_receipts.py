"""With the real engine: an answer's receipt names the checkpoint that answered, and is followed down to it offline."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from serving.provenance.receipts import Receipt
from tests.support.running import run_signet
from tests.support.stack import DEFAULT_MODEL, Stack

pytestmark = pytest.mark.engine
ON = {"X-Signet-Receipt": "on"}


def test_a_text_is_proven_to_be_the_default_models(stack: Stack, tmp_path: Path) -> None:
    with openai.OpenAI(base_url=f"{stack.gateway_url}/v1", api_key=stack.key, timeout=120) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=DEFAULT_MODEL, messages=[{"role": "user", "content": "Say hello."}], max_tokens=16, extra_headers=ON
        )
    text = raw.parse().choices[0].message.content
    assert text
    (tmp_path / "answer.txt").write_text(text)
    (tmp_path / "prompt.txt").write_text("Say hello.")
    given = ["--text", str(tmp_path / "answer.txt"), "--prompt", str(tmp_path / "prompt.txt")]

    by_id = run_signet(stack.home, "verify", "--request-id", raw.headers["x-request-id"], *given)
    by_receipt = run_signet(stack.home, "verify", raw.headers["x-signet-receipt"], *given)
    (tmp_path / "answer.txt").write_text(text + "!")
    changed = run_signet(stack.home, "verify", raw.headers["x-signet-receipt"], *given)

    for done in (by_id, by_receipt):
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"model     ok  {DEFAULT_MODEL}@" in done.stdout
    assert Receipt.parse(raw.headers["x-signet-receipt"]).salts.keys() == {"answer", "prompt", "tenant"}
    assert changed.returncode == 1
