"""The colours of outcomes and runs, for every command with coloured output."""

from collections.abc import Mapping
from typing import Final

from scheduler.cli.output import Colour

_OUTCOMES: Final[Mapping[str | None, Colour]] = {
    "rejected": "red",
    "unresolved": "red",
    "expired": "red",
    "skipped": "yellow",
    None: "cyan",
}
_RUNS: Final[Mapping[str | None, Colour]] = {
    "success": "green",
    "failed": "red",
    "lost": "red",
    "superseded": "yellow",
    "running": "cyan",
}


def colour_outcome(outcome: str | None, run_status: str | None) -> Colour | None:
    """Return the colour of an outcome; the outcome None is an open occurrence.

    An accepted occurrence is green when its run succeeded, and has no colour before: a started run says
    nothing about its result.
    """
    if outcome == "accepted":
        return "green" if run_status == "success" else None
    return _OUTCOMES.get(outcome)


def colour_run(status: str | None) -> Colour | None:
    """Return the colour of a run's status, in the ledger or in the embedded API."""
    return _RUNS.get(status)
