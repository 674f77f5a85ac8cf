"""A job of submitit's that was told to end: whether and how it is queued again, once its run has its checkpoint.

Slurm tells a job to end in several ways. At a time limit, and at a preemption with a grace period, it is still
RUNNING and may queue itself again. When it was cancelled or requeued by someone, or preempted without grace, its fate
is decided already: queueing it again would bring back a cancelled job, or fail. In all cases the process must end
without a result, for the driver takes a job's first result as its last.
"""

import logging
import os
import re
import signal
import subprocess
import sys
from typing import NoReturn

__all__ = ["hand_back", "is_submitits"]

log = logging.getLogger(__name__)

ENDED = 143  # as if SIGTERM had done it


def is_submitits() -> bool:
    """Whether submitit runs this process as a job."""
    return "SUBMITIT_EXECUTOR" in os.environ


def hand_back(signum: int) -> NoReturn:
    """End this process, which was told to by ``signum``, so that its job goes on if it may."""
    queue_again = signal.getsignal(signal.SIGUSR2)  # submitit's: saves what was to run, and exits
    allowed = job_state() == "RUNNING" if "SLURM_JOB_ID" in os.environ else signum == signal.SIGUSR2
    if allowed and callable(queue_again):
        log.info("to be queued again")
        try:
            queue_again(signal.SIGUSR2, None)
        except subprocess.SubprocessError as error:  # the job's fate was decided meanwhile
            log.warning("not queued again: %s", error)
    sys.exit(ENDED)


def job_state() -> str | None:
    """Slurm's word for this job's state; None where it does not answer."""
    command = ["scontrol", "-o", "show", "job", os.environ["SLURM_JOB_ID"]]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(rf"^JobId={os.environ['SLURM_JOB_ID']} .*?JobState=(\w+)", said, re.M)
    return match[1] if match else None
