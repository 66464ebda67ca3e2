"""The rules and messages for automations and runs given by id, by name, or by an id's first characters.

The ledger, the API and the embedded API's database each have their own search. The rules and the messages are
the same.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from scheduler.cli.failures import AnswerIsNo
from scheduler.core.command_line import format_command

LEAST_PREFIX: Final = 4
"""Minimum length of the beginning of an id. The help of the commands names the number too."""
_PREFIX: Final = re.compile(rf"[0-9a-f]{{{LEAST_PREFIX}}}[0-9a-f-]{{0,31}}")
_SHORT_PREFIX: Final = re.compile(rf"[0-9a-f]{{1,{LEAST_PREFIX - 1}}}")
_WORD: Final = re.compile(r"\w+")
_MAX_LISTED: Final = 10
"""Maximum number of candidates in an error."""
_MAX_COMPARED: Final = 20_000
"""Maximum number of names compared with an unknown name: a comparison takes at most a second."""
_MAX_SUGGESTIONS: Final = 3
_SHORTEST_PART: Final = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """An automation or a run that matches a text. ``note`` distinguishes candidates with the same name."""

    id: str
    name: str
    note: str = ""


def read_prefix(text: str) -> str | None:
    """Return the text as the beginning of an id, with at least `LEAST_PREFIX` characters.

    Return None when no id can begin with the text.
    """
    return text.lower() if _PREFIX.fullmatch(text.lower()) else None


def make_prefix_end(prefix: str) -> str:
    """Return a text that sorts after all ids with this prefix, and before all later ids."""
    return f"{prefix}g"


def make_ambiguous_error(
    text: str, candidates: Sequence[Candidate], *, kind: str = "automations", advice: str = ""
) -> AnswerIsNo:
    """Return the error that lists the candidates with their ids.

    ``advice`` names alternatives to an id.
    """
    width = max(len(candidate.id) for candidate in candidates)
    details = [
        f"  {each.id:<{width}}  {each.name}  {each.note}".rstrip() for each in candidates[:_MAX_LISTED]
    ]
    if len(candidates) > _MAX_LISTED:
        details.append(f"  and {len(candidates) - _MAX_LISTED:,} more")
    how = "called" if any(candidate.name == text for candidate in candidates) else "whose ids begin with"
    return AnswerIsNo(
        f"there are {len(candidates):,} {kind} {how} {text!r}; give the id of one{advice}", details
    )


def make_unknown_error(text: str, names: Iterable[str], where: str = "") -> AnswerIsNo:
    """Return the error for an unknown automation, with similar names."""
    see_list = f"see `{format_command('automations list')}`"
    return AnswerIsNo(f"there is no automation {text!r}{where}; {advise(text, names, see_list)}")


def advise(text: str, names: Iterable[str], otherwise: str = "") -> str:
    """Return the advice for a text without a match: a similar name, or more characters of an id.

    Return ``otherwise`` when neither applies.
    """
    near = " or ".join(map(repr, find_near(text, names)))
    short = _SHORT_PREFIX.fullmatch(text.lower())
    parts = [
        f"the beginning of an id has {LEAST_PREFIX} characters or more" if short else "",
        f"did you mean {near}?" if near else "",
    ]
    return "; ".join(filter(None, parts)) or otherwise


def find_near(text: str, names: Iterable[str]) -> list[str]:
    """Return the other names that contain the text, or are similar as a whole or in a word, best first.

    Upper and lower case are equal.
    """
    wanted = text.casefold()
    by_folded = {name.casefold(): name for name in islice(names, _MAX_COMPARED) if name != text}
    by_word = {word: folded for folded in by_folded for word in _WORD.findall(folded)}
    close = difflib.get_close_matches(wanted, by_folded, n=_MAX_SUGGESTIONS, cutoff=0.7)
    holding = [folded for folded in by_folded if wanted in folded] if len(wanted) >= _SHORTEST_PART else []
    words = [
        by_word[word] for word in difflib.get_close_matches(wanted, by_word, n=_MAX_SUGGESTIONS, cutoff=0.8)
    ]
    return [
        by_folded[folded]
        for folded in list(dict.fromkeys([*close, *sorted(holding, key=len), *words]))[:_MAX_SUGGESTIONS]
    ]
