"""Which tokens are hidden, and by what: shares, determinism, and what is never touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lifelong.errors import LifelongError
from lifelong.text.document import Document
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.building import build_cache
from lifelong.tokens.loader import Loader, WindowSource
from lifelong.tokens.masking import Masking, find_mask
from lifelong.tokens.pieces import piece_bytes
from lifelong.tokens.sentencepiece import SentencePieceTokenizer
from lifelong.tokens.tokenizer import BPETokenizer

TEXT = Path(np.__file__).with_name("exceptions.py").read_text(encoding="utf-8") + "Ä ö ß — 漢字 🙂 " * 20
WORDS = np.arange(5, 100, dtype=np.int64)
MASK = 100
ROWS = arrays.arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 70)), elements=st.integers(0, 100))


@given(ROWS, st.integers(0, 2**40), st.integers(0, 2**31))
def test_f19_of_every_row_15_percent_of_the_text_is_chosen_and_nothing_else_changes(
    ids: np.ndarray, first: int, seed: int
) -> None:
    numbers = np.arange(first, first + len(ids))
    read, labels = Masking(MASK, WORDS, seed).hide(ids, numbers)
    text, chosen = np.isin(ids, WORDS), labels != -100
    assert not (chosen & ~text).any()
    assert (labels[chosen] == ids[chosen]).all() and (read[~chosen] == ids[~chosen]).all()
    assert np.isin(read[chosen], [*WORDS, MASK]).all()
    for able, count in zip(text.sum(1).tolist(), chosen.sum(1).tolist(), strict=True):
        assert count == (max(1, int(0.15 * able + 0.5)) if able else 0)


@given(ROWS, st.integers(0, 2**40))
def test_a_row_hides_the_same_whatever_rows_stand_beside_it(ids: np.ndarray, first: int) -> None:
    masking = Masking(MASK, WORDS, 3)
    numbers = np.arange(first, first + len(ids))
    together = masking.hide(ids, numbers)
    alone = [masking.hide(ids[row : row + 1], numbers[row : row + 1]) for row in range(len(ids))]
    for part in (0, 1):
        np.testing.assert_array_equal(together[part], np.concatenate([pair[part] for pair in alone]))


def test_f19_of_the_chosen_80_percent_are_hidden_10_replaced_and_10_kept() -> None:
    rows, width = 2000, 200
    ids = np.random.default_rng(0).choice(WORDS, (rows, width))
    read, labels = Masking(MASK, WORDS, 0).hide(ids, np.arange(rows))
    chosen = labels != -100
    assert chosen.sum() == rows * 30
    # 60,000 draws: four standard errors are 0.0065 of 0.8 and 0.005 of 0.1. One replacement in 95 is the token itself.
    assert (read[chosen] == MASK).mean() == pytest.approx(0.8, abs=0.0065)
    assert (read[chosen] == ids[chosen]).mean() == pytest.approx(0.1 + 0.1 / 95, abs=0.005)
    others = read[chosen & (read != MASK) & (read != ids)]
    counts = np.bincount(others, minlength=100)[5:]
    expected = len(others) / len(WORDS)
    assert len(counts) == len(WORDS)
    assert ((counts - expected) ** 2 / expected).sum() < 94 + 5 * (2 * 94) ** 0.5  # chi-squared, five deviations
    # Every place of a row is as likely.
    places = chosen.sum(0)
    assert abs(places - 300).max() < 5 * (2000 * 0.15 * 0.85) ** 0.5
    again = Masking(MASK, WORDS, 1).hide(ids, np.arange(rows))[1] != -100
    assert (again & chosen).sum() == pytest.approx(rows * 30 * 0.15, rel=0.05)  # another seed, other tokens


def test_what_is_hidden_is_written_down_so_that_a_run_goes_on_under_a_later_version() -> None:
    ids = np.arange(5, 45, dtype=np.int64)[None]
    read, labels = Masking(MASK, WORDS, 7).hide(ids, np.array([123_456]))
    assert {int(p): int(read[0, p]) for p in np.flatnonzero(labels[0] != -100)} == {
        0: 65,
        1: 100,
        3: 8,
        5: 100,
        18: 100,
        29: 100,
    }


@pytest.fixture(scope="module", params=["bpe", "sentencepiece"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "bpe":
        return BPETokenizer(400).train([TEXT])
    return SentencePieceTokenizer(400).train([TEXT])


def test_the_mask_token_stands_behind_the_vocabulary_where_transformers_puts_it(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    mask, before = find_mask(tokenizer), tokenizer.fingerprint
    assert mask == tokenizer.vocab_size
    tokenizer.write_files(tmp_path, mask_id=mask)
    assert AutoTokenizer.from_pretrained(tmp_path).mask_token_id == mask
    assert tokenizer.fingerprint == before


def test_a_mask_token_that_a_tokenizer_has_is_used(tmp_path: Path) -> None:
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Library

    library = Library.from_str(BPETokenizer(400).train([TEXT]).data.decode())
    library.add_special_tokens([AddedToken("[MASK]", special=True, normalized=False)])
    tokenizer = Tokenizer()
    tokenizer.adopt(library.to_str().encode(), "here")
    assert find_mask(tokenizer) == tokenizer.vocab_size - 1
    assert tokenizer.vocab_size - 1 not in Masking.of(tokenizer, find_mask(tokenizer)).words
    tokenizer.write_files(tmp_path, mask_id=find_mask(tokenizer))
    assert '"mask_token": "[MASK]"' in (tmp_path / "tokenizer_config.json").read_text()


def test_a_vocabulary_with_holes_has_no_place_for_a_mask_token() -> None:
    import json

    raw = json.loads(BPETokenizer(400).train([TEXT]).data)
    vocabulary = raw["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.get)
    vocabulary[last] += 7
    tokenizer = Tokenizer()
    tokenizer.adopt(json.dumps(raw).encode(), "here")
    with pytest.raises(LifelongError, match="has holes"):
        find_mask(tokenizer)


def test_the_words_of_a_tokenizer_are_all_but_its_special_tokens(tokenizer: Tokenizer) -> None:
    words = set(Masking.of(tokenizer, find_mask(tokenizer)).words.tolist())
    assert words.isdisjoint(tokenizer.special_ids)
    assert set(tokenizer.encode(TEXT)) <= words


def test_the_bytes_of_a_texts_tokens_are_the_texts(tokenizer: Tokenizer) -> None:
    spelled = sum(piece_bytes(tokenizer, token) for token in tokenizer.encode(TEXT))
    # SentencePiece's models put a space before a text.
    assert spelled - len(TEXT.encode("utf-8")) in (0, 1)


def test_a_loader_hides_by_the_global_sample_index_under_any_number_of_processes(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    cache = build_cache([Document(TEXT, "here", "here")], tokenizer, tmp_path / "cache")
    masking = Masking.of(tokenizer, find_mask(tokenizer), seed=5)
    loader = Loader([(WindowSource(cache, 16), 1.0)], batch_size=4, seed=5, hide=masking.hide)
    plain = Loader([(WindowSource(cache, 16), 1.0)], batch_size=4, seed=5)
    for step in (0, 3, 1000):
        whole = loader.batch(step)
        parts = [loader.batch(step, rank=rank, world=2) for rank in range(2)]
        for name in ("input_ids", "labels"):
            joined = np.concatenate([getattr(part, name).numpy() for part in parts])
            np.testing.assert_array_equal(getattr(whole, name).numpy(), joined)
        chosen = (whole.labels != -100).numpy()
        original = plain.batch(step).input_ids.numpy()
        np.testing.assert_array_equal(whole.input_ids.numpy()[~chosen], original[~chosen])
        np.testing.assert_array_equal(whole.labels.numpy()[chosen], original[chosen])
