"""What the shipped files ask for, and what the daemon and the embedded API show."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from scheduler.core.events import RequestEnded
from scheduler.localapi.http.metrics import ApiMetrics
from scheduler.ops.gauges import render_metrics
from scheduler.ops.metrics import CODES, ENDPOINTS, Metrics
from tests.ops.support import NOW, every_event, exposition

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
ALERTS = (FOLDER / "alerts.yml", FOLDER / "alerts-api.yml")
RULES = (FOLDER / "recording.yml", *ALERTS)

Series = tuple[str, frozenset[tuple[str, str]]]


def daemons() -> str:
    """`/metrics` of a daemon after everything has happened once, and requests have ended in every way."""
    counted = Metrics(["main"], now=lambda: NOW)
    counted.recall_failing("main", ())
    requests = (
        RequestEnded(target="main", endpoint=each, code=code, seconds=0.1)
        for each in ENDPOINTS
        for code in sorted(CODES)
    )
    for event in (*every_event(), *requests):
        counted.observe(event)
    return asyncio.run(render_metrics(exposition(counted), ""))[0].decode()


def apis() -> str:
    """`/metrics` of the embedded API after requests of all kinds."""
    counted = ApiMetrics()
    counted.watch_runner(lambda: 0, lambda: 0)
    counted.set_health({"database": True, "runner": True})
    for status in HTTPStatus:
        counted.count_request("/", "GET", status, 0.1)
    return counted.format_metrics("")[0].decode()


@cache
def shown() -> Mapping[str, Mapping[str, frozenset[str]]]:
    """Of every series that there can be, by its name: its labels, each with the values that it has been seen
    with.
    """
    found: dict[str, dict[str, set[str]]] = {"up": {"job": {"scheduler", "scheduler-api"}, "instance": set()}}
    for family in (*text_string_to_metric_families(daemons()), *text_string_to_metric_families(apis())):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {"job": {"scheduler", "scheduler-api"}, "instance": set()})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return {
        name: {label: frozenset(values) for label, values in labels.items()} for name, labels in found.items()
    }


@cache
def rules() -> list[dict[str, Any]]:
    """Every rule, of all files."""
    return [
        rule
        for file in RULES
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


# ------------------------------------------------------------ reading an expression

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_WORDS = {"and", "or", "unless", "bool", "offset"}


@dataclass(frozen=True)
class Asked:
    """What an expression asks for: series by their name, matchers of each, and the labels that it groups
    by.
    """

    names: frozenset[str]
    matchers: frozenset[tuple[str, str, str, str]]
    grouped: frozenset[str]


def asked(expression: str) -> Asked:
    """Take an expression apart. Functions, words, numbers and durations are none of what it asks for."""
    matchers = {
        (name, label, operator, value)
        for name, inside in _SELECTOR.findall(expression)
        for label, operator, value in _MATCHER.findall(inside)
    }
    grouped = {
        label.strip()
        for inside in _GROUPING.findall(expression)
        for label in inside.split(",")
        if label.strip()
    }
    rest = _GROUPING.sub(" ", re.sub(r"\{[^}]*\}", " ", _STRING.sub('""', expression)))
    rest = re.sub(r"\[[^\]]*\]", " ", rest)
    words = re.findall(r"(?<![\w.:])([a-zA-Z_:][\w:]*)(?!\s*\()(?![\w:])", rest)
    return Asked(frozenset(words) - _WORDS, frozenset(matchers), frozenset(grouped))


def unknown(expression: str, recorded: frozenset[str] = frozenset()) -> list[str]:
    """What an expression asks for that neither the daemon nor the embedded API can show, nor is
    ``recorded``.
    """
    wanted, known = asked(expression), shown()
    wrong = [f"no series {name}" for name in wanted.names - known.keys() - recorded]
    labels = {label for name in wanted.names & known.keys() for label in known[name]} | (
        {"job", "target"} if recorded & wanted.names else set()
    )
    wrong += [f"grouped by {label}, which none of them has" for label in wanted.grouped - labels]
    for name, label, operator, value in wanted.matchers - {
        each for each in wanted.matchers if each[0] in recorded
    }:
        values = known.get(name, {}).get(label)
        alternatives = value.split("|") if "~" in operator else [re.escape(value)]
        if values is None:
            wrong.append(f"{name} has no label {label}")
        elif "$" not in value:
            wrong += [
                f"{name} has no {label} {each}"
                for each in alternatives
                if not any(re.fullmatch(each, one) for one in values)
            ]
    return wrong
