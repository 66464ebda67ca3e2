"""Templates into text, with nothing in them that a name could have put there.

Every value that is shown passes `_shown` and then Jinja's escaping, whether a template thinks of it or not. Rendering takes milliseconds
of pure Python, so it is done on another thread than the loop's, with a pause after each few values: a thread that does not pause lets
another one have Python's lock only every five milliseconds, and the loop may want it for each request that it sends.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: TID251  here pages are made
from markupsafe import Markup, escape  # noqa: TID251  the same

from scheduler.core.command_line import command_line, help_command
from scheduler.core.printable import escaped
from scheduler.ops.page.assets import ICON, ROOT, SCRIPT, STYLE

_T = TypeVar("_T")

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""The Content-Security-Policy of a page for people: what is served here, and nothing else."""

_FEW: Final = 100  # in some tenths of a millisecond
_PAUSE: Final = 0.00005


def pausing(items: Iterable[_T], every: int = _FEW) -> Iterator[_T]:
    """The same items, with a moment after each so many in which other threads have their turn."""
    for number, item in enumerate(items, 1):
        yield item
        if number % every == 0:
            time.sleep(_PAUSE)


def render(template: str, **values: object) -> str:
    """The text of a page."""
    return _environment.get_template(template).render(**values)


_shown_so_far: Final = count()


def _shown(value: object) -> object:
    """On one line, with everything that does not print itself as an escape; what is markup already is left as it is."""
    if next(_shown_so_far) % _FEW == 0:
        time.sleep(_PAUSE)
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _coded(text: str) -> Markup:
    """A sentence of our own, with what stands between backticks as code."""
    parts = (str(escape(escaped(part))) for part in text.split("`"))
    return Markup("".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts)))  # noqa: S704  escaped above


def _thousands(number: int) -> str:
    return f"{number:,}"


def _made() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__ or ""),
        autoescape=True,
        auto_reload=False,
        finalize=_shown,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"coded": _coded, "thousands": _thousands, "printable": escaped}
    environment.globals |= {
        "command_line": command_line,
        "help_command": help_command,
        "assets": {"style": ROOT + STYLE.name, "script": ROOT + SCRIPT.name, "icon": ROOT + ICON.name},
    }
    return environment


_environment: Final = _made()
