"""The parent of a command: a small process between the server and the command.

No process of the command escapes.

``python subreaper.py SERVER OUTPUT GRACE COMMAND…``, started by `process`. The subreaper is a child subreaper
(prctl(2)): every descendant of the command becomes a child of this process when the descendant's parent ends,
however often the command forks, and also with another session or environment.

``SERVER`` is a socket to the server, for two lines of JSON. The first line is ``{"exit_status": …}`` when the
command has ended, negative for a signal, or ``{"errno": …}`` when the command could not be started. The
second line is ``{"left": 0, "ended": …, "names": […]}`` when no started process is left. Processes left
behind by the command are ended: the line has their number, and the names of the first in hexadecimal. When
the server closes the socket, or is killed, all processes are ended: SIGTERM, and SIGKILL after ``GRACE``
seconds.

``OUTPUT`` is the pipe for the command's output. When the server is killed, this process reads the pipe:
without a reader, the next output would end the command before any clean-up.

The script imports only the necessary modules (socket, json and contextlib take as long as Python itself does
to start): the script is started for each run, and the command does not run before the start is complete.
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
"""Seconds. An ended process without a parent keeps a process id until then."""
KILL_TIMEOUT = 5.0
"""Seconds until a killed process is gone.

Longer only for a process that hangs in the kernel, or that belongs to another user and was not killed at all.
"""
MAX_PASSES = 50
"""The largest number of searches for processes started meanwhile.

The search would not end only for another user's processes, which cannot be stopped.
"""
MAX_EXAMINED = 1000
"""Processes examined after the command's end: processes may start others faster than the search."""
MAX_NAMES = 100
HANGUP_EVENTS = select.POLLHUP | select.POLLERR


def main(server_descriptor: str, output_descriptor: str, grace: str, *command: str) -> None:
    """Carry out a command, and report."""
    server, output = int(server_descriptor), int(output_descriptor)
    for descriptor in (server, output):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - it takes no names
    os.set_blocking(output, False)
    # only the server decides; unlike SIG_IGN, not inherited
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # when SIGCHLD is ignored, no exit status is reported
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    try:
        leader = os.posix_spawnp(
            command[0], command, os.environ, setsid=True, setsigmask=(), setsigdef=signal.valid_signals()
        )
    except OSError as error:
        send_report(server, errno=error.errno or 0)
        return
    status = wait_for_end(leader, server)
    left_behind = dict[int, str]()
    if status is not None:
        send_report(server, exit_status=status)
        left_behind = list_descendants(leader)
    end_status, remaining = end_descendants(leader, float(grace), server, output, left_behind)
    if status is None:
        send_report(server, exit_status=end_status)
        left_behind.clear()  # all processes were to be ended
    send_report(server, left=remaining, ended=len(left_behind), names=list(left_behind.values())[:MAX_NAMES])


def send_report(server: int, **values: int | list[str]) -> None:
    """Send a report to the server, if still there.

    Texts are hexadecimal: Python's format of the values is JSON.
    """
    try:
        os.write(server, f"{values}\n".replace("'", '"').encode())
    except OSError:
        pass


def wait_for_end(leader: int, server: int) -> int | None:
    """Wait for the command's end, and return the exit status.

    Return None when the server asks for the end, or is gone. The command is not reaped, and keeps the process
    id. All other processes are reaped.
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
    end = os.waitid(os.P_PID, leader, os.WEXITED | os.WNOWAIT)
    assert end is not None
    return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


def list_descendants(leader: int) -> dict[int, str]:
    """List the running processes below this process, except the command, with names in hexadecimal."""
    descendants = list_children(os.getpid())
    for process in descendants:  # the list grows meanwhile
        if len(descendants) < MAX_EXAMINED:
            descendants += list_children(process)
    names = {process: read_name(process) for process in descendants if process != leader}
    return {process: name for process, name in names.items() if name}


def read_name(process: int) -> str:
    """Return the name of a process in hexadecimal, at most 15 bytes (proc(5), comm); "" after the end."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            name, _, rest = file.read().partition(b"(")[2].rpartition(b")")
    except OSError:
        return ""
    return "" if rest.split()[0] in {b"Z", b"X"} else name.hex()


def end_descendants(
    leader: int, grace: float, server: int, output: int, left_behind: dict[int, str]
) -> tuple[int, int]:
    """End all processes below this process.

    Return the command's exit status and the number of remaining processes. Processes that nothing ends
    remain. ``left_behind`` receives the processes found meanwhile, in the form of `list_descendants`.
    """
    statuses = dict[int, int]()
    signalled = set[int]()
    kill_from = time.monotonic() + grace
    try:
        os.killpg(leader, signal.SIGTERM)
    except ProcessLookupError:
        pass
    while reap(statuses) and (now := time.monotonic()) < kill_from + KILL_TIMEOUT:
        if now >= kill_from:
            for process in stop_descendants():
                send_signal(process, signal.SIGKILL)
        for child in set(list_children(os.getpid())) - signalled:
            signalled.add(child)
            if child != leader and child not in left_behind and (name := read_name(child)):
                left_behind[child] = name
            send_signal(child, signal.SIGTERM)
        if is_server_gone(server):
            drain(output)
        time.sleep(POLL_INTERVAL)
    return statuses.get(leader, -signal.SIGKILL), len(list_children(os.getpid()))


def reap(statuses: dict[int, int]) -> bool:
    """Reap the ended children into ``statuses``. Return False when no child is left."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if not process:
            return True
        statuses[process] = os.waitstatus_to_exitcode(status)


def stop_descendants() -> set[int]:
    """Stop and return all descendants of this process.

    The stop prevents new processes while the descendants are killed one after the other. Parents are stopped
    first. A stopped parent does not reap children, and the children keep their process ids.
    """
    stopped = set[int]()
    for _ in range(MAX_PASSES):
        before = len(stopped)
        stopped |= stop_descendants_once()
        if len(stopped) == before:
            break
    return stopped


def stop_descendants_once() -> set[int]:
    """Stop all descendants of this process, each before the search for children; without new processes."""
    descendants = list_children(os.getpid())
    for process in descendants:  # the list grows meanwhile
        send_signal(process, signal.SIGSTOP)
        descendants += list_children(process)
    return set(descendants)


def list_children(process: int) -> list[int]:
    """List the children of all threads of a process; none for an ended process."""
    try:
        threads = os.listdir(f"/proc/{process}/task")
    except OSError:
        return []
    return [
        child for thread in threads for child in _read_children(f"/proc/{process}/task/{thread}/children")
    ]


def _read_children(path: str) -> list[int]:
    """Read the children of one thread; none for an ended thread, whose children have another thread now."""
    try:
        with open(path, encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def send_signal(process: int, number: signal.Signals) -> None:
    """Send a signal to a process, unless the process is gone or belongs to another user."""
    try:
        os.kill(process, number)
    except (ProcessLookupError, PermissionError):
        pass


def is_server_gone(server: int) -> bool:
    """Return whether the server has closed both directions, as after a kill."""
    poll = select.poll()
    poll.register(server, 0)
    return any(events & HANGUP_EVENTS for _, events in poll.poll(0))


def drain(output: int) -> None:
    """Discard the output. Reading does not wait, because the pipe is non-blocking."""
    try:
        while os.read(output, 2**16):
            pass
    except BlockingIOError:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
