"""What a job is told by its environment: the process that launched it, and its trial."""

import os
import secrets
import socket

__all__ = ["TRIAL", "VARIABLE", "in_its_process", "new_token"]

VARIABLE = "GSVAE_DRIVER"
TRIAL = "GSVAE_TRIAL"  # of a search that prunes: how to ask it


def new_token() -> str:
    """A name for this process's work on a sweep."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def in_its_process(token: str) -> bool:
    """Whether this is the process that made the token."""
    return token.rpartition("-")[0] == f"{socket.gethostname()}-{os.getpid()}"
