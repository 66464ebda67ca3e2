"""The shipped dashboard, as what its tests look at."""

import json
from collections.abc import Mapping
from functools import cache
from itertools import chain
from typing import Any

from tests.prometheus.support import ROOT

FILE = ROOT / "deploy" / "grafana" / "scheduler.json"

Panel = Mapping[str, Any]


@cache
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def panels() -> list[Panel]:
    """All panels, rows too."""
    return list(chain.from_iterable((panel, *panel.get("panels", ())) for panel in dashboard()["panels"]))


def shown() -> list[Panel]:
    """The panels that show something."""
    return [panel for panel in panels() if panel["type"] != "row"]


def variables() -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in dashboard()["templating"]["list"]}


def expressions() -> dict[str, str]:
    """Every expression, by where it stands, as it is written."""
    found = {
        f"{panel['id']}{each['refId']} {panel['title']}": each["expr"]
        for panel in shown()
        for each in panel["targets"]
    }
    return found | {
        f"annotation {each['name']}": each["expr"]
        for each in dashboard()["annotations"]["list"]
        if "expr" in each
    }


def filled(expression: str, values: Mapping[str, str]) -> str:
    """An expression as Grafana sends it, with these values for its variables."""
    for name in sorted(values, key=len, reverse=True):
        expression = expression.replace(f"${name}", values[name])
    return expression
