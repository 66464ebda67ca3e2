"""The parent of one command: a small process between the server and the command, from which nothing of the command gets away.

``python subreaper.py SERVER OUTPUT GRACE COMMAND…``, started by `process`. It is a child subreaper (prctl(2)): whatever the command starts
becomes a child of this process when its own parent ends, however often it forks and whatever it makes of its session and environment.

``SERVER`` is a socket to the server, on which it says two lines of JSON: ``{"exit_status": …}`` when the command has ended, negative for a
signal, or ``{"errno": …}`` when it could not be started; and ``{"left": 0, "ended": …, "names": […]}`` when nothing that it started is
there any more. What the command leaves behind is ended: so many processes, and the names of the first in hexadecimal. When the server
closes its side, or is killed, everything is: SIGTERM, and SIGKILL after ``GRACE`` seconds.
``OUTPUT`` is the pipe that the command prints to; when the server is killed it is read from here, since a command whose words nobody takes
is ended by the first one, with whatever it still had to tidy up.

A script that imports only what it cannot do without (socket, json and contextlib take as long as Python itself does to start): it is
started for each run, and its start is time in which the command does not run yet.
"""

import ctypes
import os
import select
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
POLL_INTERVAL = 0.05  # seconds
REAP_INTERVAL = 1.0
"""Seconds: what has lost its parent and ended takes a process number until then."""
KILL_TIMEOUT = 5.0
"""Seconds until what was killed is gone: longer only when it hangs in the kernel, or is another user's and was not killed at all."""
MAX_PASSES = 50
"""So often is looked for what was started meanwhile; without an end only where it is another user's, and cannot be stopped."""
MAX_EXAMINED = 1000
"""Processes that are looked at when the command has ended: they may start others faster than they are found."""
MAX_NAMES = 100
HANGUP_EVENTS = select.POLLHUP | select.POLLERR


def main(server_descriptor: str, output_descriptor: str, grace: str, *command: str) -> None:
    """Carry out a command, and report."""
    server, output = int(server_descriptor), int(output_descriptor)
    for descriptor in (server, output):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - it takes no names
    os.set_blocking(output, False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the server alone decides; unlike SIG_IGN, this is not inherited
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever ignores it is told of no exit status
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    try:
        leader = os.posix_spawnp(command[0], command, os.environ, setsid=True, setsigmask=(), setsigdef=signal.valid_signals())
    except OSError as error:
        send_report(server, errno=error.errno or 0)
        return
    status = wait_for_end(leader, server)
    left_behind = dict[int, str]()
    if status is not None:
        send_report(server, exit_status=status)
        left_behind = list_descendants(leader)
    ended, left = end_descendants(leader, float(grace), server, output, left_behind)
    if status is None:
        send_report(server, exit_status=ended)
        left_behind.clear()  # all of it was to be ended
    send_report(server, left=left, ended=len(left_behind), names=list(left_behind.values())[:MAX_NAMES])


def send_report(server: int, **values: int | list[str]) -> None:
    """Tell the server, if it is there. Texts are hexadecimal, so that Python writes the values as JSON does."""
    try:
        os.write(server, f"{values}\n".replace("'", '"').encode())
    except OSError:
        pass


def wait_for_end(leader: int, server: int) -> int | None:
    """Wait until the command ends: its exit status; or until the server wants it ended, or is gone: None.

    The command is not reaped, so that its number stays its own. All others are.
    """
    exited = os.pidfd_open(leader)
    poll = select.poll()
    poll.register(exited, select.POLLIN)
    poll.register(server, select.POLLIN | select.POLLRDHUP)
    while not (ready := dict(poll.poll(REAP_INTERVAL * 1000))):
        for orphan in set(list_children(os.getpid())) - {leader}:
            os.waitpid(orphan, os.WNOHANG)
    os.close(exited)
    if exited not in ready:
        return None
    found = os.waitid(os.P_PID, leader, os.WEXITED | os.WNOWAIT)
    assert found is not None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def list_descendants(leader: int) -> dict[int, str]:
    """The processes below this one, without the command itself, that are still running; with their names in hexadecimal."""
    found = list_children(os.getpid())
    for process in found:  # which grows meanwhile
        if len(found) < MAX_EXAMINED:
            found += list_children(process)
    names = {process: read_name(process) for process in found if process != leader}
    return {process: name for process, name in names.items() if name}


def read_name(process: int) -> str:
    """The name of a process in hexadecimal, at most 15 bytes of it (proc(5), comm); empty when it has ended."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            name, _, rest = file.read().partition(b"(")[2].rpartition(b")")
    except OSError:
        return ""
    return "" if rest.split()[0] in {b"Z", b"X"} else name.hex()


def end_descendants(leader: int, grace: float, server: int, output: int, left_behind: dict[int, str]) -> tuple[int, int]:
    """End whatever there is below this process: the command's exit status, and how many are left because nothing ends them.

    ``left_behind`` gets the processes that are found meanwhile, as `list_descendants` gives them.
    """
    statuses = dict[int, int]()
    asked = set[int]()
    kill_from = time.monotonic() + grace
    try:
        os.killpg(leader, signal.SIGTERM)
    except ProcessLookupError:
        pass
    while reap(statuses) and (now := time.monotonic()) < kill_from + KILL_TIMEOUT:
        if now >= kill_from:
            for process in stop_descendants():
                send_signal(process, signal.SIGKILL)
        for child in set(list_children(os.getpid())) - asked:
            asked.add(child)
            if child != leader and child not in left_behind and (name := read_name(child)):
                left_behind[child] = name
            send_signal(child, signal.SIGTERM)
        if is_server_gone(server):
            drain(output)
        time.sleep(POLL_INTERVAL)
    return statuses.get(leader, -signal.SIGKILL), len(list_children(os.getpid()))


def reap(statuses: dict[int, int]) -> bool:
    """Take the exit statuses of the children that have ended. False when there is no child any more."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if not process:
            return True
        statuses[process] = os.waitstatus_to_exitcode(status)


def stop_descendants() -> set[int]:
    """All that descend from this process, stopped: so that none starts another while they are killed one after the other.

    Parents first. The children of one that is stopped are not reaped by it, so their numbers stay theirs.
    """
    found = set[int]()
    for _ in range(MAX_PASSES):
        before = len(found)
        found |= stop_descendants_once()
        if len(found) == before:
            break
    return found


def stop_descendants_once() -> set[int]:
    """All that descend from this process, each stopped before its own children are looked for; not what is started meanwhile."""
    found = list_children(os.getpid())
    for process in found:  # which grows meanwhile
        send_signal(process, signal.SIGSTOP)
        found += list_children(process)
    return set(found)


def list_children(process: int) -> list[int]:
    """The children of all threads of a process; none of one that is gone."""
    found = list[int]()
    try:
        for thread in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


def send_signal(process: int, number: signal.Signals) -> None:
    """Send a signal to a process, unless it is gone or another user's."""
    try:
        os.kill(process, number)
    except (ProcessLookupError, PermissionError):
        pass


def is_server_gone(server: int) -> bool:
    """Whether the server has closed both directions, as one does that was killed."""
    poll = select.poll()
    poll.register(server, 0)
    return any(events & HANGUP_EVENTS for _, events in poll.poll(0))


def drain(output: int) -> None:
    """Throw away what was printed; reading does not wait, since the server has made the pipe so."""
    try:
        while os.read(output, 2**16):
            pass
    except BlockingIOError:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
