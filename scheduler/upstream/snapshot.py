"""Pages into one verified reading of all automations.

The list has no cursor: a row that is added, renamed or deleted while a client pages shifts the rest, so that one pass can show a row
twice or miss one. A pass counts when its pages agree: the same count throughout, no id twice, none missing. After three passes that do
not, what they saw is taken together, and an absence says nothing. One change can still hide another (a row deleted before the page, one
added behind it), so an absence from a good pass is to be confirmed before anything is removed for it.
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
"""A list that claims to be longer is not believed."""
_PAGE_BYTES: Final = 2 * 2**20
"""What a page should hold, so that parsing it takes some ten or twenty milliseconds."""
_AT_A_TIME: Final = 200
"""Rows that are taken before anybody else may run: some two milliseconds."""
_FORGET_AFTER: Final = 100
"""Passes after which the sizes of pages that had to shrink are found out anew."""
_MOST_TOO_LARGE: Final = 1000
"""Rows of a pass that may be too large for any page before the list is given up: each costs requests of its own."""
_FINGERPRINTS: Final = 2**64
_MOST_NAMED: Final = 10
"""Objects without a readable id of which a snapshot says more than that they are there."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of ``size`` bytes. ``count`` is how long the whole list is; ``begun_at`` and ``begun``, when its request left."""

    count: int
    rows: list[object]
    size: int
    begun_at: datetime
    begun: float


class PageTooLarge(Exception):
    """The page holds more bytes than are taken; a shorter one may do. ``row`` is the only one of the shortest, as far as it was read."""

    def __init__(self, row: object = None) -> None:
        super().__init__()
        self.row = row


def to_page(value: object, *, size: int, begun_at: datetime, begun: float) -> ListPage:
    """The body of a list's answer. Raises `UpstreamError` when it is no page."""
    if not isinstance(value, dict):
        raise UpstreamError(f"the list of automations is no page but {type(value).__name__}; check the target's url")
    count, rows = value.get("count"), value.get("results")
    if isinstance(count, bool) or not isinstance(count, int) or not isinstance(rows, list):
        raise UpstreamError("the list of automations is no page with a count and results; check the target's url")
    if not 0 <= count <= MOST_AUTOMATIONS:
        raise UpstreamError(f"the list claims to hold {count} automations")
    return ListPage(count, rows, size, begun_at, begun)


class ReadPage(Protocol):
    """What reads a page."""

    async def __call__(self, *, offset: int, limit: int) -> ListPage:
        """The rows from ``offset``, at most ``limit`` of them. Raises `UpstreamError` or `PageTooLarge`."""


@dataclass(slots=True)
class _Pass:
    """One way through the list. What is as it was in ``known`` is taken from there: a snapshot then costs the memory of its changes."""

    known: Mapping[str, Automation]
    first: ListPage | None = None
    count: int = 0
    rows: int = 0
    disagreement: str | None = None  # how the pages contradict each other
    too_large: int = 0
    automations: dict[str, Automation] = field(default_factory=dict)
    broken: dict[str, InvalidAutomation] = field(default_factory=dict)
    unidentified: int = 0
    anonymous: list[str] = field(default_factory=list)  # what is known of the first of these
    fingerprint: int = 0  # a sum: rows that move change nothing

    @property
    def is_consistent(self) -> bool:
        """Whether the pages agree so far."""
        return self.disagreement is None

    def add_head(self, page: ListPage) -> None:
        """Take a page's head, before its rows."""
        if self.first is None:
            self.first = page
        elif page.count != self.count:
            self._disagree(f"its count changes from {self.count:,} to {page.count:,} between two pages")
        self.count = page.count

    def check_count(self) -> None:
        """Compare the number of rows with the count, when the last page was read."""
        if self.rows != self.count:
            self._disagree(f"its count is {self.count:,}, but its pages hold {self.rows:,}")

    def _disagree(self, how: str) -> None:
        self.disagreement = self.disagreement or how

    def add(self, row: object) -> None:
        """Take one row: an automation, a broken one, or one that does not even say which."""
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
        """Take a row that is too large for any page, as far as it was read. Raises `UpstreamError` when there are very many."""
        self.too_large += 1
        if row is None or self.too_large > _MOST_TOO_LARGE:
            raise UpstreamError(
                "a page of a single automation is too large to be read"
                if row is None
                else f"the list holds more than {_MOST_TOO_LARGE} automations that are too large to be read"
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
        # Made anew: the one that was raised keeps the row alive through its traceback.
        self.broken[error.automation_id] = InvalidAutomation(error.reason, automation_id=error.automation_id, name=error.name)

    def _check_twice(self, automation_id: str) -> None:
        if automation_id in self.automations or automation_id in self.broken:
            self._disagree(f"its pages hold the automation {automation_id} twice")


class PageSizes:
    """How many rows to ask for at each place of the list.

    A page that had to shrink keeps its size in the passes that follow, so that a list needs one request for each page. From time to time
    the sizes are forgotten: the rows may have become smaller.
    """

    def __init__(self) -> None:
        self._usual = LARGEST_PAGE
        self._shrunk: dict[int, int] = {}  # by where the page begins, in this pass and the one before
        self._tried = LARGEST_PAGE
        self._fitted = LARGEST_PAGE  # of the page before
        self._passes = 0

    def begin(self) -> None:
        """Begin a pass."""
        self._passes += 1
        if self._passes % _FORGET_AFTER == 0:
            self._shrunk, self._usual, self._fitted = {}, LARGEST_PAGE, LARGEST_PAGE

    def choose_limit(self, offset: int) -> int:
        """Return how many rows to ask for from ``offset`` on."""
        self._tried = self._shrunk.get(offset, self._usual)
        return self._tried

    def shrink(self, offset: int) -> bool:
        """Ask for fewer rows from ``offset`` on, since the page was too large. False when it was a single row."""
        if self._tried == 1:
            return False
        fewer = self._fitted if self._fitted < self._tried else max(1, self._tried // 8)
        self._shrunk[offset] = self._usual = fewer
        return True

    def skip(self, offset: int) -> None:
        """The single row at ``offset`` is too large for any page: rows behind it need not be as large."""
        self._shrunk[offset] = 1
        self._usual = LARGEST_PAGE

    def fit(self, offset: int, page: ListPage) -> None:
        """A page came: the next one may hold as many bytes as are good, but at most twice the rows; after a shrunk page, as many."""
        self._fitted = self._tried
        self._usual = min(_compute_page_rows(page), self._tried if offset in self._shrunk else 2 * self._tried)


class SnapshotReader:
    """Reads snapshots, and remembers the last one and how many rows of this target make a page of a good size."""

    def __init__(self, read_page: ReadPage, *, seconds: Callable[[], float]) -> None:
        self._read_page = read_page
        self._seconds = seconds
        self._sizes = PageSizes()
        self._requests = 0
        self.pages = 1  # requests that the newest complete reading took
        self._known: Mapping[str, Automation] = {}

    def continue_from(self, predecessor: "SnapshotReader") -> None:
        """Go on with the page sizes of another reader of the same list."""
        self._sizes, self.pages = predecessor._sizes, predecessor.pages  # noqa: SLF001  its own kind

    async def read(self) -> Snapshot:
        """One snapshot, without a clock offset. Raises `UpstreamError` when the list cannot be read."""
        passes: list[_Pass] = []
        self._requests = 0
        while len(passes) < PASSES:
            passes.append(await self._read_pass(to_the_end=len(passes) == PASSES - 1))
            if passes[-1].is_consistent:
                return self._make_snapshot(passes[-1:])
        return self._make_snapshot(passes)

    async def _read_pass(self, *, to_the_end: bool) -> _Pass:
        """Read the list once. A pass that is known not to agree is given up, unless it shall go ``to_the_end``."""
        current = _Pass(self._known)
        self._sizes.begin()
        while current.is_consistent or to_the_end:
            try:
                page = await self._read_next_page(current)
            except PageTooLarge as error:
                current.add_beginning(error.row)
                continue
            current.add_head(page)
            await _add_rows(current, page.rows)
            if not page.rows or current.rows >= page.count:
                break
        current.check_count()
        return current

    async def _read_next_page(self, current: _Pass) -> ListPage:
        """The next page. Where it begins is counted by what came, never taken from ``next``.

        Raises `PageTooLarge` when its first row alone is too large.
        """
        while True:
            self._requests += 1
            try:
                page = await self._read_page(offset=current.rows, limit=self._sizes.choose_limit(current.rows))
            except PageTooLarge:
                if not self._sizes.shrink(current.rows):
                    self._sizes.skip(current.rows)
                    raise
            else:
                self._sizes.fit(current.rows, page)
                return page

    def _make_snapshot(self, passes: list[_Pass]) -> Snapshot:
        """What the passes saw, taken together; of what they saw differently, the later counts."""
        automations: dict[str, Automation] = {}
        broken: dict[str, InvalidAutomation] = {}
        for each in passes:
            broken = {id_: error for id_, error in broken.items() if id_ not in each.automations} | each.broken
            automations = {id_: seen for id_, seen in automations.items() if id_ not in each.broken} | each.automations
        self._known = automations
        self.pages = max(self._requests, 1)
        first = passes[0].first
        assert first is not None
        fullest = max(passes, key=lambda each: each.unidentified)
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
    """Take the rows of a page, some at a time: a long list must not hold up what is due."""
    for start in range(0, len(rows), _AT_A_TIME):
        for row in rows[start : start + _AT_A_TIME]:
            current.add(row)
        await asyncio.sleep(0)


def _compute_page_rows(page: ListPage) -> int:
    """How many rows like these make a page of the size that we want."""
    if not page.rows:
        return LARGEST_PAGE
    return max(1, min(LARGEST_PAGE, _PAGE_BYTES * len(page.rows) // max(1, page.size)))
