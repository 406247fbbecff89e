from __future__ import annotations

from typing import Any

import pytest
import torch

from lifelong.errors import LifelongError
from lifelong.generate.chat import ChatSession
from lifelong.model.transformer import Transformer
from lifelong.tokens.tokenizer import BPETokenizer

PAIRS = [("What is len?", "The number of items – 数."), ("What is abs?", "An absolute value.")]


@pytest.fixture
def taught(model: Transformer, tokenizer: BPETokenizer) -> Transformer:
    """A model that knows two answers by heart."""
    rows = [
        tokenizer.encode_chat([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
        for question, answer in PAIRS
    ]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        for ids, counts in rows:
            labels = [token if counted else -100 for token, counted in zip(ids[1:], counts[1:], strict=True)]
            model.loss_sum(torch.tensor([ids[:-1]]), torch.tensor([labels])).backward()
        optimizer.step()
    return model.eval()


def test_the_answer_ends_where_the_turn_ends(taught: Transformer, tokenizer: BPETokenizer) -> None:
    for question, answer in PAIRS:
        pieces: list[str] = []
        chat = ChatSession(taught, tokenizer, temperature=0)
        assert chat.ask(question, on_text=pieces.append) == answer
        assert "".join(pieces) == answer
        assert not any("\ufffd" in piece for piece in pieces)
        assert chat.history == [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_role_tokens_are_never_written(model: Transformer, tokenizer: BPETokenizer) -> None:
    with torch.no_grad():  # a model that wants nothing but to speak for the user
        model.model.norm.weight.fill_(0)
        model.lm_head.weight[list(tokenizer.role_token_ids)] = 1
    written: list[int] = []
    original = tokenizer.decode

    class Spy(BPETokenizer):
        def decode(self, ids: object, skip_special_tokens: bool = True) -> str:
            written.extend(ids)  # type: ignore[arg-type]
            return original(ids, skip_special_tokens)  # type: ignore[arg-type]

    spy = Spy()
    spy.__dict__.update(tokenizer.__dict__)
    ChatSession(model, spy, max_tokens=20, seed=0).ask("hello")
    assert written
    assert not tokenizer.role_token_ids & set(written)


def test_a_seed_repeats_a_conversation_not_a_turn(model: Transformer, tokenizer: BPETokenizer) -> None:
    chats = [ChatSession(model, tokenizer, seed=seed, max_tokens=8) for seed in (1, 1, 2)]
    first, again, other = [[chat.ask("a"), chat.ask("a")] for chat in chats]
    assert first == again != other
    chats[0].reset()
    assert chats[0].history == []
    assert [chats[0].ask("a"), chats[0].ask("a")] == first


def test_old_turns_are_forgotten_the_system_prompt_is_not(
    model: Transformer, tokenizer: BPETokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    chat = ChatSession(model, tokenizer, "Be brief.", max_tokens=8, seed=0, on_note=notes.append)
    for number in range(12):
        chat.ask(f"question {number}")
    assert chat.history[0]["role"] == "user"
    assert chat.history[-2]["content"] == "question 11"
    assert len(chat.history) < 24
    assert "forgotten" in notes[0]
    read: list[list[int]] = []
    decoder = type(model.new_decoder(1, 8))
    original = decoder.read

    def noted(self: Any, ids: list[list[int]]) -> Any:
        read.extend(ids)
        return original(self, ids)

    monkeypatch.setattr(decoder, "read", noted)
    chat.ask("last")
    system, _ = tokenizer.encode_chat([{"role": "system", "content": "Be brief."}])
    assert read[0][: len(system)] == system
    assert len(read[0]) + 8 <= model.config.max_seq_len


def test_a_message_too_long_is_an_error_and_changes_nothing(model: Transformer, tokenizer: BPETokenizer) -> None:
    chat = ChatSession(model, tokenizer, max_tokens=8)
    chat.ask("hello")
    before = list(chat.history)
    with pytest.raises(LifelongError, match="tokens, the model can read 88"):
        chat.ask("word " * 200)
    assert chat.history == before


def test_an_interrupted_answer_leaves_the_conversation_as_it_was(model: Transformer, tokenizer: BPETokenizer) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    chat = ChatSession(model, tokenizer, max_tokens=8, seed=0)
    with pytest.raises(KeyboardInterrupt):
        chat.ask("hello", on_text=stop)
    assert chat.history == []


def test_without_a_system_prompt_none_is_sent(model: Transformer, tokenizer: BPETokenizer) -> None:
    chat = ChatSession(model, tokenizer)
    assert chat.system is None
    assert chat._fit([{"role": "user", "content": "x"}])[1][0] in tokenizer.role_token_ids
