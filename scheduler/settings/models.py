"""Every setting with type, limits and default, in the structure of the configuration file.

Only this module lists the settings: the reader of the environment, `config show` and the check of
`docs/configuration.md` read these models. Immutable; made by `scheduler.settings.load`.
"""

import re
import socket
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StrictInt,
    model_validator,
)

from scheduler.core.automation_filter import find_id
from scheduler.core.errors import ConfigurationError
from scheduler.core.policy import CatchUp, Concurrency, Policies
from scheduler.core.proxy import Proxy
from scheduler.localapi.config import DEFAULT_ENVIRONMENT, QUEUE_TIMEOUT
from scheduler.settings.addresses import (
    DatabaseUrl,
    SocketAddress,
    parse_api_url,
    parse_database_url,
    parse_listen,
    parse_proxy,
)
from scheduler.settings.overrides import PatternIndex
from scheduler.settings.problems import KEY_PREFIX, InvalidSetting, format_value
from scheduler.settings.units import (
    format_duration,
    format_size,
    parse_duration,
    parse_positive_duration,
    parse_size,
)

KEY_VARIABLE: Final = "POSTHOG_PERSONAL_API_KEY"
DEFAULT_TARGET: Final = "default"
_WAITING_SHARE: Final = 4
_LARGEST_COUNT: Final = 1_000_000
_LARGEST_ID: Final = 2**63 - 1
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_CREDENTIALS: Final = re.compile(r"(?<!ssh)://[^/]*@|://[^/@]*:[^/]*@", re.IGNORECASE)
"""Credentials in a URL, which the list of processes would show. SSH needs a user name, without a password."""
_OWN_BITS: Final = 0o700
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_UMASK: Final = re.compile(r"0?[0-7]{3}", re.ASCII)
_ARGUMENT: Final = re.compile(r"[^\0]+")
_ANYTHING: Final = re.compile(r".*", re.DOTALL)
_SOMETHING: Final = re.compile(r".+", re.DOTALL)


def _parse_text(value: object, pattern: re.Pattern[str], kind: str, remedy: str) -> str:
    """Return a text that matches a pattern as a whole."""
    if isinstance(value, str) and pattern.fullmatch(value):
        return value
    raise InvalidSetting(f"should be {kind}, not {format_value(value)}", remedy)


def _parse_name(value: object) -> str:
    remedy = "use letters, digits, '.', '_' and '-', at most 63, a letter or digit first"
    return _parse_text(value, _NAME, "a short name", remedy)


def parse_project(value: object) -> str:
    """Return the number of a project, as text without leading zeros.

    The ledger binds a target to the project, and needs a unique form.
    """
    if value == "@current":
        what = "@current follows the key, but a history belongs to one project"
        raise InvalidSetting(what, "write the project's number")
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value) else value
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number <= _LARGEST_ID:
        return str(number)
    raise InvalidSetting(
        f"should be the number of a project, not {format_value(value)}", 'write it as "12345"'
    )


def _parse_file(value: object) -> Path | None:
    """Return a path, or None for the empty text.

    A personal API key in place of a path is refused without being shown.
    """
    text = _parse_text(value, _ANYTHING, "the path of a file", 'write it as "/run/keys/posthog"')
    if KEY_PREFIX in text:
        remedy = "write the key into a file of mode 0600, and that file's path here"
        raise InvalidSetting("seems to hold a key", remedy)
    if not text.isprintable():
        raise InvalidSetting("holds a control character", "write the path of a file")
    return Path(text) if text else None


def _parse_start_within(value: object) -> timedelta | None:
    return None if value == "auto" else parse_positive_duration(value)


def _parse_auto_count(value: object) -> int | None:
    if value == "auto":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST_COUNT:
        return value
    kind = f'"auto" or a whole number from 1 to {_LARGEST_COUNT}'
    raise InvalidSetting(f"should be {kind}, not {format_value(value)}", 'write it as 256, or "auto"')


def _parse_switch(value: object) -> bool | Literal["auto"]:
    if isinstance(value, bool):
        return value
    if value == "auto":
        return "auto"
    raise InvalidSetting(f'should be "auto", true or false, not {format_value(value)}', "write one of them")


def _parse_node(value: object) -> str:
    if isinstance(value, str) and value.isprintable():
        return value or socket.gethostname()
    raise InvalidSetting(
        f"should be a name, not {format_value(value)}", 'write a text, or "" for the host name'
    )


def _parse_argument(value: object) -> str:
    remedy = 'write a list of texts, the program first, as ["my-agent", "--quiet"]'
    return _parse_text(value, _ARGUMENT, "a word of a command", remedy)


def _parse_variable(value: object) -> str:
    """Return the name of an environment variable for a command.

    The variable with the daemon's own key is refused.
    """
    if value == KEY_VARIABLE:
        what = f"{KEY_VARIABLE} would hand the daemon's own key to the command"
        raise InvalidSetting(what, "give the command a key of its own, under another name")
    remedy = 'write names alone, as ["PATH", "HOME"]'
    return _parse_text(value, _VARIABLE, "the name of an environment variable", remedy)


def _parse_clone_url(value: object) -> str:
    if not isinstance(value, str) or (value and value.count("{repository}") != 1):
        remedy = 'write "https://github.com/{repository}.git", or "" for no clone'
        raise InvalidSetting("should be a URL that holds {repository} once", remedy)
    remedy = "leave it out; git finds credentials by its own configuration in HOME"
    if _CREDENTIALS.search(value):
        raise InvalidSetting("holds a user name or password", remedy)
    if "?" in value or "#" in value:
        raise InvalidSetting("holds a query", remedy)
    return value


def _parse_umask(value: object) -> int:
    """Return the bits that a umask removes.

    The owner's bits are refused: a run could not read the run's own files.
    """
    remedy = 'write three digits from 0 to 7, as "022" or "077"'
    umask = int(_parse_text(value, _UMASK, "an octal umask in quotes", remedy), 8)
    if umask & _OWN_BITS:
        what = f"{format_value(value)} denies the command its own files"
        raise InvalidSetting(what, 'begin with 0, as "022" or "077"')
    return umask


def _format_umask(value: int) -> str:
    return f"{value:03o}"


def _parse_public_url(value: object) -> str:
    return "" if value == "" else parse_api_url(value)


def _parse_pattern(value: object) -> str:
    kind = "an automation's id or a pattern for its name"
    pattern = _parse_text(value, _SOMETHING, kind, 'write it as "nightly-*"')
    return find_id(pattern) or pattern


def _format_optional(value: object) -> str:
    return "" if value is None else str(value)


def _format_start_within(value: timedelta | None) -> str:
    return "auto" if value is None else format_duration(value)


def _format_auto_count(value: int | None) -> int | str:
    return "auto" if value is None else value


_DurationText = PlainSerializer(format_duration)
_OptionalText = PlainSerializer(_format_optional)
Duration = Annotated[timedelta, PlainValidator(parse_duration), _DurationText]
PositiveDuration = Annotated[timedelta, PlainValidator(parse_positive_duration), _DurationText]
StartWithin = Annotated[
    timedelta | None, PlainValidator(_parse_start_within), PlainSerializer(_format_start_within)
]
Count = Annotated[StrictInt, Field(ge=1, le=_LARGEST_COUNT)]
AutoCount = Annotated[int | None, PlainValidator(_parse_auto_count), PlainSerializer(_format_auto_count)]
Size = Annotated[int, PlainValidator(parse_size), PlainSerializer(format_size)]
Umask = Annotated[int, PlainValidator(_parse_umask), PlainSerializer(_format_umask)]
OptionalFile = Annotated[Path | None, PlainValidator(_parse_file), _OptionalText]
# credentials are not in the text
OptionalProxy = Annotated[Proxy | None, PlainValidator(parse_proxy), _OptionalText]
ListenAddress = Annotated[SocketAddress | None, PlainValidator(parse_listen), _OptionalText]
DatabaseSetting = Annotated[DatabaseUrl, PlainValidator(parse_database_url), _OptionalText]


class Section(BaseModel):
    """A table of the file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetSection(Section):
    """``[[target]]``: an API."""

    name: Annotated[str, PlainValidator(_parse_name)] = DEFAULT_TARGET
    url: Annotated[str, PlainValidator(parse_api_url)]
    project_id: Annotated[str, PlainValidator(parse_project)]
    key_file: OptionalFile = None
    requests_per_minute: Count = 400
    requests_per_hour: Count = 4000
    idempotent: StrictBool = False
    connect_timeout: PositiveDuration = timedelta(seconds=5)
    request_timeout: PositiveDuration = timedelta(seconds=30)
    max_in_flight: Count = 64
    max_waiting: AutoCount = None
    ca_file: OptionalFile = None
    proxy: OptionalProxy = None

    @property
    def waiting_limit(self) -> int:
        """The number of requests that may hang before they hold places of ``max_in_flight``.

        Auto: four times ``max_in_flight``.
        """
        return _WAITING_SHARE * self.max_in_flight if self.max_waiting is None else self.max_waiting


class PolicySettings(Section):
    """The five settings that can differ between automations. ``start_within`` None is ``auto``."""

    start_within: StartWithin = None
    catch_up: CatchUp = CatchUp.LATEST
    concurrency: Concurrency = Concurrency.ALLOW
    jitter: Duration = timedelta(0)
    paused: StrictBool = False

    def to_policies(self) -> Policies:
        """Return these settings as policies for the core."""
        return Policies(self.start_within, self.catch_up, self.concurrency, self.jitter, self.paused)


class ScheduleSettings(PolicySettings):
    """``[schedule]``: how automations are read and fired without an override."""

    poll_interval: PositiveDuration = timedelta(seconds=30)
    fresh_for: Duration = timedelta(seconds=10)
    stale_limit: PositiveDuration = timedelta(hours=24)
    dst_gap: Literal["after", "skip"] = "after"
    dst_repeat: Literal["once", "twice"] = "once"
    settle_time: Duration = timedelta(seconds=30)
    run_timeout: PositiveDuration = timedelta(hours=24)


class Override(PolicySettings):
    """``[[override]]``: policies for the matching automations. Only the configured fields count."""

    automation: Annotated[str, PlainValidator(_parse_pattern)]

    @property
    def changes(self) -> frozenset[str]:
        """The names of the policies in this override."""
        return frozenset(self.model_fields_set - {"automation"})

    @model_validator(mode="after")
    def _require_change(self) -> Self:
        if not self.changes:
            remedy = f"set one of {', '.join(PolicySettings.model_fields)}, or remove it"
            raise InvalidSetting("changes nothing", remedy)
        return self

    def apply_to(self, policies: PolicySettings) -> PolicySettings:
        """Return the given settings with the changes of this override."""
        return policies.model_copy(update={field: getattr(self, field) for field in self.changes})


class LedgerSettings(Section):
    """``[ledger]``: the durable record."""

    url: DatabaseSetting = DatabaseUrl("sqlite:////var/lib/scheduler/scheduler.db")
    retention: PositiveDuration = timedelta(days=180)


class ServerSettings(Section):
    """``[server]``: metrics, health and the status page of the daemon."""

    listen: ListenAddress = SocketAddress("127.0.0.1", 9464)
    per_automation_metrics: Annotated[bool | Literal["auto"], PlainValidator(_parse_switch)] = "auto"
    run_output: Annotated[bool | Literal["auto"], PlainValidator(_parse_switch)] = "auto"


class LogSettings(Section):
    """``[log]``: the format and the level of the log."""

    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class DaemonSettings(Section):
    """``[daemon]``: the process."""

    node: Annotated[str, PlainValidator(_parse_node)] = Field(default="", validate_default=True)
    drain_timeout: Duration = timedelta(seconds=25)


class RunnerSettings(Section):
    """``[api.runner]``: how the embedded API carries out a run."""

    command: tuple[Annotated[str, PlainValidator(_parse_argument)], ...] = ()
    environment: tuple[Annotated[str, PlainValidator(_parse_variable)], ...] = DEFAULT_ENVIRONMENT
    clone_url: Annotated[str, PlainValidator(_parse_clone_url)] = ""
    clone_timeout: PositiveDuration = timedelta(minutes=5)
    timeout: PositiveDuration = timedelta(hours=1)
    queue_timeout: PositiveDuration = timedelta(seconds=QUEUE_TIMEOUT)
    max_parallel: Count = 2
    output_limit: Size = 10 * 2**20
    retention: PositiveDuration = timedelta(days=30)
    clone_retention: Duration = timedelta(0)
    umask: Umask = 0o022


class ApiSettings(Section):
    """``[api]``: the embedded API."""

    listen: ListenAddress = SocketAddress("127.0.0.1", 8040)
    public_url: Annotated[str, PlainValidator(_parse_public_url)] = ""
    github_integrations: tuple[Annotated[StrictInt, Field(ge=0, le=_LARGEST_ID)], ...] = ()
    requests_per_minute: Annotated[StrictInt, Field(ge=0, le=1_000_000)] = 0
    max_page: Annotated[StrictInt, Field(ge=100, le=100_000)] = 10_000
    database: DatabaseSetting = DatabaseUrl("sqlite:////var/lib/scheduler/api.db")
    retention: PositiveDuration = timedelta(days=180)
    runner: RunnerSettings = RunnerSettings()

    @property
    def runs_folder(self) -> Path:
        """The folder for the outputs and working directories of the runs, with a folder for each run.

        The folder is beside the database. The path is absolute, because commands in other working directories
        receive the path.
        """
        return self.database.path.with_name(self.database.path.name + ".runs").absolute()


class Settings(Section):
    """All settings, checked."""

    targets: tuple[TargetSection, ...] = Field(default=(), alias="target")
    schedule: ScheduleSettings = ScheduleSettings()
    overrides: tuple[Override, ...] = Field(default=(), alias="override")
    ledger: LedgerSettings = LedgerSettings()
    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    daemon: DaemonSettings = DaemonSettings()
    api: ApiSettings = ApiSettings()

    def find_policies(self, automation_id: str, name: str) -> Policies:
        """Find the policies of an automation.

        The first matching override counts. ``[schedule]`` sets the policies that the override leaves open.
        """
        return self.all_policies[min(self.patterns.find_all(automation_id, name), default=-1)]

    @property
    def embedded_targets(self) -> list[TargetSection]:
        """The targets with URLs that lead to ``[api] listen``, as far as the addresses show."""
        listen = self.api.listen
        return [target for target in self.targets if listen is not None and listen.is_reached_by(target.url)]

    @cached_property
    def patterns(self) -> PatternIndex:
        """The patterns of the overrides, in order."""
        return PatternIndex([override.automation for override in self.overrides])

    @cached_property
    def all_policies(self) -> tuple[Policies, ...]:
        """The policies that automations may have: of each override, and last of ``[schedule]``."""
        of_overrides = (override.apply_to(self.schedule) for override in self.overrides)
        return tuple(settings.to_policies() for settings in (*of_overrides, self.schedule))

    def choose_target(self, name: str | None) -> TargetSection:
        """Return the target with this name, or without a name the only target.

        Raises `ConfigurationError` without a target, for several targets without a name, and for an unknown
        name.
        """
        names = [target.name for target in self.targets]
        if not names:
            remedy = "set [[target]] url and project_id, or SCHEDULER_TARGET__URL and …__PROJECT_ID"
            raise ConfigurationError(f"no target is configured; {remedy}")
        if name is None and len(names) > 1:
            raise ConfigurationError(f"there are several targets; name one with --target: {', '.join(names)}")
        for target in self.targets:
            if name in {None, target.name}:
                return target
        raise ConfigurationError(f"there is no target {name!r}; there are {', '.join(names)}")
