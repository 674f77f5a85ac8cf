"""The stand-in W&B service as an object, and a run's tracking without its training, driven line by line.

Started as a program, this file is that driven run: ``python wandb_server_fixture.py FOLDER '{"mode": "online"}'``
makes a Tracker on FOLDER and does what each line of its input says.
"""

import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SERVER = ROOT.parent / "shared" / "tools" / "wandb_server.py"
KEY = "5ec7e7" * 7  # 42 characters, as no file may hold them
PATIENCE = 60  # seconds after which a child process counts as hanging


def wait_until(happened: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Poll until ``happened()`` is true and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := happened():
            return result
        time.sleep(0.02)
    raise TimeoutError(f"{happened} within {seconds} s")


class Service:
    """The stand-in, on a folder and a port that stay the same over its restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            SERVER,
            "--dir",
            self.folder,
            "--port",
            str(self.port),
            "--max-seconds",
            "300",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[1]
        self.port = int(self.url.rpartition(":")[2])

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def kill(self) -> None:
        """As a power cut does."""
        self.process.kill()
        self.process.wait()

    def fault(self, match: str, count: int, status: int = 500, delay: float = 0) -> None:
        """Answer the next ``count`` requests that match with an error, ``delay`` seconds late."""
        body = json.dumps({"match": match, "status": status, "count": count, "delay": delay}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/_stub/fault", body), timeout=5).close()

    def rows(self, run: str) -> list[dict[str, Any]]:
        """The history as received, one entry per line, repetitions and all."""
        found = list(self.folder.glob(f"*/*/runs/{run}/history.jsonl"))
        return [json.loads(line) for path in found for line in path.read_text().splitlines()]

    def record(self, run: str) -> dict[str, Any]:
        """What ``run.json`` says of a run."""
        (path,) = self.folder.glob(f"*/*/runs/{run}/run.json")
        return json.loads(path.read_text())

    def images(self, run: str) -> list[str]:
        """Names of the uploaded images, without step and hash."""
        found = self.folder.glob(f"*/*/runs/{run}/files/media/images/images/*.png")
        return sorted({path.name.rsplit("_", 2)[0] for path in found})


def environment(url: str | None, home: Path, **more: str) -> dict[str, str]:
    """A clean environment of a user who is logged in at ``url``, or nowhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "HYDRA_FULL_ERROR"}
    login = {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY} if url else {}
    quick = {
        "WANDB__FILE_STREAM_RETRY_WAIT_MIN_SECONDS": "0.5",
        "WANDB__FILE_STREAM_RETRY_WAIT_MAX_SECONDS": "1",
        "WANDB_ERROR_REPORTING": "false",
        "HOME": str(home),
    }
    return {**kept, **quick, **login, **more}


def sync(path: Path | str, env: Mapping[str, str], *options: str) -> str:
    """``wandb sync``, which must go well."""
    command = [Path(sys.executable).parent / "wandb", "sync", *options, path]
    done = subprocess.run(
        command, env=env, cwd=env["HOME"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Driven:
    """A run's tracking in a process of its own; each method waits until the process has done it."""

    def __init__(self, folder: Path, env: Mapping[str, str], **settings: Any) -> None:
        settings = {"id": secrets.token_hex(4), **settings}
        self.folder, self.id = folder, settings["id"]
        self.log_path = folder.with_suffix(".log")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, folder, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=env,
                cwd=ROOT,
            )

    def __call__(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> int:
        """End its input, wait for it and return its exit code."""
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode

    def log(self) -> list[str]:
        return self.log_path.read_text().splitlines()

    def core(self) -> int:
        """The process id of its wandb-core."""
        out = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)], capture_output=True, text=True
        )
        return next(int(line.split()[0]) for line in out.stdout.splitlines() if "wandb-core" in line)


# ---------------------------------------------------------------- the driven run


def drive(folder: Path, settings: dict[str, Any], lines: Sequence[str]) -> None:
    """Do what the lines say."""
    from PIL import Image

    from gsvae.tracking import RunFolder, Tracker, WandbSettings, wandb_sink

    wandb_sink.INIT_TIMEOUT = settings.pop("init_timeout", wandb_sink.INIT_TIMEOUT)
    wandb_sink.FINISH_TIMEOUT = settings.pop("finish_timeout", wandb_sink.FINISH_TIMEOUT)
    keep_rows = settings.pop("keep_rows", 0)
    nothing = dict.fromkeys(("entity", "group", "job_type", "notes"))
    given = {
        "mode": "auto",
        "project": "gsvae",
        "name": "driven",
        "tags": [],
        **nothing,
        **settings,
    }
    tracker = Tracker(RunFolder(folder, {}), WandbSettings(folder=folder, **given))
    tracker.start(keep_rows)
    for line in lines:
        command, _, argument = line.strip().partition(" ")
        begun = time.perf_counter()
        if command == "rows":
            for row in range(tracker.folder.rows, tracker.folder.rows + int(argument)):
                tracker.log(
                    {
                        "step": 10 * row,
                        "epoch": row / 10,
                        "train/loss": 100.0 - row,
                        "val/neg_elbo": 50.0 + row,
                    }
                )
        elif command == "images":
            tracker.images({"samples": lambda path: save(path, Image.new("L", (8, 8), 100))})
        elif command == "summary":
            tracker.summary({"step": 1, "val/neg_elbo": 50.0, "test/neg_elbo": 60.0})
        elif command == "artifact":
            tracker.artifact(folder / "history.jsonl", ["best", "epoch-1"], {})
        elif command == "where":
            wait_until(lambda: tracker.wandb_where)
        elif command == "close":
            tracker.close("finished")
            tracker.wait()
        print(f"{time.perf_counter() - begun:.3f} {tracker.wandb_where}", flush=True)


def save(path: Path, image: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    image.save(path)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    drive(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.stdin)  # type: ignore[arg-type]
