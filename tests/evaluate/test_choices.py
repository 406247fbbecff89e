from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lifelong.errors import LifelongError
from lifelong.evaluate.choices import answer_ranking
from lifelong.model.transformer import Transformer
from lifelong.text import Document
from lifelong.tokens.tokenizer import BPETokenizer

PAIRS = [
    ("What does len do?", "Return the number of items."),
    ("What does abs do?", "Absolute value of a number."),
    ("What does chr do?", "A string of one character."),
    ("What does min do?", "The smallest of its arguments."),
    ("What does id do?", "The identity of an object."),
    ("What does hex do?", "Base sixteen digits."),
]


@pytest.fixture
def chats(make_chat: Callable[..., Document]) -> list[Document]:
    return [make_chat(question, answer) for question, answer in PAIRS]


def cost(model: Transformer, tokenizer: BPETokenizer, question: str, answer: str) -> float:
    """Nats per byte of an answer, token by token."""
    before, _ = tokenizer.encode_chat([{"role": "user", "content": question}], add_generation_prompt=True)
    nats, size = 0.0, len(answer.encode())
    for token in tokenizer.encode(answer):
        with torch.no_grad():
            nats -= float(model(torch.tensor([before]))[0, -1].log_softmax(-1)[token])
        before = [*before, token]
    return nats / size


def test_with_all_other_answers_as_distractors_it_equals_a_plain_loop(
    model: Transformer, tokenizer: BPETokenizer, chats: list[Document]
) -> None:
    answers = [answer for _, answer in PAIRS]
    correct = sum(
        min(answers, key=lambda answer, question=question: cost(model, tokenizer, question, answer)) == truth  # type: ignore[misc]
        for question, truth in PAIRS
    )
    found = answer_ranking(model, tokenizer, chats, distractors=len(PAIRS) - 1)
    assert found["correct"] == correct
    assert found["chance"] == pytest.approx(1 / len(PAIRS))
    assert found["questions"] == len(PAIRS)


def test_a_model_that_learned_the_answers_ranks_them_first(
    model: Transformer, tokenizer: BPETokenizer, chats: list[Document]
) -> None:
    rows = [tokenizer.encode_chat(chat.messages or ()) for chat in chats]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        for ids, counts in rows:
            labels = [token if counted else -100 for token, counted in zip(ids[1:], counts[1:], strict=True)]
            model.loss_sum(torch.tensor([ids[:-1]]), torch.tensor([labels])).backward()
        optimizer.step()
    found = answer_ranking(model, tokenizer, chats)
    assert (found["accuracy"], found["standard_error"], found["chance"]) == (1.0, 0.0, 0.25)


def test_the_seed_decides_the_choice_and_the_limit_holds(
    model: Transformer, tokenizer: BPETokenizer, chats: list[Document]
) -> None:
    first, second = (answer_ranking(model, tokenizer, chats, limit=4, seed=1) for _ in range(2))
    assert first == second
    assert first["questions"] == 4


def test_questions_longer_than_the_context_keep_their_answers(
    model: Transformer, tokenizer: BPETokenizer, make_chat: Callable[..., Document]
) -> None:
    long = [make_chat("word " * 100 + question, answer) for question, answer in PAIRS]
    assert answer_ranking(model, tokenizer, long)["questions"] == len(PAIRS)


def test_too_few_different_answers(
    model: Transformer, tokenizer: BPETokenizer, make_chat: Callable[..., Document]
) -> None:
    same = [make_chat(f"q{i}", "always this") for i in range(9)]
    with pytest.raises(LifelongError, match="1 different answers are too few"):
        answer_ranking(model, tokenizer, same)
