"""The faults of `test_faults` that are of the disk; a file of its own, so that they are played beside the
others.
"""

from pathlib import Path

import pytest

from tests.faults.test_faults import MACHINES, play_all


@pytest.mark.timeout(400)
def test_after_each_fault_of_the_disk_the_runs_of_the_api_are_the_accepted_occurrences(
    tmp_path: Path,
) -> None:
    play_all(tmp_path, MACHINES)
