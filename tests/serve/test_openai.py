from __future__ import annotations

import openai
import pytest

from lifelong.generate.chat import ChatSession
from lifelong.generate.engine import generate
from lifelong.model.directory import load_model


@pytest.fixture(scope="module")
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["auto", "base"]
    assert client.models.retrieve("base").id == "base"


def test_f43_a_chat_over_http_says_what_a_chat_here_says(client: openai.OpenAI, model_dir) -> None:
    question = [{"role": "user", "content": "What is a list?"}]
    found = client.chat.completions.create(model="base", messages=question, max_tokens=12, temperature=0)
    model, tokenizer = load_model(model_dir, device="cpu")
    assert found.choices[0].message.content == ChatSession(model, tokenizer, max_tokens=12, temperature=0).ask(
        "What is a list?"
    )
    assert found.usage and found.usage.completion_tokens <= 12
    pieces = client.chat.completions.create(
        model="base",
        messages=question,
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(pieces)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == found.choices[0].message.content
    assert chunks[-1].usage == found.usage
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == found.choices[0].finish_reason


def test_f10_a_completion_over_http_is_that_of_generate(client: openai.OpenAI, model_dir) -> None:
    model, tokenizer = load_model(model_dir, device="cpu")
    expected = generate(model, tokenizer, "The import", max_tokens=10, seed=3, num_samples=2)
    found = client.completions.create(model="base", prompt="The import", max_tokens=10, seed=3, n=2)
    assert [choice.text for choice in found.choices] == expected
