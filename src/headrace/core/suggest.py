"""Suggestions for misspelt names, so that every "unknown ..." can say what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

CANDIDATES_MAX = 500
"""Names compared with a misspelt one: comparing is slow, and a graph may have a hundred thousand names."""

LISTED_MAX = 10
"""Names shown when everything that exists is listed."""


def closest(word: str, names: Iterable[object]) -> str | None:
    """The name most like ``word``, or None if nothing is near. Letter case alone always counts as near."""
    return _closest(word, tuple(str(name) for name in islice(names, CANDIDATES_MAX)))


@lru_cache(maxsize=256)  # a generated definition makes the same mistake in every task
def _closest(word: str, candidates: tuple[str, ...]) -> str | None:
    folded = word.casefold()
    for name in candidates:
        if name.casefold() == folded:
            return name
    near = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return near[0] if near else None


def did_you_mean(word: str, names: Iterable[object], *, what: str = "") -> str:
    """A sentence for the reader: the nearest name if there is one, else what exists.

    ``what`` is the plural of the things named ("tasks"). Empty when there is nothing to say.
    """
    known = list(islice(names, CANDIDATES_MAX))
    near = closest(word, known)
    if near is not None:
        return f"did you mean {near!r}?"
    if not known:
        return f"there are no {what}" if what else ""
    return f"{what or 'there are'}: {listed(known)}"


def listed(names: Iterable[object]) -> str:
    """The first names, comma-separated, with an ellipsis when there are more."""
    shown = [str(name) for name in islice(names, LISTED_MAX + 1)]
    return ", ".join(shown[:LISTED_MAX]) + (", ..." if len(shown) > LISTED_MAX else "")
