"""Text that others chose, for people to look at."""


def visible(text: str) -> str:
    """Control characters, surrogates and marks of direction as escapes: none may act on a terminal, browser or log."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
