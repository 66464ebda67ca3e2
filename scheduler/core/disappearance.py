"""Disappearances: a list shows less than half of the automations of a short time before.

This module is pure.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.recorded_state import Removal
from scheduler.core.status import Disappearance

FEWEST_AUTOMATIONS: Final = 5
"""The smallest number of automations whose disappearance is reported."""
DISAPPEARANCE_WINDOW: Final = timedelta(hours=1)
"""The time within which several removals count as one disappearance."""


class DisappearanceWatch:
    """The numbers of automations in a list within the last hour, and the newest disappearance.

    A disappearance is the loss of more than half of the automations.
    """

    def __init__(self) -> None:
        self.newest: Disappearance | None = None
        """The newest disappearance, until half of its automations are shown again."""
        self._shown_count = 0
        # (instant until which the list showed a number, the number), without numbers not above a later number
        self._numbers: deque[tuple[datetime, int]] = deque()
        self._is_short = False

    def recall(self, recorded: int, removals: Iterable[Removal]) -> None:
        """Restore the state from the ledger.

        ``recorded`` is the number of automations now. ``removals`` are the removals within a stretch of time.
        """
        steps = Counter[datetime]()
        self._shown_count = recorded
        for removal in removals:
            steps[removal.removed_at] -= 1
            if removal.added_at is None:
                self._shown_count += 1
            else:
                steps[removal.added_at] += 1
        for at, step in sorted(steps.items()):
            self.note(at, self._shown_count + step)

    def note(self, at: datetime, shown: int) -> Disappearance | None:
        """Record the number ``shown`` of automations in a complete list of ``at``.

        Return a disappearance beginning with this list, or None.
        """
        while self._numbers and self._numbers[-1][1] <= self._shown_count:
            self._numbers.pop()
        self._numbers.append((at, self._shown_count))
        while self._numbers[0][0] < at - DISAPPEARANCE_WINDOW:
            self._numbers.popleft()
        self._shown_count, largest = shown, self._numbers[0][1]
        was_short, self._is_short = self._is_short, largest >= FEWEST_AUTOMATIONS and 2 * shown < largest
        if self._is_short and not was_short:
            self.newest = Disappearance(at, largest - shown, largest)
            return self.newest
        if self.newest is not None and self._is_short and largest - shown > self.newest.gone:
            self.newest = replace(self.newest, gone=largest - shown, known=largest)
        if self.newest is not None and 2 * shown >= self.newest.known:
            self.newest = None
        return None
