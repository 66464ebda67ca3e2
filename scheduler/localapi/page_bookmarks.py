"""Bookmarks in the order of a project's automations: a late page is found without counting from the start.

SQLite skips an offset row by row. With a bookmark, the index finds the bookmarked row, and only the rows in
between are skipped. A bookmark holds for a single version of the order: each insert, delete or rename makes a
new version.
"""

from bisect import bisect_right
from typing import Final, NamedTuple

SPACING: Final = 1000
"""Rows between two bookmarks: skipping this number is faster than the rest of a page's work."""


class PageBookmark(NamedTuple):
    """A row's position in the order, and the columns of the order."""

    offset: int
    name: str
    created_at: str
    id: str


class PageBookmarks:
    """The bookmarks of all projects, each for the newest known version of the order.

    For use in a single thread.
    """

    def __init__(self) -> None:
        # by project: the version, and the bookmarks in order
        self._known: dict[int, tuple[int, list[PageBookmark]]] = {}

    def find_before(self, project_id: int, version: int, offset: int) -> PageBookmark | None:
        """Find the last bookmark at an offset or before."""
        known = self._get_bookmarks(project_id, version)
        place = bisect_right(known, offset, key=lambda anchor: anchor.offset)
        return known[place - 1] if place else None

    def keep(self, project_id: int, version: int, anchor: PageBookmark) -> None:
        """Keep a bookmark, unless an existing bookmark is near enough."""
        known = self._get_bookmarks(project_id, version)
        place = bisect_right(known, anchor.offset, key=lambda each: each.offset)
        last = known[place - 1].offset if place else 0
        if anchor.offset - last >= SPACING:
            known.insert(place, anchor)

    def _get_bookmarks(self, project_id: int, version: int) -> list[PageBookmark]:
        seen, known = self._known.get(project_id, (None, []))
        if seen != version:
            known = []
            self._known[project_id] = version, known
        return known
