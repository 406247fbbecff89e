"""What a model reads before it answers: the best passages first, within its context, each once."""

from __future__ import annotations

import pydoc_data.topics as topics
from pathlib import Path

import pytest
import torch

from lifelong.errors import LifelongError
from lifelong.model.directory import load_model, write_model_files
from lifelong.model.encoder import EncoderOnlyModel
from lifelong.model.transformer import Transformer
from lifelong.retrieve.answering import NOT_FOUND, RAGModel, _distinct
from lifelong.retrieve.passages import Hit, Passage
from lifelong.retrieve.splitting import DocumentProcessor
from lifelong.retrieve.store import SimpleDocumentStore
from lifelong.settings.model import ModelConfig
from lifelong.tokens import BPETokenizer

_SHAPE = {"d_model": 32, "num_layers": 1, "num_query_heads": 2, "num_kv_heads": 1, "max_seq_len": 256}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an untrained model, which writes something."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    tokenizer = BPETokenizer(600).train(list(topics.topics.values())[:20])
    write_model_files(Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **_SHAPE)), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def store() -> SimpleDocumentStore:
    filled = SimpleDocumentStore()
    for name in ("assert", "lambda", "with"):
        chunks = DocumentProcessor.split_text(topics.topics[name], max_length=300)
        filled.add_documents(chunks, source=f"{name}.rst")
    return filled


def test_an_answer_names_what_it_was_made_of(home: Path, store: SimpleDocumentStore) -> None:
    model, _ = load_model(home, device="cpu")
    pieces: list[str] = []
    rag = RAGModel(store, model)
    answer = rag.generate("What is a lambda expression?", 2, 10, seed=1, on_text=pieces.append, on_note=print)
    assert answer == "".join(pieces) == rag.generate("What is a lambda expression?", 2, 10, seed=1, on_note=print)
    assert answer.found and answer.sources[0].passage.source == "lambda.rst"
    assert answer.sources[0].text in answer.prompt
    assert answer.prompt.endswith("Question: What is a lambda expression?\nAnswer:")
    assert f"[1] lambda.rst[{answer.sources[0].passage.start}:" in answer.cited


def test_nothing_found_is_said_without_asking_the_model(home: Path, store: SimpleDocumentStore) -> None:
    answer = RAGModel(store, home).generate("xyzzy")
    assert answer == NOT_FOUND and not answer.found and answer.cited == NOT_FOUND


@pytest.mark.parametrize("chat", [False, True])
def test_the_prompt_keeps_within_the_context(home: Path, store: SimpleDocumentStore, chat: bool) -> None:
    rag = RAGModel(store, home, chat=chat)
    hits = store.search("with statement lambda expression assert", 20)
    for max_tokens in (1, 100, 150, 200):
        prompt = rag.prompt("What is it?", hits, max_tokens)
        assert len(prompt.ids) + max_tokens <= 256
        assert prompt.hits[0] == hits[0] and len(prompt.hits) + prompt.left_out == len(hits)
    assert prompt.shortened  # 200 tokens of an answer leave too little for a whole passage
    roomy = rag.prompt("What is it?", hits, 1)
    assert roomy.text.index(roomy.hits[0].text) < roomy.text.index("What is it?")
    if chat:
        model_ids = rag.tokenizer.encode_chat([{"role": "user", "content": roomy.text}], add_generation_prompt=True)[0]
        assert roomy.ids == model_ids


def test_a_question_that_does_not_fit_is_refused(home: Path, store: SimpleDocumentStore) -> None:
    with pytest.raises(LifelongError, match="the question has [0-9]+ tokens"):
        RAGModel(store, home).generate("lambda " * 300)


def test_what_says_the_same_is_read_once() -> None:
    def hit(text: str, start: int, source: str = "a") -> Hit:
        return Hit(Passage(text, source, start, start + len(text), name=source), 1.0)

    first, later = hit("0123456789", 0), hit("5678901234", 8)
    assert _distinct([first, hit("2345678901", 2), later, hit(" 0123456789 ", 50, "b")]) == [first, later]


def test_headings_are_read_with_the_passage(home: Path) -> None:
    store = SimpleDocumentStore()
    text = "# Cooking\n\n" + "Water boils. " * 30 + "\n\n" + "Eggs take nine minutes."
    store.add_documents(DocumentProcessor.split_text(text, "semantic", 0, 200), source="a.md")
    # The heading counts as words of the passage, too.
    hits = store.search("cooking eggs")
    assert hits[0].text.endswith("nine minutes.") and "Cooking" not in hits[0].text
    assert "(Cooking)\n" in RAGModel(store, home).prompt("How long?", hits[:1], 20).text


def test_models_that_cannot_answer_say_what_they_are(store: SimpleDocumentStore) -> None:
    encoder = EncoderOnlyModel({"vocab_size": 600, "mask_token_id": 599, **_SHAPE})
    with pytest.raises(LifelongError, match="answer a question"):
        RAGModel(store, encoder, BPETokenizer(300))
    with pytest.raises(LifelongError, match="tokenizer is not known"):
        RAGModel(store, Transformer(ModelConfig(vocab_size=600, **_SHAPE)))
