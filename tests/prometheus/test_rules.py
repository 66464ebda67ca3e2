"""The shipped rules are right and tested, ask for what there is, and have a runbook each."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from scheduler.cli import root
from tests.prometheus.support import ALERTS, FOLDER, ROOT, RULES, alerts, apis, asked, daemons, rules, unknown

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus"
)
amtool = pytest.mark.skipif(
    shutil.which("amtool") is None, reason="needs amtool: apt-get install prometheus-alertmanager"
)

UNIT_TESTS = sorted((FOLDER / "tests").glob("*.yml"))
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()
SEVERITIES = {"critical", "warning"}
RECORDED = frozenset(rule["record"] for rule in rules() if "record" in rule)


def said(*command: object, given: str | None = None) -> tuple[int, str]:
    """The exit status of a command and what it said. It collects garbage seldom, on one core."""
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        input=given,
        env=os.environ | {"GOGC": "400", "GOMAXPROCS": "1"},
    )
    return done.returncode, done.stdout + done.stderr


def variant(rule: dict[str, Any]) -> tuple[str, ...]:
    """What tells an alert from others of its name: its own labels."""
    return rule["alert"], *sorted(rule["labels"].values())


# ------------------------------------------------------------ the tools' own verdict


@promtool
def test_the_rules_and_the_configuration_around_them_are_valid() -> None:
    assert said("promtool", "check", "rules", *RULES)[0] == 0
    status, words = said("promtool", "check", "config", FOLDER / "scrape.yml")
    assert (status, words.count("SUCCESS")) == (0, 1 + 1 + len(RULES)), words


@amtool
def test_the_example_for_alertmanager_is_valid() -> None:
    assert said("amtool", "check-config", FOLDER / "alertmanager.example.yml")[0] == 0


@promtool
@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_every_rule_does_what_its_unit_tests_say(file: Path) -> None:
    status, words = said("promtool", "test", "rules", file)
    assert status == 0, words


@promtool
@pytest.mark.parametrize("text", [daemons, apis])
def test_the_metrics_are_named_and_explained_as_prometheus_wants_it(text: Any) -> None:
    assert said("promtool", "check", "metrics", given=text()) == (0, "")


# ------------------------------------------------------------ the unit tests are complete


@cache
def looks() -> list[tuple[str, list[dict[str, Any]]]]:
    """Every look at an alert in the unit tests, with what is to be fired then."""
    groups = [group for file in UNIT_TESTS for group in yaml.safe_load(file.read_text())["tests"]]
    return [
        (look["alertname"], look["exp_alerts"])
        for group in groups
        for look in group.get("alert_rule_test", [])
    ]


@pytest.mark.parametrize("rule", alerts(), ids=variant)
def test_an_alert_has_a_unit_test_in_which_it_fires_and_one_in_which_it_does_not(
    rule: dict[str, Any],
) -> None:
    fired = [each for name, expected in looks() if name == rule["alert"] for each in expected]
    assert any(rule["labels"].items() <= each["exp_labels"].items() for each in fired), (
        "it never fires in them"
    )
    assert any(name == rule["alert"] and not expected for name, expected in looks()), (
        "it always fires in them"
    )


def test_the_unit_tests_name_no_alert_that_there_is_not() -> None:
    assert {name for name, _ in looks()} == {rule["alert"] for rule in alerts()}


def test_every_recording_rule_has_a_unit_test() -> None:
    looked_at = {
        name for file in UNIT_TESTS for name in re.findall(r"expr: .*?(job_target:[\w:]+)", file.read_text())
    }
    assert looked_at == RECORDED


@pytest.mark.parametrize(
    "rule", [rule for rule in rules() if "record" in rule], ids=lambda rule: rule["record"]
)
def test_what_is_recorded_is_of_the_span_that_its_name_says(rule: dict[str, Any]) -> None:
    assert set(re.findall(r"\[(\w+)\]", rule["expr"])) == {
        re.search(r"(?:rate|increase)(\w+)$", rule["record"])[1]  # type: ignore[index]  # each has
    }


# ------------------------------------------------------------ they ask for what there is


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_series_labels_and_values_that_there_are(rule: dict[str, Any]) -> None:
    assert asked(rule["expr"]).names
    assert unknown(rule["expr"], RECORDED) == []


@pytest.mark.parametrize(
    "expression",
    [
        "scheduler_no_such_total > 0",
        "rate(scheduler_polls_total{result='ok', no_such=\"x\"}[5m])",
        'scheduler_polls_total{result="fine"}',
        'sum by (no_such) (scheduler_polls_total{result="ok"})',
        'scheduler_runs_total{status=~"success|fails"}',
        'up{job="sheduler"} == 0',
    ],
)
def test_what_there_is_not_is_noticed(expression: str) -> None:
    assert unknown(expression) != []


def test_what_is_recorded_is_used() -> None:
    assert {name for rule in alerts() for name in asked(rule["expr"]).names} >= RECORDED


def test_the_jobs_that_alerts_look_for_are_those_of_the_scrape_example() -> None:
    scraped = {
        each["job_name"] for each in yaml.safe_load((FOLDER / "scrape.yml").read_text())["scrape_configs"]
    }
    assert {job for file in ALERTS for job in re.findall(r'job="([^"]*)"', file.read_text())} == scraped


# ------------------------------------------------------------ they are explained


@cache
def commands() -> dict[tuple[str, ...], set[str]]:
    """Every command that does something, by its words, with its options."""

    def below(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], set[str]]]:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from below(found, (*path, name))
        else:
            yield path, {option for each in command.params for option in each.opts}

    return dict(below(root, ()))


@pytest.mark.parametrize("rule", alerts(), ids=variant)
def test_an_alert_says_how_grave_it_is_what_is_wrong_where_and_what_to_do_first(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    told = rule["annotations"]["summary"] + rule["annotations"]["description"]
    assert "$labels.target" in told or "$labels.instance" in told
    assert "First: " in rule["annotations"]["description"]


def runbooks() -> dict[str, str]:
    """The runbook of each alert, by the heading."""
    parts = re.split(
        r"^### (\w+)\n", RUNBOOKS.partition("\n## Alerts\n")[2].partition("\n## ")[0], flags=re.MULTILINE
    )[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert list(runbooks()) == list(dict.fromkeys(rule["alert"] for rule in alerts()))


@pytest.mark.parametrize("rule", alerts(), ids=variant)
def test_an_alert_leads_to_its_runbook(rule: dict[str, Any]) -> None:
    path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert ROOT / path == ROOT / "docs" / "runbooks.md"
    assert anchor == rule["alert"].lower()


@pytest.mark.parametrize("name", runbooks())
def test_a_runbook_says_what_it_means_what_to_look_at_what_to_do_and_when_it_is_false(name: str) -> None:
    assert re.findall(r"^- \*\*(.+?)\.\*\*", runbooks()[name], re.MULTILINE) == [
        "Means",
        "Look",
        "Do",
        "False",
    ]


SAID = "\n".join(
    [
        RUNBOOKS,
        *(text for rule in alerts() for text in rule["annotations"].values()),
    ]
)
"""All that somebody reads who is woken by an alert."""


def test_every_command_that_somebody_is_told_to_run_is_there() -> None:
    named = set(re.findall(r"(?:`|: |; )scheduler ([a-z]+)(?: ([a-z]+)\b)?", SAID))
    assert len(named) > 10
    assert [
        (one, two) for one, two in named if (one,) not in commands() and (one, two) not in commands()
    ] == []


def test_every_option_that_somebody_is_told_to_give_is_there() -> None:
    used = re.findall(r"(?:`|: |; )scheduler ([a-z]+)([^`;\n]*)", SAID)
    for command, rest in used:
        options = {
            option for path, options in commands().items() if path[:1] == (command,) for option in options
        }
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, f"scheduler {command}{rest}"


def test_every_log_event_that_somebody_is_told_to_look_for_is_there() -> None:
    documented = (ROOT / "docs" / "metrics.md").read_text() + (ROOT / "docs" / "api.md").read_text()
    events = set(re.findall(r"^\| `([a-z]+\.[a-z]+)` \|", documented, re.MULTILINE))
    looked_for = set(re.findall(r"-g ([a-z]+\.?[a-z]*)", SAID))
    assert len(looked_for) > 8
    assert {each for each in looked_for if not any(event.startswith(each) for event in events)} == set()


def test_the_example_for_alertmanager_names_alerts_that_there_are() -> None:
    text = (FOLDER / "alertmanager.example.yml").read_text()
    named = set(re.findall(r"Scheduler\w+", text))
    assert named <= {rule["alert"] for rule in alerts()}


def test_the_unit_tests_are_of_the_shipped_rules() -> None:
    for file in UNIT_TESTS:
        assert {
            (file.parent / each).resolve() for each in yaml.safe_load(file.read_text())["rule_files"]
        } <= set(RULES)
