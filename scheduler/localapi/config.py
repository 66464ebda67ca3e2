"""The configuration of the embedded API, as plain values. Durations are seconds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_ENVIRONMENT: Final = ("PATH", "HOME", "LANG")
QUEUE_TIMEOUT: Final = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """The configuration of the runner. Without a ``command`` every run fails, with this reason."""

    folder: Path  # contains a folder for each run
    command: tuple[str, ...]
    environment: tuple[str, ...]  # the names of the variables that a command may see
    clone_url: str  # contains ``{repository}``; "": the working directory is empty
    clone_timeout: float
    timeout: float
    queue_timeout: float  # a run does not begin any more after this wait
    max_parallel: int
    output_limit: int  # bytes
    retention: float  # of outputs, and of working directories not covered by `clone_retention`
    clone_retention: float  # of the clones of successful runs
    # of a run's row in the database; no data of the run is kept for longer
    row_retention: float
    umask: int  # of git and of the command; the server's own files keep their modes
    grace: float = 10.0  # from SIGTERM to SIGKILL


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """The place of the embedded API's data, and the GitHub integrations that an automation may name."""

    database: Path
    runner: RunnerConfig
    github_integrations: frozenset[int]
    requests_per_minute: int  # of each key; 0: no limit
    max_page: int  # automations of a page, also for clients that ask for more
    public_url: str  # the beginning of links; "": taken from the request
