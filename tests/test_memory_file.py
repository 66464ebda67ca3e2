"""A ledger's file in memory is like a new file of a daemon, and belongs to no thread."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from scheduler.ledger.schema import open_for_reading, open_ledger
from tests.memory_file import MemoryFile

_SCHEMA = """
    SELECT type, name, sql FROM sqlite_schema WHERE tbl_name <> '_sqlite_migrations' ORDER BY type, name
"""


def test_a_new_file_has_the_schema_of_a_new_ledger_and_no_rows(tmp_path: Path) -> None:
    open_ledger(tmp_path / "ledger.db").close()
    with closing(MemoryFile()) as first, closing(MemoryFile()) as second:
        first.connection.execute("INSERT INTO target (name, url, project_id) VALUES ('main', 'u', '1')")
        first.save(tmp_path / "saved.db")
        assert second.connection.execute("SELECT * FROM target").fetchall() == []
        made = second.connection.execute(_SCHEMA).fetchall()
    for name, targets in (("ledger.db", 0), ("saved.db", 1)):
        with closing(open_for_reading(tmp_path / name)) as connection:
            assert [tuple(row) for row in connection.execute(_SCHEMA)] == made
            assert len(connection.execute("SELECT * FROM target").fetchall()) == targets


def test_any_thread_may_close_a_file() -> None:
    """The garbage collector, which closes what a test leaves open, runs in any thread."""
    with ThreadPoolExecutor(1) as other:
        other.submit(MemoryFile().close).result()
