"""One seed from end to end: its script played, what happened judged, and counted."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scheduler.core.events import SnapshotTaken
from tests.simulation.checks import violations
from tests.simulation.drawing import draw
from tests.simulation.script import Script
from tests.simulation.violation import Violation
from tests.simulation.world import World, played
from tests.virtual import TimeStandsStill

_FOLDER = next((each for each in (Path("/dev/shm"), Path(tempfile.gettempdir())) if each.is_dir()), None)


@dataclass(slots=True)
class Judged:
    """What came of one seed, or of many together."""

    seeds: int = 0
    occurrences: int = 0
    runs: int = 0
    seconds: float = 0.0  # of virtual time
    kinds: Counter[str] = field(default_factory=Counter)  # of faults and other actions
    outcomes: Counter[str] = field(default_factory=Counter)
    polls: Counter[int] = field(
        default_factory=Counter
    )  # good readings of the list, by the hour since the beginning
    violations: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: "Judged") -> None:
        """Count these, too."""
        self.seeds += other.seeds
        self.occurrences += other.occurrences
        self.runs += other.runs
        self.seconds += other.seconds
        self.kinds += other.kinds
        self.outcomes += other.outcomes
        self.polls += other.polls
        self.violations += other.violations


def judge(script: Script) -> tuple[World | None, Sequence[Violation]]:
    """Play it and look. The world is None when it came to no end."""
    with tempfile.TemporaryDirectory(dir=_FOLDER) as folder:
        try:
            world = played(script, Path(folder))
        except TimeStandsStill as error:
            return None, [Violation("time", str(error))]
        return world, violations(world)


def play_script(script: Script) -> World | None:
    """Play a script. Return the world, or None when it came to no end."""
    with tempfile.TemporaryDirectory(dir=_FOLDER) as folder:
        try:
            return played(script, Path(folder))
        except TimeStandsStill:
            return None


def judge_seed(seed: int) -> Judged:
    """Draw the script of this seed, play it, look, and count."""
    return judge_script(draw(seed))


def judge_script(script: Script) -> Judged:
    """Play a script, look, and count."""
    world, found = judge(script)
    judged = Judged(seeds=1, violations=[(script.seed, str(each)) for each in found])
    if world is not None:
        connection = world.file.connection
        for outcome, reason, count in connection.execute(
            "SELECT outcome, reason, sum(count) FROM occurrence GROUP BY 1, 2"
        ):
            judged.outcomes[f"{outcome}: {reason}"] += count
            judged.occurrences += count
        judged.runs = sum(len(link.api.runs) for link in world.links.values())
        judged.seconds = (world.ended - world.setting.begin).total_seconds() if world.ended else 0.0
        judged.kinds.update(world.counts)
        taken = (
            each.at - world.setting.begin for each in world.events if isinstance(each.event, SnapshotTaken)
        )
        judged.polls.update(int(since.total_seconds() // 3600) for since in taken)
    return judged
