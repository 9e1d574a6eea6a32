"""Who may come in."""

import pytest

from headrace.core.errors import HeadraceError
from headrace.server.tokens import Tokens

ONE, OTHER = "a" * 16, "b" * 40


@pytest.mark.parametrize("text", [f"{ONE},{OTHER}", f"{ONE}\n{OTHER}\n", f" {OTHER} , {ONE}"])
def test_tokens_are_separated_by_commas_or_white_space(text):
    tokens = Tokens(text)
    assert all(tokens.know(f"Bearer {one}") for one in (ONE, OTHER))
    assert tokens.know(f"bearer  {ONE} ")


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", f"Basic {ONE}", ONE, f"Bearer {ONE}x", f"Bearer {ONE},{OTHER}", "Bearer é"],
)
def test_nothing_else_comes_in(header):
    assert not Tokens(f"{ONE},{OTHER}").know(header)


@pytest.mark.parametrize("text", [None, "", " ,\n", "short", f"{ONE},short", "ä" * 20])
def test_what_cannot_be_a_token_is_refused_and_not_shown(text):
    with pytest.raises(HeadraceError) as told:
        Tokens(text)
    assert "server.worker_tokens" in str(told.value)
    assert "short" not in str(told.value)
    assert "ä" not in str(told.value)
