"""The whole list with all fields, for people and commands. The daemon reads snapshots instead."""

from scheduler.core.errors import UpstreamError
from scheduler.upstream.documents import drop_unreadable
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
                document = drop_unreadable(error.row)
                if document is None:
                    raise UpstreamError("a page of a single automation is too large to be read") from None
                documents[document.get("id")] = document
                sizes.skip(offset)
                offset += 1
            continue
        sizes.fit(offset, page)
        documents |= {row.get("id"): row for row in page.rows if isinstance(row, dict)}
        offset += len(page.rows)
        if not page.rows or offset >= page.count:
            return list(documents.values())
