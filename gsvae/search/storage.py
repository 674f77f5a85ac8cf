"""Where a study is kept: a journal file in the sweep's folder, or a database."""

import fcntl
import logging
import warnings
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.storages.journal._file import BaseJournalFileLock

from gsvae.errors import UserError

__all__ = ["open_storage"]

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
log = logging.getLogger(__name__)


class DyingLock(BaseJournalFileLock):
    """Lets others in when its holder is killed; Optuna's own would keep them waiting for half a minute."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self) -> bool:
        self._file = open(self._path, "w")  # noqa: SIM115 - open as long as the lock is held
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        self._file.close()


def open_storage(storage: str | None, folder: Path) -> Any:
    """Open the study's storage.

    Args:
        storage: None for ``optuna.journal`` in ``folder``, or a URL in which OmegaConf's resolvers are not yet applied.

    Raises:
        UserError: the database does not answer; its URL may hold a password and is not told.
    """
    if storage is None:
        (folder / ".sweep").mkdir(parents=True, exist_ok=True)
        path, lock = folder / "optuna.journal", folder / ".sweep" / "optuna.journal.lock"
        return JournalStorage(JournalFileBackend(str(path), lock_obj=DyingLock(lock)))
    url = str(OmegaConf.create({"url": storage}).url)
    try:
        return optuna.storages.RDBStorage(url)
    except Exception as error:
        raise UserError(f"hydra.sweeper.storage: the database cannot be opened ({type(error).__name__})") from None
