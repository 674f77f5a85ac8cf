"""The only caller of Hydra's instantiate: targets lie in gsvae, torch, torchvision or what the user allows."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from gsvae.errors import UserError, near_miss

__all__ = ["ALLOWED", "build", "check_targets"]

ALLOWED = ("gsvae", "torch", "torchvision")


def build(node: DictConfig, *, allow: Sequence[str] = (), key: str = "", partial: bool = False, **kwargs: Any) -> Any:
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
    given = {str(k): v for k, v in settings.items() if k not in ("_target_", "_convert_", "_recursive_")}
    _check_call(_locate(name, key), name, key, given, kwargs, partial)
    # As a partial, so that Hydra never copies what is passed at the call.
    make = instantiate({**settings, "_partial_": True})
    return make if partial else make(**kwargs)


def check_targets(node: Any, allow: Sequence[str], key: str = "") -> None:
    """Refuse every ``_target_`` below ``node`` that lies outside the allowed modules."""
    allowed = (*ALLOWED, *allow)
    for where, target in _targets(node, key):
        if "." not in target:
            raise UserError(f"{where}={target}: expected module.Name, with a module in {', '.join(allowed)}")
        if not any(target == prefix or target.startswith(prefix + ".") for prefix in allowed):
            raise UserError(
                f"{where}={target}: targets may lie in {', '.join(allowed)}; "
                f"to trust another module add allow_targets=[{target.split('.')[0]}]"
            )


def _targets(node: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, DictConfig) and not node._is_none():
        for name in map(str, node):
            if OmegaConf.is_missing(node, name):
                continue
            where = f"{key}.{name}" if key else name
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
        raise UserError(
            f"{key}._target_={target}: there is no module {error.name} in this folder or on PYTHONPATH"
        ) from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}._target_={target}: expected module.Name") from error
    if not callable(getattr(found, name, None)):
        known = [word for word, value in vars(found).items() if callable(value)]
        raise UserError(f"{key}._target_={target}: module {module_name} has no {name}{near_miss(name, known)}")
    return getattr(found, name)


def _check_call(
    target: Callable[..., Any],
    name: str,
    key: str,
    given: Mapping[str, Any],
    passed: Mapping[str, Any],
    partial: bool,
) -> None:
    """Refuse settings that ``target`` does not take, and name those that it needs."""
    try:
        taken = _parameters(target)
        own = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # builtins without a signature
        return
    settings = [word for word in taken if word not in passed] if taken is not None else []
    for word, value in given.items():
        if taken is not None and word not in taken:
            there = f"it takes {', '.join(settings)}" if settings else "it takes no settings"
            hint = near_miss(word, settings, f"{key}.")
            raise UserError(f"{key}.{word}={value}: {name} does not take {word}; {there}{hint}")
    for word in passed:
        if taken is not None and word not in taken:
            raise UserError(f"{key}._target_={name}: must take {word}, which is passed to every {key}")
    needed = [p.name for p in own if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    unset = [word for word in needed if word not in given and word not in passed]
    if unset and not partial:
        raise UserError(f"{key}.{unset[0]} is not set, and {name} needs it; give it a value: +{key}.{unset[0]}=...")


def _parameters(target: Callable[..., Any]) -> list[str] | None:
    """The names ``target`` takes, through ``**kwargs`` to its base classes; None if it takes any."""
    named: list[str] = []
    for function in _constructors(target):
        parameters = list(inspect.signature(function).parameters.values())
        named += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return [word for word in dict.fromkeys(named) if word != "self"]
    return None


def _constructors(target: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """What gets the keywords: a function itself, or the ``__init__`` of a class and of its bases, nearest first."""
    if not inspect.isclass(target):
        yield target
        return
    for cls in target.__mro__:
        if cls in (nn.Module, object):  # nn.Module has **kwargs and refuses them all
            yield lambda: None
            return
        if "__init__" in vars(cls):
            yield vars(cls)["__init__"]
