"""The one exception for what a user can mend: it is shown as a single line, never as a traceback."""

__all__ = ["UserError"]


class UserError(Exception):
    """A mistake in settings, files or environment; its text names the key, the value and what is allowed."""
