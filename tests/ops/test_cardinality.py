"""How many series there can be: as many as docs/metrics.md says, whatever an API, its automations and a
client do.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.core.events import RequestEnded
from scheduler.core.model import MAX_NAME, InvalidAutomation, RunStatus, parse_automation
from scheduler.localapi.http.metrics import METHODS, ApiMetrics
from scheduler.ops.gauges import MAX_DETAILED, render_metrics
from scheduler.ops.metrics import CODES, ENDPOINTS, Metrics
from scheduler.upstream import exchange
from tests.ops.support import ID, NOW, STATUS, TARGET, every_event, exposition, named, run_finished

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
EVERY_CODE = (*sorted(CODES), *map(str, range(-1, 100_000, 7)), "0", "", "x" * 500)


def bound(of: str) -> int:
    """What the document says that there are at most."""
    found = re.search(rf"^\| {of} \| ([\d,]+) \|", TEXT, re.MULTILINE)
    assert found, of
    return int(found[1].replace(",", ""))


def series(text: str) -> int:
    return sum(not line.startswith("#") for line in text.splitlines())


def shown(targets: Sequence[str], *, codes: Sequence[str] = (), automations: int = 0) -> int:
    """How many series a daemon shows to which everything has happened, requests that ended with these codes
    too.
    """
    metrics = Metrics(targets, now=lambda: NOW)
    for target in targets:
        metrics.recall_failing(target, ())
    for event in every_event() if "main" in targets else ():
        metrics.observe(event)
    for target in targets:
        for endpoint in ENDPOINTS:
            for code in codes:
                metrics.observe(RequestEnded(target=target, endpoint=endpoint, code=code, seconds=0.1))
    each = [named("nightly", f"{number:036}") for number in range(automations)]
    for one in each:
        metrics.observe(run_finished(RunStatus.FAILED, one.id, duration=60.0))
        metrics.recall("main", one.id, NOW, NOW)
    status = replace(
        STATUS, targets=[replace(TARGET, name=name, automations={"enabled": automations}) for name in targets]
    )
    return series(
        asyncio.run(render_metrics(exposition(metrics, status=lambda: status, automations=each), ""))[
            0
        ].decode()
    )


def test_a_daemon_has_no_more_series_of_its_own_than_documented() -> None:
    assert shown([]) <= bound("the daemon")


def test_a_target_that_answers_with_every_code_there_is_makes_no_more_series_than_documented() -> None:
    one, two = (shown(targets, codes=EVERY_CODE) for targets in (["main"], ["main", "other"]))
    assert 0.9 * bound("each target") < two - one <= bound("each target")


def test_thousands_of_codes_become_as_many_as_documented() -> None:
    one, many = (shown(["main"], codes=codes) for codes in (["200"], EVERY_CODE))
    (codes,) = re.findall(r"`code`, of which there can be (\d+) for each of 6 endpoints", TEXT)
    assert many - one == (int(codes) - 2) * len(ENDPOINTS)  # 200 is there, and 429 always


@pytest.mark.parametrize(
    "code", [exchange.UNREACHABLE, exchange.TIMEOUT, exchange.BROKEN, "200", "401", "429", "503"]
)
def test_a_code_by_which_people_look_for_causes_keeps_its_name(code: str) -> None:
    assert code in CODES


def test_automations_have_as_many_series_as_documented_and_ten_thousand_have_none() -> None:
    none, few, most, many = (shown(["main"], automations=count) for count in (0, 10, MAX_DETAILED, 10_000))
    assert few - none == 10 * bound("each automation")
    assert most - none == MAX_DETAILED * bound("each automation")
    assert many == none


@pytest.mark.parametrize(("field", "length"), [("cron_expression", 1_000), ("timezone", 1_000)])
def test_a_label_is_no_longer_than_documented(field: str, length: int) -> None:
    assert f"{length:,} characters" in TEXT
    automation = {
        "id": ID,
        "name": "n" * 10_000,
        "cron_expression": "* * * * *",
        "timezone": "UTC",
        "enabled": True,
    }
    parsed = parse_automation({**automation, field: "x" * length})
    assert len(parsed.name) == MAX_NAME
    assert f"{MAX_NAME} characters" in TEXT
    with pytest.raises(InvalidAutomation, match="characters long"):
        parse_automation({**automation, field: "x" * (length + 1)})


def test_the_embedded_api_has_no_more_series_than_documented() -> None:
    metrics = ApiMetrics()
    metrics.watch_runner(lambda: 0, lambda: 0)
    metrics.set_health({"database": True, "runner": True})
    for route in ("a", "b", "c", "d", "unmatched"):
        for method in (*METHODS, "BREW", "x" * 100):
            for status in (200, 201, 204, 400, 401, 403, 404, 405, 406, 408, 413, 415, 429, 500, 503):
                metrics.count_request(route, method, status, 0.1)
    found = series(metrics.format_metrics("")[0].decode())
    assert 0.9 * bound("the embedded API") < found <= bound("the embedded API")
