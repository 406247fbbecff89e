from __future__ import annotations

import json
import math
import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.evaluate.bits import Score, score, scored_bytes
from lifelong.evaluate.windows import IGNORED, Scored, _batches, cut_windows
from lifelong.model.transformer import Transformer
from lifelong.text import Document
from lifelong.tokens.tokenizer import BPETokenizer


def as_qwen3(model: Transformer) -> torch.nn.Module:
    """The same weights in the transformers library's own class."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = model.config
    twin = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_query_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            intermediate_size=config.d_ff,
            max_position_embeddings=config.max_seq_len,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=config.tie_embeddings,
        )
    )
    missing, unexpected = twin.load_state_dict(model.state_dict(), strict=False)
    assert set(missing) <= {"lm_head.weight"}
    assert not unexpected
    return twin.eval()


def plain_nats(twin: torch.nn.Module, ids: list[int], window: int) -> list[float]:
    """Cross-entropy of ids[1:], one at a time, each from the tokens before it in its window."""
    nats = []
    with torch.no_grad():
        for position in range(1, len(ids)):
            start = (position - 1) // window * window
            logits = twin(torch.tensor([ids[start:position]])).logits[0, -1]
            nats.append(-float(logits.double().log_softmax(-1)[ids[position]]))
    return nats


@pytest.mark.parametrize("window", [16, None])
def test_bits_per_byte_equal_a_token_by_token_loop_in_transformers(
    model: Transformer, tokenizer: BPETokenizer, documents: list[Document], window: int | None
) -> None:
    result = score(model, tokenizer, documents[:3], sequence_length=window)
    twin = as_qwen3(model)
    per_document = [
        plain_nats(twin, [tokenizer.eos_id, *tokenizer.encode(document.text)], window or model.config.max_seq_len)
        for document in documents[:3]
    ]
    size = sum(len(document.text.encode()) for document in documents[:3])
    expected = sum(map(sum, per_document)) / math.log(2) / size
    assert result.bits_per_byte == pytest.approx(expected, rel=1e-5)
    assert result.tokens == sum(map(len, per_document))
    assert result.bytes == size
    for (nats, _), nats_expected in zip(result.documents, per_document, strict=True):
        assert nats == pytest.approx(sum(nats_expected), rel=1e-5)
    assert result.loss == pytest.approx(result.nats / result.tokens)
    assert result.perplexity == pytest.approx(math.exp(result.loss))


def test_a_chat_counts_only_what_the_assistant_says(
    model: Transformer, tokenizer: BPETokenizer, make_chat: Callable[..., Document]
) -> None:
    document = make_chat("What is é?", "A letter: é.", "And b?", "Another.")
    result = score(model, tokenizer, [document])
    ids, counts = tokenizer.encode_chat(document.messages or ())
    nats = plain_nats(as_qwen3(model), ids, 48)
    assert result.nats == pytest.approx(
        sum(value for value, one in zip(nats, counts[1:], strict=True) if one), rel=1e-5
    )
    assert result.bytes == len("A letter: é.Another.".encode()) == scored_bytes(document)
    assert result.tokens == sum(counts)


def test_token_accuracy_counts_the_likeliest(model: Transformer, tokenizer: BPETokenizer) -> None:
    document = Document("the names of the module", "x", "x")
    ids = [tokenizer.eos_id, *tokenizer.encode(document.text)]
    with torch.no_grad():
        likeliest = model(torch.tensor([ids[:-1]]))[0].argmax(-1).tolist()
    expected = sum(a == b for a, b in zip(likeliest, ids[1:], strict=True)) / (len(ids) - 1)
    assert score(model, tokenizer, [document]).token_accuracy == pytest.approx(expected)


def test_the_batch_size_changes_nothing(model: Transformer, tokenizer: BPETokenizer, documents: list[Document]) -> None:
    one, many = (score(model, tokenizer, documents, batch_tokens=size) for size in (1, 100_000))
    assert one.nats == pytest.approx(many.nats, rel=1e-6)
    assert (one.tokens, one.bytes, one.correct) == (many.tokens, many.bytes, many.correct)


def test_max_bytes_takes_whole_documents_in_order(
    model: Transformer, tokenizer: BPETokenizer, documents: list[Document]
) -> None:
    first, second = (scored_bytes(document) for document in documents[:2])
    assert score(model, tokenizer, documents, max_bytes=first + second).bytes == first + second
    assert score(model, tokenizer, documents, max_bytes=first + second - 1).bytes == first
    assert score(model, tokenizer, documents, max_bytes=1).bytes == first


def test_training_mode_comes_back_and_progress_reaches_its_end(
    model: Transformer, tokenizer: BPETokenizer, documents: list[Document]
) -> None:
    calls: list[tuple[int, int]] = []
    model.train()
    score(model, tokenizer, documents, batch_tokens=64, progress=lambda done, total: calls.append((done, total)))
    assert model.training
    assert [done for done, _ in calls] == list(range(1, calls[0][1] + 1))


def test_nothing_to_score_is_an_error(
    model: Transformer, tokenizer: BPETokenizer, make_chat: Callable[..., Document]
) -> None:
    with pytest.raises(LifelongError, match="no text to evaluate"):
        score(model, tokenizer, [])
    with pytest.raises(LifelongError, match="no text to evaluate"):
        score(model, tokenizer, [make_chat("only a question")])


def test_damaged_weights_are_an_error(model: Transformer, tokenizer: BPETokenizer, documents: list[Document]) -> None:
    model.model.norm.weight.data.fill_(math.nan)
    with pytest.raises(LifelongError, match="not a finite number"):
        score(model, tokenizer, documents)


def test_standard_error_agrees_with_the_spread_over_resampled_documents() -> None:
    draw = random.Random(0)
    sizes = [draw.randint(50, 500) for _ in range(300)]
    documents = tuple((size * draw.gauss(1.5, 0.3), size) for size in sizes)

    def of(chosen: tuple[tuple[float, int], ...]) -> Score:
        nats, size = sum(nats for nats, _ in chosen), sum(size for _, size in chosen)
        return Score(nats, size, size, 0, chosen)

    resampled = [of(tuple(draw.choices(documents, k=300))).bits_per_byte for _ in range(1000)]
    mean = sum(resampled) / len(resampled)
    spread = math.sqrt(sum((value - mean) ** 2 for value in resampled) / len(resampled))
    assert of(documents).standard_error == pytest.approx(spread, rel=0.1)
    assert of(documents[:1]).standard_error is None


def test_to_dict_is_plain_json(model: Transformer, tokenizer: BPETokenizer, documents: list[Document]) -> None:
    values = json.loads(json.dumps(score(model, tokenizer, documents).to_dict()))
    assert {"loss", "perplexity", "bits_per_byte", "token_accuracy", "bytes", "tokens"} <= set(values)
    assert values["documents"] == 4


@given(scored=st.lists(st.booleans(), min_size=1, max_size=60), length=st.integers(1, 20))
def test_every_scored_token_is_a_label_once(scored: list[bool], length: int) -> None:
    ids = list(range(len(scored)))
    windows = cut_windows(0, Scored(ids, scored), length)
    labels = [label for window in windows for label in window.labels if label != IGNORED]
    assert labels == [index for index in ids if index and scored[index]]
    for window in windows:
        assert len(window.inputs) == len(window.labels) <= length
        assert all(label in (IGNORED, token + 1) for token, label in zip(window.inputs, window.labels, strict=True))


@given(sizes=st.lists(st.integers(1, 30), max_size=40), limit=st.integers(1, 100))
def test_batches_stay_within_the_limit(sizes: list[int], limit: int) -> None:
    windows = [
        window
        for size in sorted(sizes, reverse=True)
        for window in cut_windows(0, Scored([1] * (size + 1), [True] * (size + 1)), 30)
    ]
    batches = _batches(windows, limit)
    assert [window for batch in batches for window in batch] == windows
    assert all(len(batch) == 1 or len(batch) * len(batch[0].inputs) <= limit for batch in batches)
