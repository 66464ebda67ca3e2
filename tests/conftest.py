"""Which tests mostly wait, for the full minute or for what takes its time: many of them run beside each other (see the Makefile)."""

from pathlib import Path

import pytest

FOLDERS = {"e2e", "faults", "prometheus", "systemd"}
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(HERE).parts[0] in FOLDERS:
            item.add_marker("waiting")
