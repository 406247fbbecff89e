"""Reading with compiled code, beside the model's own forward pass over everything at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.model import kernel
from lifelong.model.adapters import AdapterConfig, adapted_layers, attach_adapter
from lifelong.model.decoding import StaticDecoder
from lifelong.model.experts import add_expert, all_experts, use_expert
from lifelong.model.kernel_decoding import KernelDecoder, can_read
from lifelong.model.packing import pack
from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig

compiled = pytest.mark.skipif(kernel.load_kernel() is None, reason="no C compiler")
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


def made(seed: int = 0, **changes: Any) -> Transformer:
    shape = {"vocab_size": 203, "d_model": 64, "num_layers": 2, "num_query_heads": 4, "num_kv_heads": 2}
    torch.manual_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        model = Transformer(ModelConfig(**{**shape, "max_seq_len": 512, **changes}))
        for parameter in model.parameters():
            parameter.normal_(mean=float(parameter.ndim == 1), std=0.15)
    return model.eval()


def with_adapters(model: Transformer, count: int) -> Transformer:
    for number in range(count):
        attach_adapter(model, AdapterConfig(rank=3 + number))
        for _, layer in adapted_layers(model):
            torch.nn.init.normal_(layer.adapter.lora_B, std=0.2)  # type: ignore[union-attr, arg-type]
        add_expert(model, f"adapter-{number}")
    return model.eval()


def tokens(length: int, seed: int = 0) -> list[int]:
    return torch.randint(203, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def told(decoder: Any, prompts: list[list[int]], following: list[list[int]]) -> torch.Tensor:
    """Return logits (E, texts, times, V) behind the prompts, and behind each of the tokens that follow."""
    found = [decoder.read(prompts)]
    found += [decoder.step(torch.tensor(one)) for one in zip(*following, strict=True)]
    return torch.stack(found, dim=2)


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@compiled
@settings(max_examples=25, deadline=None)
@given(
    heads=st.sampled_from([(1, 1), (4, 1), (4, 2), (6, 3)]),
    head_dim=st.sampled_from([16, 48, 64, 80]),
    qk_norm=st.booleans(),
    tied=st.booleans(),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    more=st.integers(0, 12),
)
def test_token_by_token_logits_are_those_of_a_pass_over_everything(
    heads: tuple[int, int], head_dim: int, qk_norm: bool, tied: bool, lengths: list[int], more: int
) -> None:
    model = made(
        num_query_heads=heads[0], num_kv_heads=heads[1], head_dim=head_dim, qk_norm=qk_norm, tie_embeddings=tied
    )
    texts = [tokens(length + more, seed) for seed, length in enumerate(lengths)]
    prompts = [text[:length] for text, length in zip(texts, lengths, strict=True)]
    decoder = model.new_decoder(len(texts), 60)
    assert isinstance(decoder, KernelDecoder)
    found = told(decoder, prompts, [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)])
    for text, prompt, mine in zip(texts, prompts, found[0], strict=True):
        torch.testing.assert_close(mine, model(torch.tensor([text]))[0, len(prompt) - 1 :], **CLOSE)


@compiled
@pytest.mark.parametrize(("threads", "lengths"), [(1, (1, 2, 5, 64, 190, 191, 192, 193, 400)), (2, (1, 7, 40))])
def test_what_follows_is_the_same_to_the_bit_alone_in_a_batch_and_however_it_was_read(
    threads: int, lengths: tuple[int, ...]
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = made(d_model=480, num_query_heads=5, num_kv_heads=1, head_dim=64)  # d_ff is above a block of inputs
        texts = [tokens(length, length) for length in lengths]
        found = model.new_decoder(len(texts), 410).read(texts)[0]
        for text, mine in zip(texts, found, strict=True):
            assert torch.equal(model.new_decoder(1, 410).read([text])[0, 0], mine)
            late = model.new_decoder(3, 410)
            late.read([text[: len(text) // 2] or text, [7], [8, 9]])
            for token in text[len(text) // 2 :] if len(text) > 1 else ():
                latest = late.step(torch.tensor([token, 3, 4]))
            if len(text) > 1:
                assert torch.equal(latest[0, 0], mine)
    finally:
        torch.set_num_threads(before)


@compiled
def test_several_experts_read_at_once_and_some_go_on() -> None:
    model = with_adapters(made(), 2)
    prompts, following = [tokens(9), tokens(9), tokens(4, 1), tokens(200, 2)], [tokens(5, seed) for seed in range(4)]
    with all_experts(model) as count:
        mine, torchs = KernelDecoder(model, 4, 210, count), StaticDecoder(model, 4, 210, count)
        torch.testing.assert_close(told(mine, prompts, following), told(torchs, prompts, following), **CLOSE)
        for decoder in (mine, torchs):
            decoder.drop(1)
        torch.testing.assert_close(mine.step(torch.tensor([1, 2, 3])), torchs.step(torch.tensor([1, 2, 3])), **CLOSE)
        expected = torchs.step(torch.tensor([4, 5, 6]))
        mine.keep_experts([0, 2])
        assert mine.keys.shape[1] == 2
        torch.testing.assert_close(mine.step(torch.tensor([4, 5, 6])), expected[[0, 2]], **CLOSE)
    use_expert(model, "adapter-1")
    alone = told(model.new_decoder(4, 210), prompts, following)
    assert not torch.allclose(alone[0, 0], told(made().new_decoder(4, 210), prompts, following)[0, 0], atol=1e-2)
    text = prompts[2] + following[2]
    torch.testing.assert_close(alone[0, 2], model(torch.tensor([text]))[0, 3:], **CLOSE)


@compiled
def test_changed_weights_are_seen_and_others_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from lifelong.model import packing

    calls: list[int] = []

    def counted(*given: Any) -> Any:
        calls.append(1)
        return pack(*given)

    monkeypatch.setattr(packing, "pack", counted)
    model, text = made(), tokens(6)

    def check() -> None:
        found = model.new_decoder(1, 8).read([text])[0]
        torch.testing.assert_close(found, model(torch.tensor([text]))[:, -1], **CLOSE)

    check()
    first = len(calls)
    check()
    assert len(calls) == first
    model.model.layers[1].mlp.down_proj.weight.mul_(1.5)  # type: ignore[union-attr, operator]
    check()
    assert len(calls) == 2 * first
    model.load_state_dict(made(1).state_dict())
    check()
    with torch.inference_mode(False):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
        model(torch.tensor([text])).square().mean().backward()
        optimizer.step()
    check()
    model.model.embed_tokens.weight.add_(0.1)
    check()
    model = copy.deepcopy(model)
    model.lm_head.weight.data[5, 7] += 1
    check()


@compiled
def test_bf16_is_what_rounding_the_weights_gives_and_costs_nothing_where_they_are_round() -> None:
    model, text = made(tie_embeddings=False), tokens(30)
    model.set_precision("bf16")
    found = model.new_decoder(1, 30).read([text])[0]
    rounded = copy.deepcopy(model)
    for name, parameter in rounded.named_parameters():
        if parameter.ndim == 2 and "embed" not in name:
            parameter.copy_(parameter.bfloat16())
    torch.testing.assert_close(found, rounded(torch.tensor([text]))[:, -1], **CLOSE)
    assert not torch.allclose(found, model(torch.tensor([text]))[:, -1], atol=1e-3)
    rounded.set_precision("fp32")
    assert torch.equal(rounded.new_decoder(1, 30).read([text])[0], found)
    assert pack(rounded.output_weight).weights.nbytes * 2 == pack(model.output_weight).weights.nbytes


@given(outputs=st.integers(1, 70), inputs=st.integers(1, 20), half=st.booleans())
def test_packing_keeps_every_weight(outputs: int, inputs: int, half: bool) -> None:
    weights = torch.randn(outputs, inputs)
    packed = pack(weights, "bf16" if half else "fp32").weights
    if half:
        packed = packed.unflatten(2, (8, 2)).transpose(2, 3).flatten(2)
    back = packed.transpose(1, 2).flatten(0, 1).float()
    assert torch.equal(back[:outputs], weights.bfloat16().float() if half else weights)
    assert not back[outputs:].any()


@pytest.fixture
def another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a compiler can be put whose work is not kept for others."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", str(tmp_path / "cc"))
    kernel.load_kernel.cache_clear()
    yield tmp_path / "cc"
    kernel.load_kernel.cache_clear()


def test_without_a_compiler_torch_reads_and_bf16_is_refused(another: Path) -> None:
    model, text = made(), tokens(6)
    assert not can_read(model)
    decoder = model.new_decoder(1, 8)
    assert isinstance(decoder, StaticDecoder)
    torch.testing.assert_close(decoder.read([text])[0], model(torch.tensor([text]))[:, -1], **CLOSE)
    with pytest.raises(LifelongError, match="bf16 needs a CPU, a C compiler"):
        model.set_precision("bf16")
    model.set_precision("fp32")


def test_a_compiler_that_fails_is_said_to(another: Path, capsys: pytest.CaptureFixture[str]) -> None:
    another.write_text("#!/bin/sh\necho no room >&2\nexit 1\n", encoding="utf-8")
    another.chmod(0o700)
    assert isinstance(made().new_decoder(1, 8), StaticDecoder)
    assert "no room" in capsys.readouterr().err


@compiled
def test_it_is_compiled_once(another: Path, capsys: pytest.CaptureFixture[str]) -> None:
    another.write_text('#!/bin/sh\nexec gcc "$@" || exec clang "$@"\n', encoding="utf-8")
    another.chmod(0o700)
    said = []
    for _ in range(2):
        kernel.load_kernel.cache_clear()
        if kernel.load_kernel() is None:
            pytest.skip("neither gcc nor clang")
        said.append("compiling" in capsys.readouterr().err)
    assert said == [True, False]
    [kept] = (another.parent / "cache" / "lifelong").iterdir()
    kept.unlink()  # it is in use
    kept.write_bytes(b"not a library")
    kernel.load_kernel.cache_clear()
    assert kernel.load_kernel() is not None, "one that cannot be loaded is made again"


@compiled
def test_what_lies_outside_of_the_tables_is_refused() -> None:
    model = made()
    for number in (-1, 203):
        with pytest.raises(IndexError, match="none of the model's 203"):
            model.new_decoder(1, 8).read([[1, number]])
    decoder = model.new_decoder(1, 3)
    decoder.read([[1, 2]])
    decoder.step(torch.tensor([3]))
    with pytest.raises(IndexError, match="no room"):
        decoder.step(torch.tensor([4]))
    with pytest.raises(IndexError, match="no room"):
        model.new_decoder(1, 8).read([[1], [2]])
