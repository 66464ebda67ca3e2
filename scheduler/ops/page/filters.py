"""The fields of a form, read by the rules of `scheduler.ops.queries`, and kept to show the form again.

A form sends every field, even empty fields. A browser's time field has no offset. This module removes empty
fields and adds the offset first.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Generic, TypeVar
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.ops.queries import AutomationQuery, BadQuery

_Q = TypeVar("_Q", OccurrenceQuery, AutomationQuery)
_WITHOUT_OFFSET: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?", re.ASCII)
_INSTANT_FIELDS: Final = ("since", "until")
_PAGING_FIELDS: Final = ("limit", "offset")


@dataclass(frozen=True, slots=True)
class FilterForm(Generic[_Q]):
    """A completed form: its texts, the resulting query, and the problem of each field.

    ``query`` is None when a parameter has a problem.
    """

    texts: Mapping[str, str]
    query: _Q | None
    problems: Mapping[str, str]

    def get_text(self, name: str) -> str:
        """Return the text of a field, empty without a text."""
        return self.texts.get(name, "")

    def get_utc_time(self, name: str) -> str:
        """Return the text of a field for a browser's time field: in UTC, without an offset."""
        text = self.get_text(name).removesuffix("Z")
        return text if _WITHOUT_OFFSET.fullmatch(text) else ""

    @property
    def status_code(self) -> HTTPStatus:
        """The status of the page with this form."""
        return HTTPStatus.BAD_REQUEST if self.problems else HTTPStatus.OK

    @property
    def is_filtered(self) -> bool:
        """Whether any field except paging has a text."""
        return any(name not in _PAGING_FIELDS for name in self.texts)

    def make_link(self, path: str, **changes: int | str) -> str:
        """Return a link to the page with the same filters and ``changes``.

        Empty texts and an offset of 0 are left out.
        """
        kept = {name: text for name, text in {**self.texts, **changes}.items() if text not in {"", 0}}
        return f"{path}?{urlencode(kept)}" if kept else path

    def make_paging(self, path: str, count: int) -> Mapping[str, object]:
        """Return the offset of the page, and the links to the newer and the older page.

        ``count`` is larger than the limit when an older page exists.
        """
        limit, offset = (self.query.limit, self.query.offset) if self.query else (0, 0)
        return {
            "offset": offset,
            "newer": self.make_link(path, offset=max(offset - limit, 0)) if offset else None,
            "older": self.make_link(path, offset=offset + limit) if count > limit else None,
        }


def read_form(parameters: QueryParams, read: Callable[[QueryParams], _Q], *, limit: int) -> FilterForm[_Q]:
    """Read a form. ``limit`` is the default for the records of a page."""
    pairs = [
        (name, _add_offset(name, text.strip())) for name, text in parameters.multi_items() if text.strip()
    ]
    texts = dict(pairs)
    if "limit" not in texts:
        pairs.append(("limit", str(limit)))
    try:
        return FilterForm(texts, read(QueryParams(pairs)), {})
    except BadQuery as error:
        return FilterForm(texts, None, error.problems)


def _add_offset(name: str, text: str) -> str:
    return f"{text}Z" if name in _INSTANT_FIELDS and _WITHOUT_OFFSET.fullmatch(text) else text
