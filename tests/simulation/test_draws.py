"""The draws of the simulation do not depend on the order of tasks."""

import random
from datetime import UTC, datetime
from itertools import permutations
from unittest import mock

import pytest

from tests.simulation import recording, script
from tests.simulation.api import SimulatedApi
from tests.simulation.drawing import draw
from tests.simulation.draws import Draws
from tests.simulation.judging import play_script
from tests.simulation.network import Fate, Link
from tests.simulation.script import LIST, RETRIEVE, RUN, Fault
from tests.virtual import VirtualClock

_REQUESTS = ((RUN, "a"), (RUN, "b"), (RETRIEVE, "a"), (LIST, ""))


def draw_fates(order: tuple[tuple[str, str], ...]) -> dict[tuple[str, str], tuple[float, float, bool]]:
    plan, clock, draws = draw(7).setting.targets[0], VirtualClock(datetime(2026, 1, 1, tzinfo=UTC)), Draws(7)
    weather = script.Weather(
        at=0.0, lasts=9.0, target=0, fault=Fault.REFUSED, endpoints=(RUN, RETRIEVE), chance=0.5
    )
    link = Link(SimulatedApi("main", plan, clock, draws), plan, clock, draws, [weather])
    fates: dict[tuple[str, str], Fate] = {request: link.fate(*request) for request in order}
    return {request: (fate.there, fate.back, fate.weather is None) for request, fate in fates.items()}


def test_the_order_of_requests_changes_no_fate() -> None:
    first = draw_fates(_REQUESTS)
    assert all(draw_fates(order) == first for order in permutations(_REQUESTS))
    assert len(set(first.values())) == len(_REQUESTS), "each request has a fate of its own"


def test_the_next_request_of_a_kind_has_another_fate() -> None:
    draws = Draws(7, "main")
    assert draws.make_next(RUN, "a").random() != draws.make_next(RUN, "a").random()


def test_a_request_more_changes_no_other_fate() -> None:
    """Draw for a request that nobody else makes, at the start of a world: all other rows stay the same."""
    world = play_script(draw(3))
    with mock.patch.object(Link, "fate", _draw_one_more):
        other = play_script(draw(3))
    assert world is not None
    assert other is not None
    assert recording.dump(world) == recording.dump(other)


_fate = Link.fate


def _draw_one_more(link: Link, endpoint: str, automation_id: str = "") -> Fate:
    link.draws.make_next(RUN, "an automation that does not exist").random()
    random.random()  # nothing draws from the common generator
    return _fate(link, endpoint, automation_id)


@pytest.mark.parametrize("seed", [11])
def test_a_seed_is_recorded_the_same_each_time(seed: int) -> None:
    assert recording.record(seed) == recording.record(seed)
