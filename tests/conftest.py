"""What the order of the tests is, so that all of them take as little time as they can."""

import pytest

_WAITING = ("tests/e2e/", "tests/faults/")
"""Real processes across full minutes: they mostly wait."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have those that wait begin first, one after the other in one process of their own, while the others use the processors."""
    for item in items:
        if item.nodeid.startswith(_WAITING):
            item.add_marker(pytest.mark.xdist_group("waiting"))
    items.sort(key=lambda item: not item.nodeid.startswith(_WAITING))
