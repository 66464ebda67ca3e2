"""What a client has to know about its target, and what it needs from a clock. Plain values: it does not matter where they were set."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from scheduler.core.model import to_canonical_id
from scheduler.core.proxy import Proxy
from scheduler.core.secret import SecretKey


class ClientClock(Protocol):
    """Two clocks: one that people read, and one that only ever goes forward."""

    def now(self) -> datetime:
        """The wall clock: aware, UTC."""

    def boottime(self) -> float:
        """Seconds since some fixed point, also those the machine was suspended for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetConfig:
    """One target. Times are in seconds; ``request_timeout`` bounds a whole request, from its connection to the last byte of its answer."""

    name: str
    url: str
    project_id: str
    key: SecretKey
    connect_timeout: float = 5.0
    request_timeout: float = 30.0
    max_in_flight: int = 64
    requests_per_minute: int = 400
    requests_per_hour: int = 4000
    ca_file: Path | None = None
    proxy: Proxy | None = None

    @property
    def collection(self) -> str:
        """The address of the automations, with its slash at the end."""
        return f"{self._project}/task_automations/"

    def locate_automation(self, automation_id: str) -> str:
        """The address of one automation. Raises `InvalidAutomation` for what is no id, so that no id can lead elsewhere."""
        return f"{self.collection}{to_canonical_id(automation_id)}/"

    def locate_run_output(self, run_id: str) -> str:
        """Return the address of a run's output, which the embedded API alone has. Raises `InvalidAutomation` for what is no id."""
        return f"{self._project}/task_runs/{to_canonical_id(run_id)}/output/"

    @property
    def _project(self) -> str:
        return f"{self.url.rstrip('/')}/api/projects/{quote(self.project_id, safe='@')}"
