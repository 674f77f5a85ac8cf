"""Weights & Biases as a view of the run folder, fed from a thread of its own.

Every call of the client happens on that thread, so a slow or dead service never holds up a step; every call is
guarded, so a broken client costs one warning. What the view misses is in the run folder, and in the client's own
file for ``wandb sync``.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsvae.errors import UserError
from gsvae.tracking.run_folder import finite_or_none

__all__ = ["WandbSettings", "WandbSink", "choose_mode"]

log = logging.getLogger(__name__)

INIT_TIMEOUT = 8.0  # seconds, as the next
FINISH_TIMEOUT = 20.0
LOWEST = ("train/loss", "val/neg_elbo", "val/relaxed_loss")
HIGHEST = ("train/grad_norm", "codes/perplexity", "codes/active")


@dataclass(frozen=True)
class WandbSettings:
    """What W&B is told of a run."""

    mode: str  # auto, online or offline
    project: str
    entity: str | None
    name: str
    group: str | None
    job_type: str | None
    tags: Sequence[str]
    notes: str | None
    id: str
    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)


def choose_mode(mode: str) -> str:
    """Resolve ``tracking.mode``: auto asks WANDB_MODE, then whether there is a login, without prompting.

    Raises:
        UserError: online is demanded and there is no login.
    """
    if mode == "auto" and os.environ.get("WANDB_MODE") in ("online", "offline", "disabled"):
        mode = os.environ["WANDB_MODE"]
    if mode in ("offline", "disabled"):
        return mode
    import wandb

    if wandb.login(prompt=False, verify=False):
        return "online"
    if mode == "online":
        raise UserError(
            "tracking.mode=online: not logged in to W&B; run `wandb login`, set WANDB_API_KEY, "
            "or use tracking.mode=offline"
        )
    return "offline"


class WandbSink:
    """One W&B run.

    Args:
        settings: what W&B is told.
        history: returns the run folder's rows, to send those a resumed run's service has not seen.
        sent: rows that an earlier, offline part of this run has already in its file.
    """

    def __init__(
        self, settings: WandbSettings, history: Callable[[], list[dict[str, Any]]], sent: int = 0
    ) -> None:
        self.settings = settings
        self.where = ""
        self._history = history
        self._first = sent
        self._broken = False
        self._run: Any = None
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._past = history()
        self._thread.start()

    # ---------------------------------------------------------------- called by the run

    def log(self, row_number: int, row: Mapping[str, Any]) -> None:
        """Send a row of the history; its number is the W&B step, so a row sent twice counts once."""
        row = dict(row)
        self._queue.put(lambda: self._send(row_number, row))

    def images(self, row_number: int, paths: Mapping[str, Path]) -> None:
        """Send PNG files under ``images/<name>``."""
        contents = {name: path.read_bytes() for name, path in paths.items()}
        self._queue.put(lambda: self._send_images(row_number, contents))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set summary values."""
        values = {key: finite_or_none(value) for key, value in values.items()}
        self._queue.put(lambda: self._run.summary.update(values))

    def artifact(self, path: Path, aliases: Sequence[str], metadata: Mapping[str, Any]) -> None:
        """Send a file as the run's model."""
        self._queue.put(lambda: self._send_artifact(path, list(aliases), dict(metadata)))

    def close(self, exit_code: int) -> None:
        """Wait for what is queued and finish the run, for a bounded time."""
        self._queue.put(lambda: self._run.finish(exit_code=exit_code))
        self._queue.put(None)
        self._thread.join(INIT_TIMEOUT + 2 * FINISH_TIMEOUT)
        if self._thread.is_alive():
            self._warn("it does not answer")

    # ---------------------------------------------------------------- on the thread

    def _work(self) -> None:
        self._guard(self._start)
        while (job := self._queue.get()) is not None:
            if not self._broken:
                self._guard(job)

    def _guard(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:
            self._warn(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")

    def _warn(self, reason: str) -> None:
        if not self._broken:
            self._broken = True
            mend = f"; later: wandb sync --include-online {self.where}" if self.where else ""
            log.warning("W&B: %s. Training goes on, the run folder has everything%s", reason, mend)

    def _start(self) -> None:
        import wandb

        mode = choose_mode(self.settings.mode)
        if mode == "disabled":
            self._broken = True
            return
        try:
            self._run = self._init(mode)
        except wandb.errors.CommError as error:
            log.warning("W&B: %s; going on offline", str(error).splitlines()[0])
            mode = "offline"
            self._run = self._init(mode)
        self.where = str(Path(self._run.settings.sync_dir))
        self._define_metrics()
        if mode == "offline":
            log.info("W&B: offline. Look: wandb leet %s   Send: wandb sync %s", self.settings.folder, self.where)
        else:
            self._first = self._run.starting_step
            log.info("W&B: %s", self._run.url)
            for number, row in enumerate(self._past):
                self._send(number, row)
        self._past.clear()

    def _init(self, mode: str) -> Any:
        import wandb

        s = self.settings
        return wandb.init(
            project=s.project,
            entity=s.entity,
            name=s.name,
            group=s.group,
            job_type=s.job_type,
            tags=list(s.tags),
            notes=s.notes,
            id=s.id,
            config=dict(s.config),
            dir=s.folder,
            mode=mode,  # type: ignore[arg-type]
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                init_timeout=INIT_TIMEOUT,
                finish_timeout=FINISH_TIMEOUT,
                console="off",
                silent=True,
            ),
        )

    def _define_metrics(self) -> None:
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        for name in LOWEST:
            self._run.define_metric(name, step_metric="step", summary="min")
        for name in HIGHEST:
            self._run.define_metric(name, step_metric="step", summary="max")

    def _send(self, number: int, row: Mapping[str, Any]) -> None:
        if number >= self._first:
            values = {key: value for key, value in row.items() if finite_or_none(value) is not None}
            self._run.log(values, step=number)

    def _send_images(self, number: int, contents: Mapping[str, bytes]) -> None:
        import io

        import wandb
        from PIL import Image

        if number >= self._first:
            images = {
                f"images/{name}": wandb.Image(Image.open(io.BytesIO(png))) for name, png in contents.items()
            }
            self._run.log(images, step=number)

    def _send_artifact(self, path: Path, aliases: list[str], metadata: dict[str, Any]) -> None:
        import wandb

        artifact = wandb.Artifact(f"model-{self.settings.id}", type="model", metadata=metadata)
        artifact.add_file(str(path))
        self._run.log_artifact(artifact, aliases=aliases)
