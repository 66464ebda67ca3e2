"""The embedded API's metrics, in a separate registry. The API can be served beside the daemon or alone.

Every series that can be known beforehand exists from the start, with 0.
"""

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import (  # noqa: TID251 - this is the room for metrics
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder  # noqa: TID251 - this is the room for metrics

METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""Any other method is counted as ``other``: clients must not be able to create series."""

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_RUN_BUCKETS: Final = (1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


class ApiMetrics:
    """The metrics of requests and runs."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # as the daemon's: series that nobody asks for
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "scheduler_api_requests_total",
            "Requests answered by the embedded API",
            ("route", "method", "code"),
            registry=registry,
        )
        self._durations = Histogram(
            "scheduler_api_request_duration_seconds",
            "Time from a request to its answer",
            ("route",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._runs = Counter(
            "scheduler_api_runs_total", "Ended runs by status", ("status",), registry=registry
        )
        self._run_durations = Histogram(
            "scheduler_api_run_duration_seconds",
            "Time from the beginning of a run to its end",
            ("status",),
            buckets=_RUN_BUCKETS,
            registry=registry,
        )
        for status in ("success", "failed", "cancelled"):
            self._runs.labels(status)
            self._run_durations.labels(status)
        self._sizes = Gauge(
            "scheduler_api_size_bytes", "Data of the embedded API on disk", ("part",), registry=registry
        )
        for part in ("database", "outputs", "clones"):
            self._sizes.labels(part)
        self._healthy = Gauge(
            "scheduler_api_healthy",
            "1: the part of the embedded API works; 0: it does not",
            ("part",),
            registry=registry,
        )

    def set_health(self, parts: Mapping[str, bool]) -> None:
        """Show which parts work, by the result of a check."""
        for part, works in parts.items():
            self._healthy.labels(part).set(works)

    def set_sizes(self, sizes: Mapping[str, int]) -> None:
        """Show how many bytes each part takes, as far as known now."""
        for part, size in sizes.items():
            self._sizes.labels(part).set(size)

    def watch_runner(self, queued: Callable[[], int], in_progress: Callable[[], int]) -> None:
        """Show the number of waiting runs and of running runs, read from these functions at each request."""
        for name, text, value in (
            ("scheduler_api_runs_queued", "Waiting runs", queued),
            ("scheduler_api_runs_in_progress", "Runs in progress", in_progress),
        ):
            Gauge(name, text, registry=self.registry).set_function(value)

    def count_request(self, route: str, method: str, code: int, seconds: float) -> None:
        """Count a request and the seconds to the answer."""
        self._requests.labels(route, method if method in METHODS else "other", str(code)).inc()
        self._durations.labels(route).observe(seconds)

    def count_run(self, status: str, seconds: float | None) -> None:
        """Count a run that ended as ``success``, ``failed`` or ``cancelled``.

        ``seconds`` is the time since the beginning, None for a run that never began.
        """
        self._runs.labels(status).inc()
        if seconds is not None:
            self._run_durations.labels(status).observe(seconds)

    def format_metrics(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics as text for Prometheus, with the Content-Type.

        The text is in OpenMetrics when ``accept`` asks for OpenMetrics.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
