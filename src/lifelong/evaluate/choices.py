"""Does the model find the true answer likelier than answers to other questions?"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError

if TYPE_CHECKING:
    from lifelong.evaluate.windows import Progress, Scored
    from lifelong.model.base import LanguageModel
    from lifelong.text import Document
    from lifelong.tokens.base import Tokenizer


def answer_ranking(
    model: LanguageModel,
    tokenizer: Tokenizer,
    chat_documents: Sequence[Document],
    *,
    distractors: int = 3,
    seed: int = 0,
    limit: int = 200,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return how often the true answer is likelier than ``distractors`` answers of other questions.

    Likelier means fewer nats per UTF-8 byte of the answer, given the question: a sum would favour short answers. The
    token that ends the turn is not counted. A tie counts as wrong. ``limit`` questions and the wrong answers to each
    are drawn by ``seed``; a guess is right with probability 1 / (1 + distractors).

    Only a chat's first question (with the system turn before it) and its first answer are used. What does not fit the
    model's context is cut off at the front.

    Returns:
        ``accuracy``, ``standard_error`` (binomial), ``chance``, ``correct``, ``questions``, ``distractors``,
        ``measure``.

    Raises:
        LifelongError: there are fewer different answers than choices.
    """
    from lifelong.evaluate.windows import tally

    pairs = [pair for document in chat_documents if (pair := _first_exchange(document)) is not None]
    pool = sorted({answer for _, answer in pairs})
    if distractors < 1 or len(pool) < distractors + 1:
        raise LifelongError(
            f"{len(pool)} different answers are too few for a choice among {distractors + 1}",
            fix="Give more chat data, or fewer distractors (at least one).",
        )
    generator = random.Random(seed)
    asked = generator.sample(pairs, min(limit, len(pairs)))
    candidates = [[answer, *_others(pool, answer, distractors, generator)] for _, answer in asked]
    length = model.config.max_seq_len
    sequences = [
        _candidate(tokenizer, question, answer, length + 1)
        for (question, _), answers in zip(asked, candidates, strict=True)
        for answer in answers
    ]
    sums = tally(model, sequences, sequence_length=length, progress=progress)
    correct, width = 0, distractors + 1
    for index, answers in enumerate(candidates):
        costs = [
            item.nats / len(answer.encode("utf-8"))
            for item, answer in zip(sums[index * width : (index + 1) * width], answers, strict=True)
        ]
        correct += costs[0] < min(costs[1:])
    share = correct / len(asked)
    return {
        "accuracy": share,
        "standard_error": math.sqrt(share * (1 - share) / len(asked)),
        "chance": 1 / width,
        "correct": correct,
        "questions": len(asked),
        "distractors": distractors,
        "measure": "mean nats per byte of the answer, given the question",
    }


def _first_exchange(document: Document) -> tuple[list[dict[str, str]], str] | None:
    """Return the turns up to the first answer, and that answer; None where one of them is missing or empty."""
    question: list[dict[str, str]] = []
    for turn in document.messages or ():
        if turn["role"] == "assistant":
            answer = turn["content"]
            return (question, answer) if answer and question else None
        question.append(dict(turn))
    return None


def _others(pool: list[str], answer: str, count: int, generator: random.Random) -> list[str]:
    drawn = generator.sample(pool, count + 1)
    return [text for text in drawn if text != answer][:count]


def _candidate(tokenizer: Tokenizer, question: list[dict[str, str]], answer: str, longest: int) -> Scored:
    from lifelong.evaluate.windows import Scored

    ids, scored = tokenizer.encode_chat([*question, {"role": "assistant", "content": answer}])
    end = max(index for index, counts in enumerate(scored) if counts)
    scored[end] = False  # the token that ends the turn
    return Scored(ids[:end][-longest:], scored[:end][-longest:])
