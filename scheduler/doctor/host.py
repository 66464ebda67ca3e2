"""This machine: its clock, its zone data, who listens on its ports."""

import asyncio
import ctypes
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from scheduler.core import zones
from scheduler.core.clock_changes import THIRTEEN_MONTHS
from scheduler.core.errors import NoAnswer, SchedulerError
from scheduler.doctor.abandonable_call import run_abandonable
from scheduler.doctor.facts import Occupant, ProcessFacts, ZoneCopy, ZoneFacts
from scheduler.ledger.lock import find_holding_process
from scheduler.settings.addresses import SocketAddress

_PATIENCE: Final = 3.0
_TIMEX_SIZE: Final = 1024  # bytes; more than the kernel's struct timex, and all of it zero: nothing is set
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised

FetchPage = Callable[[SocketAddress, str], object]
"""The JSON that a page on this machine answers with. Blocks; raises `SchedulerError`."""


def is_clock_synchronised() -> bool | None:
    """Whether something keeps the machine's clock right, as the kernel has it; None when it does not say."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_SIZE))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)


def read_zone_facts(names: Iterable[str], now: datetime) -> ZoneFacts:
    """The copies of the zone data, and which of these zones they do not agree on in the coming time."""
    data = zones.load_zone_data()
    copies = tuple(ZoneCopy(each.version, each.source, str(each.root)) for each in data.copies)
    begin = now.replace(minute=0, second=0, microsecond=0)
    found = ((name, data.find_disagreement(name, begin, begin + THIRTEEN_MONTHS)) for name in sorted(set(names)))
    return ZoneFacts(copies, {name: since for name, since in found if since is not None})


async def find_occupant(listen: SocketAddress | None, page: FetchPage) -> Occupant:
    """Who answers at an address of ours. Raises nothing."""
    if listen is None or listen.port == 0:
        return "nobody"
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(listen.local_address.host, listen.port)
    except TimeoutError:  # so many connections wait that the kernel takes no more
        return "silent"
    except OSError:
        return "nobody"
    writer.transport.abort()
    try:
        async with asyncio.timeout(_PATIENCE):
            return "scheduler" if isinstance(await run_abandonable(lambda: page(listen, "/healthz")), dict) else "somebody"
    except (NoAnswer, TimeoutError):
        return "silent"
    except SchedulerError:
        return "somebody"


def find_process(database: Path) -> ProcessFacts | None:
    """Return the process that holds a database, as far as the kernel shows it here."""
    process = find_holding_process(database)
    if process is None or process <= 0:
        return None
    try:
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return ProcessFacts(process)
    return ProcessFacts(process, is_stopped=state in {b"T", b"t"})
