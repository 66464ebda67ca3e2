"""The state machine of a delivery: whatever happens, at most one run, one outcome, and no send at a wrong
time.

The machine of Hypothesis plays the shell: it performs the next action, draws the result, and applies the
event. Meanwhile the facts change: time passes, clocks are set, operators pause, the target is held,
automations are edited or deleted.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scheduler.core import actions
from scheduler.core import delivery as d
from scheduler.core.actions import (
    AutomationFacts,
    BreakerFacts,
    DaemonFacts,
    DeliveryFacts,
    NewestReading,
    QueueFacts,
    SendFacts,
)
from scheduler.core.admission import next_action
from scheduler.core.cron.schedule import Schedule
from scheduler.core.model import (
    Attempt,
    AttemptEnd,
    Automation,
    Conclusion,
    Definition,
    Occurrence,
    Outcome,
    Reason,
    Run,
    RunStatus,
    State,
)
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import CatchUp, Concurrency, Policies
from scheduler.core.reconcile import UnknownAttempt
from scheduler.core.response import (
    AttemptAccepted,
    AttemptVerdict,
    AutomationNotFound,
    Held,
    MaybeStarted,
    NotStarted,
    Rejected,
    Throttled,
)
from scheduler.core.timetable import TimetableEntry
from tests import states_page
from tests.defaults import make_policies

DUE = datetime(2026, 11, 23, 12, tzinfo=UTC)
DEADLINE = DUE + timedelta(minutes=10)
EARLY = DUE - timedelta(seconds=20)
OCCURRENCE = Occurrence("main", "a", DUE)
SETTLE_TIME = 30.0
AUTOMATION = Automation("a", "nightly", Definition("* * * * *", "UTC", enabled=True))
STARTED = replace(AUTOMATION, run_id="ours", run_at=DUE)
LONGEST_LIFE = 400
"""Steps within which a delivery without further trouble comes to its end."""

VERDICTS: tuple[AttemptVerdict, ...] = (
    AttemptAccepted(STARTED),
    Rejected("refused"),
    MaybeStarted("no answer"),
    MaybeStarted("HTTP 503", 20.0),
    NotStarted("no connection"),
    Throttled("HTTP 429", 5.0),
    Held("HTTP 401"),
    AutomationNotFound("HTTP 404"),
)
DOUBTS = [verdict for verdict in VERDICTS if isinstance(verdict, MaybeStarted)]


def make_entry(effective_from: datetime = EARLY, *, enabled: bool = True, **more: Any) -> TimetableEntry:
    schedule = Schedule.parse("* * * * *", "UTC") if enabled else None
    return TimetableEntry(AUTOMATION, effective_from, make_policies(), schedule, **more)


def make_delivery(entry: TimetableEntry | None, **known: Any) -> d.Delivery:
    return replace(
        d.Delivery(OCCURRENCE, "nightly", DUE, DEADLINE, State.WAITING, is_late=False, entry=entry), **known
    )


class World:
    """Facts of a delivery, and the small world that answers its actions."""

    def __init__(self, *, is_idempotent: bool, policies: Policies, is_backfill: bool) -> None:
        self.now, self.boottime, self.elapsed = EARLY, 1000.0, 0.0
        self.is_idempotent, self.policies = is_idempotent, policies
        self.entry: TimetableEntry | None = make_entry()
        self.delivery = make_delivery(None if is_backfill else self.entry, is_backfill=is_backfill)
        self.is_paused = self.must_read_pauses = False
        self.in_doubt = self.stale = self.needs_reading = self.has_newer = False
        self.absent_until: datetime | None = None
        self.breaker_wait = 0.0
        self.reading = NewestReading(AUTOMATION, float("-inf"))
        self.baseline: str | None = None
        self.late_run: Run | None = None
        self.is_head = True
        self.open_doubts = 0  # sends that may have started a run, and that no reading has cleared
        self.events: list[d.DeliveryEvent] = []

    def apply(self, event: d.DeliveryEvent) -> None:
        self.events.append(event)
        self.delivery = event.apply_to(self.delivery)

    def collect(self) -> DeliveryFacts:
        return DeliveryFacts(
            DaemonFacts(self.now, self.boottime, self.in_doubt, is_stopping=False, clock_offset=0.0),
            SendFacts(
                self.is_idempotent,
                timedelta(hours=1),
                self.absent_until,
                self.stale,
                BreakerFacts(self.breaker_wait, Cause.HELD, "bad key", None),
            ),
            AutomationFacts(
                self.entry,
                self.policies,
                self.is_paused,
                self.must_read_pauses,
                None,
                self.needs_reading,
                self.reading,
                self.baseline,
                self.late_run if self.delivery.unstarted_attempt else None,
            ),
            QueueFacts(self.is_head, self.has_newer, None),
        )

    def end_troubles(self) -> None:
        self.in_doubt = self.stale = self.needs_reading = self.has_newer = False
        self.is_paused = self.must_read_pauses = False
        self.breaker_wait, self.is_head = 0.0, True

    def let_pass(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.boottime += seconds

    def make_end(self, verdict: AttemptVerdict) -> AttemptEnd:
        assert self.delivery.attempt is not None
        error = None if isinstance(verdict, AttemptAccepted) else verdict.error
        return AttemptEnd(self.delivery.attempt.number, verdict.result, self.now, self.now, None, error)

    def check_send(self, facts: DeliveryFacts) -> None:
        """Check each condition of a send on the facts themselves, not on the rules of the code."""
        delivery = self.delivery
        assert facts.queue.is_head
        assert self.open_doubts == 0 or self.is_idempotent, "a second send beside an unknown attempt"
        assert not facts.daemon.is_clock_in_doubt
        assert not facts.send.is_stale
        assert facts.send.breaker.wait <= 0, "an open breaker"
        assert facts.automation.entry is not None, "a deleted automation"
        assert not facts.automation.needs_reading
        assert self.now <= delivery.find_deadline(facts.send.run_timeout), "after the deadline"
        assert delivery.not_before <= self.boottime, "during a back-off"
        assert delivery.place_state is d.PlaceState.GRANTED
        assert self.late_run is None or not delivery.unstarted_attempt, "a run that appeared late"
        if not delivery.is_backfill:
            assert self.now >= delivery.due, "before due"
            assert not facts.automation.is_paused, "while paused"

    def perform(self, draw: Callable[[str, strategies.SearchStrategy[Any]], Any]) -> None:
        """Perform the next action. ``draw`` chooses between the results that the shell may meet."""
        facts = self.collect()
        action = next_action(self.delivery, facts)
        if isinstance(action, actions.Send):
            self.check_send(facts)
        self._performers[type(action)](self, action, draw)

    def _stop(self, _: actions.Stop, _draw: Any) -> None:
        self.is_head = True

    def _await_due(self, action: actions.AwaitDue, _draw: Any) -> None:
        self.apply(d.NotDue())
        self.let_pass(min(30.0, max(action.seconds, 0.001)))

    def _sleep(self, action: actions.Sleep, _draw: Any) -> None:
        if action.is_due:
            self.apply(d.Delayed(self.boottime, action.cause))
        self.let_pass(min(30.0, 30.0 if action.seconds is None else max(action.seconds, 0.001)))

    def _read_pauses(self, _: actions.ReadPauses, draw: Any) -> None:
        self.is_paused, self.must_read_pauses = draw("paused", strategies.booleans()), False

    def _read_automation(self, action: actions.ReadAutomation, draw: Any) -> None:
        self.apply(d.Delayed(self.boottime, Cause.READING))
        result = draw("reading", strategies.sampled_from(["finished", "running", "failed", "gone"]))
        if result == "failed":
            self.let_pass(action.seconds)
            self.apply(d.ReadingFailed("no reading"))
        elif result == "gone":
            self._resolve(Outcome.SKIPPED, Reason.DELETED)
        else:
            status = "success" if result == "finished" else "running"
            newest = replace(AUTOMATION, run_id="before", run_at=EARLY, run_status=status)
            self.reading, self.baseline = NewestReading(newest, self.boottime), "before"

    def _confirm_presence(self, action: actions.ConfirmPresence, draw: Any) -> None:
        self.apply(d.Delayed(self.boottime, Cause.UNCONFIRMED))
        self.needs_reading = draw("still in doubt", strategies.booleans())
        self.let_pass(min(action.seconds, 30.0))

    def _request_place(self, _: actions.RequestPlace, _draw: Any) -> None:
        self.apply(d.PlaceRequested(self.boottime, self.boottime))

    def _await_place(self, action: actions.AwaitPlace, draw: Any) -> None:
        if draw("granted", strategies.booleans()):
            self.apply(d.PlaceGranted())
        else:
            self.let_pass(min(action.seconds, 10.0))

    def _release_place(self, action: actions.ReleasePlace, _draw: Any) -> None:
        self.apply(d.PlaceReleased("no place" if action.conclusion else None))

    def _write_attempt(self, action: actions.WriteAttempt, draw: Any) -> None:
        written = self.boottime
        self.let_pass(draw("seconds of the write", strategies.sampled_from([0.003, 0.003, 20.0])))
        self.apply(d.AttemptWritten(action.attempt, written))

    def _discard_attempt(self, _: actions.DiscardAttempt, _draw: Any) -> None:
        self.apply(d.AttemptDiscarded())

    def _send(self, _: actions.Send, draw: Any) -> None:
        self.apply(d.SendBegun(d.SendInstant(self.now, self.boottime, self.now)))
        self.let_pass(0.1)
        verdict = draw("verdict", strategies.sampled_from(VERDICTS))
        if isinstance(verdict, MaybeStarted):
            self.open_doubts += 1
        end = self.make_end(verdict)
        self.apply(d.Answered(verdict, end, self.boottime, SETTLE_TIME, 4.0))
        assert self.delivery.maybe_sent or not isinstance(verdict, MaybeStarted)

    def _record_end(self, _: actions.RecordEnd, _draw: Any) -> None:
        self.apply(d.AttemptEndRecorded())

    def _check_list(self, _: actions.CheckList, draw: Any) -> None:
        self.apply(d.ListChecked(self.now, draw("gone", strategies.booleans())))

    def _check_run(self, action: actions.CheckRun, draw: Any) -> None:
        if draw("run is known", strategies.booleans()):
            self.late_run = None
            self.apply(d.LateRunDismissed())
        else:
            self._resolve(Outcome.ACCEPTED, Reason.FOUND, run=action.run)

    def _reconcile(self, _: actions.Reconcile, draw: Any) -> None:
        self.apply(d.ReconcileBegun())
        self.let_pass(SETTLE_TIME)
        result = draw("result", strategies.sampled_from(["nothing", "found", "covered"]))
        if result == "nothing":
            self.open_doubts = 0
            self.apply(d.NotStartedRecorded())
            assert self.delivery.unstarted_attempt, "a run of the attempt may still appear"
        elif result == "found":
            self._resolve(Outcome.ACCEPTED, Reason.FOUND, run=Run("found", "a", self.now, RunStatus.RUNNING))
        else:
            self._resolve(Outcome.UNRESOLVED, Reason.COVERED)

    def _resolve(self, outcome: Outcome, reason: Reason, run: Run | None = None) -> None:
        self.apply(d.Resolved(self.delivery.make_conclusion(outcome, reason, self.now, run=run)))

    def _conclude(self, action: actions.Conclude, draw: Any) -> None:
        was_in_doubt = any(isinstance(event, d.Answered) and event.verdict in DOUBTS for event in self.events)
        assert action.conclusion.reason is not Reason.COALESCED or not was_in_doubt
        if action.conclusion.run is not None and draw("run is taken", strategies.booleans()):
            self.open_doubts += self.delivery.unrecorded_end is not None
            self.apply(d.RunRefused(self.now, self.boottime, SETTLE_TIME, back_off=7.0))
        else:
            self.apply(d.Concluded())

    def _withdraw(self, _: actions.Withdraw, _draw: Any) -> None:
        assert not any(isinstance(event, d.SendBegun) for event in self.events), "an attempt was sent"
        self.apply(d.Withdrawn())

    _performers: ClassVar[Mapping[type[actions.DeliveryAction], Any]] = {
        actions.Stop: _stop,
        actions.AwaitDue: _await_due,
        actions.Sleep: _sleep,
        actions.ReadPauses: _read_pauses,
        actions.ReadAutomation: _read_automation,
        actions.ConfirmPresence: _confirm_presence,
        actions.RequestPlace: _request_place,
        actions.AwaitPlace: _await_place,
        actions.ReleasePlace: _release_place,
        actions.WriteAttempt: _write_attempt,
        actions.DiscardAttempt: _discard_attempt,
        actions.Send: _send,
        actions.RecordEnd: _record_end,
        actions.CheckList: _check_list,
        actions.CheckRun: _check_run,
        actions.Reconcile: _reconcile,
        actions.Conclude: _conclude,
        actions.Withdraw: _withdraw,
    }


def is_open(machine: Any) -> bool:
    return machine.world.delivery.end is None


class DeliveryMachine(RuleBasedStateMachine):
    """A delivery in a world in which anything may happen between two actions."""

    world: World

    @initialize(
        is_idempotent=strategies.booleans(),
        is_backfill=strategies.booleans(),
        catch_up=strategies.sampled_from(CatchUp),
        concurrency=strategies.sampled_from([Concurrency.ALLOW, Concurrency.ALLOW, *Concurrency]),
        seconds=strategies.sampled_from([0.0, 21.0, 21.0]),
    )
    def begin(
        self,
        *,
        is_idempotent: bool,
        is_backfill: bool,
        catch_up: CatchUp,
        concurrency: Concurrency,
        seconds: float,
    ) -> None:
        policies = make_policies(catch_up=catch_up, concurrency=concurrency)
        self.world = World(is_idempotent=is_idempotent, policies=policies, is_backfill=is_backfill)
        self.world.let_pass(seconds)

    @precondition(is_open)
    @rule(data=strategies.data(), number=strategies.integers(1, 12))
    def act(self, data: Any, number: int) -> None:
        for _ in range(number):
            if self.world.delivery.end is None:
                self.world.perform(lambda label, strategy: data.draw(strategy, label))

    @rule(seconds=strategies.sampled_from([1.0, 61.0, 130.0, 700.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.world.let_pass(seconds)

    @rule(seconds=strategies.sampled_from([-300.0, -5.0, 5.0, 300.0]))
    def set_the_clock(self, seconds: float) -> None:
        self.world.now += timedelta(seconds=seconds)

    @rule(
        name=strategies.sampled_from(["in_doubt", "stale", "needs_reading", "has_newer", *["is_paused"] * 3])
    )
    def begin_trouble(self, name: str) -> None:
        setattr(self.world, name, True)

    @rule(wait=strategies.sampled_from([2.0, 20.0]))
    def open_the_breaker(self, wait: float) -> None:
        self.world.breaker_wait = wait

    @rule()
    def forget_pauses(self) -> None:
        self.world.must_read_pauses = True

    @rule()
    def end_troubles(self) -> None:
        self.world.end_troubles()

    @rule(moment=strategies.sampled_from([-1.0, 1.0]), enabled=strategies.booleans())
    def edit(self, *, moment: float, enabled: bool) -> None:
        if self.world.entry is not None:
            entry = make_entry(DUE + timedelta(seconds=moment), enabled=enabled)
            self.world.entry.following = entry
            self.world.entry = entry

    @rule(is_deleted=strategies.sampled_from([True, False, False]))
    def delete(self, *, is_deleted: bool) -> None:
        self.world.entry = None if is_deleted else self.world.entry

    @rule()
    def let_another_run_appear(self) -> None:
        self.world.late_run = Run("late", "a", self.world.now, RunStatus.RUNNING)

    @rule()
    def let_an_older_occurrence_precede(self) -> None:
        self.world.is_head = self.world.delivery.is_under_way

    @precondition(is_open)
    @rule()
    def fail_inside(self) -> None:
        world = self.world
        world.open_doubts += world.delivery.state is State.IN_FLIGHT
        world.apply(d.Faulted(world.boottime, SETTLE_TIME))

    @invariant()
    def doubt_is_known(self) -> None:
        if hasattr(self, "world") and self.world.open_doubts and is_open(self):
            delivery = self.world.delivery
            decided = delivery.conclusion is not None
            assert decided or delivery.is_undecided or self.world.is_idempotent

    def teardown(self) -> None:
        """Without further trouble the delivery ends, with one outcome, and nothing follows."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.end_troubles()
        for _ in range(LONGEST_LIFE):
            if world.delivery.end is not None:
                break
            world.perform(choose_the_end)
        assert world.delivery.end is not None, world.delivery
        assert sum(isinstance(event, d.Concluded | d.Withdrawn) for event in world.events) == 1
        with pytest.raises(d.InvalidTransition):
            d.Concluded().apply_to(world.delivery)


def choose_the_end(label: str, _: object) -> Any:
    return {
        "paused": False,
        "reading": "finished",
        "still in doubt": False,
        "granted": True,
        "seconds of the write": 0.003,
        "verdict": VERDICTS[0],
        "gone": True,
        "run is known": True,
        "result": "found",
        "run is taken": False,
    }[label]


def test_whatever_happens_a_delivery_is_sent_only_when_it_may_be_and_ends_once() -> None:
    run_state_machine_as_test(
        DeliveryMachine,
        settings=settings(max_examples=150, stateful_step_count=20, deadline=None, derandomize=True),
    )


# ---------------------------------------------------------------- single transitions


def list_transitions() -> Iterator[tuple[State, type[d.DeliveryEvent]]]:
    yield from ((state, event) for state, events in d.TRANSITIONS.items() for event in events)


def test_each_state_and_each_event_is_in_the_table() -> None:
    assert d.TRANSITIONS.keys() == set(State)
    ends = set().union(*(places for events in d.TRANSITIONS.values() for places in events.values()))
    assert ends == {*State, *d.End}


@pytest.mark.parametrize("state", State)
def test_an_event_that_the_table_does_not_have_is_an_error(state: State) -> None:
    attempt = Attempt(1, DUE, None)
    flight = d.SendInstant(DUE, 1000.0, None)
    delivery = make_delivery(None, state=state, attempt=attempt, flight=flight)
    examples: list[d.DeliveryEvent] = [
        d.AttemptWritten(attempt, 1000.0),
        d.AttemptDiscarded(),
        d.SendBegun(flight),
        d.AttemptEndRecorded(),
        d.NotStartedRecorded(),
        d.Withdrawn(),
    ]
    for event in examples:
        if type(event) not in d.TRANSITIONS[state]:
            with pytest.raises(d.InvalidTransition):
                event.apply_to(delivery)


def test_an_unknown_attempt_of_a_target_without_keys_is_reconciled_and_not_sent_again() -> None:
    world = World(is_idempotent=False, policies=make_policies(), is_backfill=False)
    world.let_pass(21.0)
    answers = {**dict.fromkeys(["granted"], True), "verdict": MaybeStarted("no answer")}
    kinds = []
    for _ in range(7):
        kinds.append(type(next_action(world.delivery, world.collect())))
        if kinds[-1] is actions.Reconcile:
            break
        world.perform(lambda label, _: answers.get(label, 0.003))
    assert kinds == [
        actions.RequestPlace,
        actions.AwaitPlace,
        actions.WriteAttempt,
        actions.Send,
        actions.RecordEnd,
        actions.Reconcile,
    ]


def test_the_conclusion_of_a_sent_attempt_has_its_send_instant_and_lateness() -> None:
    sent = d.SendInstant(DUE + timedelta(seconds=2), 1000.0, None)
    run = Run("ours", "a", DUE, RunStatus.RUNNING)
    delivery = make_delivery(None, sent=sent)
    conclusion = delivery.make_conclusion(Outcome.ACCEPTED, Reason.ANSWERED, DUE, run=run)
    assert (conclusion.sent_at, conclusion.lateness) == (sent.at, 2.0)
    unsent = delivery.make_conclusion(Outcome.EXPIRED, Reason.NOT_STARTED, DEADLINE)
    assert unsent == Conclusion(Outcome.EXPIRED, Reason.NOT_STARTED, DEADLINE)


def test_a_backfill_is_accepted_as_manual() -> None:
    sent = d.SendInstant(DUE, 1000.0, None)
    run = Run("ours", "a", DUE, RunStatus.RUNNING)
    delivery = make_delivery(None, sent=sent, is_backfill=True)
    conclusion = delivery.make_conclusion(Outcome.ACCEPTED, Reason.FOUND, DUE, run=run)
    assert conclusion.reason is Reason.MANUAL


# ---------------------------------------------------------------- single conditions


def make_ready() -> World:
    """Make a world whose delivery is about to send: due, with a place and a fresh attempt."""
    world = World(is_idempotent=False, policies=make_policies(), is_backfill=False)
    world.let_pass(21.0)
    while not isinstance(next_action(world.delivery, world.collect()), actions.Send):
        world.perform(choose_the_end)
    return world


def skip(reason: Reason) -> tuple[Outcome, Reason]:
    return Outcome.SKIPPED, reason


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        ({"is_paused": True}, skip(Reason.PAUSED)),
        ({"policies": make_policies(paused=True)}, skip(Reason.PAUSED)),
        ({"entry": None}, skip(Reason.DELETED)),
        ({"entry": make_entry(DUE + timedelta(seconds=1), enabled=False)}, skip(Reason.DELETED)),
        ({"entry": make_entry(DUE - timedelta(seconds=1), enabled=False)}, skip(Reason.DELETED)),
        ({"has_newer": True}, skip(Reason.COALESCED)),
        ({"now": DEADLINE + timedelta(seconds=1)}, (Outcome.EXPIRED, Reason.NOT_STARTED)),
        ({"now": DUE - timedelta(seconds=1)}, None),
        ({"breaker_wait": 1.0}, None),
        ({"in_doubt": True}, None),
        ({"stale": True}, None),
        ({"absent_until": DUE}, None),
        ({"needs_reading": True}, None),
        ({"is_head": False}, None),
    ],
)
def test_each_condition_alone_keeps_a_ready_attempt_from_being_sent(
    changes: Mapping[str, Any], ends: tuple[Outcome, Reason] | None
) -> None:
    world = make_ready()
    for name, value in changes.items():
        setattr(world, name, value)
    if (entry := changes.get("entry")) is not None:
        assert world.delivery.entry is not None
        world.delivery.entry.following = entry
    action = next_action(world.delivery, world.collect())
    assert isinstance(action, actions.ReleasePlace)
    found = action.conclusion and (action.conclusion.outcome, action.conclusion.reason)
    assert found == ends


def test_a_late_run_keeps_a_ready_attempt_from_being_sent_and_is_the_outcome() -> None:
    world = make_ready()
    doubt = UnknownAttempt(None, 900.0, 930.0, SETTLE_TIME)
    world.delivery = replace(world.delivery, unstarted_attempt=doubt)
    world.late_run = Run("late", "a", DUE, RunStatus.RUNNING)
    kinds = []
    while world.delivery.end is None:
        kinds.append(type(next_action(world.delivery, world.collect())))
        world.perform(lambda _label, _strategy: False)
    assert kinds == [actions.ReleasePlace, actions.CheckRun, actions.DiscardAttempt, actions.Conclude]


def test_after_readings_resolve_a_doubt_a_resend_that_was_already_written_is_written_anew() -> None:
    """The ledger has closed the written attempt as well: no attempt may be sent under its number."""
    world = World(is_idempotent=True, policies=make_policies(), is_backfill=False)
    world.let_pass(21.0)
    answers = {"granted": True, "verdict": MaybeStarted("no answer"), "seconds of the write": 0.003}
    while not (world.delivery.state is State.CLAIMED and world.delivery.unknown_attempt):
        world.perform(lambda label, _: answers[label])
    world.apply(d.NotStartedRecorded())
    world.late_run = None
    action = next_action(world.delivery, world.collect())
    assert isinstance(action, actions.WriteAttempt)
    assert action.attempt.number == 3


@pytest.mark.parametrize("verdict", [Rejected("HTTP 400"), AutomationNotFound("HTTP 404")])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_run_that_appears_late_during_a_refused_attempt_is_the_outcome(
    verdict: Rejected | AutomationNotFound, *, is_known: bool
) -> None:
    world = make_ready()
    doubt = UnknownAttempt(None, 900.0, 930.0, SETTLE_TIME)
    world.delivery = replace(world.delivery, unstarted_attempt=doubt)
    world.perform(lambda _label, _strategy: verdict)
    world.late_run = Run("late", "a", DUE, RunStatus.RUNNING)
    answers = {"gone": True, "run is known": is_known}
    while world.delivery.end is None:
        world.perform(
            lambda label, strategy: (
                answers.get(label) if label in answers else choose_the_end(label, strategy)
            )
        )
    assert world.delivery.conclusion is not None
    assert (world.delivery.conclusion.run is None) is is_known


def answer_with_the_run_of_another(delivery: d.Delivery, boottime: float, back_off: float) -> d.Delivery:
    """A delivery whose attempt is accepted with a run that, by the ledger, belongs to another occurrence."""
    number = delivery.attempt_count + 1
    end = AttemptEnd(number, AttemptAccepted.result, DUE, DUE, 200, None)
    for event in (
        d.AttemptWritten(Attempt(number, DUE, "before", 0.0), boottime),
        d.SendBegun(d.SendInstant(DUE, boottime, DUE)),
        d.Answered(AttemptAccepted(STARTED), end, boottime, SETTLE_TIME, back_off),
        d.RunRefused(DUE, boottime, SETTLE_TIME, back_off),
        d.AttemptEndRecorded(),
    ):
        delivery = event.apply_to(delivery)
    return delivery


def test_an_answer_that_names_the_run_of_another_occurrence_again_and_again_is_no_storm() -> None:
    once = answer_with_the_run_of_another(make_delivery(make_entry()), 1000.0, back_off=5.0)
    assert (once.state, once.failures, once.not_before) == (State.UNKNOWN, 1, 1000.0)
    twice = answer_with_the_run_of_another(once, 1001.0, back_off=5.0)
    assert (twice.state, twice.failures, twice.not_before) == (State.UNKNOWN, 2, 1006.0)


def test_a_refused_run_does_not_forget_an_earlier_attempt_whose_run_may_appear_late() -> None:
    earlier = UnknownAttempt("before", 900.0, 905.0, SETTLE_TIME)
    delivery = make_delivery(make_entry(), unstarted_attempt=earlier)
    unknown = answer_with_the_run_of_another(delivery, 1000.0, back_off=5.0).unknown_attempt
    assert unknown is not None
    assert (unknown.sent, unknown.ended) == (900.0, 1000.0)


def test_an_occurrence_with_a_doubtful_attempt_is_not_coalesced() -> None:
    world = make_ready()
    world.delivery, world.has_newer = replace(world.delivery, maybe_sent=True), True
    assert isinstance(next_action(world.delivery, world.collect()), actions.Send)


@pytest.mark.parametrize(
    ("known", "is_withdrawn"),
    [
        ({}, True),
        ({"attempt": Attempt(1, EARLY, None)}, False),
        ({"attempt": Attempt(1, EARLY, None), "state": State.CLAIMED}, True),
        ({"has_coalesced": True}, False),
    ],
)
def test_an_edit_takes_back_before_the_due_instant_what_was_not_tried(
    known: Mapping[str, Any], *, is_withdrawn: bool
) -> None:
    world = World(is_idempotent=False, policies=make_policies(), is_backfill=False)
    assert world.entry is not None
    world.delivery = replace(world.delivery, **known)
    world.entry.following = world.entry = make_entry(DUE - timedelta(seconds=1), enabled=False)
    action = next_action(world.delivery, world.collect())
    assert isinstance(action, actions.Withdraw) is is_withdrawn
    assert isinstance(action, actions.Conclude) is not is_withdrawn


def test_the_page_of_the_semantics_has_the_diagram_of_the_table() -> None:
    page = states_page.PAGE.read_text()
    assert states_page.replace_diagram(page) == page, "run: python -m tests.states_page"
