"""Finds out the facts: everything beside everything else, each thing bounded in time, and what fails takes nothing else with it."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from scheduler.core.cron import versions
from scheduler.core.errors import ConfigurationError, DatabaseRefused, SchedulerError
from scheduler.core.ranges import RULES_VERSION
from scheduler.database.backup import refuse_interrupted
from scheduler.database.files import BESIDE
from scheduler.doctor.apart import apart
from scheduler.doctor.asking import ask
from scheduler.doctor.facts import (
    PROXIES,
    TRUST,
    ApiFacts,
    EmbeddedFacts,
    Facts,
    FileFacts,
    KeptFacts,
    KeyFacts,
    LedgerFacts,
    TargetFacts,
    Unknown,
    Way,
)
from scheduler.doctor.files import file_facts, find_disk
from scheduler.doctor.host import Page, find_process, occupant, synchronised, zone_facts
from scheduler.doctor.server_environment import ServerEnvironment, find_environment
from scheduler.doctor.way import walk
from scheduler.localapi.sizes import RunSize, measure
from scheduler.localapi.start_failure import explain_start_failure
from scheduler.localapi.workspace import Workspace
from scheduler.settings import Configuration, Problem, Settings, SettingsError, Target, load
from scheduler.settings.catalogue import variable
from scheduler.settings.keys import key_place
from scheduler.settings.layers import FILE_VARIABLE
from scheduler.settings.models import RunnerSettings
from scheduler.upstream import TargetConfig
from scheduler.upstream.target import Clock

T = TypeVar("T")

PATIENCE: Final = 60.0
"""Seconds after which a fact is unknown, whatever it is."""
_STEP: Final = 5.0  # seconds for a step of the way to an API, where the target allows more
_MEASURING: Final = 10.0  # seconds for the folders of the embedded API's runs
_AN_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_A_KEY: Final = re.compile(rb"phx_[\w-]{16,}")  # no example, which ends in an ellipsis
_RUNNER_VARIABLE: Final = variable(("api", "runner"))  # with which the names of all variables for the runner begin
_KIND: Final = 4  # characters of a key that say what kind of key it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is to be examined, and the ways to ask it that are not the doctor's own. Without a ``configuration``, its ``problems``."""

    version: str
    configuration: Configuration | None
    problems: Sequence[Problem] = ()
    environ: Mapping[str, str]
    clock: Clock
    connection: Callable[[Target], TargetConfig]  # raises `ConfigurationError` for a key that cannot be used
    look: Callable[[Path, datetime], Coroutine[Any, Any, LedgerFacts]]
    page: Page

    @property
    def settings(self) -> Settings:
        """The settings; the defaults when the configuration cannot be used."""
        return self.configuration.settings if self.configuration else Settings()


async def gathered(of: Installation, progress: Callable[[float], None] = lambda _: None, *, patience: float = PATIENCE) -> Facts:
    """All facts. Raises nothing that an installation can be wrong with. ``progress`` is told which share of it is done."""
    settings, now = of.settings, of.clock.now()
    async with asyncio.TaskGroup() as group:
        begun: list[asyncio.Task[Any]] = []

        def begin(work: Awaitable[T]) -> asyncio.Task[T | Unknown]:
            task = group.create_task(_within(patience, work))
            begun.append(task)
            task.add_done_callback(lambda _: progress(0.99 * sum(each.done() for each in begun) / len(begun)))
            return task

        ledger = begin(of.look(settings.ledger.url.path, now))
        daemon = begin(_daemon(of))
        daemon_process = begin(apart(lambda: find_process(settings.ledger.url.path)))
        server = begin(occupant(settings.server.listen, of.page))
        embedded = begin(apart(lambda: _embedded(of)))
        embedded_kept = begin(_embedded_kept(of))
        embedded_process = begin(apart(lambda: find_process(settings.api.database.path)))
        embedded_server = begin(occupant(settings.api.listen, of.page))
        embedded_health = begin(apart(lambda: _ask_health(of)))
        file = begin(apart(lambda: _file(of)))
        holds_key = begin(apart(lambda: _holds_key(of)))
        targets = [group.create_task(_target(of, each, patience)) for each in settings.targets]
        begun += targets
    evaluating = versions()
    facts = Facts(
        now=now,
        version=of.version,
        evaluates=(evaluating.croniter, evaluating.tzdata, RULES_VERSION),
        configuration=of.configuration,
        problems=of.problems,
        file=None if isinstance(found := file.result(), Unknown) else found,
        holds_key=holds_key.result() is True,
        environment={name: of.environ[name] for name in (*PROXIES, *TRUST) if of.environ.get(name)},
        targets=[each.result() for each in targets],
        ledger=ledger.result(),
        daemon=daemon.result(),
        daemon_process=daemon_process.result(),
        server=server.result(),
        embedded=embedded.result(),
        embedded_kept=embedded_kept.result(),
        embedded_process=embedded_process.result(),
        embedded_server=embedded_server.result(),
        embedded_health=embedded_health.result(),
        zones=Unknown("they were not looked at"),
        synchronised=synchronised(),
    )
    used = {each.timezone for target in facts.targets for each in facts.automations(target) or ()}
    facts = replace(facts, zones=await _within(patience, apart(lambda: zone_facts(used, now))))
    progress(1.0)
    return facts


async def _within(seconds: float, work: Awaitable[T]) -> T | Unknown:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        return Unknown(f"nothing came of it within {seconds:g} s")
    except Exception as error:  # noqa: BLE001  whatever it is, it must not keep the other checks from their end
        return Unknown(str(error) or type(error).__name__)


# ---------------------------------------------------------------- a target


async def _target(of: Installation, target: Target, patience: float) -> TargetFacts:
    found = await _within(patience, apart(lambda: _key(of, target)))
    facts, config = (KeyFacts(None, error=found.why), None) if isinstance(found, Unknown) else found
    step = min(target.connect_timeout.total_seconds(), _STEP)
    way = await _within(patience, walk(target.url, target.ca_file, target.proxy, seconds=step))
    return TargetFacts(settings=target, key=facts, way=way, api=await _api(of, way, config, patience))


async def _api(of: Installation, way: Way | Unknown, config: TargetConfig | None, patience: float) -> ApiFacts | Unknown:
    if isinstance(way, Unknown) or way.broken:
        return Unknown("it cannot be reached")
    if config is None:
        return Unknown("there is no key to ask with")
    return await _within(patience, ask(config, of.clock))


def _key(of: Installation, target: Target) -> tuple[KeyFacts, TargetConfig | None]:
    place = key_place(target, of.environ)
    try:
        config = of.connection(target)
    except ConfigurationError as error:
        return KeyFacts(place, error=str(error)), None
    file = None if place is None or place.file is None else file_facts(place.file)
    return KeyFacts(place, file, kind=config.key.reveal()[:_KIND]), config


# ---------------------------------------------------------------- this machine


async def _daemon(of: Installation) -> Mapping[str, object] | Unknown:
    listen = of.settings.server.listen
    if listen is None or listen.port == 0:
        return Unknown("[server] listen names no address to ask at")
    status = await apart(lambda: of.page(listen, "/api/v1/status"))
    return status if isinstance(status, dict) else Unknown(f"what answers at {listen} is no daemon")


def _file(of: Installation) -> FileFacts | None:
    file = of.configuration.file if of.configuration else None
    return None if file is None else file_facts(file)


def _holds_key(of: Installation) -> bool:
    """Whether a key was written into the configuration's file, be it as a comment."""
    file = of.configuration.file if of.configuration else None
    return file is not None and _A_KEY.search(file.read_bytes()) is not None


def _embedded(of: Installation) -> EmbeddedFacts | None:
    """What the embedded API needs, if it is in use: a target is that API, or it has a database."""
    api = of.settings.api
    database = file_facts(api.database.path)
    if database is None and not any(api.listen and api.listen.answers_to(target.url) for target in of.settings.targets):
        return None
    server = find_environment(api.database.path, of.configuration.file if of.configuration else None, of.environ)
    server_runner = _load_runner(of, server)
    runner = server_runner if isinstance(server_runner, RunnerSettings) else api.runner
    passed = runner.environment
    program = server.find(runner.command[0], passed) if runner.command else None
    return EmbeddedFacts(
        program=program,
        program_fault=None if program is None else explain_start_failure(program, {}, Path("/")),
        git=server.find("git", passed),
        server=server.owner,
        unset=server.list_unset(passed),
        runner=server_runner,
        differing=() if runner == api.runner else _list_differing(of, server),
        folder=file_facts(api.database.path.parent),
        database=database,
        disk=find_disk(api.database.path),
        runs_disk=find_disk(api.runs_folder),
        interrupted=_find_interrupted(api.database.path),
    )


def _find_interrupted(database: Path) -> str | None:
    try:
        refuse_interrupted(database)
    except DatabaseRefused as error:
        return str(error)
    return None


def _load_runner(of: Installation, server: ServerEnvironment) -> RunnerSettings | Unknown | None:
    """Load the runner's settings with the variables of the server, which runs or which the unit starts.

    None where these variables are not known.
    """
    if of.configuration is None or not server.complete:
        return None
    try:
        return load(of.configuration.file, server.variables).settings.api.runner
    except SettingsError as error:  # without the values, which may be secret
        return Unknown(", ".join(problem.where for problem in error.problems))


def _list_differing(of: Installation, server: ServerEnvironment) -> tuple[str, ...]:
    """Return the names of the variables for the runner whose values differ between the server and this command."""
    without_file = of.configuration is not None and of.configuration.file is None
    return tuple(
        name
        for name in sorted({*of.environ, *server.variables})
        if (name.startswith(_RUNNER_VARIABLE) or (without_file and name == FILE_VARIABLE))
        and of.environ.get(name) != server.variables.get(name)
    )


async def _embedded_kept(of: Installation) -> KeptFacts | None:
    """Measure what the embedded API keeps on disk, within a time that bounds it."""
    api = of.settings.api
    database = await apart(lambda: [file_facts(api.database.path.with_name(api.database.path.name + suffix)) for suffix in ("", *BESIDE)])
    if database[0] is None:
        return None
    run_ids = [name for name in await apart(lambda: Workspace.all_in(api.runs_folder)) if _AN_ID.fullmatch(name)]
    sizes = await measure(api.runs_folder, run_ids, _MEASURING) if run_ids else {}
    total = sum(sizes.values(), RunSize())
    return KeptFacts(sum(file.size for file in database if file), total.outputs, total.clones, len(run_ids), len(sizes))


def _ask_health(of: Installation) -> Mapping[str, object] | None:
    """Ask the embedded API which of its parts work."""
    listen = of.settings.api.listen
    if listen is None or listen.port == 0:
        return None
    try:
        health = of.page(listen, "/healthz")
    except SchedulerError:
        return None
    return health if isinstance(health, dict) else None
