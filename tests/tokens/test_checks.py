from __future__ import annotations

import pydoc_data.topics as topics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.text.document import Document, join_messages
from lifelong.text.validation.report import Findings
from lifelong.tokens import ChatSource, build_cache
from lifelong.tokens.checks import TokenChecks, longest_row
from lifelong.tokens.showing import encode_document, spans
from lifelong.tokens.tokenizer import BPETokenizer

TOKENIZER = BPETokenizer(400).train(topics.topics.values())
TOPICS = list(topics.topics.values())


def chat(number: int, question: str, answer: str) -> Document:
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Document(join_messages(messages), "a.jsonl", "a.jsonl", "chat", messages=messages, line=number)


def test_what_is_cut_is_what_the_packer_cuts(tmp_path: Path) -> None:
    lengths = [(30 + 17 * n % 300, 20 + 29 * n % 400) for n in range(40)]
    chats = [chat(n, TOPICS[n][:asked], TOPICS[n][:answer]) for n, (asked, answer) in enumerate(lengths, start=1)]
    packed = ChatSource(build_cache(chats, TOKENIZER, tmp_path / "cache"), 64)
    checks, findings = TokenChecks(TOKENIZER, 64 + 1), Findings()  # the token behind the last input is learned
    for document in chats:
        checks.see(document, document.place, findings)
    facts = checks.finish(findings)
    assert findings.by_rule["all-truncated"].count == packed.skipped > 0
    assert findings.by_rule["over-long"].count == packed.truncated > 0
    assert facts["over_long"]["conversations"] == packed.truncated


def test_batches_do_not_change_what_is_counted() -> None:
    facts = []
    for batch in (1, 1_000_000):
        checks, findings = TokenChecks(TOKENIZER), Findings()
        checks.batch = batch
        for number, text in enumerate(TOPICS[:20]):
            checks.see(Document(text, "a.txt", "a.txt"), "a.txt", findings)
            checks.see(chat(number, text[:50], text[:90]), "a.jsonl", findings)
        facts.append(checks.finish(findings))
    assert facts[0] == facts[1]


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text()), min_size=1, max_size=5))
def test_spans_say_what_the_tokens_say(turns: list[tuple[str, str]]) -> None:
    messages = tuple({"role": role, "content": content} for role, content in turns)
    document = Document(join_messages(messages), "a", "a", "chat", messages=messages)
    shown = spans(TOKENIZER, *encode_document(TOKENIZER, document))
    assert "".join(span.text for span in shown if not span.special) == "".join(content for _, content in turns)
    assert [span.text for span in shown if span.special and not span.trained][-1] == "<|endoftext|>"
    trained = "".join(span.text for span in shown if span.trained and not span.special)
    assert trained == "".join(content for role, content in turns if role == "assistant")
    assert sum(span.special for span in shown) == 2 * len(turns) + 1


def test_the_length_of_a_row_is_the_models(tmp_path: Path) -> None:
    assert longest_row(tmp_path) is None
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    assert longest_row(tmp_path) == 512
    (tmp_path / "config.json").write_text("[]")
    assert longest_row(tmp_path) is None


@pytest.mark.parametrize("kind", ["text", "chat"])
def test_nothing_to_check_gives_facts_without_a_division(kind: str) -> None:
    checks, findings = TokenChecks(TOKENIZER, 8), Findings()
    if kind == "chat":
        checks.see(chat(1, "", ""), "a", findings)
    facts = checks.finish(findings)
    assert facts["tokens"] == (4 if kind == "chat" else 0)
