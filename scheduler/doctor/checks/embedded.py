"""The embedded API, when in use: whether the embedded API can execute a run and store the result."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from scheduler.core.command_line import advise_log, format_api_command
from scheduler.core.quantities import pluralize
from scheduler.doctor.checks.disks import FULL, TIGHT, check_filesystem, format_bytes
from scheduler.doctor.facts import DiskFacts, EmbeddedFacts, Facts, ProcessFacts, StorageFacts, UnknownFact
from scheduler.doctor.findings import CheckFinding, Subject, report_silence, split_advice
from scheduler.localapi.config import DEFAULT_ENVIRONMENT
from scheduler.settings.models import RunnerSettings
from scheduler.settings.units import format_duration

_WRITE: Final = 2
_OTHERS_MASK: Final = 0o077
_ENTER: Final = 0o011  # group and others may enter the folder
_MAKE_ROOM: Final = "make room, or shorten [api.runner] retention"


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the embedded API."""
    if facts.embedded is None or facts.configuration is None:
        return
    api, subject = facts.settings.api, Subject(str(facts.settings.api.database.path))
    if isinstance(facts.embedded, UnknownFact):
        finding = f"it could not be examined: {facts.embedded.reason}"
        yield subject.notice(finding, "run the command as root, or as its user")
        return
    is_running = facts.embedded_process is not None
    yield from _compare_settings(facts.embedded, is_running=is_running)
    runner = facts.embedded.runner if isinstance(facts.embedded.runner, RunnerSettings) else api.runner
    yield _check_command(runner, facts.embedded)
    run_timeout = facts.settings.schedule.run_timeout
    yield from _check_runner(runner, run_timeout, facts.embedded, is_running=is_running)
    yield _check_database(api.database.path, facts.embedded)
    yield from _judge_disks(facts.embedded)
    yield from _report_storage(subject, facts.embedded_storage)
    yield from _check_silence(facts)
    yield from _repeat_health(Subject(str(api.listen)), facts.embedded_health)


def _compare_settings(embedded: EmbeddedFacts, *, is_running: bool) -> Iterator[CheckFinding]:
    """Yield a finding when the server and this command have different settings of the runner.

    The finding names the settings on which the findings about the runner are based.
    """
    subject, server = Subject("api.runner"), embedded.server
    if isinstance(embedded.runner, UnknownFact):
        effect = "the server cannot start again" if is_running else "the unit cannot start"
        mistakes = f"the configuration has mistakes with the variables of {server}"
        advice = f"correct it: {effect}; until then `check` judges the settings of this command"
        yield subject.warning(f"{mistakes}: {embedded.runner.reason}", advice)
    elif embedded.differing_variables:
        variables = ", ".join(embedded.differing_variables)
        finding = f"{server} has other settings than this command, which come from {variables}"
        advice = f"nothing: `check` judges the settings of {server}"
        yield subject.notice(finding, f"{advice}; to have the same settings, write them in the file")


def _check_command(runner: RunnerSettings, embedded: EmbeddedFacts) -> CheckFinding:
    subject, command = Subject("api.runner.command"), next(iter(runner.command), None)
    if command is None:
        advice = "set it to your agent; see docs/agents.md"
        return subject.warning("there is no command: every run fails", advice)
    if "/" in command and not command.startswith("/"):
        return _check_relative_command(subject, command, runner)
    if embedded.program is None:
        where = "there" if "/" in command else f"in the PATH of {embedded.server}"
        finding = f"{command} is not {where}, or cannot be executed: every run fails"
        return subject.fault(finding, "correct it, or write its absolute path")
    if embedded.program_fault is not None:
        return subject.fault(f"{command} cannot start: every run fails", embedded.program_fault)
    return subject.ok(f"{embedded.program} is there, for {embedded.server}")


def _check_relative_command(subject: Subject, command: str, runner: RunnerSettings) -> CheckFinding:
    if runner.clone_url:
        finding = f"{command} is looked for in each run's clone"
        return subject.notice(finding, "nothing, if it is in every repository")
    finding = f"{command} is looked for in each run's working directory, which is empty: every run fails"
    return subject.fault(finding, "write its absolute path")


def _check_runner(
    runner: RunnerSettings, run_timeout: timedelta, embedded: EmbeddedFacts, *, is_running: bool
) -> Iterator[CheckFinding]:
    longest = runner.queue_timeout + runner.clone_timeout + runner.timeout
    if longest > run_timeout:
        finding = f"a run may end {format_duration(longest)} after its start was accepted"
        lost = f"counts as lost after {format_duration(run_timeout)}"
        advice = "shorten queue_timeout, clone_timeout or timeout, or raise [schedule] run_timeout"
        yield Subject("api.runner.queue_timeout").warning(f"{finding}, and {lost}", advice)
    if runner.clone_url and embedded.git is None:
        finding = f"there is no git in the PATH of {embedded.server}: every run fails"
        yield Subject("api.runner.clone_url").fault(finding, "apt-get install git")
    unset = [name for name in embedded.unset_variables if name not in DEFAULT_ENVIRONMENT]
    if runner.command and unset:
        restart = ", and restart it" if is_running else ""
        finding = f"{embedded.server} does not have {', '.join(unset)}: runs do not get it"
        advice = f"set it for the server, see docs/agents.md{restart}; or take it out"
        yield Subject("api.runner.environment").warning(finding, advice)


def _check_database(path: Path, embedded: EmbeddedFacts) -> CheckFinding:
    subject, database, folder = Subject(str(path)), embedded.database, embedded.folder
    if embedded.interrupted is not None:
        return subject.fault(*split_advice(embedded.interrupted.removeprefix(f"{path}: "), ""))
    if folder is None:
        advice = f"make {path.parent} for the API's user, or correct [api] database"
        return subject.fault("its folder does not exist", advice)
    if database is None:
        advice = f"nothing: `{format_api_command()}` makes it when it starts"
        return subject.notice("it is not there yet", advice)
    if not folder.is_accessible(database.uid, database.gid, _WRITE):
        finding = f"{database.owner}, whose it is, may not write in its folder"
        return subject.fault(finding, f"chown {database.owner} {folder.path}")
    if database.mode & _OTHERS_MASK and folder.mode & _ENTER:
        finding = f"others than {database.owner} may read it, prompts too, mode {database.mode:04o}"
        return subject.warning(finding, f"chmod 0600 {database.path}")
    return subject.ok(f"{database.owner}'s alone")


def _judge_disks(embedded: EmbeddedFacts) -> Iterator[CheckFinding]:
    """Judge the disks of the database and of the runs, or the one disk of both."""
    disk, runs_disk = embedded.disk, embedded.runs_disk
    if disk is not None:
        yield from check_filesystem(Subject(str(disk.path)), disk.filesystem)
        consequence = "every request that writes is answered with 503, and no end of a run is recorded"
        yield _judge_room(disk, consequence)
    if runs_disk is not None and (disk is None or disk.device != runs_disk.device):
        yield _judge_room(runs_disk, "runs fail, and their output is cut short")


def _judge_room(disk: DiskFacts, consequence: str) -> CheckFinding:
    subject, left = Subject(str(disk.path)), f"its disk has {format_bytes(disk.free)} left"
    if disk.free < FULL:
        return subject.fault(f"{left}; on a full disk {consequence}", _MAKE_ROOM)
    return subject.warning(left, _MAKE_ROOM) if disk.free < TIGHT else subject.ok(left)


def _report_storage(subject: Subject, storage: StorageFacts | UnknownFact | None) -> Iterator[CheckFinding]:
    if isinstance(storage, UnknownFact):
        finding = f"the disk usage of the runs could not be measured: {storage.reason}"
        yield subject.notice(finding, "run the command as root, or as its user")
    elif storage is not None:
        outputs, clones = format_bytes(storage.outputs), format_bytes(storage.clones)
        text = f"it takes {format_bytes(storage.database)}; the folders of {pluralize(storage.runs, 'run')}"
        text += f": outputs {outputs}, working directories {clones}"
        if storage.measured_runs != storage.runs:
            text += f"; at least: the time was enough for {storage.measured_runs:,} of them"
        yield subject.ok(text)


def _check_silence(facts: Facts) -> Iterator[CheckFinding]:
    """Yield a fault when the server accepts connections and does not answer, if its process is known."""
    listen, process = facts.settings.api.listen, facts.embedded_process
    if facts.embedded_server != "silent" or listen is None or not isinstance(process, ProcessFacts):
        return
    statuses = [facts.get_daemon_target(target.name) for target in facts.settings.embedded_targets]
    read = max((str(status["snapshot_at"]) for status in statuses if status.get("snapshot_at")), default=None)
    since = f"; the daemon read it last at {read}" if read else ""
    yield report_silence(Subject(str(listen)), "the embedded API", process, "scheduler-api", since)


def _repeat_health(
    server: Subject, health: Mapping[str, object] | UnknownFact | None
) -> Iterator[CheckFinding]:
    """Yield a fault for each part that the running server reports as not working.

    Another program at the server's address is a matter of the check of the addresses.
    """
    parts = health if isinstance(health, Mapping) else {}
    cause = "it names the cause; remove the cause, and the server continues by itself"
    for part in ("database", "runner"):
        if parts.get(part) is False:
            advice = f"{advise_log('scheduler-api')}: {cause}"
            yield server.fault(f"the server says that its {part} does not work", advice)
