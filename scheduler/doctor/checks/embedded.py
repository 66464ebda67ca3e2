"""The embedded API, when in use: whether the embedded API can execute a run and store the result."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

from scheduler.core.command_line import advise_log, format_api_command
from scheduler.core.quantities import pluralize
from scheduler.doctor.checks.disks import FULL, TIGHT, check_filesystem, format_bytes
from scheduler.doctor.facts import DiskFacts, EmbeddedFacts, Facts, ProcessFacts, StorageFacts, UnknownFact
from scheduler.doctor.findings import Check, CheckFinding, advise_on_silence, describe_silence, split_advice
from scheduler.localapi.config import DEFAULT_ENVIRONMENT
from scheduler.settings.models import ApiSettings, RunnerSettings
from scheduler.settings.units import format_duration

EMBEDDED: Final = Check("embedded api")
_WRITE: Final = 2
_OTHERS_MASK: Final = 0o077
_ENTER: Final = 0o011  # group and others may enter the folder
_MAKE_ROOM: Final = "make room, or shorten [api.runner] retention"


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the embedded API."""
    if facts.embedded is None or facts.configuration is None:
        return
    api = facts.settings.api
    if isinstance(facts.embedded, UnknownFact):
        yield EMBEDDED.about(str(api.database.path)).notice(
            f"it could not be examined: {facts.embedded.reason}", "run the command as root, or as its user"
        )
        return
    yield from _check_runner(
        api, facts.settings.schedule.run_timeout, facts.embedded, runs=facts.embedded_process is not None
    )
    yield _check_database(api, facts.embedded)
    yield from _judge_disks(facts.embedded)
    yield from _report_storage(str(api.database.path), facts.embedded_storage)
    yield from _check_silence(facts)
    yield from _repeat_health(str(api.listen), facts.embedded_health)


def _check_runner(
    api: ApiSettings, run_timeout: timedelta, embedded: EmbeddedFacts, *, runs: bool
) -> Iterator[CheckFinding]:
    runner = embedded.runner if isinstance(embedded.runner, RunnerSettings) else api.runner
    yield from _compare_settings(embedded, runs=runs)
    command = runner.command
    if not command:
        yield EMBEDDED.about("api.runner.command").warning(
            "there is no command: every run fails", "set it to your agent; see docs/agents.md"
        )
    elif "/" in command[0] and not command[0].startswith("/"):
        yield _check_relative_command(runner)
    elif embedded.program is None:
        where = "there" if "/" in command[0] else f"in the PATH of {embedded.server}"
        yield EMBEDDED.about("api.runner.command").fault(
            f"{command[0]} is not {where}, or cannot be executed: every run fails",
            "correct it, or write its absolute path",
        )
    elif embedded.program_fault is not None:
        yield EMBEDDED.about("api.runner.command").fault(
            f"{command[0]} cannot start: every run fails", embedded.program_fault
        )
    else:
        yield EMBEDDED.about("api.runner.command").ok(f"{embedded.program} is there, for {embedded.server}")
    longest = runner.queue_timeout + runner.clone_timeout + runner.timeout
    if longest > run_timeout:
        yield EMBEDDED.about("api.runner.queue_timeout").warning(
            f"a run may end {format_duration(longest)} after its start was accepted, "
            f"and counts as lost after {format_duration(run_timeout)}",
            "shorten queue_timeout, clone_timeout or timeout, or raise [schedule] run_timeout",
        )
    if runner.clone_url and embedded.git is None:
        yield EMBEDDED.about("api.runner.clone_url").fault(
            f"there is no git in the PATH of {embedded.server}: every run fails", "apt-get install git"
        )
    unset = [name for name in embedded.unset_variables if name not in DEFAULT_ENVIRONMENT]
    if command and unset:
        yield EMBEDDED.about("api.runner.environment").warning(
            f"{embedded.server} does not have {', '.join(unset)}: runs do not get it",
            f"set it for the server, see docs/agents.md{', and restart it' if runs else ''}; or take it out",
        )


def _check_relative_command(runner: RunnerSettings) -> CheckFinding:
    command = runner.command[0]
    if runner.clone_url:
        return EMBEDDED.about("api.runner.command").notice(
            f"{command} is looked for in each run's clone", "nothing, if it is in every repository"
        )
    return EMBEDDED.about("api.runner.command").fault(
        f"{command} is looked for in each run's working directory, which is empty: every run fails",
        "write its absolute path",
    )


def _compare_settings(embedded: EmbeddedFacts, *, runs: bool) -> Iterator[CheckFinding]:
    """Yield a finding when the server and this command have different settings of the runner.

    The finding names the settings on which the findings about the runner are based.
    """
    if isinstance(embedded.runner, UnknownFact):
        yield EMBEDDED.about("api.runner").warning(
            f"the configuration has mistakes with the variables of {embedded.server}: "
            f"{embedded.runner.reason}",
            f"correct it: {'the server cannot start again' if runs else 'the unit cannot start'}; "
            "until then `check` judges the settings of this command",
        )
    elif embedded.differing_variables:
        yield EMBEDDED.about("api.runner").notice(
            f"{embedded.server} has other settings than this command, which come from "
            f"{', '.join(embedded.differing_variables)}",
            f"nothing: `check` judges the settings of {embedded.server}; to have the same settings, "
            "write them in the file",
        )


def _check_database(api: ApiSettings, embedded: EmbeddedFacts) -> CheckFinding:
    subject, database, folder = str(api.database.path), embedded.database, embedded.folder
    if embedded.interrupted is not None:
        return EMBEDDED.about(subject).fault(
            *split_advice(embedded.interrupted.removeprefix(f"{subject}: "), "")
        )
    if folder is None:
        return EMBEDDED.about(subject).fault(
            "its folder does not exist",
            f"make {api.database.path.parent} for the API's user, or correct [api] database",
        )
    if database is None:
        return EMBEDDED.about(subject).notice(
            "it is not there yet", f"nothing: `{format_api_command()}` makes it when it starts"
        )
    if not folder.is_accessible(database.uid, database.gid, _WRITE):
        return EMBEDDED.about(subject).fault(
            f"{database.owner}, whose it is, may not write in its folder",
            f"chown {database.owner} {folder.path}",
        )
    if database.mode & _OTHERS_MASK and folder.mode & _ENTER:
        return EMBEDDED.about(subject).warning(
            f"others than {database.owner} may read it, prompts too, mode {database.mode:04o}",
            f"chmod 0600 {database.path}",
        )
    return EMBEDDED.about(subject).ok(f"{database.owner}'s alone")


def _judge_disks(embedded: EmbeddedFacts) -> Iterator[CheckFinding]:
    """Judge the disks of the database and of the runs, or the one disk of both."""
    disk, runs_disk = embedded.disk, embedded.runs_disk
    if disk is not None:
        yield from check_filesystem(EMBEDDED, str(disk.path), disk.filesystem)
        yield _judge_room(
            disk, "every request that writes is answered with 503, and no end of a run is recorded"
        )
    if runs_disk is not None and (disk is None or disk.device != runs_disk.device):
        yield _judge_room(runs_disk, "runs fail, and their output is cut short")


def _judge_room(disk: DiskFacts, consequence: str) -> CheckFinding:
    left = f"its disk has {format_bytes(disk.free)} left"
    if disk.free < FULL:
        return EMBEDDED.about(str(disk.path)).fault(f"{left}; on a full disk {consequence}", _MAKE_ROOM)
    if disk.free < TIGHT:
        return EMBEDDED.about(str(disk.path)).warning(left, _MAKE_ROOM)
    return EMBEDDED.about(str(disk.path)).ok(left)


def _report_storage(subject: str, storage: StorageFacts | UnknownFact | None) -> Iterator[CheckFinding]:
    if isinstance(storage, UnknownFact):
        yield EMBEDDED.about(subject).notice(
            f"the disk usage of the runs could not be measured: {storage.reason}",
            "run the command as root, or as its user",
        )
    elif storage is not None:
        text = (
            f"it takes {format_bytes(storage.database)}; the folders of {pluralize(storage.runs, 'run')}: "
            f"outputs {format_bytes(storage.outputs)}, working directories {format_bytes(storage.clones)}"
        )
        if storage.measured_runs != storage.runs:
            text += f"; at least: the time was enough for {storage.measured_runs:,} of them"
        yield EMBEDDED.about(subject).ok(text)


def _check_silence(facts: Facts) -> Iterator[CheckFinding]:
    """Yield a fault when the server accepts connections and does not answer, if its process is known."""
    listen, process = facts.settings.api.listen, facts.embedded_process
    if facts.embedded_server != "silent" or listen is None or not isinstance(process, ProcessFacts):
        return
    served = [target.name for target in facts.settings.targets if listen.is_reached_by(target.url)]
    read = max(
        (str(at) for name in served if (at := facts.get_daemon_target(name).get("snapshot_at"))), default=None
    )
    since = f"; the daemon read it last at {read}" if read else ""
    yield EMBEDDED.about(str(listen)).fault(
        describe_silence("the embedded API", process, since), advise_on_silence(process, "scheduler-api")
    )


def _repeat_health(listen: str, health: Mapping[str, object] | UnknownFact | None) -> Iterator[CheckFinding]:
    """Yield a fault for each part that the running server reports as not working.

    Another program at the server's address is a matter of the check of the addresses.
    """
    parts = health if isinstance(health, Mapping) else {}
    see_log = (
        f"{advise_log('scheduler-api')}: it names the cause; remove the cause, and the server continues "
        "by itself"
    )
    for part in ("database", "runner"):
        if parts.get(part) is False:
            yield EMBEDDED.about(listen).fault(f"the server says that its {part} does not work", see_log)
