"""A backfill request to the daemon, through the ledger, and the wait for its outcome."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.ledger_file import open_read_only, write
from scheduler.core.backfill import FireRequest
from scheduler.core.command_line import format_command, format_daemon_command
from scheduler.core.errors import Unreachable
from scheduler.core.model import Occurrence
from scheduler.ledger.fire_requests import is_requested, read_refusal, request_fire, withdraw_request
from scheduler.ledger.lock import is_locked
from scheduler.ledger.occurrence_records import OccurrenceRow, read_row

PATIENCE: Final = 30.0
"""Seconds within which the daemon must take up a request."""
_LOOK_INTERVAL: Final = 0.1


def submit(ledger: Path, request: FireRequest) -> None:
    """Submit the request to the daemon. Raises `Unreachable` without a daemon.

    Repeating a request changes nothing.
    """
    if not is_locked(ledger):
        remedy = f"start `{format_daemon_command()}`, and ask again"
        raise Unreachable(f"no daemon runs on the ledger {ledger}; {remedy}")
    write(ledger, partial(request_fire, request=request))


def wait_for_outcome(ledger: Path, occurrence: Occurrence, taken_up: Callable[[], None]) -> OccurrenceRow:
    """Wait for the row with the outcome of a requested occurrence.

    ``taken_up`` is called when the daemon has taken up the request. Raises `AnswerIsNo` when the daemon
    refuses the request or does not take up the request in time, or when the row is removed after a clock step
    backwards. Raises `Unreachable` when the daemon ends meanwhile.
    """
    _wait_until_taken_up(ledger, occurrence)
    taken_up()
    with open_read_only(ledger) as connection:
        while (row := read_row(connection, occurrence)) and row.outcome is None:
            if not is_locked(ledger):
                fault = "the daemon ended while the occurrence was open"
                raise Unreachable(f"{fault}; the next daemon goes on with it")
            time.sleep(_LOOK_INTERVAL)
    if row is None:
        fault = "the row of the occurrence is gone: the clock went back to before its instant"
        raise AnswerIsNo(f"{fault}; see `{format_command('history')}`")
    return row


def _wait_until_taken_up(ledger: Path, occurrence: Occurrence) -> None:
    until = time.perf_counter() + PATIENCE
    with open_read_only(ledger) as connection:
        while is_requested(connection, occurrence):
            is_late = time.perf_counter() > until
            if is_late and write(ledger, partial(withdraw_request, occurrence=occurrence)):
                fault = f"the daemon did not take up the request within {PATIENCE:.0f} s"
                look = f"see `{format_command('status')}`"
                raise AnswerIsNo(f"{fault}, and the request is withdrawn; {look}")
            time.sleep(_LOOK_INTERVAL)
        why = read_refusal(connection, occurrence)
    if why is not None:
        raise AnswerIsNo(why)
