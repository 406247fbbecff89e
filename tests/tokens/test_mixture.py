"""Mixtures: shares of tokens, and small sources held back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.settings.mixing import parse_weights
from lifelong.tokens.mixture import open_mixture, plan_mixture

_SOURCES = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.integers(1, 10**9), st.floats(1e-3, 1e3)), min_size=1, max_size=6
)


@given(_SOURCES, st.integers(1, 10**10), st.floats(0.5, 10))
def test_shares_are_whole_and_no_source_is_repeated_too_often(
    sources: dict[str, tuple[int, float]], planned: int, most: float
) -> None:
    sizes = {name: size for name, (size, _) in sources.items()}
    weights = {name: weight for name, (_, weight) in sources.items()}
    mixture = plan_mixture(sizes, weights, planned, max_epochs=most)
    assert sum(mixture.shares.values()) == pytest.approx(1)
    epochs = [part.epochs for part in mixture.parts]
    if len(sources) > 1 and planned <= most * sum(sizes.values()):
        assert max(epochs) <= most * (1 + 1e-9)
    elif len(sources) > 1:
        assert max(epochs) == pytest.approx(min(epochs))
    # Those that are not held back keep their proportions.
    free = [part for part in mixture.parts if part.epochs < most * (1 - 1e-9)]
    if len(free) > 1 and max(epochs) <= most * (1 + 1e-9):
        ratios = [part.share / part.asked for part in free]
        assert max(ratios) == pytest.approx(min(ratios))


def test_a_small_source_is_held_at_four_epochs_and_the_others_take_the_rest() -> None:
    mixture = plan_mixture({"big": 1000, "other": 1000, "small": 10}, {"big": 2, "other": 1, "small": 1}, 1000)
    assert [part.drawn for part in mixture.parts] == [640, 320, 40]
    assert mixture.parts[2].epochs == 4
    assert mixture.warnings == [
        "'small' is small: 25.0 epochs were asked for, it gets 4, and the other sources the rest"
    ]
    lines = "\n".join(mixture.lines())
    assert "└─ small" in lines
    assert "4.00 epochs  (asked for 25.0%)" in lines


def test_more_than_all_sources_hold() -> None:
    mixture = plan_mixture({"a": 10, "b": 30}, {"a": 1, "b": 1}, 400)
    assert mixture.shares == {"a": 0.25, "b": 0.75}
    assert "repeated 10.0 times" in mixture.warnings[0]
    alone = plan_mixture({"a": 10}, {"a": 1}, 400)
    assert alone.warnings == []
    assert alone.parts[0].epochs == 40


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(LifelongError, match="there is no cache 'wikitxt'. Did you mean 'wikitext'"):
        plan_mixture({"wikitext": 3}, {"wikitxt": 1}, 10)
    with pytest.raises(LifelongError, match="not a positive number"):
        plan_mixture({"a": 3}, {"a": -1}, 10)
    with pytest.raises(LifelongError, match="no source"):
        plan_mixture({"a": 3}, {}, 10)
    with pytest.raises(LifelongError, match="there are no pretrain caches"):
        open_mixture(tmp_path / "nothing")
    for wrong in ("a", "a=x", "=1", "a=0", "a=inf"):
        with pytest.raises(LifelongError, match="is not NAME=WEIGHT"):
            parse_weights([wrong])
    with pytest.raises(LifelongError, match="twice"):
        parse_weights(["a=1", "a=2"])
