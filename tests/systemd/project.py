"""The project on a machine: its checkout, and what its Makefile makes of that."""

import compileall
import shutil
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

from tests.systemd.machine import PACKAGES, Machine

ROOT: Final = Path(__file__).parents[2]
CHECKOUT: Final = "/srv/scheduler"
RELEASES: Final = "/opt/scheduler/releases"

_FILES: Final = ("Makefile", "README.md", "LICENSE", "pyproject.toml", "requirements-run.lock")
_FOLDERS: Final = ("deploy", "docs", "scheduler")
_PYTHON: Final = Path(sys.base_prefix) / f"bin/python3.{sys.version_info.minor}"
_SITE: Final = f"lib/python3.{sys.version_info.minor}/site-packages"
_QUICK: Final = "/srv/quick-python"
_QUICK_WITH_PIP: Final = "/srv/quick-python-with-pip"
_QUICKLY: Final = f"""#!/bin/sh
# Python, but an environment that it makes has the packages of the one that the tests run in, and a pip that
# fetches nothing.
set -eu
[ "$1 $2" = "-m venv" ] || exec {_PYTHON} "$@"
{_PYTHON} -m venv --without-pip "$3"
echo {PACKAGES} >"$3/{_SITE}/packages.pth"
mkdir "$3/{_SITE}/pip"
: >"$3/{_SITE}/pip/__init__.py"  # without it, the pip among the packages stands before this one
cp {CHECKOUT}/pip_here.py "$3/{_SITE}/pip/__main__.py"
"""
_QUICKLY_WITH_PIP: Final = f"""#!/bin/sh
# Python, but an environment that it makes has the pip of the one that the tests run in: none to unpack.
set -eu
[ "$1 $2" = "-m venv" ] || exec {_PYTHON} "$@"
{_PYTHON} -m venv --without-pip "$3"
ln -s {PACKAGES}/pip "$3/{_SITE}/pip"
"""


def check_out(machine: Machine) -> None:
    """Put a copy of this checkout there, with as much in it as an installation needs.

    It is compiled: users of the services cannot keep what Python compiles, and would compile it at each
    start.
    """
    checkout = at(machine, CHECKOUT)
    checkout.mkdir(parents=True)
    for each in _FILES:
        shutil.copy(ROOT / each, checkout)
    for each in _FOLDERS:
        shutil.copytree(ROOT / each, checkout / each)
    compileall.compile_dir(checkout / "scheduler", quiet=1)
    shutil.copy(ROOT / "tests/systemd/pip_here.py", checkout)
    write(machine, _QUICK, _QUICKLY, mode=0o755)
    write(machine, _QUICK_WITH_PIP, _QUICKLY_WITH_PIP, mode=0o755)


def make(machine: Machine, target: str, python: str = str(_PYTHON)) -> CompletedProcess[str]:
    """Carry out ``make TARGET`` in the checkout."""
    return machine.run_with_our_network(
        "make", "--silent", f"--directory={CHECKOUT}", target, f"PYTHON={python}"
    )


def make_quickly(machine: Machine, target: str) -> CompletedProcess[str]:
    """The same, but with the packages of the environment that the tests run in, rather than those that pip
    fetches.
    """
    return make(machine, target, _QUICK)


def make_with_pip(machine: Machine, target: str) -> CompletedProcess[str]:
    """The same as `make`, with the pip of the environment that the tests run in."""
    return make(machine, target, _QUICK_WITH_PIP)


def releases(machine: Machine) -> set[str]:
    """The names of the installations that are there."""
    return {each.name for each in at(machine, RELEASES).iterdir()}


def at(machine: Machine, path: str) -> Path:
    """A path of the machine, as seen from here."""
    return machine.root / path.lstrip("/")


def write(machine: Machine, path: str, text: str, mode: int = 0o644) -> None:
    """Write a file of the machine, at once: whoever reads it finds the old text or the new one."""
    file = at(machine, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    new.chmod(mode)
    new.rename(file)
