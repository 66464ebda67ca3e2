"""The settings of a target for a client, and the clocks that a client needs.

The settings are plain values from any source.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from scheduler.core.model import to_canonical_id
from scheduler.core.proxy import Proxy
from scheduler.core.secret import SecretKey


class ClientClock(Protocol):
    """Two clocks: the wall clock for people, and a clock that only goes forward."""

    def now(self) -> datetime:
        """Return the wall clock: aware, UTC."""

    def boottime(self) -> float:
        """Return the seconds since some fixed point, including suspend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetConfig:
    """The settings of one target, with times in seconds.

    ``request_timeout`` bounds a whole request, from its connection to the last byte of its answer.
    """

    name: str
    url: str
    project_id: str
    key: SecretKey
    connect_timeout: float
    request_timeout: float
    max_in_flight: int
    requests_per_minute: int
    requests_per_hour: int
    ca_file: Path | None
    proxy: Proxy | None

    @property
    def collection(self) -> str:
        """The address of the automations, with its slash at the end."""
        return f"{self._project}/task_automations/"

    def locate_automation(self, automation_id: str) -> str:
        """Return the address of one automation.

        Raise `InvalidAutomation` for a text that is no id, so no id can lead to another address.
        """
        return f"{self.collection}{to_canonical_id(automation_id)}/"

    def locate_run_output(self, run_id: str) -> str:
        """Return the address of a run's output, in the embedded API alone.

        Raise `InvalidAutomation` for a wrong id.
        """
        return f"{self._project}/task_runs/{to_canonical_id(run_id)}/output/"

    @property
    def _project(self) -> str:
        return f"{self.url.rstrip('/')}/api/projects/{quote(self.project_id, safe='@')}"
