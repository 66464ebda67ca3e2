"""The log of the process: structlog with one line for one event, joined with the logging of the libraries.

A program reads JSON, in plain ASCII. A person on a terminal reads the same keys in structlog's console
format. The log goes to standard output, as usual for a service. When standard output is systemd's journal,
each line is an entry with fields (`journal`), and the message of the entry is the same text. Before the log
is open, a command writes its errors to standard error.
"""

import atexit
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from scheduler.core.instants import to_text
from scheduler.ops import console_format, journal
from scheduler.ops.journal import Journal
from scheduler.ops.writer import MAX_LINES, LogWriter, StreamOutput

LogFormat = Literal["auto", "console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_LEVEL_NUMBERS: Final = {name.lower(): number for name, number in logging.getLevelNamesMapping().items()}
_ENCODE: Final = json.JSONEncoder(default=str).encode  # json.dumps would make an encoder for every line


class Log:
    """The log of this process until `close`.

    ``now`` is the clock, in UTC. Every JSON line contains ``node``. The format ``auto`` is ``console`` when
    ``stream`` is a terminal, else ``json``. Logging never waits for the stream; see `LogWriter`.
    """

    def __init__(
        self,
        *,
        format: LogFormat,  # noqa: A002  the setting's name
        level: LogLevel,
        node: str,
        now: Callable[[], datetime],
        stream: TextIO | None = None,
        limit: int = MAX_LINES,
    ) -> None:
        self._node, self._now = node, now
        self._stream = stream or sys.stdout or sys.stderr or _open_null()
        self._is_console = self._stream.isatty() if format == "auto" else format == "console"
        self._threshold = _LEVEL_NUMBERS[level]
        is_journal = journal.is_journal(self._stream, os.environ.get("JOURNAL_STREAM"))
        self._journal = Journal() if is_journal else None
        self._writer: LogWriter[Any] = LogWriter(
            self._journal or StreamOutput(self._stream), lost=self._make_loss_line, limit=limit
        )
        self._processors = self._make_pipeline()
        structlog.configure(
            processors=self._processors,
            wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
            logger_factory=lambda *_: _Logger(self._writer.write),
            cache_logger_on_first_use=False,
        )
        self._bridge = _LibraryHandler()
        self._bridge.join()
        atexit.register(self.close)

    def flush(self) -> None:
        """Write the remaining lines, before other text is printed.

        More lines may be logged until the process ends.
        """
        self._writer.flush()

    def close(self) -> None:
        """Write the remaining lines, and end the log.

        Later lines go to the default outputs of structlog and logging. The log closes by itself at the end of
        the process.
        """
        atexit.unregister(self.close)
        self._bridge.leave()
        structlog.reset_defaults()
        self._writer.close()
        if self._journal is not None:
            self._journal.close()

    def set_level(self, level: LogLevel) -> None:
        """Log only lines of this level or above from now on."""
        self._threshold = _LEVEL_NUMBERS[level]

    def is_enabled_for(self, level: str) -> bool:
        """Return whether lines of this level are written, for callers with costly lines."""
        return _LEVEL_NUMBERS[level] >= self._threshold

    def _make_pipeline(self) -> list[Processor]:
        always: list[Processor] = [self._drop_below_threshold, structlog.processors.format_exc_info]
        text = self._make_text_processors()
        return [*always, partial(self._make_entry, text)] if self._journal else [*always, *text]

    def _make_text_processors(self) -> list[Processor]:
        """Return the processors that turn an event into the text of its line."""
        if not self._is_console:
            return [self._add_common_keys, _encode_json]
        colours = console_format.may_colour(self._stream, os.environ.get("NO_COLOR"), os.environ.get("TERM"))
        return [
            console_format.indent_traceback,
            self._add_timestamp,
            console_format.make_renderer(colours=colours),
        ]

    def _make_entry(
        self, text: Sequence[Processor], logger: WrappedLogger, level: str, event: EventDict
    ) -> bytes:
        """Return the event as an entry of the journal."""
        fields = self._add_common_keys(logger, level, dict(event))
        return journal.make_entry(fields, str(_apply_processors(text, level, event)))

    def _drop_below_threshold(self, _: WrappedLogger, level: str, event: EventDict) -> EventDict:
        if _LEVEL_NUMBERS[level] < self._threshold:
            raise structlog.DropEvent
        return event

    def _add_timestamp(self, _: WrappedLogger, level: str, event: EventDict) -> EventDict:
        return {"timestamp": to_text(self._now()), "level": level, "event": event.pop("event"), **event}

    def _add_common_keys(self, logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        return {**self._add_timestamp(logger, level, event), "node": self._node}

    def _make_loss_line(self, lines: int) -> str | bytes:
        """Return a line with the number of lines for which the reader was too slow."""
        return _apply_processors(self._processors[1:], "warning", {"event": "log.lost", "lines": lines})


def _apply_processors(processors: Sequence[Processor], level: str, event: EventDict) -> str | bytes:
    """Return the line that the processors make of an event."""
    line: Any = event
    for process in processors:
        line = process(None, level, line)
    return line  # type: ignore[no-any-return]  # the last processor returns text or bytes


class _Logger:
    """The logger behind structlog: the method of every level writes the finished line."""

    def __init__(self, write: Callable[[Any], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = write


class _LibraryHandler(logging.Handler):
    """The handler that logs the libraries' warnings and errors through the same processors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._root = logging.getLogger()
        self._before = self._root.handlers, self._root.level

    def join(self) -> None:
        """Become the only handler from now on. Also log Python's own warnings."""
        self._root.handlers = [self]
        self._root.setLevel(logging.WARNING)
        logging.captureWarnings(capture=True)

    def leave(self) -> None:
        """Restore the handlers and the level from before `join`."""
        logging.captureWarnings(capture=False)
        self._root.handlers, level = self._before
        self._root.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record's message as the event, with the name of its logger."""
        try:
            # a level between two of our levels counts as the lower level
            level = min(record.levelno // 10 * 10, logging.CRITICAL)
            structlog.get_logger().log(
                level, record.getMessage().strip(), logger=record.name, exc_info=record.exc_info
            )
        except Exception:  # noqa: BLE001  as the standard library's handlers do
            self.handleError(record)


def _open_null() -> TextIO:
    """Return the null device, the log of a service whose outputs are closed at its start."""
    return Path(os.devnull).open("w")


def _encode_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return _ENCODE(event)
