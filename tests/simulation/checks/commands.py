"""What commands on the daemon's machine change takes effect at once, and costs no more than a poll a
second.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from scheduler.core.events import AutomationRemoved, SnapshotFailed, SnapshotTaken
from tests.simulation.evidence import Check, Evidence
from tests.simulation.network import Link
from tests.simulation.script import LIST
from tests.simulation.violation import Violation
from tests.simulation.world import Woken

_AT_ONCE = timedelta(seconds=10)
"""The daemon hears a wake within a second, and polls once in a second; another poll may be under way."""
_AFTER_TROUBLE = timedelta(seconds=150)
"""The longest back-off of a poll."""
_BURST = timedelta(seconds=10)
_MOST_POLLS = 15
"""Polls within that time: one a second for wakes, and a few for due occurrences and denied automations."""
_WHOLE_LIST = 100
"""Rows of a page that is the whole list."""
_ROOMY = 400
"""Requests a minute. A quarter of them is more than a poll a second."""


def a_wake_leads_to_a_poll(evidence: Evidence) -> Check:
    """Each target's list is read anew soon after a wake."""
    for woken in evidence.world.woken:
        for target, link in evidence.world.links.items():
            if _is_free(evidence, target, woken):
                polls = (
                    each for each in link.requests if each.endpoint == LIST and each.process == woken.process
                )
                if not any(woken.at <= each.at <= woken.at + _AT_ONCE for each in polls):
                    yield Violation("wake", f"no poll of {target} in {_AT_ONCE.seconds} s after {woken.at}")


def wakes_cause_few_polls(evidence: Evidence) -> Check:
    """However many wakes come, one more poll a second is made for them."""
    ended = defaultdict[tuple[int, str], list[datetime]](list)
    for told in evidence.world.events:
        if isinstance(told.event, SnapshotTaken | SnapshotFailed):
            ended[told.process, told.event.target].append(told.at)
    for woken in evidence.world.woken:
        for target in evidence.world.links:
            if _is_free(evidence, target, woken):
                count = sum(woken.at <= at <= woken.at + _BURST for at in ended[woken.process, target])
                if count > _MOST_POLLS:
                    yield Violation(
                        "wake", f"{count} polls of {target} within {_BURST.seconds} s after {woken.at}"
                    )


def what_a_command_deleted_is_gone_at_once(evidence: Evidence) -> Check:
    """An automation that was there, and was deleted just before a wake, is removed soon after the wake."""
    removed = defaultdict[tuple[int, str], list[datetime]](list)
    for told in evidence.world.events:
        if isinstance(told.event, AutomationRemoved):
            removed[told.process, told.event.automation_id].append(told.at)
    for woken in evidence.world.woken:
        for target, link in evidence.world.links.items():
            if not _is_free(evidence, target, woken):
                continue
            for automation_id, deleted_at in _find_deleted(link, woken):
                shown = evidence.shown(automation_id, evidence.world.setting.begin, deleted_at)
                is_known = any(each.process == woken.process for each in shown)
                if is_known and not any(
                    deleted_at <= at <= woken.at + _AT_ONCE for at in removed[woken.process, automation_id]
                ):
                    text = (
                        f"deleted at {deleted_at}, and not removed in {_AT_ONCE.seconds} s after {woken.at}"
                    )
                    yield Violation("wake", text, automation_id)


def _find_deleted(link: Link, woken: Woken) -> Sequence[tuple[str, datetime]]:
    """Return the automations that were deleted in the second before, and were not made again soon, with the
    instant.
    """
    found = []
    for automation_id, shapes in link.api.shapes.items():
        newest = [shape for shape in shapes if shape.at <= woken.at + _AT_ONCE]
        if (
            newest
            and newest[-1].document is None
            and woken.at - timedelta(seconds=1) <= newest[-1].at <= woken.at
        ):
            found.append((automation_id, newest[-1].at))
    return found


def _is_free(evidence: Evidence, target: str, woken: Woken) -> bool:
    """Return whether nothing kept the daemon from a poll at once: neither trouble nor the budget."""
    plan, begin, end = evidence.link(target).plan, woken.at - _AFTER_TROUBLE, woken.at + _AT_ONCE
    is_roomy = plan.page >= _WHOLE_LIST and plan.requests_per_minute >= _ROOMY
    return is_roomy and evidence.quiet(target, begin, end) and not evidence.is_budget_busy(target, begin, end)
