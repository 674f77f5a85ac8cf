"""Downloads into a folder of their own, and only what arrived whole is moved into place."""

import os
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from gsvae.errors import UserError

__all__ = ["download"]


def download(root: str, folder: Path, names: Sequence[str], fetch: Callable[[Path], Path]) -> None:
    """Put the files ``names`` into ``folder``; several processes may do so at once.

    Args:
        root: the setting ``data.root``, for the message; the temporary folder is made in it.
        folder: where the files belong, below ``root``.
        names: the files.
        fetch: downloads them somewhere below the folder it is given, and returns where.

    Raises:
        UserError: the files cannot be downloaded or written.
    """
    try:
        Path(root).mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=root, prefix=".download-") as temporary:
            fetched = fetch(Path(temporary))
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                os.replace(fetched / name, folder / name)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1]
        raise UserError(
            f"data.root={root}: {', '.join(names)} not in {folder}, and not to be downloaded ({reason}); "
            "set data.root to where the files are, or use data=digits"
        ) from error
