"""Asking the daemon for an occurrence, through the ledger, and waiting for what comes of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from scheduler.audit.account import Row, row_of
from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.ledger_file import reading, write
from scheduler.core.command_line import command_line, start_daemon
from scheduler.core.errors import Unreachable
from scheduler.core.fires import FireRequest
from scheduler.ledger.fires import ask, is_asked_for, refusal, take_back
from scheduler.ledger.lock import is_locked

PATIENCE: Final = 30.0
"""Seconds in which the daemon has to take a request up."""
_LOOK_EVERY: Final = 0.1


@dataclass(frozen=True, slots=True)
class Asking:
    """One request, in one ledger."""

    path: Path
    request: FireRequest

    def ask(self) -> None:
        """Leave the request with the daemon. Raises `Unreachable` when there is none; asked already is asked."""
        if not is_locked(self.path):
            raise Unreachable(f"no daemon has the ledger {self.path}, so nobody would start it; start `{start_daemon()}`, and ask again")
        write(self.path, partial(ask, request=self.request))

    def outcome(self, taken_up: Callable[[], None]) -> Row:
        """The row with what came of it; ``taken_up`` is called when the daemon has it. Raises `AnswerIsNo` when it will not have it."""
        self._until_taken_up()
        taken_up()
        with reading(self.path) as connection:
            while True:
                row = row_of(connection, self.request.occurrence)
                if row is None or row.outcome is not None:
                    break
                if not is_locked(self.path):
                    raise Unreachable("the daemon has gone, and the occurrence is open: the next one goes on with it")
                time.sleep(_LOOK_EVERY)
        if row is None:
            raise AnswerIsNo(f"its row is gone: the clock went back to before it; see `{command_line('history')}`")
        return row

    def _until_taken_up(self) -> None:
        occurrence, until = self.request.occurrence, time.perf_counter() + PATIENCE
        with reading(self.path) as connection:
            while is_asked_for(connection, occurrence):
                if time.perf_counter() > until and write(self.path, partial(take_back, occurrence=occurrence)):
                    raise AnswerIsNo(
                        f"the daemon has not looked for {PATIENCE:.0f} s, so it is not asked for any more; see `{command_line('status')}`"
                    )
                time.sleep(_LOOK_EVERY)
            why = refusal(connection, occurrence)
        if why is not None:
            raise AnswerIsNo(why)
