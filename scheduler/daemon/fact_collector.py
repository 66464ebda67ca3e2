"""Collector of the facts that a decision about a delivery depends on: the only place that gathers them."""

from scheduler.core.admission import (
    AutomationFacts,
    DaemonFacts,
    DeliveryFacts,
    QueueFacts,
    SendFacts,
    has_newer_in_force,
    is_attempt_fresh,
    is_in_force,
)
from scheduler.core.delivery import Delivery, Place
from scheduler.core.policy import Policies
from scheduler.core.timetable import TimetableEntry
from scheduler.daemon.automation_cache import AutomationCache
from scheduler.daemon.automation_queue import AutomationQueue, OpenDelivery
from scheduler.daemon.context import Context
from scheduler.daemon.knowledge import TargetKnowledge
from scheduler.daemon.reconciler import Reconciler


class FactCollector:
    """Collects the facts of one target."""

    def __init__(
        self,
        context: Context,
        cache: AutomationCache,
        knowledge: TargetKnowledge,
        reconciler: Reconciler,
    ) -> None:
        self._context = context
        self._cache = cache
        self._knowledge = knowledge
        self._reconciler = reconciler

    def collect(self, queue: AutomationQueue, delivery: OpenDelivery, *, is_stopping: bool) -> DeliveryFacts:
        """Return the present facts for a delivery of ``queue``."""
        context, value = self._context, delivery.value
        context.watch.check()
        daemon = DaemonFacts(
            context.clock.now(),
            context.clock.boottime(),
            context.watch.is_in_doubt,
            is_stopping,
            context.clock_offset,
        )
        send = SendFacts(
            context.settings.idempotent,
            context.settings.run_timeout,
            self._knowledge.absent_until,
            self._knowledge.is_stale,
            context.breaker.make_facts(delivery),
        )
        automation = self._collect_automation(value, daemon)
        return DeliveryFacts(
            daemon, send, automation, _collect_queue(queue, delivery, daemon, automation.entry)
        )

    def _collect_automation(self, value: Delivery, daemon: DaemonFacts) -> AutomationFacts:
        automation_id, timetable = value.occurrence.automation_id, self._context.timetable
        entry = timetable.entries.get(automation_id)
        return AutomationFacts(
            entry,
            self._find_policies(value, entry),
            self._find_pause(value, daemon),
            timetable.find_denial(automation_id),
            timetable.needs_reading(automation_id),
            self._cache.find_newest(automation_id),
            self._cache.find_baseline(automation_id),
            self._reconciler.find_late_run(value),
        )

    def _find_policies(self, value: Delivery, entry: TimetableEntry | None) -> Policies:
        if entry is not None:
            return entry.policies
        return self._context.settings.policies(value.occurrence.automation_id, value.name)

    def _find_pause(self, value: Delivery, daemon: DaemonFacts) -> bool | None:
        """Return whether an operator paused the automation; None: the pauses must be read first.

        A fresh attempt needs no reading: the claim of a moment ago has considered the pauses.
        """
        if is_attempt_fresh(value, daemon.boottime):
            return False
        if not self._knowledge.has_fresh_pauses:
            return None
        return self._knowledge.is_paused(value.occurrence.automation_id)


def _collect_queue(
    queue: AutomationQueue, delivery: OpenDelivery, daemon: DaemonFacts, entry: TimetableEntry | None
) -> QueueFacts:
    value = delivery.value
    newer = (other.value for other in queue.iterate_newer_due(value, daemon.now))
    waits_for_place = value.place is Place.WAITING
    return QueueFacts(
        queue.deliveries[0] is delivery,
        # A delivery out of force is never coalesced. To check all newer deliveries for nothing takes long.
        is_in_force(value, entry) and has_newer_in_force(newer, entry),
        queue.find_next_due(daemon.now) if waits_for_place else None,
    )
