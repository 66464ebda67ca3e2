"""Which tests mostly wait, for the full minute or for what takes its time: many of them run beside each other
(see the Makefile).
"""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from tests import query_plans

query_plans.watch()
settings.register_profile("suite", deadline=None)  # a busy machine says nothing about the code
settings.load_profile("suite")

FOLDERS: Final = {"e2e", "faults", "prometheus", "systemd"}
TURNS: Final = (
    *("e2e/test_end_to_end.py", "faults/test_faults.py", "systemd/test_install.py"),
    *("e2e/test_move.py", "e2e/test_restart.py", "systemd/test_minute.py"),
    *("faults/test_final_check.py", "e2e/test_own_agent.py", "systemd/test_units.py"),
    *("prometheus/test_dashboard.py", "faults/test_key_rotation.py", "e2e/test_backfill.py"),
    *("faults/test_process_faults.py", "faults/test_storage_faults.py"),
)
"""What takes longest begins first.

xdist gives each of six workers one of the first six files and one of the next six: a short one.
"""
HERE: Final = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not read the files of the tests that the Makefile leaves out: every worker would read all of
    them.
    """
    waiting = {"waiting": True, "not waiting": False}.get(config.option.markexpr)
    if waiting is None or collection_path.parent != HERE:
        return None
    return (collection_path.name in FOLDERS) != waiting or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(HERE).parts[0] in FOLDERS:
            item.add_marker("waiting")
    items.sort(key=_turn)


def pytest_collection_finish() -> None:
    """Keep the collected tests out of the garbage collector, which would visit all tests many times."""
    gc.collect()
    gc.freeze()


def _turn(item: pytest.Item) -> int:
    path = item.path.relative_to(HERE).as_posix()
    return TURNS.index(path) if path in TURNS else len(TURNS)


@pytest.fixture(autouse=True)
def _umask_stays() -> Iterator[None]:
    """No test changes the umask for those after it: a machine that boots with 0077 never comes up."""
    before = _read_umask()
    yield
    assert _read_umask() == before


def _read_umask() -> str:
    """Read the umask without setting one, as `os.umask` would, for all threads."""
    status = Path("/proc/self/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("Umask:"))


@pytest.fixture(autouse=True)
def _plans_are_good() -> Iterator[None]:
    """No statement of ours goes through a table that grows; see `tests/query_plans.py`."""
    yield
    findings = query_plans.take_findings()
    assert not findings, "\n".join(findings)
