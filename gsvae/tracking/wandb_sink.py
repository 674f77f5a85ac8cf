"""Weights & Biases as a view of the run folder, fed from a thread of its own.

Every call of the client happens on that thread, so a slow or dead service never holds up a step; every call is
guarded, so a broken client costs one warning. What the view misses is in the run folder, and in the client's own
file for ``wandb sync``.
"""

import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsvae.tracking.run_folder import finite_or_none
from gsvae.tracking.wandb_service import bury_client, choose_mode, first_line, is_death, reachable

__all__ = ["WandbSettings", "WandbSink"]

log = logging.getLogger(__name__)

INIT_TIMEOUT = 8.0  # seconds, as the next
FINISH_TIMEOUT = 20.0
LOWEST = ("train/loss", "val/neg_elbo", "val/relaxed_loss")
LIGHT: dict[str, Any] = {
    "disable_git": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
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
    light: bool = False  # without what W&B itself gathers of the process, which several runs share
    config: Mapping[str, Any] = field(default_factory=dict)


class WandbSink:
    """One W&B run.

    Args:
        settings: what W&B is told.
        past: the run folder's rows so far, to send those of a resumed run which the service has not seen.
    """

    def __init__(self, settings: WandbSettings, past: Sequence[Mapping[str, Any]]) -> None:
        self.settings = settings
        self.where = ""
        self._past = past
        self._first = 0
        self._warned = False
        self._broken = False
        self._run: Any = None
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        context = contextvars.copy_context()  # its log lines are the run's
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="wandb", daemon=True)
        self._thread.start()

    # ---------------------------------------------------------------- called by the run

    def log(self, row_number: int, row: Mapping[str, Any]) -> None:
        """Send a row of the history; its number is the W&B step, so a row sent twice counts once."""
        row = dict(row)
        self._queue.put(lambda: self._send(row_number, row))

    def images(self, row_number: int, paths: Mapping[str, Path], drawing: Sequence[Future[None]] = ()) -> None:
        """Send PNG files under ``images/<name>``, once they are drawn."""
        if drawing:
            self._queue.put(lambda: self._send_images(row_number, contents_of(paths, drawing)))
        else:
            contents = contents_of(paths)  # now: the next ones have the same names
            self._queue.put(lambda: self._send_images(row_number, contents))

    def table(self, row_number: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table beside a row of the history."""
        data = [list(row) for row in rows]
        self._queue.put(lambda: self._send_table(row_number, name, columns, data))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set summary values."""
        values = {key: finite_or_none(value) for key, value in values.items()}
        self._queue.put(lambda: self._send_summary(values))

    def artifact(self, path: Path, aliases: Sequence[str], metadata: Mapping[str, Any]) -> None:
        """Send a file as the run's model."""
        self._queue.put(lambda: self._send_artifact(path, list(aliases), dict(metadata)))

    def close(self, exit_code: int) -> None:
        """Finish the run once everything queued is sent."""
        self._queue.put(lambda: self._run.finish(exit_code=exit_code))
        self._queue.put(None)

    def wait(self) -> None:
        """Wait for the end of a closed run, for a bounded time."""
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
            reason = f"{type(error).__name__}: {first_line(error)}"
            if is_death(error):
                self._broken = True
                self._warn(f"its client died ({reason})", "")
                bury_client()
            else:
                self._broken = self._run is None
                self._warn(reason)

    def _warn(self, reason: str, mend: str | None = None) -> None:
        """Say once that the service lacks something, and what sends it."""
        if not self._warned:
            self._warned = True
            if mend is None and self.where:
                mend = f"wandb sync --include-online {self.where}"
            later = f"; later: {mend}" if mend else ""
            log.warning("W&B: %s. The run goes on, its folder has everything%s", reason, later)

    def _start(self) -> None:
        mode = choose_mode(self.settings.mode)
        if mode == "disabled":
            self._broken = True
            return
        if mode == "online":
            self._start_online()
        else:
            self._start_offline(self.settings.id)
            look = self.settings.folder / "wandb"
            log.info("W&B: offline. Look: wandb leet %s   Send: wandb sync %s", look, self.where)
        self._define_metrics()
        for number, row in enumerate(self._past):
            self._send(number, row)

    def _start_online(self) -> None:
        """Start with the service, or without it if it is not there."""
        import wandb

        url, run_id = wandb.setup().settings.base_url, self.settings.id
        if not reachable(url):
            self._start_offline(run_id)
            self._warn(f"no answer from {url}; going on offline", f"wandb sync {self.where}")
            return
        try:
            self._run = self._init("online", run_id)
        except wandb.errors.CommError as error:
            self._start_offline(f"{run_id}-offline")  # the client holds the first id to be in use
            self._warn(f"{first_line(error)}; going on offline", f"wandb sync --id {run_id} {self.where}")
            return
        self.where = str(self._run.settings.sync_dir)
        self._first = self._run.starting_step
        log.info("W&B: %s", self._run.url)

    def _start_offline(self, run_id: str) -> None:
        self._run = self._init("offline", run_id)
        self.where = str(self._run.settings.sync_dir)

    def _init(self, mode: str, run_id: str) -> Any:
        import wandb

        s = self.settings
        run = wandb.init(
            project=s.project,
            entity=s.entity,
            name=s.name,
            group=s.group,
            job_type=s.job_type,
            tags=list(s.tags),
            notes=s.notes,
            id=run_id,
            config=dict(s.config),
            dir=s.folder,
            mode=mode,  # type: ignore[arg-type]
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                init_timeout=INIT_TIMEOUT,
                finish_timeout=FINISH_TIMEOUT,
                finish_timeout_raises=True,
                console="off",
                silent=True,
                **(LIGHT if s.light else {}),
            ),
        )
        if hidden := hidden_settings(s.config, run.config.as_dict()):
            run.config.update(hidden)
        return run

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
            images = {f"images/{name}": wandb.Image(Image.open(io.BytesIO(png))) for name, png in contents.items()}
            self._run.log(images, step=number)

    def _send_table(self, number: int, name: str, columns: Sequence[str], rows: list[list[Any]]) -> None:
        import wandb

        if number >= self._first:
            self._run.log({name: wandb.Table(columns=list(columns), data=rows)}, step=number)

    def _send_summary(self, values: Mapping[str, Any]) -> None:
        self._run.log({}, commit=True)  # the client holds the last row back, and would put it over these values
        self._run.summary.update(values)

    def _send_artifact(self, path: Path, aliases: list[str], metadata: dict[str, Any]) -> None:
        import wandb

        if not self._run.offline and not reachable(self._run.settings.base_url):
            raise TimeoutError("no answer from the service")  # log_artifact would find that out in 19 s
        artifact = wandb.Artifact(f"model-{self.settings.id}", type="model", metadata=metadata)
        artifact.add_file(str(path))
        self._run.log_artifact(artifact, aliases=aliases)


def contents_of(paths: Mapping[str, Path], drawing: Sequence[Future[None]] = ()) -> dict[str, bytes]:
    """The files, once they are drawn."""
    for picture in drawing:
        picture.result()
    return {name: path.read_bytes() for name, path in paths.items()}


def hidden_settings(sent: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """By dotted key, the settings of groups in whose place W&B keeps a sweep's parameter, such as ``data: mnist``."""
    groups = {name: group for name, group in sent.items() if isinstance(group, Mapping)}
    return {
        f"{name}.{key}": value
        for name, group in groups.items()
        if not isinstance(there.get(name), Mapping)
        for key, value in group.items()
        if f"{name}.{key}" not in there
    }
