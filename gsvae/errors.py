"""The one exception for what a user can mend: it is shown as a single line, never as a traceback."""

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["UserError", "in_words", "near_miss"]


class UserError(Exception):
    """A mistake in settings, files or environment; its text names the key, the value and what is allowed."""


def in_words(error: BaseException) -> str:
    """An error in one line; what a user can mend says it all itself."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def near_miss(word: str, known: Iterable[Any], prefix: str = "") -> str:
    """``; did you mean x?`` when something known is close to ``word``, else an empty string."""
    close = difflib.get_close_matches(word, [str(k) for k in known], n=1, cutoff=0.6)
    return f"; did you mean {prefix}{close[0]}?" if close else ""
