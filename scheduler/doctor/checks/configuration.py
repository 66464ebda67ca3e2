"""The configuration: its errors, the variables that override it, and valid settings most likely not meant."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import chain
from typing import Final

from scheduler.doctor.facts import Facts
from scheduler.doctor.findings import CheckFinding, Subject
from scheduler.settings.models import Settings
from scheduler.settings.registry import format_path
from scheduler.settings.units import format_duration

_SYSTEMD_STOP_TIMEOUT: Final = timedelta(seconds=90)
"""The time that systemd waits after SIGTERM when the unit sets no time.

Source: systemd-system.conf(5), DefaultTimeoutStopSec.
"""
_LAST_WRITES: Final = timedelta(seconds=5)
_MIN_SETTLE_TIME: Final = timedelta(seconds=10)
"""With a shorter ``settle_time``, an attempt at a slow API may count as not started."""
_ANSWER_RETENTION: Final = timedelta(days=7)
"""The time for which the embedded API keeps the answer to an Idempotency-Key.

Other known APIs keep an answer for a shorter time.
"""
_MAX_FAILED_POLLS: Final = 3  # polls that may fail in a row


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the configuration."""
    for problem in facts.problems:
        yield Subject(problem.where).fault(problem.what, problem.remedy)
    if facts.configuration is None:
        return
    subject, settings = Subject(str(facts.configuration.file or "no file")), facts.settings
    if not settings.targets:
        variables = "SCHEDULER_TARGET__URL and SCHEDULER_TARGET__PROJECT_ID"
        yield subject.fault("no target is configured", f"set [[target]] url and project_id, or {variables}")
    yield subject.ok(f"can be read; targets: {len(settings.targets)}, overrides: {len(settings.overrides)}")
    yield from _check_variables(facts)
    yield from _check_times(facts.settings)
    yield from _check_overrides(facts)


def _check_variables(facts: Facts) -> Iterator[CheckFinding]:
    assert facts.configuration is not None
    origins = facts.configuration.origins
    names = sorted({origin.name for origin in origins.values() if origin.kind == "environment"})
    if names:
        advice = "check that the daemon has the same variables: a unit does not have the variables of a shell"
        yield Subject("environment").notice(f"settings come from {', '.join(names)}", advice)
    path = facts.settings.ledger.url.path
    if not path.is_absolute():
        finding = f"{path} counts from the working directory, which is {path.absolute().parent} here"
        advice = "write an absolute path, with four slashes after sqlite:"
        yield Subject("ledger.url").notice(finding, advice)


def _check_times(settings: Settings) -> Iterator[CheckFinding]:
    schedule = settings.schedule
    if settings.daemon.drain_timeout + _LAST_WRITES > _SYSTEMD_STOP_TIMEOUT:
        drain_timeout = format_duration(settings.daemon.drain_timeout)
        finding = f"{drain_timeout} is longer than the default wait of systemd, 90 s"
        advice = "set TimeoutStopSec in the unit to some seconds more"
        yield Subject("daemon.drain_timeout").notice(finding, advice)
    if schedule.settle_time < _MIN_SETTLE_TIME and not all(target.idempotent for target in settings.targets):
        finding = f"{format_duration(schedule.settle_time)} is too short for an API that is slow once"
        advice = "leave it at 30s, or set idempotent on a target that honours Idempotency-Key"
        subject = Subject("schedule.settle_time")
        yield subject.warning(f"{finding}: a run that starts later is a double", advice)
    if schedule.stale_limit < _MAX_FAILED_POLLS * schedule.poll_interval:
        finding = f"{format_duration(schedule.stale_limit)} is over before {_MAX_FAILED_POLLS} polls can fail"
        advice = f"make it longer, or poll_interval ({format_duration(schedule.poll_interval)}) shorter"
        yield Subject("schedule.stale_limit").warning(f"{finding}; nothing fires after that", advice)
    yield from _check_retries(settings)
    yield from _check_kept_answers(settings)


def _check_retries(settings: Settings) -> Iterator[CheckFinding]:
    """Yield a notice for each ``start_within`` that ends before a lost answer is reconciled.

    An unknown attempt is reconciled after ``request_timeout`` and ``settle_time``. An occurrence that has
    expired by this time is not tried again.
    """
    timeouts = [target.request_timeout for target in settings.targets if not target.idempotent]
    needed = max(timeouts, default=timedelta(0)) + settings.schedule.settle_time
    for where, start_within in _list_start_within(settings):
        if start_within is not None and start_within < needed:
            finding = f"{format_duration(start_within)} is over before an unknown attempt is reconciled"
            advice = "nothing, if you do not want so late occurrences; else make it longer"
            yield Subject(where).notice(f"{finding}, after {format_duration(needed)}", advice)


def _check_kept_answers(settings: Settings) -> Iterator[CheckFinding]:
    """Warn of attempts that may be sent again after the API has forgotten its answer.

    Such an attempt starts a second run.
    """
    if not any(target.idempotent for target in settings.targets):
        return
    kept = f"the API keeps an answer for its Idempotency-Key, {format_duration(_ANSWER_RETENTION)}"
    advice = "make it shorter: an attempt that is sent again later may start a second run"
    for where, start_within in _list_start_within(settings):
        if start_within is not None and start_within > _ANSWER_RETENTION:
            yield Subject(where).warning(f"{format_duration(start_within)} is longer than {kept}", advice)


def _list_start_within(settings: Settings) -> list[tuple[str, timedelta | None]]:
    """Return the path and the value of each setting ``start_within``; the value is None for ``auto``."""
    of_overrides = [
        (f"override[{number}].start_within", override.start_within)
        for number, override in enumerate(settings.overrides)
    ]
    return [("schedule.start_within", settings.schedule.start_within), *of_overrides]


def _check_overrides(facts: Facts) -> Iterator[CheckFinding]:
    lists = [facts.list_automations(target) for target in facts.targets]
    if not facts.targets or None in lists:
        return
    matching, counting = set[int](), set[int]()
    for automation in chain.from_iterable(automations or () for automations in lists):
        if places := set(facts.settings.patterns.find_all(automation.automation_id, automation.name)):
            matching |= places
            counting.add(min(places))
    for number, override in enumerate(facts.settings.overrides):
        subject, pattern = Subject(format_path(("override", number))), f'"{override.automation}"'
        if number not in matching:
            yield subject.warning(f"{pattern} matches no automation", "correct it, or remove it")
        elif number not in counting:
            finding = f"{pattern} has no effect: earlier overrides match all its automations"
            yield subject.warning(finding, "move it up, or remove it")
