"""systemd's journal as where the log goes: each line an entry with fields of its own, so that it can be asked for by automation or event.

Its native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram for one entry. Used when standard output is the journal
anyway, which systemd says by ``JOURNAL_STREAM`` (systemd.exec(5)); text on that stream would come in without fields, at one priority.
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
_MAX_VALUE: Final = 48 * 1024  # bytes of a value: of two so long, the message and what is in it, a datagram has room for both
_REDUNDANT_KEYS: Final = frozenset({"timestamp", "level"})  # the journal's own clock, and the priority


def is_journal(stream: TextIO, journal_stream: str | None) -> bool:
    """Whether what is written to ``stream`` ends in the journal: it is the file that ``$JOURNAL_STREAM`` names by device and inode."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


def make_entry(event: Mapping[str, object], message: str) -> bytes:
    """The datagram for one line of the log: ``message``, its priority, and each of its keys as a field, in capitals.

    A value with line breaks is framed by its length, so that nothing in it can pass for a field.
    """
    fields = {"MESSAGE": message, "PRIORITY": str(_PRIORITIES[str(event["level"])]), "SYSLOG_IDENTIFIER": IDENTIFIER}
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
    """What sends entries to the journal."""

    def __init__(self, address: str = ADDRESS) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)  # from the start: later there may be no descriptor to be had

    def __call__(self, entries: Sequence[bytes]) -> int:
        """How many could not be sent, as while the journal is being restarted."""
        return sum(not self._try_send(each) for each in entries)

    def close(self) -> None:
        """Send nothing more."""
        self._socket.close()

    def _try_send(self, content: bytes) -> bool:
        try:
            self._socket.sendto(content, self._address)
        except OSError:
            return False
        return True
