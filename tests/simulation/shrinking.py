"""A failing script made short: actions are left out as long as it still fails in the same way.

Delta debugging, as in Zeller and Hildebrandt, *Simplifying and Isolating Failure-Inducing Input* (2002).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.simulation.script import Action, Script

Fails = Callable[[Script], bool]


def shrunk(script: Script, fails: Fails, *, tries: int = 150) -> Script:
    """The shortest script that was found in so many tries and for which ``fails`` still holds."""
    left = tries

    def still(actions: Sequence[Action]) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and fails(replace(script, actions=tuple(actions)))

    actions: Sequence[Action] = script.actions
    size = len(actions)
    while size >= 1 and left > 0:
        shorter = _without_one_part(actions, size, still)
        if shorter is None:
            size //= 2
        else:
            actions = shorter
            size = min(size, len(actions))
    return replace(script, actions=tuple(actions))


def _without_one_part(
    actions: Sequence[Action], size: int, still: Callable[[Sequence[Action]], bool]
) -> Sequence[Action] | None:
    """The actions without a part of this size that is not needed; None when each is."""
    for begin in range(0, len(actions), size):
        shorter = [*actions[:begin], *actions[begin + size :]]
        if len(shorter) < len(actions) and still(shorter):
            return shorter
    return None
