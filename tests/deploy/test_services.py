"""The installer of the servers that tests use: what it asks of apt, and what it says where there is none."""

import os

import pytest

APT = """#!/bin/sh
echo "$@" >> {log}
test -x {policy} && cat {policy} >> {log}
case "$*" in *install*prometheus*) {effect} ;; esac
"""


@pytest.fixture
def installer(load_script, monkeypatch):
    script = load_script("deploy/services.py")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return script


@pytest.fixture
def machine(installer, tmp_path, monkeypatch):
    """A machine with the needed servers and, given `effect`, an apt that installs; returns apt's log."""
    folder, log, policy = tmp_path / "bin", tmp_path / "apt.log", tmp_path / "policy-rc.d"
    folder.mkdir()

    def make(effect=None):
        for name in ("postgres", "redis-server"):
            program(folder / name, "#!/bin/sh\n")
        if effect is not None:
            program(folder / "apt-get", APT.format(log=log, policy=policy, effect=effect))
        return log

    monkeypatch.setenv("PATH", f"{folder}:/bin")
    monkeypatch.setattr(installer.shutil, "which", which_in(folder, installer.shutil.which))
    monkeypatch.setattr(installer, "POLICY", policy)
    return make


def which_in(folder, which):
    """`shutil.which` of a machine that has nothing but this folder."""
    return lambda name, path=None: which(name, path=str(folder))


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def test_prometheus_is_installed_alone_and_not_started(installer, machine, tmp_path, capsys):
    log = machine(f"printf x > {tmp_path}/bin/promtool; chmod +x {tmp_path}/bin/promtool")
    program(tmp_path / "bin" / "chromium", "#!/bin/sh\n")

    assert installer.main() == 0

    asked = log.read_text()
    assert "install -y -qq --no-install-recommends prometheus\n#!/bin/sh\nexit 101\n" in asked
    assert "redis" not in asked
    assert not (tmp_path / "policy-rc.d").exists()
    assert capsys.readouterr().err == "installing prometheus …\n"


def test_a_policy_of_the_machine_stays(installer, machine, tmp_path):
    machine("false")
    program(tmp_path / "policy-rc.d", "#!/bin/sh\nexit 0\n")

    installer.main()

    assert (tmp_path / "policy-rc.d").read_text() == "#!/bin/sh\nexit 0\n"


def test_one_package_that_a_distribution_lacks_does_not_keep_the_other_away(installer, machine, tmp_path):
    log = machine("exit 100")

    installer.main()

    assert "install -y -qq --no-install-recommends chromium-headless-shell\n" in log.read_text()


@pytest.mark.parametrize("effect", [None, "exit 100"], ids=["no-apt", "apt-fails"])
def test_what_is_only_wished_for_is_said_and_no_failure(installer, machine, effect, capsys):
    machine(effect)

    assert installer.main() == 0
    assert capsys.readouterr().err.endswith(
        "Some tests are skipped without these: sudo apt-get install prometheus chromium-headless-shell\n"
    )


def test_what_is_needed_is_a_failure(installer, machine, tmp_path, capsys):
    machine()
    (tmp_path / "bin" / "postgres").unlink()

    assert installer.main() == 1
    assert "sudo apt-get install postgresql\n" in capsys.readouterr().err
