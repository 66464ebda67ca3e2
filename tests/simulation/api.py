"""`SimulatedApi`: the service, with its own truth: every run that it ever started, and all that every
automation ever was.

It speaks HTTP as values, from a request to the bytes of an answer, and keeps what each automation was at any
time, so that a read can lag behind. It knows nothing of networks, and outlives its clients: what has arrived
is carried out.
"""

import asyncio
import json
import uuid
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from scheduler.core.instants import to_text
from tests.simulation.draws import Draws
from tests.simulation.script import TargetPlan
from tests.virtual import VirtualClock

Document = dict[str, object]
NOBODY: Final = ""


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that really was started. ``key`` is the Idempotency-Key of the request that did it; empty:
    somebody else's.
    """

    id: str
    automation_id: str
    at: datetime
    key: str
    number: int  # earlier runs of the automation


@dataclass(frozen=True, slots=True)
class Shape:
    """What an automation was from an instant on. ``document`` None: it was not there."""

    at: datetime
    document: Document | None
    text: str

    @property
    def fires(self) -> tuple[str, str] | None:
        """Expression and zone by which it was meant to fire; None: by none."""
        document = self.document
        if document is None or not document["enabled"] or document["cron_expression"] is None:
            return None
        return str(document["cron_expression"]), str(document["timezone"])


@dataclass(frozen=True, slots=True)
class Reply:
    """What the API answers."""

    status: int
    body: bytes
    shows: Mapping[str, str | None] | None = None  # of a read: the newest run of each automation in it
    whole: bool = False  # the page is the whole list
    strangers: bool = False  # the list holds objects that nobody can identify


def automation_id(target: str, number: int) -> str:
    """The id of an automation: the same in each simulation, and in no order."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{target}/{number}"))


class SimulatedApi:
    """One target's API. Its clock is right, but for its ``skew``."""

    def __init__(self, name: str, plan: TargetPlan, clock: VirtualClock, draws: Draws) -> None:
        self.name, self._plan, self._clock, self._draws = name, plan, clock, draws
        self.runs: list[StartedRun] = []
        self.by_key: defaultdict[str, list[StartedRun]] = defaultdict(list)
        self.shapes: defaultdict[str, list[Shape]] = defaultdict(list)
        self._run_counts: Counter[str] = Counter()
        self.ends: dict[str, datetime] = {}  # of runs, on the true clock
        self.run_lasts = plan.run_lasts
        self.hidden: frozenset[str] = frozenset()  # automations that the list leaves out
        self.intruders: list[str] = []  # rows of the list that are no automations, as JSON
        self._instants: defaultdict[str, list[datetime]] = defaultdict(list)
        self._answers: dict[str, bytes] = {}
        self._ids: dict[int, str] = {}
        self._groups: dict[tuple[int, ...], frozenset[str]] = {}
        self._order: list[str] | None = None  # the automations in the order of the list; None: sort again
        self._order_changed: datetime | None = None

    def id_of(self, number: int) -> str:
        """The id of an automation."""
        if number not in self._ids:
            self._ids[number] = automation_id(self.name, number)
        return self._ids[number]

    def ids_of(self, numbers: tuple[int, ...]) -> frozenset[str]:
        """The ids of these automations."""
        if numbers not in self._groups:
            self._groups[numbers] = frozenset(self.id_of(number) for number in numbers)
        return self._groups[numbers]

    def now(self) -> datetime:
        """What its clock shows."""
        return self._clock.true_now() + timedelta(seconds=self._plan.skew)

    @property
    def date(self) -> str:
        """The ``Date`` of an answer."""
        return format_datetime(self.now(), usegmt=True)

    # ------------------------------------------------------------ what people do

    def create(self, automation_id: str, name: str, expression: str, timezone: str) -> None:
        """Make an automation, or make one again."""
        if self._newest(automation_id) is not None:
            return
        now = to_text(self.now())
        self._put(
            automation_id,
            {
                "id": automation_id,
                "name": name,
                "cron_expression": expression,
                "timezone": timezone,
                "enabled": True,
                "last_run_at": None,
                "last_run_status": None,
                "last_task_run_id": None,
                "last_error": None,
                "created_at": now,
                "updated_at": now,
            },
        )

    def edit(self, automation_id: str, **changes: object) -> None:
        """Change it."""
        before = self._newest(automation_id)
        if before is not None and any(before.get(field) != value for field, value in changes.items()):
            self._put(automation_id, before | changes | {"updated_at": to_text(self.now())})

    def delete(self, automation_id: str) -> None:
        """Remove it."""
        if self._newest(automation_id) is not None:
            self._put(automation_id, None)

    def start(self, automation_id: str, key: str = NOBODY) -> StartedRun | None:
        """Start a run; None when there is no such automation."""
        before = self._newest(automation_id)
        if before is None:
            return None
        at = self.now()
        draw = self._draws.make_next("run", automation_id)
        run_id = f"{self._plan.run_id_start}{uuid.UUID(int=draw.getrandbits(128))}"
        number = self._run_counts[automation_id]
        self._run_counts[automation_id] += 1
        run = StartedRun(run_id, automation_id, self._clock.true_now(), key, number)
        self.runs.append(run)
        if key != NOBODY:
            self.by_key[key].append(run)
        shown = {
            "last_run_at": to_text(at),
            "last_run_status": "running",
            "last_task_run_id": run.id,
            "last_error": None,
        }
        self._put(automation_id, before | shown | {"updated_at": to_text(at)})
        lasts = draw.choice(self.run_lasts)
        if lasts is not None:
            asyncio.get_running_loop().call_later(lasts, self.finish, run)
        return run

    def finish(self, run: StartedRun) -> None:
        """A run comes to its end."""
        if run.id in self.ends:
            return
        self.ends[run.id] = self._clock.true_now()
        document = self._newest(run.automation_id)
        if document is not None and document["last_task_run_id"] == run.id:
            failed = (
                {"last_run_status": "failed", "last_error": "it broke"}
                if run.number % 5 == 0
                else {"last_run_status": "success"}
            )
            self._put(run.automation_id, document | failed | {"updated_at": to_text(self.now())})

    def finish_all(self) -> None:
        """All runs come to their end, and those that follow soon."""
        self.run_lasts = (5.0,)
        for run in self.runs:
            self.finish(run)

    # ------------------------------------------------------------ what it was

    def shape(self, automation_id: str, at: datetime) -> Shape | None:
        """What the automation was then; None: it had never been."""
        index = bisect_right(self._instants[automation_id], at)
        return self.shapes[automation_id][index - 1] if index else None

    def shapes_between(self, automation_id: str, begin: datetime, end: datetime) -> list[Shape]:
        """All that it was from then to then."""
        instants = self._instants[automation_id]
        first = max(bisect_right(instants, begin) - 1, 0)
        return self.shapes[automation_id][first : bisect_right(instants, end)]

    def _newest(self, automation_id: str) -> Document | None:
        shapes = self.shapes.get(automation_id)
        return shapes[-1].document if shapes else None

    def _put(self, automation_id: str, document: Document | None) -> None:
        at = self._clock.true_now()
        before = self._newest(automation_id)
        if before is None or document is None or before["name"] != document["name"]:
            self._order, self._order_changed = None, at
        self._instants[automation_id].append(at)
        self.shapes[automation_id].append(
            Shape(at, document, "" if document is None else json.dumps(document))
        )

    # ------------------------------------------------------------ what its clients ask

    def page(self, offset: int, limit: int, *, lag: float = 0.0, short: bool = False) -> Reply:
        """A page of the list. ``short``: the first row is missing from it, and the count knows nothing of
        that.
        """
        at = self._clock.true_now() - timedelta(seconds=lag)
        listed = self._list_at(at)
        window = slice(offset, offset + min(limit, self._plan.page))
        shapes = [self.shape(each, at) for each in (listed[1:] if short else listed)[window]]
        rows = [shape for shape in shapes if shape is not None]
        texts = [row.text for row in rows]
        if self.intruders:
            texts = [*texts, *self.intruders][: min(limit, self._plan.page)]
        count = len(listed) + len(self.intruders)
        body = f'{{"count": {count}, "next": null, "previous": null, "results": [{", ".join(texts)}]}}'
        strangers = not all(map(_is_identified, self.intruders))
        return Reply(200, body.encode(), _runs_of(rows), whole=len(rows) == len(listed), strangers=strangers)

    def _list_at(self, at: datetime) -> Sequence[str]:
        """The automations that the list showed then, in its order."""
        if self._order is None:
            self._order = self._sort_at(self._clock.true_now())
        listed = (
            self._order if self._order_changed is None or at >= self._order_changed else self._sort_at(at)
        )
        return [each for each in listed if each not in self.hidden] if self.hidden else listed

    def _sort_at(self, at: datetime) -> list[str]:
        documents = {
            each: shape.document
            for each in self.shapes
            if (shape := self.shape(each, at)) is not None and shape.document
        }
        newest_first = sorted(documents, key=lambda each: str(documents[each]["created_at"]), reverse=True)
        return sorted(newest_first, key=lambda each: str(documents[each]["name"]))

    def retrieve(self, automation_id: str, *, lag: float = 0.0) -> Reply:
        """One automation."""
        shape = self.shape(automation_id, self._clock.true_now() - timedelta(seconds=lag))
        if shape is None or shape.document is None:
            return NOT_FOUND
        return Reply(200, shape.text.encode(), _runs_of([shape]))

    def run(self, automation_id: str, key: str, then: Callable[[Reply], None]) -> None:
        """Carry out a request to run, and call ``then`` with the answer."""
        if self._plan.idempotent and key in self._answers:
            then(Reply(200, self._answers[key]))
            return
        run = self.start(automation_id, key)
        if run is None:
            then(NOT_FOUND)
            return
        body = self._answers[key] = self.shapes[automation_id][-1].text.encode()
        then(Reply(200, body))

    def show(self, automation_id: str) -> Document | None:
        """It as it is."""
        return self._newest(automation_id)


@lru_cache(maxsize=64)
def _is_identified(row: str) -> bool:
    """Whether this JSON text is an object with a UUID as its id."""
    try:
        uuid.UUID(json.loads(row)["id"])
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return False
    return True


def _runs_of(shapes: Iterable[Shape]) -> Mapping[str, str | None]:
    """The newest run of each automation; of an object that is none that can be read, nothing is shown."""
    documents = [
        shape.document
        for shape in shapes
        if shape.document is not None and shape.document["cron_expression"] is not None
    ]
    runs = {str(each["id"]): each["last_task_run_id"] for each in documents}
    return {automation_id: None if run is None else str(run) for automation_id, run in runs.items()}


NOT_FOUND: Final = Reply(
    404, b'{"type": "invalid_request", "code": "not_found", "detail": "Not found.", "attr": null}'
)
