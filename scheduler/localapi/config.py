"""What the embedded API needs to be told, as plain values. Durations are seconds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scheduler.localapi.paging import LARGEST_LIMIT

DEFAULT_ENVIRONMENT: Final = ("PATH", "HOME", "LANG")
QUEUE_TIMEOUT: Final = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """How runs are carried out. Without a ``command`` every run fails, and says so."""

    folder: Path  # each run gets a folder of its own in it
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = DEFAULT_ENVIRONMENT  # the names of the variables that a command may see
    clone_url: str = ""  # with ``{repository}`` in it; "": the working directory is empty
    clone_timeout: float = 300.0
    timeout: float = 3600.0
    queue_timeout: float = QUEUE_TIMEOUT  # a run that waited so long does not begin any more
    grace: float = 10.0  # from SIGTERM to SIGKILL
    max_parallel: int = 2
    output_limit: int = 10 * 2**20  # bytes
    retention: float = 30 * 86400.0  # of outputs, and of the working directories that `clone_retention` does not concern
    clone_retention: float = 0.0  # of the clones of successful runs
    row_retention: float = 180 * 86400.0  # of what the database knows of a run; nothing of the run is kept for longer
    umask: int = 0o022  # of git and of the command; the server's own files keep their modes


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Where the embedded API keeps its data, and which GitHub integrations an automation may name."""

    database: Path
    runner: RunnerConfig
    github_integrations: frozenset[int] = frozenset()
    requests_per_minute: int = 0  # of each key; 0: as many as it likes
    max_page: int = LARGEST_LIMIT  # automations of a page; who asks for more gets so many
    public_url: str = ""  # what links begin with; "": what the request names
