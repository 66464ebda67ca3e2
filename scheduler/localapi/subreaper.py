"""The parent of one command: a small process between the server and the command, from which nothing of the command gets away.

``python subreaper.py DESCRIPTOR GRACE COMMAND…``, started by `process`. It is a child subreaper (prctl(2)): whatever the command starts
becomes a child of this process when its own parent ends, however often it forks and whatever it makes of its session and environment.

``DESCRIPTOR`` is a socket to the server. When the server closes its side, or is killed, everything ends: SIGTERM, and SIGKILL after
``GRACE`` seconds. What the command leaves behind when it ends by itself, ends in the same way. The last word on the socket is a line of
JSON: ``{"exit_status": …}``, negative for a signal, or ``{"errno": …}`` when the command could not be started.

A script that imports only what it needs: it is started for each run, and its start is time in which the command does not run yet.
"""

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36
LOOK_EVERY = 0.05  # seconds
KILLED_WITHIN = 5.0
"""Seconds until what was killed is gone: longer only when it hangs in the kernel, or is another user's and was not killed at all."""


def main(descriptor: str, grace: str, *command: str) -> None:
    """Carry out a command, and report."""
    server = socket.socket(fileno=int(descriptor))
    server.set_inheritable(False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the server alone decides; unlike SIG_IGN, this is not inherited
        signal.signal(number, lambda *_: None)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    try:
        leader = os.posix_spawnp(command[0], command, os.environ, setsid=True, setsigdef=signal.valid_signals())
    except OSError as error:
        report = {"errno": error.errno}
    else:
        wait_for_end(leader, server)
        report = {"exit_status": end(leader, float(grace))}
    with suppress(OSError):  # the server is gone
        server.sendall(json.dumps(report).encode() + b"\n")


def wait_for_end(leader: int, server: socket.socket) -> None:
    """Wait until the command ends, or the server says so, or is gone. The command is not reaped: its number stays its own."""
    exited = os.pidfd_open(leader)
    poll = select.poll()
    poll.register(exited, select.POLLIN)
    poll.register(server, select.POLLIN | select.POLLRDHUP)
    poll.poll()
    os.close(exited)


def end(leader: int, grace: float) -> int:
    """End whatever there is below this process, and return the command's exit status."""
    ended = dict[int, int]()
    asked = set[int]()
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGTERM)
    kill_from = grace / LOOK_EVERY
    for look in range(int(kill_from + KILLED_WITHIN / LOOK_EVERY)):
        if not reap(ended):
            break
        for child in children():
            if look >= kill_from:
                send(child, signal.SIGKILL)
            elif child not in asked:
                asked.add(child)
                send(child, signal.SIGTERM)
        time.sleep(LOOK_EVERY)
    return ended.get(leader, -signal.SIGKILL)


def reap(ended: dict[int, int]) -> bool:
    """Take the exit statuses of the children that have ended. False when there is no child any more."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if not process:
            return True
        ended[process] = os.waitstatus_to_exitcode(status)


def children() -> list[int]:
    """Own children: until they are reaped, their numbers are theirs. Deeper ones come to be own ones as their parents end."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:  # noqa: PTH123 - pathlib takes as long as all else
        return [int(child) for child in file.read().split()]


def send(child: int, number: signal.Signals) -> None:
    """Send a signal to a child, unless it is another user's."""
    with suppress(PermissionError):
        os.kill(child, number)


if __name__ == "__main__":
    main(*sys.argv[1:])
