"""What differs between two configurations, and when it takes effect."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headrace.config.keys import KEYS, Key, Path, settings_of, value_of
from headrace.config.settings import Change, Settings


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload did. ``changed``: keys whose new value is in force (for new runs, where the reference says so);
    ``needs_restart``: keys whose old value stays in force until the node is started anew; ``in_force``: the settings
    that the node goes by now."""

    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    in_force: Settings = Settings()


def compare(old: Settings, new: Settings) -> Reloaded:
    """What a node that goes by ``old`` can take over from ``new``."""
    changed: list[str] = []
    waiting: list[str] = []
    values: Mapping[Path, object] = {path: value_of(new, path) for path in KEYS}
    merged = dict(values)
    for path, key in KEYS.items():
        before = value_of(old, path)
        if values[path] == before:
            continue
        if key.change is Change.RESTART or _is_switched(key, old, new):
            waiting.append(key.name)
            merged[path] = before
        else:
            changed.append(key.name)
    return Reloaded(changed=tuple(changed), needs_restart=tuple(waiting), in_force=settings_of(merged))


def _is_switched(key: Key, old: Settings, new: Settings) -> bool:
    """Whether what the key belongs to is turned on or off by the change."""
    if "switch" not in key.extra:
        return False
    switch = (*key.path[:-1], key.extra["switch"])
    return (value_of(old, switch) is None) != (value_of(new, switch) is None)
