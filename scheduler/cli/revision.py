"""The git revision of a checkout, for ``scheduler --version``.

The files of git are read directly: a git process would cost more than the command, and git may be missing.
"""

import re
from contextlib import suppress
from pathlib import Path

from scheduler import __version__

_REVISION = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # SHA-1 or SHA-256
_DIGITS = 12


def describe_version() -> str:
    """Return the version, in a checkout with the revision: ``0.2.0 (revision 0a1b2c3d4e5f)``."""
    revision = find_revision(Path(__file__).parents[2])
    return f"{__version__} (revision {revision[:_DIGITS]})" if revision else __version__


def find_revision(checkout: Path) -> str | None:
    """Return the commit that is checked out in this folder. Return None where no revision can be read."""
    with suppress(OSError, ValueError):
        git = _find_git_folder(checkout)
        return _read_revision(git, _read_text(git / "HEAD"))
    return None


def _find_git_folder(checkout: Path) -> Path:
    """Return the folder with HEAD. In a worktree, `.git` is a file with the path of this folder."""
    git = checkout / ".git"
    return git if git.is_dir() else checkout / _read_text(git).removeprefix("gitdir: ")


def _read_revision(git: Path, head: str) -> str | None:
    name = head.removeprefix("ref: ")
    value = head if name == head else _read_reference(git, name)
    return value if _REVISION.fullmatch(value) else None


def _read_reference(git: Path, name: str) -> str:
    """Return the value of a branch: from a file of its own, else from `packed-refs`."""
    shared = _find_shared_folder(git)
    with suppress(FileNotFoundError, NotADirectoryError):
        return _read_text(shared / name)
    lines = _read_text(shared / "packed-refs").splitlines()
    return next((line[: -len(name) - 1] for line in lines if line.endswith(f" {name}")), "")


def _find_shared_folder(git: Path) -> Path:
    """Return the folder with the branches. A worktree shares this folder with the other worktrees."""
    with suppress(FileNotFoundError):
        return git / _read_text(git / "commondir")
    return git


def _read_text(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()
