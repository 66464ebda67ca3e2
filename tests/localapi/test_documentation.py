"""docs/api.md names every metric and log event of the embedded API, each as it is in the code, and no
other.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

import scheduler.localapi
from scheduler.localapi.http.metrics import ApiMetrics

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
ROOM = Path(scheduler.localapi.__file__).parent
LEVEL = {"exception": "error"}


def rows(first: str) -> Iterator[list[str]]:
    """The cells of every row of the table whose first column has this title."""
    table = TEXT.partition(f"\n| {first} |")[2].partition("\n\n")[0].splitlines()[2:]
    return ([cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table)


def test_every_metric_is_documented_with_its_type_and_labels_and_no_other() -> None:
    counted = ApiMetrics()
    counted.watch_runner(lambda: 0, lambda: 0)
    counted.set_health({"database": True})
    counted.count_request("/", "GET", 200, 0.1)
    shown = {}
    for family in text_string_to_metric_families(counted.format_metrics("")[0].decode()):
        if family.name.startswith("process_"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        shown[name] = family.type, {label for sample in family.samples for label in sample.labels} - {"le"}
    assert {
        name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels, _ in rows("metric")
    } == shown


def test_every_log_event_is_documented_with_its_levels_and_no_other() -> None:
    logged: dict[str, set[str]] = {}
    for file in ROOM.rglob("*.py"):
        for method, event in re.findall(r'_log\.(\w+)\(\s*"([a-z.]+)"', file.read_text()):
            logged.setdefault(event, set()).add(LEVEL.get(method, method))
    assert {event: set(levels.split(", ")) for event, levels, _ in rows("event")} == logged
