"""The golden stories in ``stories/``; see ``story.py`` for their language."""

from __future__ import annotations

from pathlib import Path

import pytest

from story import Story  # isort: skip

STORIES = sorted((Path(__file__).parent / "stories").glob("*.story"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path, update_stories: bool) -> None:
    story = Story(path)
    told = story.told()
    if update_stories:
        path.write_text(told)
    assert told == story.text or update_stories, (
        "the core tells it otherwise; if that is right: pytest --update-stories"
    )


def test_there_are_stories() -> None:
    assert len(STORIES) > 30
