"""Pages into one verified reading of all automations.

The list has no cursor. A row added, renamed or deleted during the reading shifts the other rows, so one pass
can show a row twice or miss a row. A pass counts when its pages agree: the same count in all pages, no id
twice, no row missing. After three passes with disagreement, the passes are merged, and an absence proves
nothing. One change can still hide another change (a row deleted before the page, a row added behind the
page). An absence in a good pass must therefore be confirmed before any removal.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from scheduler.core.errors import UpstreamError
from scheduler.core.model import Automation, InvalidAutomation, Snapshot, parse_automation

PASSES: Final = 3
LARGEST_PAGE: Final = 1000
MOST_AUTOMATIONS: Final = 1_000_000
"""Largest believable count of a list."""
_PAGE_BYTES: Final = 2 * 2**20
"""Wanted size of a page in bytes. Parsing then takes some ten or twenty milliseconds."""
_AT_A_TIME: Final = 200
"""Rows added before other tasks may run: some two milliseconds."""
_FORGET_AFTER: Final = 100
"""Passes after which the page sizes are learned anew."""
_MOST_TOO_LARGE: Final = 1000
"""Largest number of rows in a pass that are too large for any page.

Each such row costs requests of its own.
"""
_FINGERPRINTS: Final = 2**64
_MOST_NAMED: Final = 10
"""Largest number of objects without a readable id that a snapshot describes."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of ``size`` bytes. ``count`` is the length of the whole list.

    ``begun_at`` and ``begun`` are the instant at which the request left, on two clocks.
    """

    count: int
    rows: list[object]
    size: int
    begun_at: datetime
    begun: float


class PageTooLarge(Exception):
    """The page holds too many bytes; a shorter page may be small enough.

    ``row`` is the readable part of the only row, when the page has a single row.
    """

    def __init__(self, row: object = None) -> None:
        super().__init__()
        self.row = row


def to_page(value: object, *, size: int, begun_at: datetime, begun: float) -> ListPage:
    """Return the body of a list's answer as a page. Raise `UpstreamError` when the body is no page."""
    if not isinstance(value, dict):
        raise UpstreamError(
            f"the list of automations is no page but {type(value).__name__}; check the target's url"
        )
    count, rows = value.get("count"), value.get("results")
    if isinstance(count, bool) or not isinstance(count, int) or not isinstance(rows, list):
        raise UpstreamError(
            "the list of automations is no page with a count and results; check the target's url"
        )
    if not 0 <= count <= MOST_AUTOMATIONS:
        raise UpstreamError(f"the list claims to hold {count} automations")
    return ListPage(count, rows, size, begun_at, begun)


class ReadPage(Protocol):
    """The function that reads a page."""

    async def __call__(self, *, offset: int, limit: int) -> ListPage:
        """Return at most ``limit`` rows from ``offset``. Raise `UpstreamError` or `PageTooLarge`."""


@dataclass(slots=True)
class _Pass:
    """One pass through the list.

    Automations equal to an automation in ``known`` are taken from ``known``, so a snapshot costs only the
    memory of its changes.
    """

    known: Mapping[str, Automation]
    first: ListPage | None = None
    count: int = 0
    rows: int = 0
    disagreement: str | None = None  # the contradiction between the pages
    too_large: int = 0
    automations: dict[str, Automation] = field(default_factory=dict)
    broken: dict[str, InvalidAutomation] = field(default_factory=dict)
    unidentified: int = 0
    anonymous: list[str] = field(default_factory=list)  # descriptions of the first unidentified objects
    fingerprint: int = 0  # a sum: rows that move change nothing

    @property
    def is_consistent(self) -> bool:
        """Whether the pages agree so far."""
        return self.disagreement is None

    def add_head(self, page: ListPage) -> None:
        """Add the head of a page, before its rows."""
        if self.first is None:
            self.first = page
        elif page.count != self.count:
            self._disagree(f"its count changes from {self.count:,} to {page.count:,} between two pages")
        self.count = page.count

    def check_count(self) -> None:
        """Compare the number of rows with the count, after the last page."""
        if self.rows != self.count:
            self._disagree(f"its count is {self.count:,}, but its pages hold {self.rows:,}")

    def _disagree(self, how: str) -> None:
        self.disagreement = self.disagreement or how

    def add(self, row: object) -> None:
        """Add one row: an automation, a broken automation, or an unidentified object."""
        self.rows += 1
        try:
            automation = parse_automation(row)
        except InvalidAutomation as error:
            self._add_broken(error)
        else:
            self._check_twice(automation.id)
            known = self.known.get(automation.id)
            self.automations[automation.id] = known if known == automation else automation

    def add_beginning(self, row: object) -> None:
        """Add the readable part of a row that is too large for any page.

        Raise `UpstreamError` for too many such rows.
        """
        self.too_large += 1
        if self.too_large > _MOST_TOO_LARGE:
            raise UpstreamError(
                f"the list holds more than {_MOST_TOO_LARGE} automations that are too large to be read"
            )
        self.add(row)

    def _add_broken(self, error: InvalidAutomation) -> None:
        if error.automation_id is None:
            self.unidentified += 1
            self.fingerprint = (self.fingerprint + hash((error.name, error.reason))) % _FINGERPRINTS
            if len(self.anonymous) < _MOST_NAMED:
                self.anonymous.append(f"{error.name or f'object {self.rows} of the list'}: {error.reason}")
            return
        self._check_twice(error.automation_id)
        # A new object: the raised error keeps the row alive through its traceback.
        self.broken[error.automation_id] = InvalidAutomation(
            error.reason, automation_id=error.automation_id, name=error.name
        )

    def _check_twice(self, automation_id: str) -> None:
        if automation_id in self.automations or automation_id in self.broken:
            self._disagree(f"its pages hold the automation {automation_id} twice")


class PageReader:
    """A reader of the pages of a list, with the number of rows to request at each place.

    A page that had to shrink keeps its size in the next passes, so a list needs one request for each page.
    From time to time the sizes are forgotten, because the rows may have become smaller.
    """

    def __init__(self, read_page: ReadPage) -> None:
        self._read_page = read_page
        self.requests = 0
        self._passes = 0
        self._forget()

    def _forget(self) -> None:
        self._usual = self._fitted = LARGEST_PAGE  # rows of the next page and of the previous page
        self._shrunk: dict[int, int] = {}  # by the offset of the page

    def continue_from(self, predecessor: "PageReader") -> None:
        """Continue with the page sizes of another reader of the same list."""
        self._passes = predecessor._passes  # noqa: SLF001  its own kind
        self._usual, self._fitted = predecessor._usual, predecessor._fitted  # noqa: SLF001  the same
        self._shrunk = predecessor._shrunk  # noqa: SLF001  the same

    def begin_pass(self) -> None:
        """Begin a pass through the list."""
        self._passes += 1
        if self._passes % _FORGET_AFTER == 0:
            self._forget()

    async def read(self, offset: int) -> ListPage:
        """Return the page from ``offset`` on.

        Raise `PageTooLarge` with the readable part of the row when the first row alone is too large, and
        `UpstreamError` when the row has no readable part.
        """
        while True:
            rows = self._shrunk.get(offset, self._usual)
            self.requests += 1
            try:
                page = await self._read_page(offset=offset, limit=rows)
            except PageTooLarge as error:
                if rows == 1:
                    self._skip(offset)
                    if error.row is None:
                        raise UpstreamError("a page of a single automation is too large to be read") from None
                    raise
                self._shrink(offset, rows)
            else:
                self._fit(offset, rows, page)
                return page

    def _shrink(self, offset: int, rows: int) -> None:
        """Request fewer rows from ``offset`` on, since a page of ``rows`` was too large."""
        fewer = self._fitted if self._fitted < rows else max(1, rows // 8)
        self._shrunk[offset] = self._usual = fewer

    def _skip(self, offset: int) -> None:
        """Request rows behind a row that is too large for any page. These rows may be smaller."""
        self._shrunk[offset] = 1
        self._usual = LARGEST_PAGE

    def _fit(self, offset: int, rows: int, page: ListPage) -> None:
        """Choose the size of the next page after a good page of ``rows``.

        The next page may hold the wanted number of bytes, but at most twice the rows of this page. After a
        shrunk page, the next page has at most the same number of rows.
        """
        self._fitted = rows
        self._usual = min(_compute_page_rows(page), rows if offset in self._shrunk else 2 * rows)


class SnapshotReader:
    """A reader of snapshots, with a memory of the last snapshot and of good page sizes for this target."""

    def __init__(self, read_page: ReadPage, *, seconds: Callable[[], float]) -> None:
        self._reader = PageReader(read_page)
        self._seconds = seconds
        self.pages = 1  # requests of the newest complete reading
        self._known: Mapping[str, Automation] = {}

    def continue_from(self, predecessor: "SnapshotReader") -> None:
        """Continue with the page sizes of another reader of the same list."""
        self._reader.continue_from(predecessor._reader)  # noqa: SLF001  its own kind
        self.pages = predecessor.pages

    async def read(self) -> Snapshot:
        """Return one snapshot, without a clock offset. Raise `UpstreamError` when the list cannot be read."""
        passes: list[_Pass] = []
        self._reader.requests = 0
        while len(passes) < PASSES:
            passes.append(await self._read_pass(to_the_end=len(passes) == PASSES - 1))
            if passes[-1].is_consistent:
                return self._make_snapshot(passes[-1:])
        return self._make_snapshot(passes)

    async def _read_pass(self, *, to_the_end: bool) -> _Pass:
        """Read the list once. A pass with a disagreement ends early, except with ``to_the_end``."""
        current = _Pass(self._known)
        self._reader.begin_pass()
        while current.is_consistent or to_the_end:
            try:
                page = await self._reader.read(current.rows)
            except PageTooLarge as error:
                current.add_beginning(error.row)
                continue
            current.add_head(page)
            await _add_rows(current, page.rows)
            if not page.rows or current.rows >= page.count:
                break
        current.check_count()
        return current

    def _make_snapshot(self, passes: list[_Pass]) -> Snapshot:
        """Merge the passes into a snapshot. When passes differ, the later pass counts."""
        automations: dict[str, Automation] = {}
        broken: dict[str, InvalidAutomation] = {}
        for later in passes:
            broken = {id_: error for id_, error in broken.items() if id_ not in later.automations}
            broken |= later.broken
            automations = {id_: seen for id_, seen in automations.items() if id_ not in later.broken}
            automations |= later.automations
        self._known = automations
        self.pages = max(self._reader.requests, 1)
        first = passes[0].first
        assert first is not None
        fullest = max(passes, key=lambda one: one.unidentified)
        return Snapshot(
            begun_at=first.begun_at,
            begun=first.begun,
            ended=self._seconds(),
            automations=automations,
            broken=broken,
            complete=passes[-1].is_consistent,
            clock_offset=None,
            unidentified=fullest.unidentified,
            anonymous=tuple(fullest.anonymous),
            fingerprint=fullest.fingerprint,
            disagreement=passes[-1].disagreement,
        )


async def _add_rows(current: _Pass, rows: list[object]) -> None:
    """Add the rows of a page, some at a time: a long list must not delay due occurrences."""
    for start in range(0, len(rows), _AT_A_TIME):
        for row in rows[start : start + _AT_A_TIME]:
            current.add(row)
        await asyncio.sleep(0)


def _compute_page_rows(page: ListPage) -> int:
    """Return the number of similar rows in a page of the wanted size."""
    if not page.rows:
        return LARGEST_PAGE
    return max(1, min(LARGEST_PAGE, _PAGE_BYTES * len(page.rows) // max(1, page.size)))
