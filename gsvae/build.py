"""The only caller of Hydra's instantiate: targets lie in gsvae, torch, torchvision or what the user allows."""

import importlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from gsvae.errors import UserError

__all__ = ["ALLOWED", "build", "check_targets"]

ALLOWED = ("gsvae", "torch", "torchvision")


def build(
    node: DictConfig, *, allow: Sequence[str] = (), key: str = "", partial: bool = False, **kwargs: Any
) -> Any:
    """Build the object that ``node._target_`` names from the node's other keys and ``kwargs``.

    Args:
        node: a config node with ``_target_``.
        allow: module prefixes the user trusts besides :data:`ALLOWED` (the setting ``allow_targets``).
        key: where the node stands in the config, for messages.
        partial: return the target with the settings bound, to be called later.

    Raises:
        UserError: a target outside the allowed modules, one that cannot be imported, or keys it does not take.
    """
    check_targets(node, allow, key)
    settings = OmegaConf.to_container(node, resolve=True)
    assert isinstance(settings, dict)
    name = str(settings["_target_"])
    bound = {str(k): v for k, v in settings.items() if k != "_target_"} | kwargs
    _check_call(_locate(name, key), bound, key, name, partial)
    # As a partial, so that Hydra never copies what is passed at the call.
    make = instantiate({**settings, "_partial_": True})
    return make if partial else make(**kwargs)


def check_targets(node: Any, allow: Sequence[str], key: str = "") -> None:
    """Refuse every ``_target_`` below ``node`` that lies outside the allowed modules."""
    allowed = (*ALLOWED, *allow)
    for where, target in _targets(node, key):
        if not any(target == prefix or target.startswith(prefix + ".") for prefix in allowed):
            raise UserError(
                f"{where}={target}: targets may lie in {', '.join(allowed)}; "
                f"to trust another module add allow_targets=[{target.split('.')[0]}]"
            )


def _targets(node: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, DictConfig) and not node._is_none():
        for name in node:
            if OmegaConf.is_missing(node, name):
                continue
            where = f"{key}.{name}" if key else str(name)
            if name == "_target_":
                yield where, str(node[name])
            else:
                yield from _targets(node[name], where)
    elif isinstance(node, ListConfig) and not node._is_none():
        for index, item in enumerate(node):
            yield from _targets(item, f"{key}[{index}]")


def _locate(target: str, key: str) -> Any:
    """Import ``a.b.C``; an import error inside the user's module keeps its own traceback."""
    module_name, _, name = target.rpartition(".")
    try:
        found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise UserError(f"{key}._target_={target}: there is no module {error.name}") from error
    except ValueError as error:
        raise UserError(f"{key}._target_={target}: expected module.Name") from error
    if not hasattr(found, name):
        raise UserError(f"{key}._target_={target}: module {module_name} has no {name}")
    return getattr(found, name)


def _check_call(target: Any, kwargs: dict[str, Any], key: str, name: str, partial: bool) -> None:
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # builtins without a signature
        return
    known = {k: v for k, v in kwargs.items() if k not in ("_convert_", "_recursive_")}
    try:
        signature.bind_partial(**known) if partial else signature.bind(**known)
    except TypeError as error:
        raise UserError(f"{key}: {name}: {error}; it takes {signature}") from error
