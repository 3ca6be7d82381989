"""Create the environment `.venv` and install Signet with pinned packages; instant when that is done already.

    python3 deploy/install.py --extras cpu,train
    python3 deploy/install.py --extras train --gpu

Safe to interrupt and to run again. Shows progress through every slow step; pip's own words go to `.venv/install.log`.
Standard library only, and no newer syntax than Python 3.8's: it has to run before anything is installed, and to
say one clear line where the Python is too old.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "deploy" / "constraints"
TOOLS = CONSTRAINTS / "tools.txt"

OLDEST, NEWEST = (3, 11), (3, 13)

# The index of PyTorch's CPU builds; a plain machine's has them for CUDA only. Torch is installed by itself, from one
# index: with two at once, whoever owns a name on either could supply it.
TORCH = CONSTRAINTS / "torch.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# Pinned packages and their hashes, each list with the extras it serves; made by deploy/pin.py.
PINNED = (
    ("gateway.txt", frozenset()),
    ("cpu.txt", frozenset({"cpu", "train"})),
    ("test.txt", frozenset({"cpu", "train", "onnx", "load", "test", "export"})),
)

# Environment, download and pip's cache together, in GB: measured, rounded up.
DISK_GB = {"cpu": 7, "gpu": 25}
DISK_GB_OTHERWISE = 2

STAMP = "signet-install.json"
LOCK = "install.lock"

# What pip says when something outside of it went wrong, and what to tell the user. First match wins.
FAILURES = (
    (r"No space left on device", "the disk is full: make room"),
    (r"DO NOT MATCH THE HASHES", "a package differs from its pinned hash: try again, or another package index"),
    (r"ResolutionImpossible|conflicting dependencies", "the pinned packages contradict each other"),
    (
        r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|Temporary failure in name"
        r"|Network is unreachable|Connection refused|ProxyError|SSLError|from versions: none",
        "no package index was reached: check the network, and pip's settings (`pip config list`)",
    ),
    (r"No matching distribution found for (\S+)", "the package index has no {} for this machine and Python"),
    (r"Permission denied: '([^']+)'", "{} cannot be written: fix its owner or mode"),
)


class InstallError(Exception):
    """`str()` is the one line for the user."""


def main(arguments: Sequence[str]) -> int:
    """Install what is missing; returns the exit code."""
    options = parse(arguments)
    try:
        check_python(sys.version_info[:2])
        install(options.venv.absolute(), extras_of(options))
    except InstallError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Run the same command again to go on.\n")
        return 130
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Create .venv and install Signet with pinned packages.")
    parser.add_argument("--extras", default="cpu", help="comma-separated extras of pyproject.toml (default: cpu)")
    parser.add_argument("--gpu", action="store_true", help="install the engine for NVIDIA GPUs instead of the CPU's")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where to (default: .venv)")
    return parser.parse_args(arguments)


def extras_of(options: argparse.Namespace) -> set[str]:
    """The extras to install: the engine's CPU and GPU builds replace each other."""
    extras = {extra.strip() for extra in options.extras.split(",") if extra.strip()}
    return (extras - {"cpu"}) | {"gpu"} if options.gpu else extras


def check_python(version: tuple[int, ...]) -> None:
    """Go on in a newer or older Python of this machine, where this one does not fit; or say what is needed."""
    if OLDEST <= version <= NEWEST:
        return
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        other = shutil.which(f"python3.{minor}")
        if other:
            os.execv(other, [other, *sys.argv])  # noqa: S606
    raise InstallError(
        f"Signet needs Python 3.11, 3.12 or 3.13, and this is {version[0]}.{version[1]}: install one of them, "
        "and say which with `make PYTHON=python3.12 serve`"
    )


def install(venv: Path, extras: set[str]) -> None:
    """Bring `venv` to what pyproject.toml, the constraints and `extras` say."""
    stamp = venv / STAMP
    if is_current(stamp, extras):
        return
    check_disk(venv, extras)
    venv.mkdir(parents=True, exist_ok=True)
    with lock(venv / LOCK):
        if is_current(stamp, extras):  # another run did it while we waited
            return
        # Of what was asked for before and still fits, nothing is taken away.
        extras = extras | (
            installed_extras(stamp) if engine_of(installed_extras(stamp)) == engine_of(extras) else set()
        )
        stamp.unlink(missing_ok=True)
        create(venv)
        pip = Pip(venv)
        pip.run("getting pip ready", ["install", "--requirement", str(TOOLS)])
        install_packages(pip, extras)
        own = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
        pip.run("installing Signet", ["install", *own])
        write_stamp(stamp, extras)
        say(f"environment ready in {shown(venv)}")


def engine_of(extras: Iterable[str]) -> str:
    return next((extra for extra in ("gpu", "cpu") if extra in extras), "")


def check_disk(venv: Path, extras: set[str]) -> None:
    needed = DISK_GB.get(engine_of(extras), DISK_GB_OTHERWISE)
    if any(venv.glob("lib/*/site-packages/torch")):
        needed = 1  # an update
    existing = next(path for path in [venv, *venv.parents] if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < needed:
        raise InstallError(
            f"the environment needs {needed} GB of disk and {free:.1f} GB are free below {existing}: make room"
        )


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """One install at a time; the kernel lets go of the lock however we end."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("waiting for another install to finish")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def create(venv: Path) -> None:
    """A virtual environment whose pip runs; one that is broken is made anew."""
    python = venv / "bin" / "python"
    if python.exists() and quiet([str(python), "-m", "pip", "--version"]):
        return
    say(f"creating {shown(venv)} with Python {platform.python_version()}")
    for leftover in venv.iterdir():
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        elif leftover.name != LOCK:  # held by us
            leftover.unlink()
    command = [sys.executable, "-m", "venv", str(venv)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if result.returncode:
        if b"ensurepip" in result.stdout:
            raise InstallError(
                "this Python has no venv: install it first (on Debian and Ubuntu: apt install python3-venv)"
            )
        raise InstallError(f"{shown(venv)} could not be created: {last_line(result.stdout.decode())}")


def install_packages(pip: Pip, extras: set[str]) -> None:
    """Everything that Signet needs with `extras`, as pinned."""
    if "gpu" in extras:
        # vLLM's builds for GPUs pin what they were tested with themselves.
        pip.run("installing packages", ["install", *requirements_of(extras)])
        return
    if "cpu" in extras:
        index = [] if pip.finds_cpu_torch() else ["--index-url", CPU_INDEX]
        pip.run("installing torch", ["install", *hashed(TORCH), *index])
    pip.run("installing packages", ["install", *hashed(pinned(extras))])


def hashed(file: Path) -> list[str]:
    """pip's arguments to install what `file` lists, nothing else, and no file whose hash it does not name."""
    return ["--no-deps", "--require-hashes", "--requirement", str(file)]


def pinned(extras: set[str]) -> Path:
    """The smallest list of pinned packages that has what `extras` need."""
    for name, covers in PINNED:
        if extras <= covers:
            return CONSTRAINTS / name
    raise InstallError(
        f"there is no extra named {min(extras - PINNED[-1][1])}: choose from {', '.join(sorted(PINNED[-1][1]))}"
    )


def requirements_of(extras: set[str]) -> list[str]:
    """What pyproject.toml asks for, our own package left out."""
    import tomllib  # not before check_python: 3.11 has it first

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in sorted(extras) for line in optional[extra])]


# -- the stamp: what the environment was made from


def recipe(extras: set[str]) -> str:
    """Changes with everything that decides what is installed, the extras themselves left out."""
    digest = hashlib.sha256(f"{CPU_INDEX} {engine_of(extras)}".encode())
    for path in (ROOT / "pyproject.toml", TOOLS, TORCH, *(CONSTRAINTS / name for name, _ in PINNED)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_stamp(stamp: Path) -> dict[str, object]:
    try:
        content = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def installed_extras(stamp: Path) -> set[str]:
    extras = read_stamp(stamp).get("extras")
    return set(extras) if isinstance(extras, list) else set()


def is_current(stamp: Path, extras: set[str]) -> bool:
    """Whether the environment was completed from the same files, with these extras at least, and is still there."""
    content = read_stamp(stamp)
    python = stamp.parent / "bin" / "python"
    return (
        content.get("recipe") == recipe(extras)
        and content.get("root") == str(ROOT)
        and extras <= installed_extras(stamp)
        and python.exists()
    )


def write_stamp(stamp: Path, extras: set[str]) -> None:
    content = {"recipe": recipe(extras), "extras": sorted(extras), "root": str(ROOT)}
    partial = stamp.with_suffix(".partial")
    partial.write_text(json.dumps(content) + "\n")
    partial.replace(stamp)


# -- pip, with progress


class Pip:
    """The environment's pip: its words go to a log, its progress to the terminal."""

    def __init__(self, venv: Path) -> None:
        self.command = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        self.log = venv / "install.log"
        self.site_packages = next(venv.glob("lib/python3*/site-packages"))
        self.log.write_text("")

    def finds_cpu_torch(self) -> bool:
        """Whether pip as it is set up here has torch's CPU build. Only metadata is read."""
        question = ["install", "--dry-run", "--ignore-installed", "--quiet", *hashed(TORCH)]
        result = subprocess.run([*self.command, *question], capture_output=True, check=False)
        with self.log.open("ab") as log:
            log.write(result.stderr)
        return result.returncode == 0

    def run(self, what: str, arguments: Sequence[str]) -> None:
        """Run pip to its end. Raises InstallError with the cause and the log's place."""
        progress = Progress(what)
        packages = 0
        command = [*self.command, *arguments]
        if arguments[0] == "install":
            # What is imported is compiled then: all of it takes longer than the rest of the installation.
            command.append("--no-compile")
            if str(TOOLS) not in arguments:
                command.append("--progress-bar=raw")  # a venv is born with an older pip that does not know it
        environment = dict(os.environ, PYTHONUNBUFFERED="1", PIP_ROOT_USER_ACTION="ignore")
        before = self.installed()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        with process, self.log.open("ab") as log:
            for line in lines_of(process):
                if line and not line.startswith("Progress "):
                    log.write((line + "\n").encode())
                if line.startswith("Installing collected packages:"):
                    packages = line.count(",") + 1
                if packages:
                    progress.show(f"{min(self.installed() - before, packages)} of {packages} packages")
                else:
                    progress.line(line)
        progress.end(process.returncode == 0)
        if process.returncode:
            raise InstallError(f"{what} failed: {self.reason()}. Details: {shown(self.log)}")

    def installed(self) -> int:
        return sum(1 for _ in self.site_packages.glob("*.dist-info"))

    def reason(self) -> str:
        """Why pip failed, from its log."""
        text = self.log.read_text(errors="replace")
        for pattern, reason in FAILURES:
            found = re.search(pattern, text)
            if found:
                return reason.replace("{}", found.group(1) if found.groups() else "")
        return last_line(text)


def lines_of(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """The output line by line; an empty line every half second while nothing is said, so that progress moves."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    rest = b""
    while True:
        readable, _, _ = select.select([descriptor], [], [], 0.5)
        if not readable:
            yield ""
            continue
        data = os.read(descriptor, 65536)
        if not data:
            return
        *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").strip()


class Progress:
    """One line on a terminal that is written over; elsewhere a line every ten seconds."""

    SECONDS_BETWEEN_LINES = 10.0
    SECONDS_BETWEEN_FRAMES = 0.1

    def __init__(self, what: str) -> None:
        self.what = what
        self.detail = ""
        self.start = time.monotonic()
        self.on_terminal = sys.stdout.isatty()
        self.shown_at = self.start
        if not self.on_terminal:
            say(what)

    def line(self, line: str) -> None:
        """Take a line of pip's output: which package, how many bytes of it."""
        word, _, rest = line.partition(" ")
        if word == "Progress":
            done, _, total = rest.partition(" of ")
            if done.isdigit() and total.isdigit() and int(total):
                name = self.detail.partition("  ")[0]
                self.show(f"{name}  {int(done) // 10**6} of {int(total) // 10**6} MB")
            return
        if word in ("Collecting", "Downloading", "Obtaining", "Using"):
            name = rest.replace("cached ", "").partition(" ")[0].rpartition("/")[2]
            self.detail = re.split(r"[<>=!~;\[(-]", name)[0]
        self.show(self.detail)

    def show(self, detail: str) -> None:
        self.detail = detail
        now = time.monotonic()
        if now - self.shown_at < (self.SECONDS_BETWEEN_FRAMES if self.on_terminal else self.SECONDS_BETWEEN_LINES):
            return
        self.shown_at = now
        seconds = int(now - self.start)
        text = f"  {self.what}  {seconds // 60}:{seconds % 60:02d}  {detail}"
        if self.on_terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write("\r" + text[:width].ljust(width))
        else:
            sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def end(self, succeeded: bool) -> None:
        if self.on_terminal:
            width = shutil.get_terminal_size().columns - 1
            seconds = int(time.monotonic() - self.start)
            text = f"  {self.what}  done in {seconds // 60}:{seconds % 60:02d}" if succeeded else ""
            sys.stdout.write("\r" + text.ljust(width) + ("\n" if succeeded else "\r"))
            sys.stdout.flush()


def say(text: str) -> None:
    sys.stdout.write(f"  {text}\n")
    sys.stdout.flush()


def quiet(command: Sequence[str]) -> bool:
    """Whether a command succeeds; its output is of no interest."""
    result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return result.returncode == 0


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Progress ")]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["no reason given"])[-1].replace("ERROR: ", "")[:240].rstrip(".")


def shown(path: Path) -> str:
    """A path as the user would write it."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
