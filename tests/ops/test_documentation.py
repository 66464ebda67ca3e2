"""docs/metrics.md names every metric, label, label value, log event, page and parameter, each as it is in the
code, and no other.
"""

import asyncio
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.routing import Route

from scheduler.core.model import REASONS, AttemptResult, RunStatus, State
from scheduler.core.status import AUTOMATION_STATES
from scheduler.ops import gauges, metrics
from scheduler.ops.event_log import EventLogger
from scheduler.ops.logs import Log
from scheduler.ops.metrics import Metrics
from scheduler.ops.queries import BadQuery, parse_occurrence_query, parse_upcoming_query
from scheduler.ops.web import build_app
from tests.ops.support import NOW, every_event, exposition, pages

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
OF_THE_LIBRARY = ("process_", "python_")
SUFFIXES = ("_bucket", "_count", "_sum")
LOGGED_BY_THE_OBSERVERS_THEMSELVES = {"log.lost", "observer.failed"}


def rows(first: str) -> Iterator[list[str]]:
    """The cells of every row of the tables whose first column has this title."""
    inside = False
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        inside = bool(cells) and (inside or cells[0] == first)
        if inside and cells[0] != first and not set(line) <= set("| -"):
            yield cells


def ticked(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# ------------------------------------------------------------ metrics


def shown() -> dict[str, tuple[str, frozenset[str]]]:
    """Name, type and labels of all that `/metrics` shows after everything has happened once."""
    counted = Metrics(["main"], now=lambda: NOW)
    counted.recall_failing("main", ())
    for event in every_event():
        counted.observe(event)
    text = asyncio.run(gauges.render_metrics(exposition(counted), ""))[0].decode()
    found = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        found[name] = family.type, frozenset(labels - {"le"})
    return {name: each for name, each in found.items() if not name.startswith(OF_THE_LIBRARY)}


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    return {ticked(name)[0]: (kind, frozenset(ticked(labels))) for name, kind, labels, *_ in rows("metric")}


def test_every_metric_is_documented_with_its_type_and_labels_and_no_other() -> None:
    assert documented() == shown()


def test_every_metric_says_what_it_means() -> None:
    assert all(meaning for _, _, _, meaning in rows("metric"))


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("`kind`", metrics.KINDS),
        ("`result` of an attempt", AttemptResult),
        ("`state` of an open occurrence", State),
        ("`status`", (status for status in RunStatus if status is not RunStatus.RUNNING)),
        ("`state` of automations", AUTOMATION_STATES),
        ("`result` of a poll", metrics.POLLS),
        ("`endpoint`", metrics.ENDPOINTS),
        ("`direction`", metrics.DIRECTIONS),
        ("`operation`", metrics.OPERATIONS),
    ],
)
def test_the_values_of_a_label_are_documented(label: str, values: Iterable[str]) -> None:
    (listed,) = [cells[1] for cells in rows("label") if cells[0] == label]
    assert ticked(listed) == [str(value) for value in values]


def test_the_reasons_of_every_outcome_are_documented() -> None:
    (listed,) = [cells[1] for cells in rows("label") if cells[0] == "`outcome` and `reason`"]
    found = {
        ticked(outcome)[0]: ticked(reasons)
        for outcome, reasons in (part.split(": ") for part in listed.split("; "))
    }
    assert found == {
        str(outcome): [str(reason) for reason in reasons] for outcome, reasons in REASONS.items()
    }


def test_the_labels_whose_values_are_documented_are_all_that_have_a_fixed_set() -> None:
    fixed = {label for cells in rows("label") for label in ticked(cells[0])}
    open_ended = {
        "target",
        "code",
        "version",
        "python",
        "croniter",
        "tzdata",
        "automation",
        "name",
        "cron",
        "timezone",
    }
    assert fixed | open_ended == {label for _, labels in shown().values() for label in labels}


def test_every_query_asks_for_metrics_and_labels_that_there_are() -> None:
    known = shown()
    for _, query in rows("question"):
        for name, labels in re.findall(r"(scheduler_\w+)(?:\{([^}]*)\})?", query):
            base = next(
                (name.removesuffix(suffix) for suffix in SUFFIXES if name.removesuffix(suffix) in known), name
            )
            assert base in known, f"{name} in {query}"
            assert set(re.findall(r"(\w+)=", labels)) <= known[base][1]


def test_the_limits_that_are_documented_are_the_codes() -> None:
    assert f"no more than {gauges.MAX_DETAILED:,} automations" in TEXT


# ------------------------------------------------------------ log events


def narrated(file: Path) -> dict[str, set[str]]:
    """Every event's name, with the levels at which it has been seen."""
    with (
        file.open("w") as stream,
        closing(Log(format="json", level="debug", node="n", now=lambda: NOW, stream=stream)) as log,
    ):
        narrator = EventLogger(log.is_enabled_for)
        for event in [*every_event(), *every_event()]:
            narrator.observe(event)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {
        name: {line["level"] for line in lines if line["event"] == name}
        for name in {line["event"] for line in lines}
    }


def test_every_log_event_is_documented_and_no_other(tmp_path: Path) -> None:
    assert {ticked(event)[0] for event, *_ in rows("event")} == set(
        narrated(tmp_path / "log")
    ) | LOGGED_BY_THE_OBSERVERS_THEMSELVES


def test_a_log_events_levels_are_documented(tmp_path: Path) -> None:
    seen = narrated(tmp_path / "log")
    for event, level, _ in rows("event"):
        name = ticked(event)[0]
        assert seen.get(name, set()) <= set(level.split(", ")), name


# ------------------------------------------------------------ pages


def test_every_page_is_documented_and_no_other() -> None:
    app = build_app(pages(), listen="127.0.0.1:0")
    assert isinstance(app, Starlette)
    assert {ticked(path)[0] for path, _ in rows("path")} == {
        route.path for route in app.routes if isinstance(route, Route)
    }


@pytest.mark.parametrize(
    ("page", "read"), [("upcoming", parse_upcoming_query), ("occurrences", parse_occurrence_query)]
)
def test_every_parameter_of_a_page_is_documented_and_no_other(page: str, read: object) -> None:
    assert callable(read)
    with pytest.raises(BadQuery) as raised:
        read(QueryParams({"no_such": "parameter"}))
    known = raised.value.problems["no_such"].partition("known are ")[2].split(", ")
    assert {
        name for names, of, _ in rows("parameter") if page in ticked(of) for name in ticked(names)
    } == set(known)
