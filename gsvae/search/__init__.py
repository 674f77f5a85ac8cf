"""Hyper-parameter search on Optuna, by asking and telling; knows nothing of how trials are run."""

try:
    import optuna  # noqa: F401 - is it there?
except ModuleNotFoundError:
    from gsvae.errors import UserError

    raise UserError("hydra/sweeper=optuna: needs Optuna: pip install -e '.[search]'") from None

from gsvae.search.pruning import PruningHandle
from gsvae.search.settings import SearchSettings, read_settings
from gsvae.search.space import Space, read_space
from gsvae.search.study import Best, Study, Suggestion

__all__ = [
    "Best",
    "PruningHandle",
    "SearchSettings",
    "Space",
    "Study",
    "Suggestion",
    "read_settings",
    "read_space",
]
