"""Numbers with their noun."""

import pytest

from scheduler.core.quantities import pluralize


@pytest.mark.parametrize(
    ("number", "nouns", "text"),
    [
        (0, ("run",), "0 runs"),
        (1, ("run",), "1 run"),
        (3000, ("run",), "3,000 runs"),
        (1, ("occurrence is", "occurrences are"), "1 occurrence is"),
        (2, ("occurrence is", "occurrences are"), "2 occurrences are"),
    ],
)
def test_a_number_has_its_noun_in_singular_or_plural(number: int, nouns: tuple[str, ...], text: str) -> None:
    assert pluralize(number, *nouns) == text
