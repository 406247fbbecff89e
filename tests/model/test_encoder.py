"""The bidirectional model against transformers' own EuroBERT, padding included; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lifelong.errors import LifelongError
from lifelong.model.directory import load_weights, model_weights, read_config
from lifelong.model.encoder import EncoderOnlyModel, build_model
from lifelong.model.huggingface import to_huggingface
from lifelong.settings.model import ModelConfig

SHAPE = {"vocab_size": 80, "d_model": 32, "num_heads": 4, "num_layers": 2, "d_ff": 64, "max_seq_len": 40}


def randomised() -> EncoderOnlyModel:
    torch.manual_seed(1)
    model = EncoderOnlyModel(SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1) if parameter.ndim > 1 else parameter.uniform_(0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("side", ["right", "left", "none"])
def test_f19_hidden_states_and_logits_are_those_of_eurobert_also_beside_padding(side: str, tmp_path: Path) -> None:
    from transformers import EuroBertForMaskedLM

    model = randomised()
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    (tmp_path / "config.json").write_text(json.dumps(to_huggingface(model.config, special)))
    save_file(model_weights(model), tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs = EuroBertForMaskedLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.randint(1, 80, (3, 12))
    mask = torch.ones(3, 12, dtype=torch.long)
    for row, padding in enumerate((0, 3, 7) if side != "none" else ()):
        mask[row, 12 - padding :] = 0
    mask = mask.flip(1) if side == "left" else mask
    with torch.no_grad():
        states = theirs.model(input_ids=ids, attention_mask=mask).last_hidden_state
        logits = theirs(input_ids=ids, attention_mask=mask).logits
        for given in (mask, mask.bool()):
            torch.testing.assert_close(model(ids, given)[mask > 0], states[mask > 0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(model.predict_mlm(ids, given)[mask > 0], logits[mask > 0], rtol=1e-4, atol=1e-4)
        # What stands on the padding changes nothing.
        other = torch.where(mask > 0, ids, 7)
        torch.testing.assert_close(model(other, mask)[mask > 0], states[mask > 0], rtol=1e-4, atol=1e-4)
        assert torch.isfinite(model(ids, torch.zeros_like(mask))).all()


def test_a_directory_made_by_transformers_loads_and_a_mask_token_it_has_not_is_left_out(tmp_path: Path) -> None:
    from transformers import EuroBertConfig, EuroBertForMaskedLM

    torch.manual_seed(2)
    config = EuroBertConfig(
        vocab_size=80, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=40, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    theirs = EuroBertForMaskedLM(config).eval()
    theirs.save_pretrained(tmp_path)
    model = build_model(read_config(tmp_path))
    assert isinstance(model, EncoderOnlyModel) and model.config.mask_token_id is None
    load_weights(model, tmp_path)
    ids = torch.randint(0, 80, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(model.eval().predict_mlm(ids), theirs(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


def test_a_token_sees_those_after_it() -> None:
    model = randomised()
    ids = torch.randint(0, 80, (1, 10))
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % 80
    with torch.no_grad():
        assert not torch.allclose(model(ids)[0, 0], model(other)[0, 0])


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(LifelongError, match="d_modle"):
        EncoderOnlyModel({**SHAPE, "d_modle": 32})
    with pytest.raises(LifelongError, match="not causal"):
        EncoderOnlyModel(ModelConfig(vocab_size=80, d_model=32, num_layers=2, num_query_heads=4))
    with pytest.raises(LifelongError, match="not causal"):
        EncoderOnlyModel({**SHAPE, "model_type": "decoder_only"})
    with pytest.raises(LifelongError, match="mask_token_id 80"):
        EncoderOnlyModel({**SHAPE, "mask_token_id": 80})
    model = randomised()
    with pytest.raises(LifelongError, match="41 tokens are more"):
        model(torch.zeros(1, 41, dtype=torch.long))
    with pytest.raises(LifelongError, match="attention_mask"):
        model(torch.zeros(2, 5, dtype=torch.long), torch.ones(2, 4))
