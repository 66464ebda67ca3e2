"""Limit/offset paging: what a query asks for, and the links to the pages beside it.

Pure; the rules, down to how odd numbers are taken, are those of Django REST framework's LimitOffsetPagination.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

DEFAULT_LIMIT: Final = 100
LARGEST_LIMIT: Final = 10_000
"""What `[api] max_page` is when nobody sets it: ten times what the daemon and the commands ask for."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which rows are asked for: at most ``limit`` of them, after the first ``offset``."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0

    @classmethod
    def parse(cls, query: Mapping[str, str], most: int = LARGEST_LIMIT) -> "PageRequest":
        """The page that a query names. What is no number, or is too small, counts as not said; a limit over ``most`` counts as that."""
        limit = _parse_number(query.get("limit"), least=1, otherwise=DEFAULT_LIMIT)
        return cls(min(limit, most), offset=_parse_number(query.get("offset"), least=0, otherwise=0))

    def make_next_link(self, url: str, count: int, shown: int) -> str | None:
        """The absolute URL of the page after this one, which shows so many rows; None when ``count`` rows end here."""
        after = self.offset + shown
        return None if after >= count else _replace_paging(url, limit=self.limit, offset=after)

    def make_previous_link(self, url: str) -> str | None:
        """The absolute URL of the page before this one, None for the first."""
        if self.offset <= 0:
            return None
        before = self.offset - self.limit
        return _replace_paging(url, limit=self.limit, offset=before if before > 0 else None)


def _parse_number(text: str | None, *, least: int, otherwise: int) -> int:
    try:
        number = int(text or "")
    except ValueError:
        return otherwise
    return number if number >= least else otherwise


def _replace_paging(url: str, *, limit: int, offset: int | None) -> str:
    """``url`` with these two in its query, the others kept, all sorted by name; None takes the offset out."""
    parts = urlsplit(url)
    query = parse_qs(parts.query, keep_blank_values=True) | {"limit": [str(limit)], "offset": [str(offset)]}
    if offset is None:
        del query["offset"]
    return parts._replace(query=urlencode(sorted(query.items()), doseq=True)).geturl()
