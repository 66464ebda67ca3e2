"""Where in the order of a project's automations some rows were found lately, so that a page far behind is found without counting up to it.

SQLite skips an offset row by row. A row whose place is known is looked up in the index instead, and only what lies between is skipped.
A place is known for one version of the order: whatever comes, goes or is renamed makes another one.
"""

from bisect import bisect_right
from typing import Final, NamedTuple

SPACING: Final = 1000
"""Rows between two anchors: skipping so many is quicker than all else that a page needs."""


class PageBookmark(NamedTuple):
    """A row's place in the order, and what it is ordered by."""

    offset: int
    name: str
    created_at: str
    id: str


class PageBookmarks:
    """Those of all projects, each for the newest version of its order that was seen. For one thread."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, list[PageBookmark]]] = {}  # by project: the version, and its anchors in order

    def find_before(self, project_id: int, version: int, offset: int) -> PageBookmark | None:
        """The last known row at an offset or before it."""
        known = self._get_bookmarks(project_id, version)
        place = bisect_right(known, offset, key=lambda anchor: anchor.offset)
        return known[place - 1] if place else None

    def keep(self, project_id: int, version: int, anchor: PageBookmark) -> None:
        """Remember a row, unless there is one that is as good."""
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
