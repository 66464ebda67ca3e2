"""What the list shows and does not show: nothing is removed without a second reading or a 404, and nothing
fires while it is absent.

Readings are those that a process was given whole, as the network saw them. Lists of several pages are left
out: one page shows no absence.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from scheduler.core.events import AutomationRemoved, AutomationsDisappeared, AutomationsUnidentified
from tests.simulation.evidence import Check, Evidence
from tests.simulation.network import Denied, Link, Request, Sent, Shown
from tests.simulation.script import LIST, RETRIEVE, RUN
from tests.simulation.violation import Violation

_SLACK = timedelta(seconds=1)
_UNDER_WAY = timedelta(seconds=2)
"""What the newest reading left out less than this before a request may have been on its way already."""
_TOLD_WITHIN = timedelta(seconds=5)
_FEWEST = 5
"""The disappearance of fewer automations is not told of as one."""
_MOST_QUESTIONS = 20
"""Absent automations that are asked about one by one between two polls."""


def removals_are_confirmed(evidence: Evidence) -> Check:
    """An automation is removed after two readings without it, one poll interval apart, or after a 404 for it;
    never while it is there.
    """
    readings = {target: _whole_lists(link) for target, link in evidence.world.links.items()}
    for told in evidence.world.events:
        event = told.event
        if isinstance(event, AutomationRemoved) and (shown := readings[event.target]):
            why = _doubt_removal(evidence, shown, event, told.at)
            if why is not None:
                yield Violation("removed", f"removed at {told.at}, {why}", event.automation_id)


def _doubt_removal(
    evidence: Evidence, readings: Sequence[Shown], event: AutomationRemoved, at: datetime
) -> str | None:
    if any(
        each.automation_id == event.automation_id and each.ended <= at
        for each in evidence.link(event.target).denied
    ):
        return None
    absent: list[Shown] = []
    for reading in reversed(readings[: bisect_right(readings, at, key=lambda each: each.ended)]):
        if event.automation_id in reading.runs:
            break
        absent.append(reading)
    if not absent:
        return "and no reading was without it"
    interval = min(each.settings.schedule.poll_interval for each in evidence.world.configured)
    apart = absent[0].begun - absent[-1].begun
    return (
        None
        if apart >= interval - _SLACK
        else f"after readings without it within {apart.total_seconds():.3f} s"
    )


def nothing_fires_while_it_is_absent(evidence: Evidence) -> Check:
    """What the newest list did not show is sent only after the automation itself was read since."""
    for link in evidence.world.links.values():
        lists = _by_process(_whole_lists(link))
        singles = [each for each in link.shown if each.endpoint == RETRIEVE]
        for sent in link.sent:
            readings = lists.get(sent.process, [])
            index = bisect_right(readings, sent.at - _UNDER_WAY, key=lambda each: each.ended)
            if not index or readings[index - 1].lag or sent.automation_id in readings[index - 1].runs:
                continue
            if readings[index - 1].strangers:
                continue  # one of the objects that nobody can identify may be the one that is missed
            since = readings[index - 1].begun
            if any(sent.automation_id in each.runs and each.ended <= sent.at for each in readings[index:]):
                continue  # a newer reading shows it again
            if not any(
                each.process == sent.process
                and since <= each.ended <= sent.at
                and sent.automation_id in each.runs
                for each in singles
            ):
                yield Violation(
                    "absent",
                    f"sent at {sent.at}, and the list of {since} did not have it",
                    sent.automation_id,
                )


def nothing_that_is_gone_is_sent(evidence: Evidence) -> Check:
    """After a 404 of an automation itself and a list without it, nothing is sent for it, unless a newer
    reading shows it.
    """
    for link in evidence.world.links.values():
        lists = _by_process(_whole_lists(link))
        for denied in link.denied:
            readings = [
                each for each in lists.get(denied.process, ()) if each.begun >= denied.ended and not each.lag
            ]
            if readings and denied.automation_id not in readings[0].runs:
                yield from _find_sent_since(link, denied, readings[0])


def _find_sent_since(link: Link, denied: Denied, reading: Shown) -> Check:
    shown = [
        each.ended for each in link.shown if each.begun >= denied.begun and denied.automation_id in each.runs
    ]
    begin, end = reading.ended + _UNDER_WAY, min(shown, default=None)
    for sent in link.sent:
        is_same = (sent.process, sent.automation_id) == (denied.process, denied.automation_id)
        if is_same and sent.at > begin and (end is None or sent.at < end):
            text = (
                f"sent at {sent.at}, and it had answered 404 at {denied.ended}, "
                f"and the list of {reading.begun} did not have it"
            )
            yield Violation("gone", text, sent.automation_id)
            return


def nothing_that_denies_itself_is_sent(evidence: Evidence) -> Check:
    """After a run of an automation that the list shows answered 404, it is not sent before a reading of its
    own shows it.
    """
    told = [each for each in evidence.world.events if isinstance(each.event, AutomationRemoved)]
    removed = {
        (each.process, each.event.automation_id, each.at)
        for each in told
        if isinstance(each.event, AutomationRemoved)
    }
    for link in evidence.world.links.values():
        for refused in link.denied:
            if refused.endpoint != RUN or not _is_shown_next(link, refused):
                continue
            sent = next(
                (each.at for each in link.sent if _is_same(each, refused) and each.at > refused.ended), None
            )
            shown = [
                each.ended
                for each in link.shown
                if each.endpoint == RETRIEVE and refused.automation_id in each.runs
            ]
            gone = [
                at
                for process, each, at in removed
                if (process, each) == (refused.process, refused.automation_id)
            ]
            if sent is not None and not any(refused.ended <= at <= sent for at in (*shown, *gone)):
                text = (
                    f"sent at {sent}, though run answered 404 at {refused.ended}, "
                    "and no reading has shown it since"
                )
                yield Violation("denied", text, refused.automation_id)


def _is_same(first: Denied | Sent, second: Denied) -> bool:
    return (first.process, first.automation_id) == (second.process, second.automation_id)


def _is_shown_next(link: Link, refused: Denied) -> bool:
    """Return whether the reading of the list that the refusal of a run led to was whole and showed the
    automation.
    """
    begun = next(
        (each.at for each in link.requests if _is_list(each, refused) and each.at >= refused.ended), None
    )
    readings = (
        each for each in _whole_lists(link) if each.process == refused.process and each.begun == begun
    )
    return any(refused.automation_id in each.runs for each in readings)


def _is_list(request: Request, refused: Denied) -> bool:
    return request.endpoint == LIST and request.process == refused.process


def what_a_list_lacks_or_cannot_name_is_told(evidence: Evidence) -> Check:
    """Objects that nobody can identify are told of, and the disappearance of more than half of at least five
    automations.
    """
    if evidence.was_set:
        return
    for target, link in evidence.world.links.items():
        for process, readings in _by_process(_whole_lists(link)).items():
            told = [
                each
                for each in evidence.world.events
                if each.process == process and getattr(each.event, "target", None) == target
            ]
            counts = [
                (each.at, each.event.count)
                for each in told
                if isinstance(each.event, AutomationsUnidentified)
            ]
            warned = [each.at for each in told if isinstance(each.event, AutomationsDisappeared)]
            for before, reading in pairwise((None, *readings)):
                assert reading is not None
                at = reading.ended + _TOLD_WITHIN
                if (evidence.process(process).ended_at or at + _TOLD_WITHIN) <= at:
                    continue
                before_it = [count for told_at, count in counts if told_at <= reading.ended][-1:]
                since = [count for told_at, count in counts if reading.ended < told_at <= at]
                if reading.strangers and not any([*before_it, *since]):
                    yield Violation(
                        "untold strangers", f"the list of {reading.begun} held some, and nothing was told"
                    )
                if (
                    before is not None
                    and _is_mass(link, before, reading)
                    and not any(told_at <= at for told_at in warned)
                ):
                    yield Violation(
                        "untold disappearance",
                        f"most of {len(before.runs)} were not in the list of {reading.begun}",
                    )


def _is_mass(link: Link, before: Shown, reading: Shown) -> bool:
    """Whether a list lacks more than half of what the one before showed; an object that is broken is still
    there.
    """
    if reading.lag or before.lag or len(before.runs) < _FEWEST:
        return False
    shapes = {each: link.api.shape(each, reading.ended) for each in before.runs.keys() - reading.runs.keys()}
    broken = sum(
        shape is not None and shape.document is not None and shape.fires is None for shape in shapes.values()
    )
    return 2 * (len(shapes) - broken) > len(before.runs)


def few_questions_per_reading(evidence: Evidence) -> Check:
    """Of what the list does not show no more than twenty are asked about between two polls, whether these had
    an answer or not.
    """
    for target, link in evidence.world.links.items():
        for readings in _by_process(_whole_lists(link)).values():
            requests = [each for each in link.requests if each.process == readings[0].process]
            questions = [each for each in requests if each.endpoint == RETRIEVE]
            polls = [each for each in requests if each.endpoint == LIST]
            for number, reading in enumerate(readings):
                until = (
                    readings[number + 1].ended if number + 1 < len(readings) else reading.ended + _UNDER_WAY
                )
                absent = {
                    each.automation_id for each in _between(questions, reading.ended, until)
                } - reading.runs.keys()
                if len(absent) > _MOST_QUESTIONS * max(len(_between(polls, reading.ended, until)), 1):
                    yield Violation(
                        "questions",
                        f"{len(absent)} absent automations of {target} were read "
                        f"between {reading.ended} and {until}",
                    )


def _between(requests: Sequence[Request], after: datetime, until: datetime) -> Sequence[Request]:
    return requests[
        bisect_right(requests, after, key=lambda each: each.at) : bisect_right(
            requests, until, key=lambda each: each.at
        )
    ]


def only_what_the_api_had_is_sent(evidence: Evidence) -> Check:
    """Each request to run is for an instant that some definition of the API implied, not for one that a cut
    or mended text implies.
    """
    if evidence.was_set or any(each.zones_missing for each in evidence.world.configured):
        return
    schedules_of: dict[tuple[str, str], set[tuple[str, str] | None]] = {}
    for row in evidence.rows:
        if row.attempts and evidence.key(row.occurrence) in evidence.sent:
            automation = row.target, row.automation_id
            if (
                automation not in schedules_of
            ):  # an automation has a shape for each run, so that looking for each row would be quadratic
                shapes = evidence.link(row.target).api.shapes.get(row.automation_id, ())
                schedules_of[automation] = {shape.fires for shape in shapes}
            schedules = schedules_of[automation]
            just_before = row.scheduled_for - timedelta(microseconds=1)
            if not any(evidence.count_implied(each, just_before, row.scheduled_for)[1] for each in schedules):
                text = f"sent, and the API had only {sorted(map(repr, schedules))}"
                yield Violation("invented", text, row.automation_id, row.scheduled_for)


def _whole_lists(link: Link) -> list[Shown]:
    """Return the readings of the list in the order of their ends; none when any of them took more than one
    page.
    """
    readings = [each for each in link.shown if each.endpoint == LIST]
    return sorted(readings, key=lambda each: each.ended) if all(each.whole for each in readings) else []


def _by_process(readings: Sequence[Shown]) -> dict[int, list[Shown]]:
    found: defaultdict[int, list[Shown]] = defaultdict(list)
    for reading in readings:
        found[reading.process].append(reading)
    return dict(found)
