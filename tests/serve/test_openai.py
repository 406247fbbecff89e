from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from lifelong.generate.chat import ChatSession
from lifelong.generate.engine import generate
from lifelong.model.directory import load_model

QUESTION: list[Any] = [{"role": "user", "content": "What is a list?"}]


@pytest.fixture(scope="module")
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["auto", "base"]
    assert client.models.retrieve("base").id == "base"
    with pytest.raises(openai.NotFoundError, match="There are: auto, base") as caught:
        client.completions.create(model="gpt-4", prompt="a")
    assert caught.value.code == "model_not_found"


def test_f43_a_chat_over_http_says_what_a_chat_here_says(client: openai.OpenAI, model_dir: Path) -> None:
    asked: dict[str, Any] = {"model": "base", "messages": QUESTION, "max_tokens": 12, "temperature": 0}
    found = client.chat.completions.create(**asked)
    model, tokenizer = load_model(model_dir, device="cpu")
    expected = ChatSession(model, tokenizer, max_tokens=12, temperature=0).ask("What is a list?")
    assert found.choices[0].message.content == expected
    assert found.usage is not None and 0 < found.usage.completion_tokens <= 12
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == expected
    assert choices[0].delta.role == "assistant"
    assert choices[-1].finish_reason == found.choices[0].finish_reason
    assert chunks[-1].usage == found.usage


def test_a_stream_comes_in_as_few_pieces_as_its_interval_asks(model_dir: Path, serve: Any) -> None:
    texts, counts = [], []
    for interval in (0.0, 10.0):
        with serve(model_dir, stream_interval=interval) as address:
            client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
            chunks = client.completions.create(model="base", prompt="The import", max_tokens=40, seed=1, stream=True)
            pieces = [chunk.choices[0].text for chunk in chunks]
            texts.append("".join(pieces))
            counts.append(len(pieces))
    assert texts[0] == texts[1]
    assert counts[1] <= 2 < counts[0]


def test_f10_a_completion_over_http_is_that_of_generate(client: openai.OpenAI, model_dir: Path) -> None:
    model, tokenizer = load_model(model_dir, device="cpu")
    expected = generate(model, tokenizer, "The import", max_tokens=10, seed=3, num_samples=2)
    found = client.completions.create(model="base", prompt="The import", max_tokens=10, seed=3, n=2)
    assert [choice.text for choice in found.choices] == expected
    whole = client.completions.create(model="base", prompt="The import", max_tokens=10, temperature=0).choices[0].text
    word = whole[4:6]
    cut = client.completions.create(model="base", prompt="The import", max_tokens=10, temperature=0, stop=word)
    assert cut.choices[0].text == whole[: whole.index(word)]
    assert cut.choices[0].finish_reason == "stop"


def test_log_probabilities_are_the_models(client: openai.OpenAI, model_dir: Path) -> None:
    model, tokenizer = load_model(model_dir, device="cpu")
    found = client.chat.completions.create(
        model="base", messages=QUESTION, max_tokens=4, temperature=0, logprobs=True, top_logprobs=2
    )
    logs = found.choices[0].logprobs
    assert logs is not None and logs.content is not None
    ids = tokenizer.encode_chat(QUESTION, add_generation_prompt=True)[0]
    scores = model(torch.tensor([ids]))[0, -1].log_softmax(-1)
    best = scores.topk(2)
    assert [top.logprob for top in logs.content[0].top_logprobs] == pytest.approx(best.values.tolist(), abs=1e-3)


def test_f12_echo_scores_a_text_as_lm_eval_asks_for_it(client: openai.OpenAI, model_dir: Path) -> None:
    """lm-eval's local-completions: token ids, echo, one log-probability, one token that it does not look at."""
    model, tokenizer = load_model(model_dir, device="cpu")
    texts = [[tokenizer.eos_id, *tokenizer.encode(text)] for text in ("The import statement", "A list of values.")]
    found = client.completions.create(
        model="base", prompt=texts, max_tokens=1, temperature=0, logprobs=1, echo=True, seed=1
    )
    for ids, choice in zip(texts, found.choices, strict=True):
        assert choice.logprobs is not None
        logs, top = choice.logprobs.token_logprobs, choice.logprobs.top_logprobs
        assert logs is not None and top is not None
        scores = model(torch.tensor([ids]))[0, :-1].log_softmax(-1)
        expected = scores.gather(1, torch.tensor(ids[1:]).unsqueeze(1)).flatten()
        assert logs[0] is None and len(logs) == len(ids) + 1
        assert logs[1:-1] == pytest.approx(expected.tolist(), abs=1e-3)
        assert [max(one.values()) for one in top[1:-1]] == pytest.approx(scores.amax(1).tolist(), abs=1e-3)
    only = client.completions.create(model="base", prompt="The import", max_tokens=0, logprobs=0, echo=True)
    assert only.choices[0].text == "The import"
    assert only.choices[0].logprobs is not None
    assert "".join(only.choices[0].logprobs.tokens or []) == "The import"


def test_f19_an_encoder_gives_vectors_and_writes_nothing(encoder_dir: Path, serve: Any) -> None:
    with serve(encoder_dir) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        found = client.embeddings.create(model="base", input=["a list", "a list", "the import statement"])
        plain = client.embeddings.create(model="base", input="a list", encoding_format="float")
        one, same, other = (torch.tensor(item.embedding) for item in found.data)
        assert torch.allclose(one, same, atol=1e-5) and not torch.allclose(one, other, atol=1e-2)
        assert plain.data[0].embedding == pytest.approx(one.tolist(), abs=1e-5)
        model, tokenizer = load_model(encoder_dir, device="cpu")
        mean = model.hidden(torch.tensor([tokenizer.encode("a list")]))[0].mean(0)
        assert torch.cosine_similarity(mean, one, dim=0) > 0.9999 and abs(one.norm() - 1) < 1e-4
        with pytest.raises(openai.BadRequestError, match="writes nothing"):
            client.chat.completions.create(model="base", messages=QUESTION)


def test_a_text_is_the_same_whatever_is_written_beside_it(client: openai.OpenAI) -> None:
    import concurrent.futures

    def ask(number: int) -> str:
        found = client.completions.create(model="base", prompt="A list", max_tokens=8 + number % 3, seed=number % 4)
        return found.choices[0].text[:8]

    alone = [ask(number) for number in range(4)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(24))) == [alone[number % 4] for number in range(24)]
