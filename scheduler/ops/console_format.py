"""Log lines for people on a terminal: structlog's console output, without terminal control characters.

Names come from an API and may be hostile. An ambiguous value is quoted as Python writes it, and a character
that does not print is escaped. A name can therefore not begin a line, add a key, move the cursor or set a
colour.
"""

import re
from functools import partial
from typing import Final, TextIO

from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, LogLevelColumnFormatter
from structlog.typing import EventDict, WrappedLogger

from scheduler.core.terminal_text import to_printable

_PLAIN_VALUE: Final = re.compile(r"[^\s='\"]+")
_EVENT_WIDTH: Final = 22


def may_colour(stream: TextIO, no_color: str | None, terminal: str | None) -> bool:
    """Return whether to colour lines for ``stream``: a terminal that is not dumb.

    A ``NO_COLOR`` that is set and not empty forbids colours (https://no-color.org).
    """
    return stream.isatty() and not no_color and terminal != "dumb"


def indent_traceback(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put a traceback on lines of its own, as a structlog processor.

    A reader cannot mistake these lines for log lines, since a log line begins with an instant.
    """
    if "exception" in event:
        lines = event["exception"].splitlines()
        event["exception"] = "\n".join(f"    | {to_printable(line)}" for line in lines)
    return event


def make_renderer(*, colours: bool) -> ConsoleRenderer:
    """Make the last structlog processor: it renders an event as the text of its line."""
    styles = ConsoleRenderer.get_default_column_styles(colours)
    levels = ConsoleRenderer.get_default_level_styles(colours)
    bare = partial(KeyValueColumnFormatter, None, reset_style=styles.reset)
    pairs = KeyValueColumnFormatter(styles.kv_key, styles.kv_value, styles.reset, value_repr=_format_value)
    columns = [
        Column("timestamp", bare(value_style=styles.timestamp, value_repr=_format_milliseconds)),
        Column("level", LogLevelColumnFormatter(levels, styles.reset)),
        Column("event", bare(value_style=styles.bright, value_repr=_escape_text, width=_EVENT_WIDTH)),
        Column("", pairs),
    ]
    return ConsoleRenderer(columns=columns, sort_keys=False)


def _format_milliseconds(instant: object) -> str:
    return f"{str(instant)[:23]}Z"


def _escape_text(value: object) -> str:
    return to_printable(str(value))


def _format_value(value: object) -> str:
    text = str(value)
    return text if _PLAIN_VALUE.fullmatch(text) and text.isprintable() else repr(text)
