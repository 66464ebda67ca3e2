"""Commands on the daemon's machine, added to ordinary scripts: most changes wake the daemon, and some wakes
come in bursts.

Apart from `drawing`, whose seeds stay what they are. The seeds from `FIRST_SEED` on are these.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tests.simulation import script as s
from tests.simulation.script import Action, Script

FIRST_SEED: Final = 2_000_000
_RESTORED: Final = 0.25
"""The share of scripts in which the ledger is restored from a backup."""
_CHANGES: Final = (s.Edit, s.Create, s.Delete, s.Pause)


def add_commands(script: Script) -> Script:
    """Have commands make most of the changes, which each wake the daemon, and add some wakes and changes."""
    draw = random.Random(f"{script.seed}/commands")
    changes = [*script.actions, *_draw_changes(script, draw)]
    wakes = [wake for action in changes for wake in _draw_wakes(action, draw)]
    wakes += _draw_burst(script, draw)
    restore = _draw_restore(script, draw)
    return replace(script, actions=tuple(sorted((*changes, *wakes, *restore), key=lambda action: action.at)))


def _draw_changes(script: Script, draw: random.Random) -> Iterator[Action]:
    setting = script.setting
    for _ in range(draw.randint(1, 4)):
        number = draw.randrange(len(setting.automations) + 2)
        at, target = draw.uniform(1.0, setting.span), number % len(setting.targets)
        expression = draw.choice(setting.automations).expression
        yield draw.choice(
            [
                s.Create(at=at, target=target, automation=number, expression=expression, timezone="UTC"),
                s.Delete(at=at, target=target, automation=number),
                s.Edit(at=at, target=target, automation=number, enabled=draw.random() < 0.5),
                s.Pause(at=at, target=target, automation=number, lasts=draw.uniform(5.0, 200.0)),
            ]
        )


def _draw_wakes(action: Action, draw: random.Random) -> Iterator[Action]:
    """Yield the wake of a command that made this change, if a command made it."""
    if isinstance(action, _CHANGES) and draw.random() < 0.8:
        yield s.Wake(at=action.at + draw.choice([0.001, 0.05, 0.4]))


def _draw_restore(script: Script, draw: random.Random) -> Iterator[Action]:
    """Yield a backup, and its restoration later, in some scripts."""
    if draw.random() < _RESTORED:
        at, restored_at = sorted(draw.uniform(1.0, script.setting.span) for _ in range(2))
        yield s.Backup(at=at)
        yield s.Restore(
            at=restored_at, down=draw.choice([0.5, 20.0, 400.0]), paused=draw.choice([30.0, 200.0])
        )


def _draw_burst(script: Script, draw: random.Random) -> Iterator[Action]:
    if draw.random() < 0.3:
        at, apart = draw.uniform(1.0, script.setting.span), draw.choice([0.0, 0.02, 0.3])
        yield from (s.Wake(at=at + number * apart) for number in range(draw.choice([2, 20, 200])))
