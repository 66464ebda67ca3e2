"""The collector of the facts. All facts are collected concurrently, each within a time limit.

A failure concerns only its own fact.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

from scheduler.core.cron.ranges import RULES_VERSION
from scheduler.core.cron.schedule import read_versions
from scheduler.core.errors import ConfigurationError, DatabaseRefused, SchedulerError
from scheduler.database.backup import refuse_interrupted_restore
from scheduler.database.files import SIDE_FILE_SUFFIXES
from scheduler.doctor.facts import (
    PROXY_VARIABLES,
    TRUST_VARIABLES,
    ApiFacts,
    Connectivity,
    EmbeddedFacts,
    Facts,
    KeyFacts,
    LedgerFacts,
    StorageFacts,
    TargetFacts,
    UnknownFact,
)
from scheduler.doctor.probes.api import probe_api
from scheduler.doctor.probes.connectivity import probe_connectivity
from scheduler.doctor.probes.files import find_disk, read_file_facts
from scheduler.doctor.probes.host import (
    FetchPage,
    find_occupant,
    find_process,
    is_clock_synchronised,
    read_zone_facts,
)
from scheduler.doctor.probes.server_environment import ServerEnvironment, find_environment
from scheduler.doctor.probes.time_limit import limit_time, run_abandonable
from scheduler.localapi.runner.sizes import RunSize, measure
from scheduler.localapi.runner.start_failure import explain_start_failure
from scheduler.localapi.runner.workspace import Workspace
from scheduler.settings.keys import find_key_place
from scheduler.settings.load import Configuration, load
from scheduler.settings.models import RunnerSettings, Settings, TargetSection
from scheduler.settings.problems import Problem, SettingsError
from scheduler.settings.registry import make_variable_name
from scheduler.settings.sources import FILE_VARIABLE
from scheduler.upstream.target import ClientClock, TargetConfig

PATIENCE: Final = 60.0
"""Seconds after which any fact counts as unknown."""
_STEP_TIMEOUT: Final = 5.0  # seconds for a connection step, also when the target allows more
_MEASURE_TIMEOUT: Final = 10.0  # seconds for the folders of the embedded API's runs
_RUN_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_API_KEY: Final = re.compile(rb"phx_[\w-]{16,}")  # does not match an example with an ellipsis at its end
_RUNNER_VARIABLE: Final = make_variable_name(("api", "runner"))  # prefix of all runner variables
_KIND_LENGTH: Final = 4  # first characters of a key, which show the kind of the key


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The installation to examine, and the caller's functions for access to the installation.

    Without a usable ``configuration``, ``problems`` explains why.
    """

    version: str
    configuration: Configuration | None
    problems: Sequence[Problem] = ()
    environ: Mapping[str, str]
    clock: ClientClock
    make_config: Callable[[TargetSection], TargetConfig]  # raises `ConfigurationError` for an unusable key
    probe_ledger: Callable[[Path, datetime], Coroutine[Any, Any, LedgerFacts]]
    fetch_page: FetchPage

    @property
    def settings(self) -> Settings:
        """The settings, or the default settings when the configuration cannot be used."""
        return self.configuration.settings if self.configuration else Settings()

    @property
    def file(self) -> Path | None:
        """The configuration file; None without a usable configuration or without a file."""
        return self.configuration.file if self.configuration else None


async def collect_facts(
    of: Installation, progress: Callable[[float], None] = lambda _: None, *, patience: float = PATIENCE
) -> Facts:
    """Collect all facts. Raises no exception for a problem of the installation.

    ``progress`` is called with the finished share, up to 1.
    """
    now, versions = of.clock.now(), read_versions()
    async with asyncio.TaskGroup() as group:
        targets = [group.create_task(_collect_target(of, target, patience)) for target in of.settings.targets]
        tasks = {
            name: group.create_task(limit_time(patience, work)) for name, work in _list_works(of, now).items()
        }
        begun = [*targets, *tasks.values()]
        for task in begun:
            task.add_done_callback(lambda _: progress(0.99 * sum(task.done() for task in begun) / len(begun)))
    facts = Facts(
        now=now,
        version=of.version,
        evaluation=(versions.croniter, versions.tzdata, RULES_VERSION),
        configuration=of.configuration,
        problems=of.problems,
        environment={
            name: of.environ[name] for name in (*PROXY_VARIABLES, *TRUST_VARIABLES) if of.environ.get(name)
        },
        targets=[task.result() for task in targets],
        synchronised=is_clock_synchronised(),
        **{name: task.result() for name, task in tasks.items()},
    )
    automations = chain.from_iterable(facts.list_automations(target) or () for target in facts.targets)
    used = {automation.timezone for automation in automations if automation.timezone is not None}
    zones = await limit_time(patience, run_abandonable(lambda: read_zone_facts(used, now)))
    progress(1.0)
    return replace(facts, zones=zones)


def _list_works(of: Installation, now: datetime) -> dict[str, Coroutine[Any, Any, Any]]:
    """Return the work for each fact about this machine, by the name in `Facts`."""
    ledger, api, listen = of.settings.ledger.url.path, of.settings.api, of.settings.server.listen
    return {
        "ledger": of.probe_ledger(ledger, now),
        "daemon": _collect_daemon(of),
        "daemon_process": run_abandonable(lambda: find_process(ledger)),
        "server": find_occupant(listen, of.fetch_page),
        "embedded": run_abandonable(lambda: _collect_embedded_api(of)),
        "embedded_storage": _measure_storage(of),
        "embedded_process": run_abandonable(lambda: find_process(api.database.path)),
        "embedded_server": find_occupant(api.listen, of.fetch_page),
        "embedded_health": run_abandonable(lambda: _ask_health(of)),
        "file": run_abandonable(lambda: None if of.file is None else read_file_facts(of.file)),
        "holds_key": run_abandonable(lambda: _has_key(of.file)),
    }


# ---------------------------------------------------------------- a target


async def _collect_target(of: Installation, target: TargetSection, patience: float) -> TargetFacts:
    result = await limit_time(patience, run_abandonable(lambda: _collect_key(of, target)))
    facts, config = (KeyFacts(None, error=result.reason), None) if isinstance(result, UnknownFact) else result
    step = min(target.connect_timeout.total_seconds(), _STEP_TIMEOUT)
    connecting = probe_connectivity(target.url, target.ca_file, target.proxy, seconds=step)
    connectivity = await limit_time(patience, connecting)
    api = await _collect_api(of, connectivity, config, patience)
    return TargetFacts(settings=target, key=facts, connectivity=connectivity, api=api)


async def _collect_api(
    of: Installation, connectivity: Connectivity | UnknownFact, config: TargetConfig | None, patience: float
) -> ApiFacts | UnknownFact:
    if isinstance(connectivity, UnknownFact) or connectivity.broken:
        return UnknownFact("it cannot be reached")
    if config is None:
        return UnknownFact("there is no key to ask with")
    return await limit_time(patience, probe_api(config, of.clock))


def _collect_key(of: Installation, target: TargetSection) -> tuple[KeyFacts, TargetConfig | None]:
    place = find_key_place(target, of.environ)
    try:
        config = of.make_config(target)
    except ConfigurationError as error:
        return KeyFacts(place, error=str(error)), None
    file = None if place is None or place.file is None else read_file_facts(place.file)
    return KeyFacts(place, file, kind=config.key.reveal()[:_KIND_LENGTH]), config


# ---------------------------------------------------------------- this machine


async def _collect_daemon(of: Installation) -> Mapping[str, object] | UnknownFact:
    listen = of.settings.server.listen
    if listen is None or listen.port == 0:
        return UnknownFact("[server] listen names no address to ask at")
    status = await run_abandonable(lambda: of.fetch_page(listen, "/api/v1/status"))
    return status if isinstance(status, dict) else UnknownFact(f"what answers at {listen} is no daemon")


def _has_key(file: Path | None) -> bool:
    """Return whether the configuration file contains a key, even in a comment."""
    return file is not None and _API_KEY.search(file.read_bytes()) is not None


def _collect_embedded_api(of: Installation) -> EmbeddedFacts | None:
    """Return the facts about the embedded API; None when the embedded API is not in use.

    The embedded API is in use when a target's URL leads to its address, or when its database exists.
    """
    api = of.settings.api
    database = read_file_facts(api.database.path)
    if database is None and not of.settings.embedded_targets:
        return None
    server = find_environment(api.database.path, of.file, of.environ)
    server_runner = _load_runner(of, server)
    runner = server_runner if isinstance(server_runner, RunnerSettings) else api.runner
    passed = runner.environment
    program = server.find_program(runner.command[0], passed) if runner.command else None
    return EmbeddedFacts(
        program=program,
        program_fault=None if program is None else explain_start_failure(program, {}, Path("/")),
        git=server.find_program("git", passed),
        server=server.owner,
        unset_variables=server.list_unset(passed),
        runner=server_runner,
        differing_variables=() if runner == api.runner else _list_differing(of, server),
        folder=read_file_facts(api.database.path.parent),
        database=database,
        disk=find_disk(api.database.path),
        runs_disk=find_disk(api.runs_folder),
        interrupted=_find_interrupted_restore(api.database.path),
    )


def _find_interrupted_restore(database: Path) -> str | None:
    try:
        refuse_interrupted_restore(database)
    except DatabaseRefused as error:
        return str(error)
    return None


def _load_runner(of: Installation, server: ServerEnvironment) -> RunnerSettings | UnknownFact | None:
    """Load the runner's settings with the variables of the server that runs or that the unit starts.

    Return None when these variables are not known.
    """
    if of.configuration is None or not server.complete:
        return None
    try:
        return load(of.configuration.file, server.variables).settings.api.runner
    except SettingsError as error:  # only paths: values may be secret
        return UnknownFact(", ".join(problem.where for problem in error.problems))


def _list_differing(of: Installation, server: ServerEnvironment) -> tuple[str, ...]:
    """Return the names of the runner's variables with different values in the server and in this command."""
    without_file = of.configuration is not None and of.configuration.file is None
    return tuple(
        name
        for name in sorted({*of.environ, *server.variables})
        if (name.startswith(_RUNNER_VARIABLE) or (without_file and name == FILE_VARIABLE))
        and of.environ.get(name) != server.variables.get(name)
    )


async def _measure_storage(of: Installation) -> StorageFacts | None:
    """Measure the disk usage of the embedded API within a time limit; None when no database exists."""
    api = of.settings.api
    path = api.database.path
    paths = [path.with_name(path.name + suffix) for suffix in ("", *SIDE_FILE_SUFFIXES)]
    files = await run_abandonable(lambda: [read_file_facts(path) for path in paths])
    if files[0] is None:
        return None
    names = await run_abandonable(lambda: Workspace.list_names(api.runs_folder))
    run_ids = [name for name in names if _RUN_ID.fullmatch(name)]
    sizes = await measure(api.runs_folder, run_ids, _MEASURE_TIMEOUT) if run_ids else {}
    total, database = sum(sizes.values(), RunSize()), sum(file.size for file in files if file)
    return StorageFacts(database, total.outputs, total.clones, len(run_ids), len(sizes))


def _ask_health(of: Installation) -> Mapping[str, object] | None:
    """Ask the embedded API which of its parts work; None without an answer."""
    listen = of.settings.api.listen
    if listen is None or listen.port == 0:
        return None
    try:
        health = of.fetch_page(listen, "/healthz")
    except SchedulerError:
        return None
    return health if isinstance(health, dict) else None
