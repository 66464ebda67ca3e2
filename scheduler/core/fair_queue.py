"""The order in which waiting occurrences of a target get places when places are short.

This module is pure. Joining, leaving and choosing are O(log n).

- Three of four places go to the automation with the largest share of lost occurrences among its recent
  occurrences, in steps of five points. A shortage is therefore shared: no automation loses much more than the
  shortage itself, and automations with equal schedules lose alike.
- Among automations with equal losses, the first waiting occurrence of each automation precedes the second of
  any automation (rounds). Losses come before rounds because the first occurrences of other automations never
  end in a shortage: an automation with catch-up of all occurrences would get the fourth place only.
- Within a round, the occurrence with the earliest loss comes first. An occurrence is lost at its deadline, or
  when the next occurrence of its automation coalesces it.
- The fourth place goes to the occurrence that has waited longest for its turn: since its due instant, or
  since the previous occurrence of its automation was sent. Among occurrences due at the same instant, the
  larger share of lost occurrences decides here too.
- Automations whose last request hung come last for three of the four places. The fourth place keeps these
  automations from starving.
"""

from collections import OrderedDict
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, TypeVar

_EVERY_FOURTH: Final = 4
_WEIGHT: Final = 1 / 8
"""Weight of the newest occurrence in an automation's share of lost occurrences."""
_STEP: Final = 0.05
"""Width of a step within which shares of lost occurrences count as equal.

Rounds and deadlines decide within a step.
"""
_FORGOTTEN_SHARE: Final = 0.01
"""Smallest remembered share of lost occurrences."""
_MOST_KEPT: Final = 100_000
"""Largest number of automations in each memory. The automations that changed last are kept."""

_Key = tuple[float | int, ...]
_V = TypeVar("_V")


@dataclass(slots=True, eq=False)
class Ticket:
    """A waiting occurrence.

    ``since`` is the due instant of the occurrence, or of the first occurrence coalesced into it.
    """

    automation_id: str
    since: float
    round: int
    deadline_key: _Key
    waiting_key: _Key
    is_waiting: bool = True


class _Heap:
    """A heap of tickets, ordered by a key.

    A ticket without a waiting occurrence stays in the heap until the ticket reaches the top, or until such
    tickets are the majority.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[_Key, Ticket]] = []

    def push(self, key: _Key, ticket: Ticket, waiting: int) -> None:
        heappush(self._entries, (key, ticket))
        if len(self._entries) > 2 * waiting + 64:
            self._entries = [entry for entry in self._entries if entry[1].is_waiting]
            heapify(self._entries)

    def pop(self) -> Ticket | None:
        while self._entries:
            ticket = heappop(self._entries)[1]
            if ticket.is_waiting:
                return ticket
        return None


class _Memory(OrderedDict[str, _V]):
    """A memory of one value per automation, limited to the latest changes.

    The queue does not learn of deleted automations, so the oldest entries are removed.
    """

    def __setitem__(self, automation_id: str, value: _V) -> None:
        super().__setitem__(automation_id, value)
        self.move_to_end(automation_id)
        if len(self) > _MOST_KEPT:
            self.popitem(last=False)


class FairQueue:
    """The waiting occurrences of one target. Instants are seconds of a clock without steps backward."""

    def __init__(self) -> None:
        self._by_deadline = _Heap()
        self._by_waiting = _Heap()
        self._waiting: dict[Ticket, None] = {}
        self._numbers = count()
        self._places = 0
        self._round = 0
        self._sent = _Memory[tuple[float, int]]()  # instant and round of the last send, by automation
        self._lost = _Memory[float]()
        self._hung = _Memory[bool]()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, automation_id: str, *, lost_at: float, since: float) -> Ticket:
        """Add an occurrence and return its ticket. The occurrence is lost at ``lost_at``."""
        sent_at, sent_in = self._sent.get(automation_id, (since, 0))
        waited_behind = since < sent_at  # the occurrence waited when its automation was last served
        its_round = max(self._round, sent_in + 1) if waited_behind else self._round
        hung, number = automation_id in self._hung, next(self._numbers)
        share = self._lost.get(automation_id, 0.0)
        level = int(share / _STEP)
        ticket = Ticket(
            automation_id,
            since,
            its_round,
            deadline_key=(hung, -level, its_round, lost_at, since, number),
            waiting_key=(max(since, sent_at), hung, -share, number),
        )
        self._waiting[ticket] = None
        self._by_deadline.push(ticket.deadline_key, ticket, len(self))
        self._by_waiting.push(ticket.waiting_key, ticket, len(self))
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Remove an occurrence from the waiting occurrences.

        Does nothing when the occurrence has left already.
        """
        ticket.is_waiting = False
        self._waiting.pop(ticket, None)

    def choose(self) -> Ticket | None:
        """Remove and return the occurrence for the next place, or None when no occurrence waits."""
        self._places += 1
        heap = self._by_waiting if self._places % _EVERY_FOURTH == 0 else self._by_deadline
        ticket = heap.pop()
        if ticket is None:
            return None
        self.leave(ticket)
        return ticket

    def record_send(self, ticket: Ticket, now: float) -> None:
        """Record the send of an occurrence.

        Waiting occurrences of the same automation belong to the next round.
        """
        if self._waiting:
            self._round = max(self._round, ticket.round)
            self._sent[ticket.automation_id] = (now, ticket.round)
        else:  # no other occurrence waits, so fairness needs no memory of sends
            self._sent.clear()
            self._round = 0
        self._update_share(ticket.automation_id, lost=False)

    def record_loss(self, ticket: Ticket) -> None:
        """Record the outcome of an occurrence during its wait."""
        self._update_share(ticket.automation_id, lost=True)

    def _update_share(self, automation_id: str, *, lost: bool) -> None:
        before = self._lost.pop(automation_id, 0.0)
        share = before + (float(lost) - before) * _WEIGHT
        if share >= _FORGOTTEN_SHARE:
            self._lost[automation_id] = share

    def record_answer(self, automation_id: str, *, hung: bool) -> None:
        """Record whether the last request for an automation hung."""
        if hung:
            self._hung[automation_id] = True
        else:
            self._hung.pop(automation_id, None)
