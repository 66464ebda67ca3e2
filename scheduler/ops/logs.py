"""The process's log: structlog with one line for one event, to which the logging of the libraries is joined.

JSON, in plain ASCII, wherever a program reads; for a person on a terminal the same keys, drawn. It goes to standard output, which is what
a service's log is; where that is systemd's journal, as entries with fields (`journal`), whose message is the same text. What a command
has to complain about before there is a log goes to standard error.
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
from types import TracebackType
from typing import Any, Final, Literal, Self, TextIO

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
    """The log of this process while it is open; a context manager. ``now`` is the clock, in UTC, and ``node`` is named in every JSON line.

    ``auto`` is ``console`` when ``stream`` is a terminal, else ``json``. Nobody who logs waits for the stream; see `LogWriter`.
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
        self._journal = Journal() if journal.is_journal(self._stream, os.environ.get("JOURNAL_STREAM")) else None
        self._writer: LogWriter[Any] = LogWriter(self._journal or StreamOutput(self._stream), lost=self._make_loss_line, limit=limit)
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def flush(self) -> None:
        """Write what is left, before something else is printed. More may be logged until the process ends."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is left. What is logged later goes where structlog and logging write by default. The end of the process does this."""
        atexit.unregister(self.close)
        self._bridge.leave()
        structlog.reset_defaults()
        self._writer.close()
        if self._journal is not None:
            self._journal.close()

    def set_level(self, level: LogLevel) -> None:
        """Log what is at this level or above from now on."""
        self._threshold = _LEVEL_NUMBERS[level]

    def is_enabled_for(self, level: str) -> bool:
        """Whether a line of this level is written, for those who would have to prepare it."""
        return _LEVEL_NUMBERS[level] >= self._threshold

    def _make_pipeline(self) -> list[Processor]:
        always: list[Processor] = [self._drop_below_threshold, structlog.processors.format_exc_info]
        text = self._make_text_processors()
        return [*always, partial(self._make_entry, text)] if self._journal else [*always, *text]

    def _make_text_processors(self) -> list[Processor]:
        """The processors that make an event the text of its line."""
        if not self._is_console:
            return [self._add_common_keys, _encode_json]
        colours = console_format.may_colour(self._stream, os.environ.get("NO_COLOR"), os.environ.get("TERM"))
        return [console_format.indent_traceback, self._add_timestamp, console_format.make_renderer(colours=colours)]

    def _make_entry(self, text: Sequence[Processor], logger: WrappedLogger, level: str, event: EventDict) -> bytes:
        """The event as an entry of the journal."""
        return journal.make_entry(self._add_common_keys(logger, level, dict(event)), str(_apply_processors(text, level, event)))

    def _drop_below_threshold(self, _: WrappedLogger, level: str, event: EventDict) -> EventDict:
        if _LEVEL_NUMBERS[level] < self._threshold:
            raise structlog.DropEvent
        return event

    def _add_timestamp(self, _: WrappedLogger, level: str, event: EventDict) -> EventDict:
        return {"timestamp": to_text(self._now()), "level": level, "event": event.pop("event"), **event}

    def _add_common_keys(self, logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        return {**self._add_timestamp(logger, level, event), "node": self._node}

    def _make_loss_line(self, lines: int) -> str | bytes:
        """The line that stands for those which the reader was too slow for."""
        return _apply_processors(self._processors[1:], "warning", {"event": "log.lost", "lines": lines})


def _apply_processors(processors: Sequence[Processor], level: str, event: EventDict) -> str | bytes:
    """The line that these make of an event."""
    line: Any = event
    for process in processors:
        line = process(None, level, line)
    return line  # type: ignore[no-any-return]  # the last one makes it


class _Logger:
    """What structlog hands finished lines to: every level's method writes the line."""

    def __init__(self, write: Callable[[Any], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = write


class _LibraryHandler(logging.Handler):
    """Takes what libraries log through the standard library, warnings and worse, into the same pipeline."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._root = logging.getLogger()
        self._before = self._root.handlers, self._root.level

    def join(self) -> None:
        """Be the only handler from now on; Python's own warnings come this way too."""
        self._root.handlers = [self]
        self._root.setLevel(logging.WARNING)
        logging.captureWarnings(capture=True)

    def leave(self) -> None:
        """Put everything back as it was."""
        logging.captureWarnings(capture=False)
        self._root.handlers, level = self._before
        self._root.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record's message as the event, with the name of its logger."""
        try:
            level = min(record.levelno // 10 * 10, logging.CRITICAL)  # a level between two of ours counts as the lower one
            structlog.get_logger().log(level, record.getMessage().strip(), logger=record.name, exc_info=record.exc_info)
        except Exception:  # noqa: BLE001  a logger's caller must not learn of it; so the standard library's handlers do it
            self.handleError(record)


def _open_null() -> TextIO:
    """Where the log of a service goes that was started with its outputs closed."""
    return Path(os.devnull).open("w")


def _encode_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return _ENCODE(event)
