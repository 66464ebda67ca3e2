"""The facts about this machine: the clock, the zone data, and the programs that listen on the ports."""

import asyncio
import ctypes
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from scheduler.core.cron import zones
from scheduler.core.cron.clock_changes import THIRTEEN_MONTHS
from scheduler.core.errors import NoAnswer, SchedulerError
from scheduler.doctor.facts import Occupant, ProcessFacts, ZoneFacts
from scheduler.doctor.probes.time_limit import run_abandonable
from scheduler.ledger.lock import find_holding_process
from scheduler.settings.addresses import SocketAddress

_PATIENCE: Final = 3.0
_TIMEX_SIZE: Final = 1024  # bytes; more than the kernel's struct timex; all are zero, and nothing is set
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised

FetchPage = Callable[[SocketAddress, str], object]
"""A function that returns the JSON of a page on this machine. Blocks; raises `SchedulerError`."""


def is_clock_synchronised() -> bool | None:
    """Return whether the kernel reports this machine's clock as synchronised; None without a report."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_SIZE))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)


def read_zone_facts(names: Iterable[str], now: datetime) -> ZoneFacts:
    """Return the copies of the zone data, and the named zones on which the copies disagree.

    The comparison covers thirteen months from the current hour on.
    """
    data = zones.load_zone_data()
    begin = now.replace(minute=0, second=0, microsecond=0)
    end = begin + THIRTEEN_MONTHS
    differing = ((name, data.find_disagreement(name, begin, end)) for name in sorted(set(names)))
    return ZoneFacts(data.copies, {name: since for name, since in differing if since is not None})


async def find_occupant(listen: SocketAddress | None, page: FetchPage) -> Occupant:
    """Find the kind of program that answers at a listen address. Raises nothing."""
    if listen is None or listen.port == 0:
        return "nobody"
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(listen.local_address.host, listen.port)
    except TimeoutError:  # the kernel's queue of waiting connections is full
        return "silent"
    except OSError:
        return "nobody"
    writer.transport.abort()
    try:
        async with asyncio.timeout(_PATIENCE):
            health = await run_abandonable(lambda: page(listen, "/healthz"))
            return "scheduler" if isinstance(health, dict) else "somebody"
    except (NoAnswer, TimeoutError):
        return "silent"
    except SchedulerError:
        return "somebody"


def find_process(database: Path) -> ProcessFacts | None:
    """Return the process that holds a database, as far as the kernel shows the process here."""
    process = find_holding_process(database)
    if process is None or process <= 0:
        return None
    try:
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return ProcessFacts(process)
    return ProcessFacts(process, is_stopped=state in {b"T", b"t"})
