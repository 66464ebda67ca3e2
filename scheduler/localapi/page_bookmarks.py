"""Bookmarks in the order of a project's automations: a late page is found without counting from the start.

SQLite skips an offset row by row. With a bookmark, the index finds the bookmarked row, and only the rows in
between are skipped. A bookmark holds for a single version of the order: each insert, delete or rename makes a
new version.
"""

from bisect import bisect_right, insort
from typing import Final, NamedTuple

SPACING: Final = 1000
"""Rows between two bookmarks: skipping this number is faster than the rest of a page's work."""


class PageBookmark(NamedTuple):
    """A row's position in the order, and the columns of the order."""

    offset: int
    name: str
    created_at: str
    id: str


_START: Final = PageBookmark(0, "", "", "")
"""The bookmark before all rows: no name is empty."""


class PageBookmarks:
    """The bookmarks of all projects, for the newest known version of each order; for a single thread."""

    def __init__(self) -> None:
        # by project: the version, and the bookmarks in order
        self._known: dict[int, tuple[int, list[PageBookmark]]] = {}

    def find_before(self, project_id: int, version: int, offset: int) -> PageBookmark:
        """Find the last bookmark at an offset or before."""
        bookmarks = self._get_bookmarks(project_id, version)
        return bookmarks[bisect_right(bookmarks, offset, key=lambda bookmark: bookmark.offset) - 1]

    def keep(self, project_id: int, version: int, bookmark: PageBookmark) -> None:
        """Keep a bookmark, unless an existing bookmark is near enough."""
        last = self.find_before(project_id, version, bookmark.offset)
        if bookmark.offset - last.offset >= SPACING:
            insort(self._get_bookmarks(project_id, version), bookmark)

    def _get_bookmarks(self, project_id: int, version: int) -> list[PageBookmark]:
        last_version, bookmarks = self._known.get(project_id, (None, []))
        if last_version != version:
            bookmarks = [_START]
            self._known[project_id] = version, bookmarks
        return bookmarks
