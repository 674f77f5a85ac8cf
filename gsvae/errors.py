"""The one exception for what a user can mend: it is shown as a single line, never as a traceback."""

__all__ = ["UserError", "in_words"]


class UserError(Exception):
    """A mistake in settings, files or environment; its text names the key, the value and what is allowed."""


def in_words(error: BaseException) -> str:
    """An error in one line; what a user can mend says it all itself."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
