"""The player tells a simulation that crashes or hangs from one that went well."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import pytest

from tests.simulation.player import Player

_LONG = ("soak", "--from", "0", "--seeds", "1000", "--jobs", "1")
_SHORT = ("story", "nothing can be planned")


def _copy_of(player: Player) -> int:
    """The process id of the copy that plays, as soon as there is one.

    What the player imports may start programs. Each of them is a copy for a moment, and no more when we look
    again.
    """
    server, until = player._process.pid, monotonic() + 60.0
    before = set[str]()
    while monotonic() < until:
        copies = {
            each
            for each in Path(f"/proc/{server}/task/{server}/children").read_text().split()
            if _words(each) == _words(server)
        }
        if copies & before:
            return int(min(copies & before))
        before = copies
        sleep(0.1)
    raise AssertionError("there is no copy")


def _words(process: int | str) -> bytes | None:
    """The command line of a process; None when it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() or None
    except FileNotFoundError:
        return None


def _print_half_a_line_and_die(copy: int) -> None:
    Path(f"/proc/{copy}/fd/1").write_text("half", encoding="ascii")
    os.kill(copy, signal.SIGKILL)


def _hang(copy: int) -> None:
    os.kill(copy, signal.SIGSTOP)


@pytest.mark.parametrize(
    ("end", "status", "text"), [(_print_half_a_line_and_die, -signal.SIGKILL, "half"), (_hang, -1, "")]
)
def test_a_simulation_that_does_not_end_well_is_told_and_the_next_one_is_played(
    end: Callable[[int], None], status: int, text: str
) -> None:
    with Player(most_seconds=100.0) as player:
        if end is _hang:
            assert player.play(*_SHORT).status == 0  # everything is imported: only the hanging takes time
            player._most_seconds = 5.0
        spoiler = Thread(target=lambda: end(_copy_of(player)))
        spoiler.start()
        played = player.play(*_LONG)
        spoiler.join()
        assert (played.status, played.text) == (status, text)
        player._most_seconds = 500.0
        after = player.play(*_SHORT)
        assert after.status == 0, after.text
        assert after.text.startswith(f"{_SHORT[1]}: ")
