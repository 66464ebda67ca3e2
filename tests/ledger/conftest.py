from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.support import Stand, stand


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Stand]:
    with stand(tmp_path / "ledger.db") as ready:
        yield ready
