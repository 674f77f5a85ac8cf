"""The process that launched a job, as the job is told by its environment."""

import os
import secrets
import socket

__all__ = ["VARIABLE", "in_its_process", "new_token"]

VARIABLE = "GSVAE_DRIVER"


def new_token() -> str:
    """A name for this process's work on a sweep."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def in_its_process(token: str) -> bool:
    """Whether this is the process that made the token."""
    return token.rpartition("-")[0] == f"{socket.gethostname()}-{os.getpid()}"
