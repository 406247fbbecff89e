"""The matrix beside a joint model: what one training on the text of all domains reaches on the same test slices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lifelong import progress
from lifelong.device import pick_device
from lifelong.errors import LifelongError
from lifelong.evaluate.matrix import Matrix, Measuring
from lifelong.learn.held import hold, read_held, read_slices, scores
from lifelong.learn.known import learned_hashes
from lifelong.learn.ledger import read_matrix
from lifelong.learn.opening import row_length
from lifelong.model.directory import find_model, load_model, read_config
from lifelong.model.store import ModelStore
from lifelong.settings.learn import LearnSettings
from lifelong.text.cleaning import content_hash


def matrix_beside_joint(model: Path, joint: Path, *, device: str = "auto") -> Matrix:
    """Return a model's matrix with the figures of a joint model on the model's own test slices.

    Both are measured alike: as many tokens of context and bytes of text as all of the matrix. Test documents
    that the joint model was trained on are counted, and said.

    Args:
        model: a model directory that was taught lessons.
        joint: a model directory, run or checkpoint, trained on the text of all domains.
        device: where it computes.

    Raises:
        LifelongError: the model has no matrix, or no test text is left; or the joint model cannot be read, or is not
            one that tells what comes next.
    """
    root, place = find_model(model), find_model(joint)
    matrix = read_matrix(root)
    read_config(place).require_causal("be measured beside lessons")
    slices = read_slices(root, matrix.domains, "test")
    if not slices:
        raise LifelongError("there is no test text to measure the joint model on", where=str(root))
    network, tokenizer = load_model(place, device=pick_device(device))
    settings = LearnSettings()
    how = matrix.measuring or Measuring(row_length(root, settings), settings.max_bytes)
    longest = network.config.max_seq_len
    how = replace(how, sequence_length=min(how.sequence_length or longest, longest))
    seen = learned_hashes(place, list(ModelStore.open(place).state().get("domains", [])))
    for domain, documents in slices.items():
        if known := sum(content_hash(document) in seen for document in documents):
            progress.note(
                f"note: the joint model was trained on {known:,} of {len(documents):,} test documents of '{domain}': "
                "its figure there is too good"
            )
    held = hold(tokenizer, slices, how)
    read_held(network, held, "Measuring the joint model")
    found = {domain: score.bits_per_byte for domain, score in scores(held).items()}
    return replace(matrix, joint=[found.get(domain) for domain in matrix.domains])
