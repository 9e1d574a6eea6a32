"""Names in a filter of ``runs list`` that no run has: a misspelt one finds nothing, and would say nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headrace.core.suggest import closest, did_you_mean
from headrace.core.where import COLUMNS, Field, fields_of, parse_where

if TYPE_CHECKING:
    from headrace.assembly import Headrace

LOOKED_AT_MAX = 500
"""Newest runs whose names are what may have been meant."""


async def unknown_names(headrace: Headrace, where: str) -> list[str]:
    """A sentence for each attribute and tag of a filter that no run of the store has, with what was probably meant.

    For filters that found nothing: it asks the store once for every name, and for its newest runs if one is unknown.
    """
    named = dict.fromkeys(field for field in fields_of(parse_where(where, time.time())) if field.source != "column")
    unknown = [field for field in named if not await headrace.runs(where=f"{_written(field)} is not null", limit=1)]
    if not unknown:
        return []
    rows = await headrace.runs(limit=LOOKED_AT_MAX)
    attributes = sorted({name for row in rows for name in row.attributes})
    tags = sorted({name for row in rows for name in row.tags})
    return [
        f"no run of the store has {'a tag' if field.source == 'tag' else 'an attribute'} {field.name!r}; "
        + (_meant_tag(field.name, tags) if field.source == "tag" else _meant(field.name, attributes, tags))
        for field in unknown
        if field.source == "tag" or field.name not in attributes  # an empty list is there, and has nothing to find
    ]


def _written(field: Field) -> str:
    return f"{'tag' if field.source == 'tag' else 'attr'}.`{field.name}`"


def _meant_tag(name: str, tags: list[str]) -> str:
    near = closest(name, tags)
    return f"did you mean 'tag.{near}'?" if near is not None else did_you_mean(name, tags, what="tags")


def _meant(name: str, attributes: list[str], tags: list[str]) -> str:
    """What somebody wrote as an attribute may be a column, or a tag without ``tag.``."""
    if name in tags:
        return f"did you mean 'tag.{name}'?"
    near = closest(name, [*attributes, *COLUMNS])
    return f"did you mean {near!r}?" if near is not None else did_you_mean(name, attributes, what="attributes")
