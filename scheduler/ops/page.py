"""The first page: for a person who wants to know whether all is well, what is next, and what happened last.

Plain HTML without a script. Everything that comes from elsewhere is escaped, and the browser is told to run and fetch nothing.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final

from scheduler.core.instants import to_text_seconds
from scheduler.core.status import DaemonStatus, TargetStatus
from scheduler.ops.views import Json, missing

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1d1d1f; background: #fff }
h1 { font-size: 1.3rem } h2 { font-size: 1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0 }
th { border-bottom: 1px solid #999 } td { border-bottom: 1px solid #ddd; overflow-wrap: anywhere }
.good { color: #10641c } .bad { color: #a1120a }
@media (prefers-color-scheme: dark) {
  body { color: #eee; background: #161618 } td { border-color: #333 } a { color: #8ab4f8 } .good { color: #7bd88f } .bad { color: #ff9b93 }
}
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The Content-Security-Policy: this page's own style, and nothing else."""

_LINKS: Final = ("/api/v1/status", "/api/v1/upcoming", "/api/v1/occurrences", "/readyz", "/healthz", "/metrics")

Cell = Callable[[Json], object]


def page(status: DaemonStatus, upcoming: Sequence[Json], last: Sequence[Json] | None) -> str:
    """The page. ``upcoming`` and ``last`` are records of the JSON; None: the ledger could not be read."""
    title = f"scheduler on {escape(status.node)}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="30">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
{_readiness(status)}
<p>Version {escape(status.version)}, started {to_text_seconds(status.started_at)}, shown as of {to_text_seconds(status.at)}.</p>
<h2>Targets</h2>
{_targets(status.targets)}
<h2>Next fires</h2>
{_table(_UPCOMING, upcoming) or "<p>Nothing within 24 hours.</p>"}
<h2>Last occurrences</h2>
{"<p class=bad>The ledger cannot be read now.</p>" if last is None else _table(_LAST, last) or "<p>None yet.</p>"}
<h2>More</h2>
<p>{" · ".join(f'<a href="{link}">{link}</a>' for link in _LINKS)}</p>
</body>
</html>
"""


def _readiness(status: DaemonStatus) -> str:
    problems = missing(status)
    if not problems:
        return '<p class="good">Ready.</p>'
    return '<p class="bad">Not ready:</p><ul>' + "".join(f"<li>{escape(problem)}</li>" for problem in problems) + "</ul>"


def _targets(targets: Sequence[TargetStatus]) -> str:
    titles = ("target", "state", "automations", "open", "overdue", "snapshot", "next fire")
    rows = (
        (
            f"{target.name}: {target.url}, project {target.project_id}",
            f"held: {target.held}" if target.held else target.error or "serving",
            _counts(target.automations.items()),
            _counts(target.open.items()),
            len(target.overdue),
            target.snapshot_at and to_text_seconds(target.snapshot_at),
            target.next_fire and to_text_seconds(target.next_fire),
        )
        for target in targets
    )
    return _rows(titles, rows)


_UPCOMING: Final[dict[str, Cell]] = {
    "scheduled for": lambda fire: fire["scheduled_for"],
    "local": lambda fire: f"{fire['local']} {fire['timezone']}",
    "automation": lambda fire: fire["name"],
    "target": lambda fire: fire["target"],
}
_LAST: Final[dict[str, Cell]] = {
    "scheduled for": lambda line: line["scheduled_for"],
    "automation": lambda line: line["name"],
    "target": lambda line: line["target"],
    "outcome": lambda line: f"open: {line.get('state')}" if line["outcome"] is None else f"{line['outcome']}: {line['reason']}",
    "times": lambda line: line["count"],
    "late": lambda line: None if line["lateness_seconds"] is None else f"{line['lateness_seconds']:.3f} s",
    "run": lambda line: line["run_status"],
    "error": lambda line: line["error"],
}


def _table(columns: dict[str, Cell], records: Sequence[Json]) -> str:
    return _rows(tuple(columns), ([cell(record) for cell in columns.values()] for record in records)) if records else ""


def _rows(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{_text(value)}</td>' for value in row)}</tr>\n" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}</table>"


def _text(value: object) -> str:
    return "" if value is None else escape(str(value))


def _counts(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts if count)
