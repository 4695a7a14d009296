"""Labels of group choices that tell the truth: an option's name, with what differs from its shipped file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

_ABSENT = object()


@cache
def config_folder() -> Path:
    """The ``conf`` folder: inside the package in a wheel, beside it in a checkout or editable install."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def label_of(group: str, node: Any, *, exclude: Sequence[str] = ()) -> str:
    """``name``, or ``name[key=value,...]`` where settings differ from the shipped option of that name.

    Parameters
    ----------
    group : str
        Config group; its options are ``conf/<group>/<name>.yaml``.
    node : dataclass instance or mapping
        The parsed node, with a ``name``. A name that no shipped option has is the label as it is.
    exclude : sequence of str
        Keys that are recorded elsewhere and do not show.
    """
    kind: type | None = None if isinstance(node, Mapping) else type(node)
    values = dict(node) if kind is None else vars(node)
    # The values are few (the distinct settings of a group), the calls many (one a configuration).
    shown = {key: value for key, value in values.items() if key not in exclude}
    return _label(group, kind, json.dumps(shown, sort_keys=True, default=vars))


@lru_cache(maxsize=4096)
def _label(group: str, kind: type | None, values: str) -> str:
    settings = json.loads(values)
    name = str(settings["name"])
    shipped = _shipped(group, kind, name)
    if shipped is None:
        return name
    changes = [
        change
        for key in dict.fromkeys([*shipped, *settings])
        if key != "name" and (key in settings or kind is None)
        for change in _changes(key, shipped.get(key, _ABSENT), settings.get(key, _ABSENT))
    ]
    return f"{name}[{','.join(changes)}]" if changes else name


@cache
def _shipped(group: str, kind: type | None, name: str) -> dict[str, Any] | None:
    """The settings of a shipped option; None if there is none, or its file alone does not say."""
    option: Any = _option(group, name)
    if option is None:
        return None
    if kind is not None:
        option = OmegaConf.merge(OmegaConf.structured(kind), option)
    settings = OmegaConf.to_container(option, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def _option(group: str, name: str) -> DictConfig | None:
    """An option's file over those options of its group that its defaults list inherits from."""
    path = config_folder() / group / f"{name}.yaml"
    if Path(name).name != name or not path.is_file():
        return None
    option = OmegaConf.load(path)
    if not isinstance(option, DictConfig):
        return None
    merged = []
    for entry in option.pop("defaults", None) or ["_self_"]:
        inherited = option if entry == "_self_" else _option(group, entry) if isinstance(entry, str) else None
        if inherited is None:
            return None
        merged.append(inherited)
    return cast(DictConfig, OmegaConf.merge(*merged))


def _changes(key: str, shipped: Any, value: Any) -> list[str]:
    if isinstance(shipped, Mapping) and isinstance(value, Mapping):
        return [
            change
            for inner in dict.fromkeys([*shipped, *value])
            for change in _changes(f"{key}.{inner}", shipped.get(inner, _ABSENT), value.get(inner, _ABSENT))
        ]
    if value is _ABSENT:
        return [f"~{key}"]
    same = value == shipped and isinstance(value, bool) == isinstance(shipped, bool)
    return [] if same else [f"{key}={text_of(value)}"]


def text_of(value: Any) -> str:
    """A setting's value in a label: lists joined by ``+``, all but texts as JSON."""
    if isinstance(value, list):
        return "+".join(map(text_of, value)) or "none"
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True)
