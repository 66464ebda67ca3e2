"""Text that others wrote, made safe to print: it can move no cursor, ring no bell, and forge no line."""


def escaped(text: str) -> str:
    """The text on one line, with every character that does not print itself as an escape."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)
