"""Scripts written by hand, for what a seed once showed and no smaller test can tell: it takes a whole
process, or two.
"""

from datetime import UTC, datetime

from tests.simulation.judging import judge
from tests.simulation.script import Action, Dies, Kill, Planned, Script, Second, Setting, Step, TargetPlan

_NOON = datetime(2026, 6, 3, 12, 0, 20, tzinfo=UTC)


def fates(*actions: Action, **policy: object) -> dict[str, str]:
    """What became of an automation that is due every minute for ten minutes, by the time of day. Nothing may
    be violated.
    """
    setting = Setting(
        begin=_NOON,
        span=600.0,
        targets=(TargetPlan(),),
        automations=(Planned(target=0, expression="* * * * *", timezone="UTC"),),
        schedule={"poll_interval": "30s"},
        policies={0: {"paused": False, **policy}},
    )
    world, found = judge(Script(1, setting, actions))
    assert not found
    assert world is not None
    rows = world.file.connection.execute(
        "SELECT substr(scheduled_for, 12, 5), outcome, reason FROM occurrence WHERE count = 1"
    )
    return {clock: f"{outcome}: {reason}" for clock, outcome, reason in rows}


def test_a_daemon_that_waited_while_the_clock_was_set_misses_nothing_when_it_takes_over() -> None:
    happened = fates(
        Step(at=100.0, seconds=-3700.0, back_after=100.0),
        Second(at=150.0),
        Kill(at=310.0, dies=Dies.NOW, count=1, down=1000.0),
        catch_up="none",
    )
    assert [happened[clock] for clock in ("12:06", "12:07", "12:08", "12:09")] == ["accepted: answered"] * 4
