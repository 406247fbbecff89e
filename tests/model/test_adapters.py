from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lifelong.errors import LifelongError
from lifelong.model.adapters import (
    AdapterConfig,
    adapter_state,
    attach_adapter,
    detach_adapter,
    load_adapter,
    merge_adapter,
    save_adapter,
)
from lifelong.model.directory import fingerprint, model_weights
from lifelong.model.huggingface import to_huggingface
from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig

SHAPE = ModelConfig(vocab_size=50, d_model=32, num_layers=2, num_query_heads=4, num_kv_heads=2)
CONFIG = AdapterConfig(rank=4, alpha=8.0, dropout=0.0)


def adapted() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    attach_adapter(model, CONFIG)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model.eval()


def test_a_fresh_adapter_changes_nothing_and_freezes_the_base() -> None:
    torch.manual_seed(0)
    model = Transformer(SHAPE).eval()
    ids = torch.randint(0, 50, (1, 9))
    before, print_before = model(ids), fingerprint(model)
    attach_adapter(model, CONFIG)
    torch.testing.assert_close(model.eval()(ids), before)
    assert fingerprint(model) == print_before
    assert {name.rsplit(".", 1)[-1] for name, p in model.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    assert not any("adapter" in name for name in model_weights(model))


def test_a_saved_adapter_gives_the_same_logits_in_peft(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = adapted()
    base, place = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    (base / "config.json").write_text(json.dumps(to_huggingface(model.config, special)))
    save_file(model_weights(model), base / "model.safetensors", metadata={"format": "pt"})
    save_adapter(model, CONFIG, place)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), place).eval()
    ids = torch.randint(0, 50, (2, 11))
    with torch.no_grad():
        assert (theirs(input_ids=ids).logits - model(ids)).abs().max() < 1e-4
    # and back: what PEFT writes, we read
    theirs.save_pretrained(tmp_path / "again")
    second = adapted()
    detach_adapter(second)
    read = load_adapter(second, tmp_path / "again")
    assert (read.rank, read.alpha) == (4, 8.0)
    for name, tensor in adapter_state(model).items():
        torch.testing.assert_close(adapter_state(second)[name], tensor)


def test_merging_gives_the_same_logits() -> None:
    model = adapted()
    ids = torch.randint(0, 50, (1, 9))
    with torch.no_grad():
        before = model(ids)
        merge_adapter(model)
        torch.testing.assert_close(model(ids), before, rtol=1e-4, atol=1e-5)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    save_adapter(adapted(), CONFIG, tmp_path)
    other = Transformer(ModelConfig(vocab_size=50, d_model=48, num_layers=2, num_query_heads=4, num_kv_heads=2))
    with pytest.raises(LifelongError, match="for another model"):
        load_adapter(other, tmp_path)


def test_a_rank_larger_than_a_layer_is_refused() -> None:
    with pytest.raises(LifelongError, match="rank 64 is larger than layer"):
        attach_adapter(Transformer(SHAPE), AdapterConfig(rank=64))


def test_dropout_leaves_out_the_share_it_should_and_keeps_the_mean() -> None:
    from lifelong.model.adapters import _dropout

    torch.manual_seed(0)
    for shape in ((400, 500), (3, 7, 11)):  # the second does not divide by four, and takes torch's own way
        out = _dropout(torch.ones(shape), 0.05)
        tolerance = 4 * (0.05 / out.numel()) ** 0.5
        assert (out == 0).float().mean().item() == pytest.approx(0.05, abs=tolerance)
        assert out.mean().item() == pytest.approx(1.0, abs=1.1 * tolerance)
