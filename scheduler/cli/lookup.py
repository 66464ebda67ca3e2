"""The look-up of an automation by id, by current or former name, or by the first characters of its id.

The ledger, the API and the embedded API's database each have a collection. The rules and the messages are
the same for all collections.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Generic, TypeVar

from scheduler.cli.failures import AnswerIsNo
from scheduler.core.automation_filter import find_id
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
    target: str = ""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AutomationCollection(Generic[T]):
    """A collection of automations, as its queries. ``where`` follows the words "there is no automation"."""

    where: str
    find_named: Callable[[str], Sequence[T]]  # by this id or current name
    find_with_prefix: Callable[[str], Sequence[T]]  # by the beginning of the id
    read_names: Callable[[], Iterable[str]]
    describe: Callable[[T], Candidate]
    find_formerly_named: Callable[[str], Sequence[T]] = lambda _: ()


def find_automation(collection: AutomationCollection[T], text: str) -> T:
    """Find an automation by id, by current name or by former name, otherwise by the beginning of its id.

    Raises `AnswerIsNo` when no automation matches, or several match.
    """
    for matches in _search(collection, text):
        if len(matches) > 1:
            raise make_ambiguous_error(text, [collection.describe(automation) for automation in matches])
        if matches:
            return matches[0]
    raise make_unknown_error(collection, text)


def make_unknown_error(collection: AutomationCollection[T], text: str) -> AnswerIsNo:
    """Return the error for a text without a match, with advice."""
    advice = advise(text, collection.read_names(), f"see `{format_command('automations list')}`")
    return AnswerIsNo(f"there is no automation {text!r}{collection.where}; {advice}")


def expand_prefix(collection: AutomationCollection[T], text: str) -> str:
    """Return the id that begins with the text, for a filter by id, name or pattern.

    Return the text itself when an automation has this name, or when no id begins with the text. Raises
    `AnswerIsNo` when several ids begin with the text.
    """
    if read_prefix(text) is None:
        return text
    *named, with_prefix = _search(collection, text)
    if any(named):
        return text
    candidates = [collection.describe(automation) for automation in with_prefix]
    if len({candidate.id for candidate in candidates}) > 1:
        raise make_ambiguous_error(text, candidates)
    return candidates[0].id if candidates else text


def advise_on(collection: AutomationCollection[T], text: str | None) -> str:
    """Return the advice about a text without a match, to follow a message; empty without advice."""
    advice = "" if text is None else advise(text, collection.read_names())
    return f"; {advice}" if advice else ""


def _search(collection: AutomationCollection[T], text: str) -> Iterator[Sequence[T]]:
    """Yield the automations with this id or current name, with this former name, and with this prefix."""
    whole, prefix = find_id(text) or text, read_prefix(text)
    yield collection.find_named(whole)
    yield collection.find_formerly_named(whole)
    if prefix is not None:
        yield collection.find_with_prefix(prefix)


def read_prefix(text: str) -> str | None:
    """Return the text as the beginning of an id, with at least `LEAST_PREFIX` characters.

    Return None when no id can begin with the text.
    """
    return text.lower() if _PREFIX.fullmatch(text.lower()) else None


def make_ambiguous_error(
    text: str, candidates: Sequence[Candidate], *, kind: str = "automations"
) -> AnswerIsNo:
    """Return the error that lists the candidates with their ids."""
    how = "called" if any(candidate.name == text for candidate in candidates) else "whose ids begin with"
    advice = ", or --target" if len({candidate.target for candidate in candidates}) > 1 else ""
    message = f"there are {len(candidates):,} {kind} {how} {text!r}; give the id of one{advice}"
    width = max(len(candidate.id) for candidate in candidates)
    details = [
        f"  {candidate.id:<{width}}  {candidate.name}  {candidate.note}".rstrip()
        for candidate in candidates[:_MAX_LISTED]
    ]
    if len(candidates) > _MAX_LISTED:
        details.append(f"  and {len(candidates) - _MAX_LISTED:,} more")
    return AnswerIsNo(message, *details)


def advise(text: str, names: Iterable[str], otherwise: str = "") -> str:
    """Return the advice for a text without a match: a similar name, or more characters of an id.

    Return ``otherwise`` when neither applies.
    """
    is_short = _SHORT_PREFIX.fullmatch(text.lower())
    parts = [f"the beginning of an id has {LEAST_PREFIX} characters or more"] if is_short else []
    if near := " or ".join(map(repr, find_near(text, names))):
        parts.append(f"did you mean {near}?")
    return "; ".join(parts) or otherwise


def find_near(text: str, names: Iterable[str]) -> list[str]:
    """Return the other names that contain the text, or are similar as a whole or in a word, best first.

    Upper and lower case are equal.
    """
    wanted = text.casefold()
    by_folded = {name.casefold(): name for name in islice(names, _MAX_COMPARED) if name != text}
    by_word = {word: folded for folded in by_folded for word in _WORD.findall(folded)}
    close = difflib.get_close_matches(wanted, by_folded, n=_MAX_SUGGESTIONS, cutoff=0.7)
    holding = [folded for folded in by_folded if wanted in folded] if len(wanted) >= _SHORTEST_PART else []
    words = difflib.get_close_matches(wanted, by_word, n=_MAX_SUGGESTIONS, cutoff=0.8)
    near = dict.fromkeys([*close, *sorted(holding, key=len), *(by_word[word] for word in words)])
    return [by_folded[folded] for folded in islice(near, _MAX_SUGGESTIONS)]
