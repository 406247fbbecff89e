"""Writing many texts side by side, beside oracles: transformers' own `generate`, and each text alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.generate.engine import Written, write
from lifelong.generate.sampling import Sampling
from lifelong.generate.slots import Slots
from lifelong.model import kernel
from lifelong.model.adapters import AdapterConfig, adapted_layers, attach_adapter
from lifelong.model.experts import add_expert
from lifelong.model.networks import new_foreign
from lifelong.model.seq2seq import new_encoder_decoder
from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig
from lifelong.tokens.tokenizer import BPETokenizer

PROMPTS = [
    "The names of",
    "",
    "x = [1, 2]\n",
    "def f(",
    "The names of",
    "A much longer prompt than the others are " * 2,
]


def randomised(model: Any) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(mean=float(parameter.ndim == 1), std=0.2)
    return model.eval()


def with_experts(model: Transformer) -> Transformer:
    model = copy.deepcopy(model)
    for number in range(2):
        attach_adapter(model, AdapterConfig(rank=4))
        for _, layer in adapted_layers(model):
            torch.nn.init.normal_(layer.adapter.lora_B, std=0.3)  # type: ignore[union-attr, arg-type]
        add_expert(model, f"adapter-{number}")
    return model


def foreign(tokenizer: BPETokenizer) -> Any:
    from lifelong.model.foreign import ForeignModel

    raw = {"model_type": "gpt2", "vocab_size": tokenizer.vocab_size, "n_embd": 32, "n_layer": 2, "n_head": 2}
    network = new_foreign({**raw, "n_positions": 96})
    network = type(network)(network.config)
    return randomised(ForeignModel(network, raw))


def seq2seq(tokenizer: BPETokenizer) -> Any:
    shape = ModelConfig(vocab_size=tokenizer.vocab_size, d_model=32, num_layers=2, num_query_heads=2, max_seq_len=96)
    return randomised(new_encoder_decoder(shape, tokenizer))


def facts(texts: list[list[Written]]) -> list[list[tuple[list[int], str]]]:
    return [[(one.tokens, one.finish) for one in samples] for samples in texts]


@pytest.mark.parametrize("kind", ["native", "torch", "experts", "top_experts", "foreign", "seq2seq"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0),
        Sampling(1.2, 1.0, 0),
        Sampling(1.0, 0.95, 0, min_p=0.02, repetition_penalty=1.2),
    ],
)
def test_f10_the_same_seed_gives_the_same_text_alone_and_in_a_batch(
    model: Transformer, tokenizer: BPETokenizer, kind: str, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "torch":
        monkeypatch.setattr(kernel, "load_kernel", lambda: None)
    made: Any = {"foreign": foreign, "seq2seq": seq2seq}.get(kind, lambda _: model)(tokenizer)
    if "experts" in kind:
        made = with_experts(made)
    more: dict[str, Any] = {"top_experts": 2} if kind == "top_experts" else {}
    more |= {"max_tokens": 12, "seed": 4, "stop_ids": tokenizer.encode("e")}
    together = write(made, tokenizer, PROMPTS, sampling, num_samples=4, **more)
    alone = [write(made, tokenizer, [prompt], sampling, **more)[0] for prompt in PROMPTS]
    assert [samples[0] for samples in facts(together)] == [samples[0] for samples in facts(alone)]
    assert facts(together)[0] == facts(together)[4]
    if sampling.temperature:
        assert len({tuple(one.tokens) for one in together[0]}) > 1


def test_compiled_code_reads_nothing_twice_and_no_text_hears_of_another(
    model: Transformer, tokenizer: BPETokenizer
) -> None:
    if kernel.load_kernel() is None:
        pytest.skip("no C compiler")
    sampling = Sampling(temperature=1.5, top_p=0.97, top_k=0)
    ids = [[tokenizer.eos_id, *tokenizer.encode(prompt)] for prompt in PROMPTS]

    def logs(prompts: list[list[int]]) -> tuple[list[list[float | None]], int]:
        with Slots(model, len(prompts), 96) as slots:
            handles = [slots.join(one, sampling, max_tokens=30, seed=5, logprobs=1) for one in prompts]
            steps = [step for _ in range(30) for step in slots.step()]
            return [[step.logprob for step in steps if step.handle == one] for one in handles], slots.read_again

    together, again = logs(ids)
    assert again == 0
    assert together == [logs([one])[0][0] for one in ids]  # to the bit


def test_a_choice_that_rounding_could_change_is_made_by_the_text_alone(
    model: Transformer, tokenizer: BPETokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a much larger error assumed, every choice is: nothing of a batch's rounding is left."""
    from lifelong.generate import slots

    monkeypatch.setattr(kernel, "load_kernel", lambda: None)
    monkeypatch.setattr(slots, "_ROUNDING", 10.0)
    calls: list[int] = []
    original = Slots._choose_alone

    def counted(self: Slots, text: Any) -> int:
        calls.append(1)
        return original(self, text)

    monkeypatch.setattr(Slots, "_choose_alone", counted)
    together = write(model, tokenizer, PROMPTS, max_tokens=6, seed=1)
    assert len(calls) == 6 * len(PROMPTS)
    assert facts(together) == [facts(write(model, tokenizer, [prompt], max_tokens=6, seed=1))[0] for prompt in PROMPTS]


def test_rounding_is_far_below_what_is_allowed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from lifelong.generate.slots import _ROUNDING

    monkeypatch.setattr(kernel, "load_kernel", lambda: None)
    config = ModelConfig(vocab_size=400, d_model=192, num_layers=4, num_query_heads=3, num_kv_heads=1, max_seq_len=128)
    model = randomised(Transformer(config))
    prompts = [list(range(1, length)) for length in (3, 7, 20, 60)]
    with torch.inference_mode():
        batch, alone = model.new_decoder(4, 80), [model.new_decoder(1, 80) for _ in prompts]
        scores = [
            (batch.read(prompts)[0], torch.cat([one.read([p])[0] for one, p in zip(alone, prompts, strict=True)]))
        ]
        for token in range(16):
            tokens = torch.tensor([token, 2 * token, 3 * token, 5])
            scores.append(
                (
                    batch.step(tokens)[0],
                    torch.cat([one.step(t)[0] for one, t in zip(alone, tokens.split(1), strict=True)]),
                )
            )
    worst = max(float(((a - b).abs() / b.amax(-1, keepdim=True).abs().clamp(min=1)).max()) for a, b in scores)
    assert worst < _ROUNDING / 2


@pytest.mark.parametrize("qk_norm", [True, False])
def test_f10_greedy_text_is_that_of_transformers_also_in_a_batch_of_uneven_prompts(
    tokenizer: BPETokenizer, qk_norm: bool, tmp_path: Any
) -> None:
    from transformers import AutoModelForCausalLM

    from lifelong.model.directory import write_model_files

    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, d_model=64, num_layers=2, num_query_heads=4, num_kv_heads=2, max_seq_len=96,
        qk_norm=qk_norm,
    )  # fmt: skip
    model = randomised(Transformer(config))
    write_model_files(model, tokenizer, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    expected = []
    for prompt in PROMPTS:
        ids = torch.tensor([[tokenizer.eos_id, *tokenizer.encode(prompt)]])
        out = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False,
            temperature=None, top_k=None, top_p=None, repetition_penalty=1.1,
        )[0, ids.shape[1] :].tolist()  # fmt: skip
        ends = (tokenizer.eos_id, tokenizer.end_of_turn_id)
        expected.append(next((out[:place] for place, token in enumerate(out) if token in ends), out))
    found = write(
        model, tokenizer, PROMPTS, Sampling(temperature=0, repetition_penalty=1.1), max_tokens=20,
        stop_ids=[tokenizer.end_of_turn_id],
    )  # fmt: skip
    assert [samples[0].tokens for samples in found] == expected


def test_an_adapter_that_is_attached_writes_what_it_reads(model: Transformer, tokenizer: BPETokenizer) -> None:
    attach_adapter(model, AdapterConfig(rank=4))
    for _, layer in adapted_layers(model):
        torch.nn.init.normal_(layer.adapter.lora_B, std=0.3)  # type: ignore[union-attr, arg-type]
    [[found]] = write(model, tokenizer, [PROMPTS[0]], Sampling(temperature=0), max_tokens=20, logprobs=3)
    ids = [tokenizer.eos_id, *tokenizer.encode(PROMPTS[0])]
    with torch.no_grad():
        logs = model.eval()(torch.tensor([ids + found.tokens]))[0].log_softmax(-1)[len(ids) - 1 :]
    assert found.tokens == logs.argmax(-1)[: len(found.tokens)].tolist()
    assert found.logprobs == pytest.approx(
        [float(row[token]) for row, token in zip(logs, found.tokens, strict=False)], abs=1e-4
    )
    for best, row in zip(found.top, logs, strict=False):
        assert [token for token, _ in best] == row.topk(3).indices.tolist()
        assert [value for _, value in best] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)


def test_texts_join_and_leave_while_others_go_on(model: Transformer, tokenizer: BPETokenizer) -> None:
    ids = [[tokenizer.eos_id, *tokenizer.encode(prompt)] for prompt in PROMPTS]
    alone = [write(model, tokenizer, [one], max_tokens=10, seed=2)[0][0].tokens for one in ids]
    written: dict[int, list[int]] = {}
    with Slots(model, 3, 96) as slots:
        waiting, numbers, left = list(range(6)), {}, []
        for turn in range(200):
            if waiting and slots.free and turn % 2 == 0:
                number = waiting.pop(0)
                numbers[slots.join(ids[number], Sampling(), max_tokens=10, seed=2, stop_ids=[tokenizer.eos_id])] = (
                    number
                )
            for step in slots.step():
                if step.finish != "stop":
                    written.setdefault(numbers[step.handle], []).append(step.token)
                if numbers[step.handle] == 1 and len(written[1]) == 4 and not left:
                    left.append(slots.leave(step.handle))
        assert slots.free == 3
        assert slots.step() == []
        for number, tokens in enumerate(alone):
            assert written.get(number, []) == tokens[: 4 if number == 1 else 10]
        for refused in ([], list(range(95))):
            with pytest.raises(LifelongError):
                slots.join(refused, Sampling(), max_tokens=10)


@pytest.mark.parametrize("stop", [["\n"], ["the", "he names"], ["zzz", "e"]])
def test_f10_a_stop_text_ends_a_sample_and_is_never_seen(
    model: Transformer, tokenizer: BPETokenizer, stop: list[str]
) -> None:
    for seed in range(6):
        [[free]] = write(model, tokenizer, ["The"], max_tokens=40, seed=seed)
        pieces: list[str] = []
        [[found]] = write(model, tokenizer, ["The"], max_tokens=40, seed=seed, stop=stop, on_text=pieces.append)
        places = [free.text.find(word) for word in stop if word in free.text]
        assert found.text == (free.text[: min(places)] if places else free.text) == "".join(pieces)
        assert found.finish == ("stop" if places else free.finish)


FEW = settings(max_examples=60)


@FEW
@given(
    text=st.text("ab é🦊", max_size=25),
    stop=st.lists(st.text("ab é", min_size=1, max_size=4), min_size=1, max_size=3),
    sizes=st.lists(st.integers(1, 5), max_size=30),
)
def test_wherever_tokens_end_the_text_ends_before_the_stop_that_is_complete_first(
    text: str, stop: list[str], sizes: list[int]
) -> None:
    from lifelong.generate.stream import TextStream

    class Bytes:
        """A vocabulary in which a token is any few bytes."""

        def __init__(self) -> None:
            data, self.parts, at = text.encode(), [], 0
            for size in [*sizes, *[1] * len(data)]:
                self.parts.append(data[at : at + size])
                at += size

        def decode(self, ids: list[int]) -> str:
            return b"".join(self.parts[number] for number in ids).decode(errors="replace")

    tokens, pieces = Bytes(), []
    stream = TextStream(tokens, pieces.append, stop)  # type: ignore[arg-type]
    ended = any(stream.add(number) for number in range(len(tokens.parts)))
    ends = [(text.find(word) + len(word), text.find(word)) for word in stop if word in text]
    expected = text[: min(ends)[1]] if ends else text
    assert stream.finish() == expected == "".join(pieces)
    assert ended == stream.stopped == bool(ends)
