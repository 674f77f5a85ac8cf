"""What is known of the W&B service and its client: a login, an answer, a death."""

import contextlib
import os
import ssl
import urllib.error
import urllib.request

from gsvae.errors import UserError

__all__ = ["agents_sweep", "bury_client", "check_login", "choose_mode", "first_line", "is_death", "reachable"]

PROBE_TIMEOUT = 4.0  # seconds


def choose_mode(mode: str) -> str:
    """Resolve ``tracking.mode``: auto asks WANDB_MODE, then whether there is a login, without prompting.

    Raises:
        UserError: online is demanded and there is no login, or one that cannot be.
    """
    if mode == "auto" and os.environ.get("WANDB_MODE") in ("online", "offline", "disabled"):
        mode = os.environ["WANDB_MODE"]
    if mode in ("offline", "disabled"):
        return mode
    import wandb

    # WANDB_MODE would otherwise decide what login says, and login would print two lines and ask the service for them
    wandb.setup(wandb.Settings(silent=True, mode="online"))
    try:
        if wandb.login(prompt=False, verify=False):
            return "online"
    except wandb.errors.AuthenticationError as error:  # a key that cannot be one
        if mode != "online":
            raise
        raise UserError(f"tracking.mode=online: {first_line(error)}") from error
    if mode == "online":
        raise UserError(
            "tracking.mode=online: not logged in to W&B; run `wandb login`, set WANDB_API_KEY, "
            "or use tracking.mode=offline"
        )
    return "offline"


def check_login(mode: str) -> None:
    """Find out before any work is done whether there is a login, where ``tracking.mode`` demands one.

    Raises:
        UserError: it does, and there is none.
    """
    if mode == "online":
        choose_mode(mode)


def agents_sweep() -> str | None:
    """The id of the W&B sweep whose agent started this process; None where none did."""
    return os.environ.get("WANDB_SWEEP_ID") if "WANDB_RUN_ID" in os.environ else None


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def reachable(url: str) -> bool:
    """Whether anything answers at ``url``, if only with an error."""
    try:
        urllib.request.urlopen(url, timeout=PROBE_TIMEOUT).close()
    except urllib.error.HTTPError:
        return True
    except OSError as error:
        return isinstance(getattr(error, "reason", None), ssl.SSLError)  # the client has certificates of its own
    return True


def is_death(error: Exception) -> bool:
    """Whether wandb-core is gone: its socket is closed, or will not answer what waits."""
    return isinstance(error, ConnectionError) or type(error).__module__.startswith("wandb.sdk.mailbox")


def bury_client() -> None:
    """Forget a dead wandb-core, so that nobody waits for it at exit and the next run of this process starts another."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()
