"""A recording of many seeds, to show that a change of the code changes no behaviour.

A recording has a digest of each part of each seed: the tables of the ledger, the events and the requests.
Record with the old code, record with the new code, and compare. `rows` shows the rows behind the digests.

The seeds are those of a soak, with one difference: a process is never killed at the n-th step of its tasks,
since the number of steps is no behaviour. Such a kill comes at an instant, or at a commit.
"""

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.simulation.drawing import draw
from tests.simulation.judging import play_script
from tests.simulation.script import Action, Dies, Doom, Kill, Script
from tests.simulation.world import World

_STEP: Final = 0.01
"""Seconds that stand for one step of a task."""
_STEPS_OF_A_COMMIT: Final = 20
_ROW_NUMBERS: Final = {"id", "newest_occurrence"}
_PROCESS: Final = re.compile(r"process \d+")
_NUMBER: Final = re.compile(r"(?<==)-?\d+\.\d{4,}(?:e-?\d+)?")


def record(seed: int) -> tuple[int, Mapping[str, str]]:
    """Play a seed. Return the seed and a digest of each part."""
    parts = {
        part: hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] for part, lines in rows(seed).items()
    }
    return seed, parts


def rows(seed: int) -> dict[str, list[str]]:
    """Play a seed. Return the sorted rows of each part."""
    world = play_script(_avoid_steps(draw(seed)))
    return {"time": ["the world came to no end"]} if world is None else dump(world)


def dump(world: World) -> dict[str, list[str]]:
    """Return the sorted rows of each part of a world that was played."""
    return {
        **_dump_ledger(world.file.connection),
        "events": sorted(
            _round(f"{told.at} {told.process} {told.wall} {told.event!r}") for told in world.events
        ),
        "requests": sorted(
            f"{name} {request!r}"
            for name, link in world.links.items()
            for request in (*link.requests, *link.sent)
        ),
        "runs": sorted(f"{name} {run!r}" for name, link in world.links.items() for run in link.api.runs),
    }


def compare(old: Path, new: Path) -> Iterator[str]:
    """Yield a line for each seed whose parts differ between two recordings, and for each missing seed."""
    before, after = _read(old), _read(new)
    for seed in sorted(before.keys() | after.keys()):
        if seed not in before or seed not in after:
            yield f"{seed}: only in one recording"
        elif before[seed] != after[seed]:
            names = sorted(before[seed].keys() | after[seed].keys())
            yield f"{seed}: " + ", ".join(n for n in names if before[seed].get(n) != after[seed].get(n))


def _round(event: str) -> str:
    """Return an event without the id of this process, and with rounded numbers.

    The last digits of a clock step depend on the number of looks at the clock, which is no behaviour.
    """
    return _NUMBER.sub(lambda number: f"{float(number[0]):.3f}", _PROCESS.sub("process N", event))


def _read(file: Path) -> dict[int, Mapping[str, str]]:
    return dict(map(json.loads, file.read_text().splitlines()))


def _avoid_steps(script: Script) -> Script:
    actions = sorted(map(_avoid_step, script.actions), key=lambda action: action.at)
    return replace(script, actions=tuple(actions))


def _avoid_step(action: Action) -> Action:
    match action:
        case Kill(dies=Dies.AT_A_STEP, count=count):
            return replace(action, at=action.at + count * _STEP, dies=Dies.NOW, count=1)
        case Doom(dies=Dies.AT_A_STEP, counts=counts):
            commits = tuple(count // _STEPS_OF_A_COMMIT + 1 for count in counts)
            return replace(action, dies=Dies.BEFORE_A_COMMIT, counts=commits)
    return action


def _dump_ledger(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Return the rows of each table. Numbers of rows, which follow the order of writes, are replaced."""
    cursor = connection.cursor()
    names = [name for (name,) in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    occurrences = {
        number: f"{target} {automation_id} {instant}"
        for number, target, automation_id, instant in cursor.execute(
            "SELECT id, target, automation_id, scheduled_for FROM occurrence"
        )
    }
    return {name: _dump_table(cursor, name, occurrences) for name in names if not name.startswith("sqlite_")}


def _dump_table(cursor: sqlite3.Cursor, name: str, occurrences: Mapping[int, str]) -> list[str]:
    result = cursor.execute(f"SELECT * FROM {name}")
    columns = [column for column, *_ in result.description]
    return sorted(" ".join(_dump_cells(zip(columns, row, strict=True), name, occurrences)) for row in result)


def _dump_cells(
    cells: "zip[tuple[str, object]]", table: str, occurrences: Mapping[int, str]
) -> Iterator[str]:
    for column, value in cells:
        if column == "occurrence_id" and isinstance(value, int):
            yield f"occurrence={occurrences.get(value)}"
        elif column not in _ROW_NUMBERS or not isinstance(value, int):
            yield f"{table}.{column}={value!r}"


def write(file: Path, recorded: Iterable[tuple[int, Mapping[str, str]]]) -> int:
    """Write a recording: a line of JSON for each seed, as soon as the seed was played. Return the number."""
    with file.open("w", buffering=1) as lines:
        return sum(bool(lines.write(f"{json.dumps(seed)}\n")) for seed in recorded)
