"""The dashboard asks only for what there is, in expressions that can be read, and every panel can be
understood and seen.
"""

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest

from tests.prometheus import dashboard as shipped
from tests.prometheus.dashboard import Panel, dashboard, expressions, filled, panels, variables
from tests.prometheus.support import ROOT, asked, rules, unknown

RECORDED = frozenset(rule["record"] for rule in rules() if "record" in rule)
OF_PROMETHEUS_ITSELF = frozenset({"ALERTS"})
VALUES = {
    "job": "scheduler",
    "target": ".*",
    "automation": "nightly",
    "__rate_interval": "1m",
    "__range": "6h",
}
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"none", "short", "s", "bytes", "percentunit", "reqps", "dateTimeFromNow"}
"""The ids of units, as Grafana names them."""


@pytest.mark.parametrize("expression", expressions().values(), ids=expressions())
def test_an_expression_asks_for_series_labels_and_values_that_there_are(expression: str) -> None:
    assert (
        unknown(
            filled(expression, VALUES | {"target": "main", "automation": "nightly"}),
            RECORDED | OF_PROMETHEUS_ITSELF,
        )
        == []
    )


def test_every_variable_in_an_expression_is_one_of_the_dashboard_or_of_grafana() -> None:
    used = {name for expression in expressions().values() for name in re.findall(r"\$\{?(\w+)", expression)}
    assert used <= variables().keys() | {"__rate_interval", "__range"}
    assert "$" not in "".join(filled(expression, VALUES) for expression in expressions().values())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus")
def test_every_expression_can_be_read(tmp_path: Path) -> None:
    recorded = [
        {"record": f"panel:{number}", "expr": filled(each, VALUES)}
        for number, each in enumerate(expressions().values())
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": recorded}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yml"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("panel", shipped.shown(), ids=lambda panel: f"{panel['id']} {panel['title']}")
def test_a_panel_says_what_it_shows_in_which_unit(panel: Panel) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".") or "scheduler why" in panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == DATA_SOURCE
    assert all(target["datasource"] == DATA_SOURCE and target["expr"] for target in panel["targets"])


def test_panels_lie_beside_each_other_and_within_the_page() -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in panels()]
    for title, at in places:
        assert at["x"] >= 0 < at["w"], title
        assert at["x"] + at["w"] <= 24, title
    for (one, a), (other, b) in combinations(places, 2):
        beside = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert beside, f"{one} lies over {other}"


def test_every_panel_has_an_id_of_its_own() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)


def test_it_can_be_imported_anywhere() -> None:
    """The data source is chosen there, it brings no id, and it says what it needs."""
    assert variables()["datasource"]["query"] == "prometheus"
    assert dashboard()["id"] is None
    assert {panel["type"] for panel in shipped.shown()} == {
        each["id"] for each in dashboard()["__requires"] if each["type"] == "panel"
    }


def test_the_version_that_it_is_written_for_is_stated() -> None:
    (version,) = [each["version"] for each in dashboard()["__requires"] if each["type"] == "grafana"]
    stated = f"Grafana {version.removesuffix('.0')} (schema version {dashboard()['schemaVersion']}) or newer"
    assert stated in (ROOT / "docs" / "monitor.md").read_text()
    assert {panel["pluginVersion"] for panel in shipped.shown()} == {version}


def test_variables_ask_for_labels_that_there_are() -> None:
    queries = {name: each["definition"] for name, each in variables().items() if each["type"] == "query"}
    assert queries.keys() == {"job", "target", "automation"}
    for query in queries.values():
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()  # type: ignore[union-attr]  # it is one
        assert unknown(f"count by ({label}) ({filled(selector, VALUES | {'target': 'main'})})") == []


def test_it_shows_every_metric_that_an_alert_is_on() -> None:
    shows = {name for each in expressions().values() for name in asked(filled(each, VALUES)).names}
    needed = {name for rule in rules() if "alert" in rule for name in asked(rule["expr"]).names}
    assert needed - shows - RECORDED == {"up", "scheduler_config_last_reload_successful"}
