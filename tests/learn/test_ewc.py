"""EWC: the Fisher estimate does not depend on how text is batched, and the pull acts on effective weights."""

from __future__ import annotations

import pytest
import torch

from lifelong.learn.ewc import ElasticPull, fisher_diagonal
from lifelong.model.adapters import AdapterConfig, LowRank, adapted_layers, attach_adapter, merge_adapter
from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig
from lifelong.tokens.loader import Batch

SHAPE = ModelConfig(vocab_size=20, d_model=16, num_layers=1, num_query_heads=2, num_kv_heads=1, max_seq_len=16)


def make_model() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3)
    return model.eval()


def batches_of(ids: torch.Tensor, rows: int, draws: int) -> list[Batch]:
    starts = [i for _ in range(draws) for i in range(0, len(ids), rows)]
    return [Batch(ids[i : i + rows, :-1], ids[i : i + rows, 1:]) for i in starts]


def traces(model: Transformer, batches: list[Batch], seed: int) -> torch.Tensor:
    """The estimate of F summed over each layer, for every batch on its own: (batches, layers)."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for batch in batches:
        fisher = fisher_diagonal(model, [batch], generator)
        rows.append(torch.stack([value.sum() for value in fisher.values()]))
    return torch.stack(rows)


def test_the_mean_over_many_draws_is_the_same_for_every_batch_size() -> None:
    model = make_model()
    ids = torch.randint(0, 20, (8, 9), generator=torch.Generator().manual_seed(1))
    single = traces(model, batches_of(ids, 1, 25), seed=1)
    large = traces(model, batches_of(ids, 8, 200), seed=2)
    error = ((single.var(0) / len(single)) + (large.var(0) / len(large))).sqrt()
    assert ((single.mean(0) - large.mean(0)).abs() < 4 * error).all()
    assert (error < 0.15 * single.mean(0)).all()  # or the comparison would show nothing


def test_labels_of_the_text_itself_would_give_another_matrix() -> None:
    """The empirical Fisher is not the Fisher: a check that the test above can tell estimates apart."""
    model = make_model()
    ids = torch.randint(0, 20, (8, 9), generator=torch.Generator().manual_seed(1))
    sampled = traces(model, batches_of(ids, 1, 25), seed=1)
    total = torch.zeros(sampled.shape[1])
    for batch in batches_of(ids, 1, 1):
        model.zero_grad()
        model.loss_sum(batch.input_ids, batch.labels).backward()
        total += torch.stack([layer.weight.grad.square().sum() / 8 for _, layer in adapted_layers(model)])
    error = (sampled.var(0) / len(sampled)).sqrt()
    assert (((total / 8) - sampled.mean(0)).abs() > 6 * error).any()


def test_the_predicted_damage_is_the_quadratic_form_of_the_effective_change() -> None:
    model = make_model()
    attach_adapter(model, AdapterConfig(rank=3, alpha=6.0, dropout=0.0))
    fisher = {name: torch.rand_like(layer.weight) for name, layer in adapted_layers(model)}
    pull = ElasticPull.towards_now(model, fisher, strength=1000.0)
    assert pull.predicted_damage().item() == 0.0
    before = {name: layer.weight.clone() for name, layer in adapted_layers(model)}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    damage = pull.predicted_damage().item()
    merge_adapter(model)
    by_hand = sum(
        0.5 * (fisher[name] * (layer.weight - before[name]) ** 2).sum().item() for name, layer in adapted_layers(model)
    )
    assert damage == pytest.approx(by_hand, rel=1e-4)
    assert pull().item() == pytest.approx(ElasticPull(pull.layers, 1000.0).predicted_damage().item(), rel=1e-6)


def test_an_adapter_taught_further_is_pulled_to_where_it_was_and_not_to_zero() -> None:
    model = make_model()
    attach_adapter(model, AdapterConfig(rank=3, alpha=6.0, dropout=0.0))
    with torch.no_grad():
        for _, layer in adapted_layers(model):
            assert isinstance(layer.adapter, LowRank)
            layer.adapter.lora_B.normal_()
    fisher = {name: torch.ones_like(layer.weight) for name, layer in adapted_layers(model)}
    pull = ElasticPull.towards_now(model, fisher, strength=1000.0)
    assert pull.predicted_damage().item() == 0.0
    with torch.no_grad():
        for _, layer in adapted_layers(model):
            layer.adapter.lora_B.zero_()  # type: ignore[union-attr]
    assert pull.predicted_damage().item() > 0.0


def test_exchanging_the_ranks_of_an_adapter_costs_nothing() -> None:
    """Penalising A and B each for itself would see a large change where the model's function did not change at all."""
    model = make_model()
    attach_adapter(model, AdapterConfig(rank=2, alpha=2.0, dropout=0.0))
    with torch.no_grad():
        for _, layer in adapted_layers(model):
            layer.adapter.lora_B.normal_()  # type: ignore[union-attr]
    fisher = {name: torch.ones_like(layer.weight) for name, layer in adapted_layers(model)}
    pull = ElasticPull.towards_now(model, fisher, strength=1000.0)
    with torch.no_grad():
        for _, layer in adapted_layers(model):
            assert isinstance(layer.adapter, LowRank)
            layer.adapter.lora_A.copy_(layer.adapter.lora_A.flip(0))
            layer.adapter.lora_B.copy_(layer.adapter.lora_B.flip(1))
    assert pull.predicted_damage().item() == pytest.approx(0.0, abs=1e-9)


def test_all_weights_can_be_pulled_too() -> None:
    model = make_model()
    fisher = {name: torch.ones_like(layer.weight) for name, layer in adapted_layers(model)}
    pull = ElasticPull.towards_now(model, fisher, strength=2000.0)
    with torch.no_grad():
        next(adapted_layers(model))[1].weight += 0.1
    size = next(adapted_layers(model))[1].weight.numel()
    assert pull().item() == pytest.approx(2.0 * 0.5 * size * 0.01, rel=1e-4)
