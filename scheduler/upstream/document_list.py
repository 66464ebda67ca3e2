"""The whole list with all fields, for people and commands. The daemon reads snapshots instead."""

from scheduler.upstream.documents import drop_unreadable
from scheduler.upstream.snapshot import PageReader, PageTooLarge, ReadPage


async def list_documents(read_page: ReadPage) -> list[dict[str, object]]:
    """Return all automations as the API shows them. Raise `UpstreamError`.

    An automation too large for any answer, or without valid JSON, has only its readable fields. The list may
    shift during the reading: an automation shown twice counts once.
    """
    reader = PageReader(read_page)
    documents: dict[object, dict[str, object]] = {}
    offset, is_last = 0, False
    while not is_last:
        try:
            page = await reader.read(offset)
            rows, is_last = page.rows, not page.rows or offset + len(page.rows) >= page.count
        except PageTooLarge as error:
            rows = [error.row]
        documents |= {row.get("id"): drop_unreadable(row) for row in rows if isinstance(row, dict)}
        offset += len(rows)
    return list(documents.values())
