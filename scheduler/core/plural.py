"""Numbers with their noun, for people."""


def pluralize(number: int, noun: str, plural: str | None = None) -> str:
    """Return the number with its noun: ``1 run``, ``3,000 runs``.

    ``plural`` is for a plural that does not just add an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
