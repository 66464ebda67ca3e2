"""Failed and lost runs are red, and an accepted occurrence is green when its run succeeded and not before."""

import pytest

from scheduler.cli.output import Colour
from scheduler.cli.record_columns import colour_outcome, colour_run
from scheduler.core.model import Outcome, RunStatus


@pytest.mark.parametrize("status", [None, *RunStatus])
def test_an_accepted_occurrence_is_green_when_its_run_succeeded(status: RunStatus | None) -> None:
    assert colour_outcome(Outcome.ACCEPTED, status) == ("green" if status is RunStatus.SUCCESS else None)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.ACCEPTED])
def test_every_other_outcome_has_a_colour_that_is_not_green(outcome: Outcome) -> None:
    assert colour_outcome(outcome, None) in {"red", "yellow"}


@pytest.mark.parametrize(
    ("status", "colour"),
    [
        (RunStatus.RUNNING, "cyan"),
        (RunStatus.SUCCESS, "green"),
        (RunStatus.FAILED, "red"),
        (RunStatus.LOST, "red"),
        (RunStatus.SUPERSEDED, "yellow"),
        ("queued", None),
        (None, None),
    ],
)
def test_every_status_of_a_run_has_its_colour(status: str | None, colour: Colour | None) -> None:
    assert colour_run(status) == colour
