"""Limit/offset paging: the page in a query, and the links to the neighbour pages.

Pure; the rules, also for odd numbers, are the rules of Django REST framework's LimitOffsetPagination.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

_DEFAULT_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The requested rows: at most ``limit`` rows, after the first ``offset`` rows."""

    limit: int
    offset: int

    @classmethod
    def parse(cls, query: Mapping[str, str], most: int) -> "PageRequest":
        """Parse the page of a query. Texts without a number and too small numbers are ignored.

        A limit over ``most`` counts as ``most``.
        """
        limit = _parse_number(query.get("limit"), least=1, otherwise=_DEFAULT_LIMIT)
        return cls(min(limit, most), offset=_parse_number(query.get("offset"), least=0, otherwise=0))

    def make_next_link(self, url: str, count: int, row_count: int) -> str | None:
        """Make the absolute URL of the next page; None when the ``count`` rows end here.

        ``row_count`` is the number of rows on this page.
        """
        after = self.offset + row_count
        return None if after >= count else _replace_paging(url, limit=self.limit, offset=after)

    def make_previous_link(self, url: str) -> str | None:
        """Make the absolute URL of the previous page, None for the first page."""
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
    """Replace both values in the query of ``url``, keep others, and sort by name. None removes the offset."""
    parts = urlsplit(url)
    query = parse_qs(parts.query, keep_blank_values=True) | {"limit": [str(limit)], "offset": [str(offset)]}
    if offset is None:
        del query["offset"]
    return parts._replace(query=urlencode(sorted(query.items()), doseq=True)).geturl()
