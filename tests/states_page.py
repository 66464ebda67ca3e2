"""The state diagram of docs/semantics.md, made from the transition table of `scheduler.core.delivery`.

``python -m tests.states_page`` writes the diagram into the page.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from scheduler.core.delivery import FIRST_STATES, TRANSITIONS, End

PAGE = Path(__file__).parents[1] / "docs" / "semantics.md"
BEGIN, END = "<!-- states: begin -->\n", "<!-- states: end -->"


def draw_states() -> str:
    """Return the diagram in the language of Mermaid."""
    return "\n".join(["```mermaid", "stateDiagram-v2", *(f"    {line}" for line in _draw_lines()), "```", ""])


def _draw_lines() -> Iterator[str]:
    for state, how in FIRST_STATES.items():
        yield f"[*] --> {state}: {how}"
    for state, events in TRANSITIONS.items():
        for event, places in events.items():
            for place in sorted(places):
                yield f"{state} --> {place}: {_describe(event)}"
    for end in End:
        yield f"{end} --> [*]"


def _describe(event: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", event.__name__).lower()


def replace_diagram(page: str) -> str:
    """Return the page with the present diagram between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{draw_states()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(replace_diagram(PAGE.read_text()))
