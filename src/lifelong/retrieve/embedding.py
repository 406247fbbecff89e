"""Vectors of texts: from a model in a local directory, or hashed words where there is none."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError
from lifelong.files import read_json, sha256_bytes, sha256_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HASHED = "hashed"
DIMENSION = 256
_BATCH = 32  # texts run through a model side by side
_MODULES, _POOLING = "modules.json", "1_Pooling/config.json"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Embedder:
    """What makes vectors, and what names it.

    Attributes:
        source: ``hashed``, or the directory of the model.
        dimension: numbers in a vector.
        fingerprint: equal where, and only where, vectors mean the same.
        encode: returns the vectors of texts, (texts, dimension) float32 of length 1 (zero for a text without a word).
    """

    source: str
    dimension: int
    fingerprint: str
    encode: Callable[[Sequence[str]], NDArray[np.float32]]

    @property
    def facts(self) -> dict[str, Any]:
        """What a store remembers of it."""
        return {"source": self.source, "dimension": self.dimension, "fingerprint": self.fingerprint}

    def __str__(self) -> str:
        if self.source == HASHED:
            return f"hashed words, {self.dimension} numbers a text (they know spellings, not meanings)"
        return f"the model in {self.source}, {self.dimension} numbers a text"


def open_embedder(source: str | Path | None = None, dimension: int = DIMENSION) -> Embedder:
    """Return the embedder in a directory, or hashed words of ``dimension`` numbers for None and ``"hashed"``.

    A directory is one that sentence-transformers writes (with ``modules.json``), or an encoder model of ours.

    Raises:
        LifelongError: there is no such model, or it is none that reads in both directions.
    """
    if source is None or str(source) == HASHED:
        if dimension < 1:
            raise LifelongError(f"vectors of {dimension} numbers are none", where="embedding_dim")
        name = sha256_bytes(f"hashed words and trigrams 1, {dimension}".encode())
        return Embedder(HASHED, dimension, name, lambda texts: hashed(texts, dimension))
    path = Path(source).expanduser()
    if (path / _MODULES).is_file():
        return _sentence_model(path)
    return _own_encoder(path)


def fingerprint_of(folder: Path, names: Sequence[str]) -> str:
    """Return a SHA-256 over files of a folder, those that are there."""
    return sha256_bytes("\n".join(f"{name} {sha256_file(folder / name)}" for name in names).encode())


def hashed(texts: Sequence[str], dimension: int) -> NDArray[np.float32]:
    """Return signed hashes of words and of their three-letter parts, weighed 1 + ln(count) and brought to length 1.

    The hashing trick of Weinberger et al. 2009; a word's parts together weigh as much as the word.
    """
    import numpy as np

    known: dict[str, list[tuple[int, float]]] = {}
    vectors = np.zeros((len(texts), dimension), dtype=np.float32)
    for row, text in enumerate(texts):
        counts: dict[str, int] = {}
        for word in _WORD.findall(text.lower()):
            counts[word] = counts.get(word, 0) + 1
        vector = vectors[row]
        for word, count in counts.items():
            if word not in known:
                known[word] = _features(word, dimension)
            weight = 1 + float(np.log(count))
            for place, value in known[word]:
                vector[place] += weight * value
    return _normed(vectors)


def _features(word: str, dimension: int) -> list[tuple[int, float]]:
    framed = f"<{word}>"
    parts = [framed[start : start + 3] for start in range(len(framed) - 2)]
    weighed = [(f"w{word}", 1.0), *((f"t{part}", len(parts) ** -0.5) for part in parts)]
    codes = ((zlib.crc32(name.encode("utf-8", "surrogatepass")), value) for name, value in weighed)
    return [((code >> 1) % dimension, value if code & 1 else -value) for code, value in codes]


def _normed(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return result


def _sentence_model(path: Path) -> Embedder:
    """Open a sentence-transformers directory: a transformer, a pooling (mean or first token), perhaps a norm."""
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in read_json(path / _MODULES)]
    pooling = read_json(path / _POOLING) if (path / _POOLING).is_file() else {}
    ways = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on is True]
    if pooling.get("pooling_mode"):
        ways.append(f"pooling_mode_{pooling['pooling_mode']}_tokens")
    first = ways in (["pooling_mode_cls_token"], ["pooling_mode_cls_tokens"])
    if (
        kinds[:2] != ["Transformer", "Pooling"]
        or set(kinds[2:]) - {"Normalize"}
        or not (first or ways == ["pooling_mode_mean_tokens"])
    ):
        raise LifelongError(
            f"this sentence model is built in a way that is not known here ({', '.join(kinds)}; {', '.join(ways)})",
            where=str(path / _MODULES),
            fix="Known: Transformer, Pooling (mean or first token), Normalize.",
        )
    names = [name for name in ("config.json", "tokenizer.json", "model.safetensors") if (path / name).is_file()]
    if len(names) < 3:
        raise LifelongError(
            "the sentence model lacks config.json, tokenizer.json or model.safetensors", where=str(path)
        )
    limits = path / "sentence_bert_config.json"
    limit = int(read_json(limits).get("max_seq_length") or 512) if limits.is_file() else 512
    dimension = int(pooling.get("word_embedding_dimension") or pooling["embedding_dimension"])
    network: list[Any] = []

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        if not network:
            network.extend(_read_sentence_model(path, limit))
        model, tokenizer = network

        def states(rows: Sequence[str]) -> Any:
            import torch

            from lifelong.model.encoder import mean_state

            found = tokenizer.encode_batch(list(rows))
            ids = torch.tensor([row.ids for row in found])
            mask = torch.tensor([row.attention_mask for row in found])
            with torch.inference_mode():
                hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            return hidden[:, 0] if first else mean_state(hidden, mask)

        return _in_batches(texts, dimension, states)

    return Embedder(str(path), dimension, fingerprint_of(path, [*names, _MODULES]), encode)


def _read_sentence_model(path: Path, limit: int) -> tuple[Any, Any]:
    from tokenizers import Tokenizer
    from transformers import AutoModel

    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.enable_truncation(limit)
    pad = read_json(path / "config.json").get("pad_token_id") or 0
    tokenizer.enable_padding(pad_id=pad)
    return AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True).eval(), tokenizer


def _own_encoder(path: Path) -> Embedder:
    """Open an encoder model of ours: the mean of the hidden states, of as many tokens as it reads."""
    import torch

    from lifelong.model.directory import find_model, load_model
    from lifelong.model.encoder import EncoderOnlyModel

    place = find_model(path)
    model, tokenizer = load_model(place, device="cpu")
    if not isinstance(model, EncoderOnlyModel):
        raise LifelongError(
            "only a model that reads in both directions makes vectors here",
            where=str(place),
            fix="Train one (lifelong train --phase mlm), or name a sentence-transformers directory.",
        )
    limit = model.config.max_seq_len

    def states(texts: Sequence[str]) -> Any:
        rows = [ids[:limit] or [tokenizer.eos_id] for ids in tokenizer.encode_batch(texts)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [tokenizer.pad_id] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        with torch.inference_mode():
            return model.embed(ids, mask)

    name = fingerprint_of(
        place, [n for n in ("config.json", "model.safetensors", "tokenizer.json") if (place / n).is_file()]
    )
    dimension = model.config.d_model
    return Embedder(str(path), dimension, name, lambda texts: _in_batches(texts, dimension, states))


def _in_batches(texts: Sequence[str], dimension: int, states: Callable[[Sequence[str]], Any]) -> NDArray[np.float32]:
    """Run texts through a model, those of like length together, and bring the vectors to length 1."""
    import numpy as np

    vectors = np.zeros((len(texts), dimension), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for rows in _groups(order):
        vectors[rows] = states([texts[row] for row in rows]).float().numpy()
    return _normed(vectors)


def _groups(order: list[int]) -> Iterator[list[int]]:
    rest = iter(order)
    while group := list(itertools.islice(rest, _BATCH)):
        yield group
