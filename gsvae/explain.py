"""Hydra's and OmegaConf's messages about a command line, in one line that names key, value and what is allowed."""

import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin

import hydra
import omegaconf
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gsvae.config import CONF, SCHEMAS, Config, Sweep, options
from gsvae.errors import near_miss
from gsvae.overrides import key_of

__all__ = ["explain", "is_mistake"]

KINDS = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
LISTS = {int: "integers, such as [64,32]", float: "numbers, such as [0.9,0.99]", str: "texts, such as [a,b]"}
NAMES = {"Integer": int, "Float": float, "Boolean": bool, "String": str}


def is_mistake(error: Exception, task: Callable[..., Any] | None = None) -> bool:
    """Whether Hydra refused the command line; anything raised inside the task is a fault of ours."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    if task is not None and task.__code__ in codes:
        return False
    raised_in = Path(codes[-1].co_filename)
    theirs = any(raised_in.is_relative_to(Path(str(module.__file__)).parent) for module in (hydra, omegaconf))
    return isinstance(error, HydraException | OmegaConfBaseException) or (isinstance(error, ValueError) and theirs)


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """Say in one line which argument a composition error is about, and what is allowed."""
    cause = error.__cause__ or error
    text = f"{error}\n{cause}"
    first = str(error).splitlines()[0]
    if isinstance(error, OverrideParseException):
        return explain_unreadable(arguments)
    if match := re.search(r"Could not find '([\w/]+)/([^/']*)'", text):
        known = re.findall(r"^\t(\S+)$", text.split("Config search path")[0], re.M)
        return f"{match[1]}={match[2]}: allowed are {', '.join(known)}{near_miss(match[2], known)}"
    if match := re.search(r"Ambiguous value for argument '(.*)'|Sweep parameters '(.*)' requires", text):
        given = match[1] or match[2]
        return f"{given}: several values; a sweep needs -m, a list is written {key_of(given)}=[...]"
    if (odd := odd_choice(arguments)) is not None:
        group = odd.lstrip("+").partition("=")[0]
        return f"{odd}: allowed are {', '.join(options(group))}" if group else f"{odd}: expected key=value"
    if re.search(r"Key '\S+' (?:is not in struct|not in '\w+')", text):
        return explain_key(full_key(text), arguments)
    if match := re.search(r"Could not override '([^']+)'", text):
        return explain_key(match[1], arguments)
    if "does not support deletion" in text:
        return f"~{full_key(text)}: a setting cannot be removed; give it another value"
    if match := re.search(r"In '(.*)': \w+ raised while composing config:\n(.*)", text):
        return f"{match[1]}.yaml: {full_key(text)}: {match[2]}"
    if isinstance(cause, OmegaConfBaseException) and (key := full_key(text)):
        return explain_value(key, text, arguments)
    about = next((a for a in arguments if key_of(a) in first), " ".join(arguments))
    return first if first.startswith(about) else f"{about}: {first}"


def explain_unreadable(arguments: Sequence[str]) -> str:
    """The argument that is not ``key=value``, or whose value cannot be read."""
    parser = OverridesParser.create()
    for argument in arguments:
        if argument.startswith("-"):
            continue
        try:
            parser.parse_override(argument)
        except HydraException:
            if not re.match(r"[+~]{0,2}[\w./@:-]+=", argument):
                return f"{argument}: expected key=value or group=option"
            return f"{argument}: the value cannot be read; lists are written [1,2], other texts in 'quotes'"
    return f"{' '.join(arguments)}: expected key=value or group=option"


def odd_choice(arguments: Sequence[str]) -> str | None:
    """A group that was given something else than the name of one option; a mapping is several settings at once."""
    for argument in arguments:
        group, _, value = argument.lstrip("+").partition("=")
        if not group or (options(group) and re.match(r"\[|\d+$|null$|true$|false$", value)):
            return argument
    return None


def explain_value(key: str, text: str, arguments: Sequence[str]) -> str:
    """A value of the wrong type."""
    given = value_given(key, arguments)
    if below := next((a for a in arguments if key_of(a).startswith(key + ".")), None):
        return f"{below}: {key} holds {kind_of(key, text)}"
    if given is None:  # an item of a list, or a mapping above the key
        match = re.search(r"Value '(.*)' of type|Cannot convert '.*' to string: '(.*)'", text)
        given = (match[1] or match[2]) if match else "?"
    return f"{key}={given}: expected {kind_of(key, text)}"


def kind_of(key: str, text: str) -> str:
    """What a key takes, in words, from its schema's annotation."""
    holder = re.search(r"object_type=(\w+)", text)
    schemas = [Config, Sweep, *(schema for group in SCHEMAS.values() for schema in group.values())]
    types = {schema.__name__: {f.name: f.type for f in fields(schema)} for schema in schemas}
    annotation = types.get(holder[1] if holder else "", {}).get(key.rpartition(".")[2])
    if annotation is None:
        word = re.search(r"converted to (\w+)", text)
        annotation = NAMES.get(word[1] if word else "", str)
    return in_words(annotation)


def in_words(annotation: Any) -> str:
    """``int | None`` as "an integer or null"."""
    if get_origin(annotation) is list:
        return f"a list of {LISTS[get_args(annotation)[0]]}"
    kinds = [KINDS[t] for t in get_args(annotation) or (annotation,) if t in KINDS]
    return " or ".join(kinds + ["null"] * (type(None) in get_args(annotation)))


def value_given(key: str, arguments: Sequence[str]) -> str | None:
    """The value a key is given, by the last argument that does."""
    return next((a.partition("=")[2] for a in reversed(arguments) if key_of(a) == key), None)


def full_key(text: str) -> str:
    """The key that OmegaConf names in its message."""
    match = re.search(r"full_key: (\S+)", text)
    return match[1] if match else ""


# ---------------------------------------------------------------- unknown keys


def explain_key(key: str, arguments: Sequence[str]) -> str:
    """An unknown key: the settings that stand beside it, and the one that was probably meant."""
    value = value_given(key, arguments)
    shown = key if value is None else f"{key}={value}"
    cfg = compose_choices(arguments)
    parent, name = key.rpartition(".")[::2]
    while parent and not isinstance(OmegaConf.select(cfg, parent), DictConfig):
        parent, name = parent.rpartition(".")[::2]
    if not parent:
        known = [*Config.__dataclass_fields__, "experiment"]
        elsewhere = keys_called(name, cfg)
        meant = f"; did you mean {' or '.join(elsewhere)}?" if elsewhere else near_miss(name, known)
        return f"{shown}: is not a setting; there are {', '.join(known)}{meant}"
    known = [str(k) for k in OmegaConf.select(cfg, parent) if k != "_target_"]
    group = parent.replace(".", "/")
    option = OmegaConf.select(cfg, "hydra.runtime.choices").get(group)
    where = f"{group}={option}" if option else parent
    return f"{shown}: is not a setting; {where} has {', '.join(known) or 'none'}{near_miss(name, known, f'{parent}.')}"


def compose_choices(arguments: Sequence[str]) -> DictConfig:
    """The config with the options chosen on this command line, and without its other settings."""
    folders = [b for a, b in zip(arguments, [*arguments[1:], ""]) if a in ("--config-dir", "-cd")]
    search = [f"hydra.searchpath=[{','.join(f'file://{Path(f).resolve()}' for f in folders)}]"] if folders else []
    chosen = [a for a in arguments if is_choice(a, [CONF, *map(Path, folders)])]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*chosen, *search], return_hydra_config=True)


def is_choice(argument: str, folders: Sequence[Path]) -> bool:
    """Whether an argument is ``group=option`` with an option that is there."""
    group, _, option = argument.lstrip("+").partition("=")
    return bool(option) and any((folder / group / f"{option}.yaml").is_file() for folder in folders)


def keys_called(name: str, cfg: DictConfig, prefix: str = "") -> list[str]:
    """The full keys whose last part is ``name``: optim.lr for lr."""
    found = []
    for key, value in cfg.items_ex(resolve=False):
        if key == "hydra":
            continue
        if isinstance(value, DictConfig):
            found += keys_called(name, value, f"{prefix}{key!s}.")
        elif key == name:
            found.append(f"{prefix}{name}")
    return found
