"""The whole list with all fields, for people and commands. The daemon reads snapshots instead."""

from collections.abc import Mapping

from scheduler.core.errors import UpstreamError
from scheduler.core.model import Unreadable
from scheduler.upstream.snapshot import PageSizes, PageTooLarge, ReadPage


async def list_documents(read_page: ReadPage) -> list[dict[str, object]]:
    """Return all automations as the API shows them. Raise `UpstreamError`.

    An automation too large for any answer has only its readable fields. The list may shift during the
    reading: an automation shown twice counts once.
    """
    sizes = PageSizes()
    documents: dict[object, dict[str, object]] = {}
    offset = 0
    while True:
        try:
            page = await read_page(offset=offset, limit=sizes.choose_limit(offset))
        except PageTooLarge as error:
            if not sizes.shrink(offset):
                document = _drop_unreadable(error.row)
                documents[document.get("id")] = document
                sizes.skip(offset)
                offset += 1
            continue
        sizes.fit(offset, page)
        documents |= {row.get("id"): row for row in page.rows if isinstance(row, dict)}
        offset += len(page.rows)
        if not page.rows or offset >= page.count:
            return list(documents.values())


def _drop_unreadable(row: object) -> dict[str, object]:
    if not isinstance(row, Mapping):
        raise UpstreamError("a page of a single automation is too large to be read")
    return {name: value for name, value in row.items() if not isinstance(value, Unreadable)}
