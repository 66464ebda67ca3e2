"""systemd's journal as the destination of the log: each line is an entry with its own fields.

A reader can search the fields, for example by automation or event. The native protocol sends one datagram for
one entry (https://systemd.io/JOURNAL_NATIVE_PROTOCOL). The log uses this protocol when standard
output is the journal, as ``JOURNAL_STREAM`` shows (systemd.exec(5)). Text on standard output would arrive
without fields, at one priority.
"""

import json
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TextIO

ADDRESS: Final = "/run/systemd/journal/socket"
IDENTIFIER: Final = "scheduler"

_PRIORITIES: Final = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}  # syslog(3)
_FIELD: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)
# bytes of a value: a datagram has room for two values of this length, the message and its longest field
_MAX_VALUE: Final = 48 * 1024
_REDUNDANT_KEYS: Final = frozenset({"timestamp", "level"})  # the journal's own clock, and the priority


def is_journal(stream: TextIO, journal_stream: str | None) -> bool:
    """Return whether ``stream`` writes to the journal.

    ``$JOURNAL_STREAM`` names the file of the journal by device and inode.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


def make_entry(event: Mapping[str, object], message: str) -> bytes:
    """Return the datagram for one log line: ``message``, its priority, and each key as a field in capitals.

    The length of a value with line breaks precedes the value. No content can pass for a field.
    """
    fields = {
        "MESSAGE": message,
        "PRIORITY": str(_PRIORITIES[str(event["level"])]),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
    }
    return b"".join(_frame_field(name, value) for name, value in [*fields.items(), *_make_fields(event)])


def _make_fields(event: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in event.items():
        name = key.upper()
        if key not in _REDUNDANT_KEYS and _FIELD.fullmatch(name):
            yield name, value if isinstance(value, str) else json.dumps(value, default=str)


def _frame_field(name: str, value: str) -> bytes:
    content = value.encode("utf-8", "backslashreplace")[:_MAX_VALUE]
    if b"\n" in content:
        return b"%s\n%s%s\n" % (name.encode(), len(content).to_bytes(8, "little"), content)
    return b"%s=%s\n" % (name.encode(), content)


class Journal:
    """The sender of entries to the journal."""

    def __init__(self, address: str = ADDRESS) -> None:
        self._address = address
        # open from the start: later the process may have no free descriptor
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __call__(self, entries: Sequence[bytes]) -> int:
        """Send entries. Return the number of entries that could not be sent.

        Entries fail for example while the journal restarts.
        """
        return sum(not self._try_send(entry) for entry in entries)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _try_send(self, content: bytes) -> bool:
        try:
            self._socket.sendto(content, self._address)
        except OSError:
            return False
        return True
