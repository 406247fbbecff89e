"""Rows and batches: nothing lost, nothing twice, and every step a function of seed and index alone."""

from __future__ import annotations

import argparse
import inspect
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.text import Document
from lifelong.text.memory import ReplayMemory
from lifelong.tokens import BPETokenizer, ChatSource, Loader, WindowSource, build_cache
from lifelong.tokens.building import build_caches
from lifelong.tokens.loader import BLOCK, _shares, permutation
from lifelong.tokens.replay import replay_sources
from lifelong.tokens.rows import Rows, RowSource
from lifelong.tokens.shards import Ids, TokenCache

_SOURCE = inspect.getsource(argparse)
_TOKENIZER = BPETokenizer(vocab_size=500).train([_SOURCE])


class Numbered:
    """Rows that say which they are: source * 100000 + index."""

    importance = 1.0

    def __init__(self, source: int, count: int, sequence_length: int = 4) -> None:
        self.source, self.count, self.sequence_length = source, count, sequence_length

    def __len__(self) -> int:
        return self.count

    @property
    def tokens_per_row(self) -> float:
        return float(self.sequence_length)

    def rows(self, indices: Ids) -> Rows:
        ids = np.repeat(self.source * 100_000 + indices[:, None], self.sequence_length, axis=1)
        return ids, ids, None


def _row(source: RowSource, index: int) -> tuple[Ids, Ids, Ids | None]:
    ids, labels, segments = source.rows(np.array([index]))
    return ids[0], labels[0], None if segments is None else segments[0]


@pytest.fixture(scope="module")
def text_cache(tmp_path_factory: pytest.TempPathFactory) -> TokenCache:
    documents = [Document(_SOURCE[at : at + 500], "a", "a") for at in range(0, 20_000, 500)]
    return build_cache(documents, _TOKENIZER, tmp_path_factory.mktemp("text") / "c", shard_bytes=1998)


def _chats(count: int) -> list[Document]:
    conversations = [
        ({"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": "word " * (n % 13) + str(n)})
        for n in range(count)
    ]
    return [Document("", "a", "a", "chat", messages=messages) for messages in conversations]


@pytest.mark.parametrize("length", [1, 7, 64, 1000])
def test_windows_predict_every_token_once(text_cache: TokenCache, length: int) -> None:
    source = WindowSource(text_cache, length)
    labels: list[int] = []
    for index in range(len(source)):
        ids, row_labels, segments = _row(source, index)
        assert ids.shape == row_labels.shape == (length,)
        assert segments is None
        labels += [label for label in row_labels.tolist() if label != -100]
        for t in range(length - 1):
            assert row_labels[t] in (-100, ids[t + 1])
    assert len(labels) == text_cache.tokens - 1
    assert _documents(labels) == _documents(text_cache.read(1, text_cache.tokens).tolist())


def _documents(labels: list[int]) -> Counter[tuple[int, ...]]:
    """The documents in a stretch of ids, whatever their order."""
    assert labels[-1] == _TOKENIZER.eos_id
    ends = [at for at, token in enumerate(labels) if token == _TOKENIZER.eos_id]
    return Counter(tuple(labels[a + 1 : b]) for a, b in itertools.pairwise([-1, *ends]))


def test_less_text_than_one_sequence(text_cache: TokenCache) -> None:
    WindowSource(text_cache, text_cache.tokens - 1)
    with pytest.raises(LifelongError, match="less text than one sequence"):
        WindowSource(text_cache, text_cache.tokens)


@pytest.mark.parametrize("length", [24, 50, 200])
def test_packed_conversations(tmp_path: Path, length: int) -> None:
    documents = _chats(60)
    source = ChatSource(build_cache(documents, _TOKENIZER, tmp_path / "c", shard_bytes=200), length)
    found: Counter[tuple[int, ...]] = Counter()
    for index in range(len(source)):
        ids, labels, segments = _row(source, index)
        assert segments is not None
        assert (ids[segments == -1] == _TOKENIZER.pad_id).all()
        assert (labels[segments == -1] == -100).all()
        inner = segments[segments >= 0]
        assert sorted(set(inner.tolist())) == list(range(int(inner.max()) + 1))
        assert (np.diff(inner) >= 0).all()
        for segment in range(int(inner.max()) + 1):
            here = segments == segment
            assert (labels[here] >= 0).any()
            found[(*ids[here].tolist(), -1, *labels[here].tolist())] += 1
    wanted: Counter[tuple[int, ...]] = Counter()
    for document in documents:
        ids_, trained = _TOKENIZER.encode_chat(document.messages or ())
        targets = [token if is_trained else -100 for token, is_trained in zip(ids_, trained, strict=True)][1:][:length]
        if any(target >= 0 for target in targets):
            wanted[(*ids_[:-1][:length], -1, *targets)] += 1
    assert found == wanted
    longer = sum(len(_TOKENIZER.encode_chat(document.messages or ())[0]) - 1 > length for document in documents)
    assert source.truncated + source.skipped == longer
    filled = sum(int((_row(source, index)[2] != -1).sum()) for index in range(len(source)))  # type: ignore[union-attr]
    assert filled > 0.75 * len(source) * length


def test_texts_beside_conversations_are_not_cut_to_a_row(tmp_path: Path) -> None:
    texts, chats = [Document(_SOURCE[:6000], "a", "a"), Document(_SOURCE[6000:9000], "a", "b")], _chats(20)
    memory = ReplayMemory()
    memory.add([*texts, *chats], "a")
    spelled = sum(len(_TOKENIZER.encode(document.text)) for document in memory.documents() if not document.messages)
    for again in range(2):  # the caches are made, and used once more
        sources = [source for source, _ in replay_sources(memory, _TOKENIZER, tmp_path / "m", 32, 1.0)]
        assert [type(source) for source in sources] == [WindowSource, ChatSource], again
        trained = sum(int((_row(sources[0], index)[1] >= 0).sum()) for index in range(len(sources[0])))
        assert trained >= spelled


def test_a_text_too_short_for_a_row_stays_with_the_conversations(tmp_path: Path) -> None:
    word = Document("Quincemarmalade.", "a", "a")
    [cache] = build_caches([word, *_chats(20)], _TOKENIZER, tmp_path / "c", 64)
    source = ChatSource(cache, 64)
    labels = [_row(source, index)[1] for index in range(len(source))]
    assert cache.documents == 21 and not source.skipped and not source.truncated
    spelled = _TOKENIZER.encode(word.text)
    assert any(spelled[1:] == row[at : at + len(spelled) - 1].tolist() for row in labels for at in range(64))


def test_chat_source_refusals(text_cache: TokenCache, tmp_path: Path) -> None:
    with pytest.raises(LifelongError, match="running text"):
        ChatSource(text_cache, 64)
    cache = build_cache(_chats(3), _TOKENIZER, tmp_path / "c")
    with pytest.raises(LifelongError, match="no conversation has an answer within 3 tokens"):
        ChatSource(cache, 3)


def test_batches_are_tensors(text_cache: TokenCache, tmp_path: Path) -> None:
    chats = ChatSource(build_cache(_chats(40), _TOKENIZER, tmp_path / "c"), 32)
    mixed = Loader([(WindowSource(text_cache, 32), 1.0), (chats, 1.0)], batch_size=8)
    batch = mixed.batch(0)
    assert batch.input_ids.shape == batch.labels.shape == (8, 32)
    assert batch.input_ids.dtype == batch.labels.dtype == torch.int64
    assert batch.segment_ids is not None
    assert batch.segment_ids.shape == (8, 32)
    assert mixed.tokens_per_batch == 256
    plain = Loader([(WindowSource(text_cache, 32), 1.0)], batch_size=8).batch(3).to("cpu")
    assert plain.segment_ids is None


_WEIGHTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=5)


@given(_WEIGHTS)
def test_shares_fill_a_block(weights: list[float]) -> None:
    shares = _shares(weights)
    assert sum(shares) == BLOCK
    for share, weight in zip(shares, weights, strict=True):
        assert share >= 1
        assert abs(share - weight / sum(weights) * BLOCK) < len(weights) + 1


@settings(max_examples=25, deadline=None)
@given(_WEIGHTS, st.integers(0, 2**31), st.integers(0, 5000), st.integers(1, 40), st.integers(1, 9))
def test_resuming_anywhere_gives_the_same_rows(
    weights: list[float], seed: int, start: int, count: int, cut: int
) -> None:
    def fresh() -> Loader:
        sources = [(Numbered(number, 17 + number), weight) for number, weight in enumerate(weights)]
        return Loader(sources, batch_size=8, seed=seed)

    whole = fresh().rows(start, count + cut).input_ids
    later = fresh().rows(start + count, cut).input_ids
    assert torch.equal(whole[count:], later)


@settings(max_examples=20, deadline=None)
@given(_WEIGHTS, st.integers(0, 1000))
def test_each_epoch_shows_every_row_once(weights: list[float], seed: int) -> None:
    sources = [(Numbered(number, 40 + 7 * number), weight) for number, weight in enumerate(weights)]
    loader = Loader(sources, batch_size=8, seed=seed)
    drawn = loader.rows(0, 3 * BLOCK).input_ids[:, 0].tolist()
    for number, (source, _) in enumerate(sources):
        rows = [value - number * 100_000 for value in drawn if value // 100_000 == number]
        for start in range(0, len(rows), len(source)):
            epoch = rows[start : start + len(source)]
            assert len(set(epoch)) == len(epoch)  # so that a full epoch has every row
        assert sum(value // 100_000 == number for value in drawn[:BLOCK]) == loader.shares[number]


@settings(max_examples=25)
@given(_WEIGHTS, st.integers(0, 99), st.integers(1, 24), st.integers(1, 7), st.integers(0, 400))
def test_any_number_of_processes_gives_the_same_global_batch(
    weights: list[float], seed: int, batch_size: int, world: int, step: int
) -> None:
    sources = [(Numbered(number, 30 + number), weight) for number, weight in enumerate(weights)]
    loader = Loader(sources, batch_size=batch_size, seed=seed)
    parts = [loader.batch(step, rank=rank, world=world).input_ids for rank in range(world)]
    assert torch.equal(torch.cat(parts), loader.batch(step).input_ids)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_weights_count_tokens_also_where_rows_are_padded(text_cache: TokenCache, tmp_path: Path) -> None:
    chats = ChatSource(build_cache(_chats(300), _TOKENIZER, tmp_path / "c"), 90)
    assert chats.tokens_per_row < 0.95 * 90
    loader = Loader([(WindowSource(text_cache, 90), 1.0), (chats, 1.0)], batch_size=8)
    segments = loader.rows(0, BLOCK).segment_ids
    assert segments is not None
    padded = (segments == -1).any(dim=1) | (segments > 0).any(dim=1)  # rows of chats, all but a few
    text, chat = int((segments[~padded] >= 0).sum()), int((segments[padded] >= 0).sum())
    assert chat / (text + chat) == pytest.approx(0.5, abs=0.03)


def test_orders_differ_by_epoch_source_and_seed() -> None:
    orders = [tuple(permutation(50, *key)) for key in [(0, 0, 1), (0, 1, 1), (0, 0, 2), (1, 0, 1)]]
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(50)) for order in orders)
    # Frozen: a run must find its rows again after any upgrade.
    assert permutation(8, 1, 2, 3).tolist() == [7, 6, 4, 1, 3, 2, 0, 5]
    # Fair: over many seeds every row is first about equally often.
    first = Counter(int(permutation(8, seed, 0, 1)[0]) for seed in range(4000))
    assert all(abs(count - 500) < 5 * 21 for count in first.values())


def test_epoch_rows() -> None:
    assert Loader([(Numbered(0, 123), 1.0)], batch_size=4).epoch_rows == 123
    assert Loader([(Numbered(0, 300), 3.0), (Numbered(1, 9), 1.0)], batch_size=4).epoch_rows == 400


def test_loader_refusals() -> None:
    with pytest.raises(LifelongError, match="less text than one batch: 3 rows of 4 tokens"):
        Loader([(Numbered(0, 3), 1.0)], batch_size=4)
    with pytest.raises(LifelongError, match="no source"):
        Loader([], batch_size=4)
    with pytest.raises(LifelongError, match="positive"):
        Loader([(Numbered(0, 9), 0.0)], batch_size=4)
    with pytest.raises(LifelongError, match="different lengths"):
        Loader([(Numbered(0, 9), 1.0), (Numbered(1, 9, 8), 1.0)], batch_size=4)


def test_importance_is_normalised_over_the_mixture_not_over_a_batch() -> None:
    plain, dear = Numbered(0, 60), Numbered(1, 40)
    assert Loader([(plain, 0.6), (dear, 0.4)], batch_size=4).batch(0).weights is None
    dear.importance = 4.0
    loader = Loader([(plain, 0.6), (dear, 0.4)], batch_size=4)
    batches = [loader.batch(step) for step in range(250)]  # a block: its shares are exact
    weights = np.concatenate([batch.weights.numpy() for batch in batches if batch.weights is not None])
    sources = np.concatenate([batch.input_ids.numpy()[:, :1] // 100000 for batch in batches])
    assert weights.shape == (1000, 1)
    assert weights.mean() == pytest.approx(1.0)
    assert np.unique(weights[sources == 1] / weights[sources == 0].max()) == pytest.approx([4.0])
