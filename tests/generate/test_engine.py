from __future__ import annotations

import pytest
import torch

from lifelong.errors import LifelongError
from lifelong.generate.engine import generate, write
from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig
from lifelong.tokens.tokenizer import BPETokenizer

PROMPT = "The names of"


def uncached(model: Transformer, tokenizer: BPETokenizer, prompt: str, count: int) -> list[int]:
    """Greedy tokens from a full forward pass over everything, each time."""
    ids = [tokenizer.eos_id, *tokenizer.encode(prompt)]
    written: list[int] = []
    for _ in range(count):
        with torch.no_grad():
            token = int(model(torch.tensor([ids + written]))[0, -1].argmax())
        if token == tokenizer.eos_id:
            break
        written.append(token)
    return written


@pytest.mark.parametrize("prompt", [PROMPT, "", "x = [1, 2]\n"])
def test_with_the_cache_greedy_text_is_the_same_as_without(
    model: Transformer, tokenizer: BPETokenizer, prompt: str
) -> None:
    expected = uncached(model, tokenizer, prompt, 40)
    assert len(set(expected)) > 3, "a model that repeats itself would prove little"
    found = generate(model, tokenizer, prompt, max_tokens=40, temperature=0)
    assert found == [tokenizer.decode(expected)]


def test_the_same_seed_gives_the_same_text(model: Transformer, tokenizer: BPETokenizer) -> None:
    texts = [generate(model, tokenizer, PROMPT, seed=seed)[0] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_samples_differ_and_greedy_ones_do_not(model: Transformer, tokenizer: BPETokenizer) -> None:
    assert len(set(generate(model, tokenizer, PROMPT, num_samples=3, seed=0))) == 3
    greedy = generate(model, tokenizer, PROMPT, num_samples=3, temperature=0)
    assert greedy == generate(model, tokenizer, PROMPT, temperature=0) * 3


def test_a_sample_ends_without_its_stop_token_and_the_others_go_on(model: Transformer, tokenizer: BPETokenizer) -> None:
    tokens = uncached(model, tokenizer, PROMPT, 20)
    stop = tokens[5]
    found = generate(model, tokenizer, PROMPT, max_tokens=20, temperature=0, stop_ids={stop})
    assert found == [tokenizer.decode(tokens[: tokens.index(stop)])]
    [free] = write(model, tokenizer, [PROMPT], max_tokens=20, num_samples=4, seed=3)
    end = free[1].tokens[7]
    [stopped] = write(model, tokenizer, [PROMPT], max_tokens=20, num_samples=4, seed=3, stop_ids=[end])
    for whole, part in zip(free, stopped, strict=True):
        size = whole.tokens.index(end) if end in whole.tokens else 20
        assert (part.tokens, part.finish) == (whole.tokens[:size], "length" if size == 20 else "stop")
    assert {part.finish for part in stopped} == {"length", "stop"}


def test_banned_tokens_are_never_written(model: Transformer, tokenizer: BPETokenizer) -> None:
    tokens = uncached(model, tokenizer, PROMPT, 10)
    found = generate(model, tokenizer, PROMPT, max_tokens=10, temperature=0, banned_ids=[tokens[0]])
    assert found[0] != tokenizer.decode(tokens)
    only = set(tokenizer.encode("a"))
    everything_else = set(range(tokenizer.vocab_size)) - only
    assert generate(model, tokenizer, PROMPT, max_tokens=6, banned_ids=everything_else) == ["aaaaaa"]


def test_streaming_gives_the_text_in_whole_characters(model: Transformer, tokenizer: BPETokenizer) -> None:
    pieces: list[str] = []
    found = generate(model, tokenizer, PROMPT, max_tokens=30, seed=5, on_text=pieces.append)
    assert "".join(pieces) == found[0]
    assert found == generate(model, tokenizer, PROMPT, max_tokens=30, seed=5)
    with pytest.raises(ValueError, match="one sample"):
        generate(model, tokenizer, PROMPT, num_samples=2, on_text=pieces.append)


def test_a_long_prompt_is_cut_at_the_front_and_a_note_says_so(model: Transformer, tokenizer: BPETokenizer) -> None:
    ids = tokenizer.encode("many words " * 60)
    notes: list[str] = []
    found = generate(model, tokenizer, ids, max_tokens=16, temperature=0, on_note=notes.append)
    assert found == generate(model, tokenizer, ids[-80:], max_tokens=16, temperature=0)
    assert f"the first {len(ids) - 80}" in notes[0]


def test_the_note_goes_to_standard_error_by_default(
    model: Transformer, tokenizer: BPETokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(model, tokenizer, "many words " * 60, max_tokens=2)
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("note: the prompt has")


def test_the_whole_context_can_be_used_but_no_more(model: Transformer, tokenizer: BPETokenizer) -> None:
    context = model.config.max_seq_len
    everything_else = set(range(tokenizer.vocab_size)) - set(tokenizer.encode("a"))
    found = generate(model, tokenizer, "", max_tokens=context - 1, banned_ids=everything_else)
    assert found == ["a" * (context - 1)]
    with pytest.raises(LifelongError, match="do not fit") as error:
        generate(model, tokenizer, "", max_tokens=context)
    assert str(context - 1) in str(error.value)


def test_rows_beyond_the_vocabulary_are_never_chosen(tokenizer: BPETokenizer) -> None:
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=tokenizer.vocab_size + 64, d_model=16, num_layers=1, num_query_heads=2)
    padded = Transformer(config)
    with torch.no_grad():
        padded.lm_head.weight[tokenizer.vocab_size :] *= 1000
    assert generate(padded, tokenizer, PROMPT, max_tokens=20, seed=0, top_k=0, top_p=1)[0]


def test_nothing_asked_for_nothing_written(model: Transformer, tokenizer: BPETokenizer) -> None:
    assert generate(model, tokenizer, PROMPT, max_tokens=0) == [""]
    with pytest.raises(LifelongError):
        generate(model, tokenizer, PROMPT, num_samples=0)
    with pytest.raises(LifelongError, match="temperature"):
        generate(model, tokenizer, PROMPT, temperature=-1)


@pytest.mark.parametrize("training", [True, False])
def test_the_training_mode_comes_back(model: Transformer, tokenizer: BPETokenizer, training: bool) -> None:
    model.train(training)
    generate(model, tokenizer, PROMPT, max_tokens=2)
    assert model.training is training
