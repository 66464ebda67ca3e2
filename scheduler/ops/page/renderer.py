"""The renderer of templates as text, safe from markup in names.

Every shown value passes `_finalize_value` and then Jinja's escaping, independent of the template. Rendering
takes milliseconds of pure Python, and therefore runs on another thread with frequent pauses. Without pauses,
another thread gets Python's lock only every five milliseconds, and the loop may need the lock for each
request to the API.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: TID251  this module makes pages
from markupsafe import Markup, escape  # noqa: TID251  the same

from scheduler.core.command_line import format_command, help_command
from scheduler.core.terminal_text import to_printable
from scheduler.ops.page.assets import ICON, ROOT, SCRIPT, STYLE
from scheduler.ops.page.rows import get_tone, make_automation_link

_T = TypeVar("_T")

CONTENT_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of a page for people: only files of this server."""

_PAUSE_EVERY: Final = 100  # items, which take some tenths of a millisecond
_PAUSE_SECONDS: Final = 0.00005


def iterate_with_pauses(items: Iterable[_T], every: int = _PAUSE_EVERY) -> Iterator[_T]:
    """Yield the same items, with a short pause for other threads after every ``every`` items."""
    for number, item in enumerate(items, 1):
        yield item
        if number % every == 0:
            time.sleep(_PAUSE_SECONDS)


def render(template: str, **values: object) -> str:
    """Return the text of a page."""
    return _environment.get_template(template).render(**values)


_value_count: Final = count()


def _finalize_value(value: object) -> object:
    """Return a text on one line, with characters that do not print as escapes.

    Markup stays unchanged. After each `_PAUSE_EVERY` values, other threads get a pause.
    """
    if next(_value_count) % _PAUSE_EVERY == 0:
        time.sleep(_PAUSE_SECONDS)
    return to_printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _mark_code(text: str) -> Markup:
    """Return one of our own sentences as markup, with the text between backticks as code."""
    parts = (str(escape(to_printable(part))) for part in text.split("`"))
    return Markup(  # noqa: S704  escaped above
        "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
    )


def _make_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__ or ""),
        autoescape=True,
        auto_reload=False,
        finalize=_finalize_value,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "coded": _mark_code,
        "thousands": "{:,}".format,
        "printable": to_printable,
        "tone": get_tone,
    }
    environment.globals |= {
        "automation_link": make_automation_link,
        "command_line": format_command,
        "help_command": help_command,
        "assets": {"style": ROOT + STYLE.name, "script": ROOT + SCRIPT.name, "icon": ROOT + ICON.name},
    }
    return environment


_environment: Final = _make_environment()
