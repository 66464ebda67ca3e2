"""Log lines for people on a terminal: what structlog draws, with nothing in it that the terminal would obey.

Names come from an API and are hostile until proven otherwise. A value that could be taken for something else is quoted as Python writes it,
and what does not print is an escape, so that no name can begin a line, add a key, move the cursor or set a colour.
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
    """Whether to colour what goes there: a terminal that can, and nobody has asked not to (https://no-color.org: set, and not empty)."""
    return stream.isatty() and not no_color and terminal != "dumb"


def indent_traceback(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor: a traceback on lines of its own, which nobody can take for a log line, since those begin with an instant."""
    if "exception" in event:
        event["exception"] = "\n".join(f"    | {to_printable(line)}" for line in event["exception"].splitlines())
    return event


def make_renderer(*, colours: bool) -> ConsoleRenderer:
    """The last processor: an event as the text of its line."""
    styles = ConsoleRenderer.get_default_column_styles(colours)
    levels = ConsoleRenderer.get_default_level_styles(colours)
    bare = partial(KeyValueColumnFormatter, None, reset_style=styles.reset)
    columns = [
        Column("timestamp", bare(value_style=styles.timestamp, value_repr=_format_milliseconds)),
        Column("level", LogLevelColumnFormatter(levels, styles.reset)),
        Column("event", bare(value_style=styles.bright, value_repr=_escape_text, width=_EVENT_WIDTH)),
        Column("", KeyValueColumnFormatter(styles.kv_key, styles.kv_value, styles.reset, value_repr=_format_value)),
    ]
    return ConsoleRenderer(columns=columns, sort_keys=False)


def _format_milliseconds(instant: object) -> str:
    return f"{str(instant)[:23]}Z"


def _escape_text(value: object) -> str:
    return to_printable(str(value))


def _format_value(value: object) -> str:
    text = str(value)
    return text if _PLAIN_VALUE.fullmatch(text) and text.isprintable() else repr(text)
