"""Models that transformers computes, behind our interface; transformers itself is the oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from lifelong.errors import LifelongError
from lifelong.learn.ewc import ElasticPull, fisher_diagonal
from lifelong.model.adapters import AdapterConfig, adapted_layers, attach_adapter, merge_adapter
from lifelong.model.directory import fingerprint, model_weights
from lifelong.model.foreign import ForeignModel
from lifelong.model.networks import new_foreign
from lifelong.model.outside import with_rows
from lifelong.tokens.loader import Batch

VOCABULARY = 60
_SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "opt": {**_SMALL, "ffn_dim": 32, "word_embed_proj_dim": 8},
    "gpt_neox": {**_SMALL},
    "gptj": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "rotary_dim": 4},  # a bias on its logits
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},  # positions by distance, from the mask
    "gemma2": {**_SMALL, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4},  # logits capped, a window
    "qwen2": {**_SMALL, "num_key_value_heads": 1},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},  # a state instead of attention
}


def make(family: str, **changes: Any) -> ForeignModel:
    torch.manual_seed(0)
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = transformers.AutoConfig.for_model(family, vocab_size=VOCABULARY, **tokens, **FAMILIES[family], **changes)
    network = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():  # far from zero, so that a wrong path shows
            parameter.add_(0.1 * torch.randn_like(parameter))
    return ForeignModel(network.eval(), config.to_dict()).eval()


def ids_of(rows: int, length: int) -> Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_row_scores_as_its_documents_do_alone(family: str) -> None:
    model, ids = make(family), ids_of(2, 12)
    segments = torch.tensor([[0] * 5 + [1] * 7, [0] * 7 + [1] * 3 + [2] * 2])
    labels = ids.roll(-1, dims=1)
    labels[0, 4] = labels[0, -1] = labels[1, 6] = labels[1, 9] = labels[1, -1] = -100
    pieces = [ids[0, :5], ids[0, 5:], ids[1, :7], ids[1, 7:10], ids[1, 10:]]
    with torch.no_grad():
        alone = [model._network(input_ids=piece.unsqueeze(0), labels=piece.unsqueeze(0)).loss for piece in pieces]
        expected = sum(float(loss) * (len(piece) - 1) for loss, piece in zip(alone, pieces, strict=True))
        found = float(model.loss_sum(ids, labels, segment_ids=segments))
        losses, _ = model.token_losses(ids, labels, segment_ids=segments)
    assert found == pytest.approx(expected, rel=1e-4)
    assert float(losses.sum()) == pytest.approx(expected, rel=1e-4)
    assert float(losses[labels == -100].abs().sum()) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_writing_with_a_cache_gives_the_logits_of_reading_at_once(family: str) -> None:
    model, ids = make(family), ids_of(2, 9)
    with torch.no_grad():
        whole = model(ids)
        cache = model.new_cache(2, 9)
        steps = [model.next_logits(ids[:, :4], cache)] + [
            model.next_logits(ids[:, t : t + 1], cache) for t in range(4, 9)
        ]
    torch.testing.assert_close(torch.stack(steps, 1), whole[:, 3:], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_a_cache_keeps_go_on_as_they_would(family: str) -> None:
    model, ids = make(family), ids_of(3, 9)
    with torch.no_grad():
        cache = model.new_cache(3, 9)
        model.next_logits(ids[:, :5], cache)
        model.keep_rows(cache, torch.tensor([2, 0]))
        found = model.next_logits(ids[[2, 0], 5:6], cache)
        torch.testing.assert_close(found, model(ids[[2, 0], :6])[:, -1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["gpt2", "gptj", "gpt_neox"])
def test_gradients_are_those_of_transformers(family: str) -> None:
    model, ids = make(family), ids_of(2, 8)
    labels = torch.cat([ids[:, 1:], torch.full((2, 1), -100)], dim=1)
    (model.loss_sum(ids, labels) / 14).backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    model._network(input_ids=ids, labels=ids).loss.backward()
    theirs = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert ours.keys() == theirs.keys()
    for name, grad in ours.items():
        torch.testing.assert_close(grad, theirs[name], rtol=1e-3, atol=1e-5)


def test_tied_weights_are_written_once_and_the_names_are_those_of_the_stock_file() -> None:
    model = make("gpt2")
    assert model.tied_names == {"lm_head.weight"}
    assert model_weights(model).keys() == {name for name in model._network.state_dict() if name != "lm_head.weight"}
    assert make("gpt2", tie_word_embeddings=False).tied_names == frozenset()


@pytest.mark.parametrize("family", ["gpt2", "gptj", "opt"])
def test_new_rows_of_the_embedding_are_the_mean_of_the_old_and_change_nothing_else(family: str) -> None:
    model, ids = make(family), ids_of(1, 6)
    with torch.no_grad():
        before = model(ids)
        wider = with_rows(model, VOCABULARY + 3)
        after = wider(ids)
    assert wider.config.vocab_size == VOCABULARY + 3 and after.shape[-1] == VOCABULARY + 3
    torch.testing.assert_close(after[..., :VOCABULARY], before)
    torch.testing.assert_close(after[..., VOCABULARY], before.mean(-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_an_adapter_merged_gives_the_logits_of_the_adapter_beside(family: str) -> None:
    model, ids = make(family), ids_of(1, 6)
    mark = fingerprint(model)
    attach_adapter(model, AdapterConfig(rank=2))
    for _, layer in adapted_layers(model):
        torch.nn.init.normal_(layer.adapter.lora_B)  # type: ignore[union-attr,arg-type]
    assert fingerprint(model) == mark
    with torch.no_grad():
        beside = model.eval()(ids)
        merge_adapter(model)
        torch.testing.assert_close(model(ids), beside, rtol=1e-4, atol=1e-4)
    assert fingerprint(model) != mark


def test_the_pull_of_old_knowledge_reaches_transposed_layers() -> None:
    model, ids = make("gpt2"), ids_of(2, 8)
    fisher = fisher_diagonal(model, [Batch(ids, ids.roll(-1, dims=1))], torch.Generator().manual_seed(0))
    attach_adapter(model, AdapterConfig(rank=2))
    pull = ElasticPull.towards_now(model, fisher, 1000.0)
    assert pull().item() == 0
    for name, layer in adapted_layers(model):
        assert fisher[name].shape == layer.weight.shape and fisher[name].sum() > 0
        torch.nn.init.normal_(layer.adapter.lora_B)  # type: ignore[union-attr,arg-type]
    assert pull().item() > 0


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"model_type": "telepathy"}, "no causal language model"),
        ({"model_type": "t5", "vocab_size": 8, "d_model": 8}, "encoder-decoder"),
        ({"model_type": "gpt2", "quantization_config": {"bits": 4}}, "quantised"),
    ],
)
def test_what_cannot_be_computed_is_refused(raw: dict[str, Any], says: str) -> None:
    with pytest.raises(LifelongError, match=says):
        new_foreign(raw)


def test_a_model_that_looks_ahead_is_refused() -> None:
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    with pytest.raises(LifelongError, match="looks ahead"):
        ForeignModel(transformers.BertLMHeadModel(config), config.to_dict())
