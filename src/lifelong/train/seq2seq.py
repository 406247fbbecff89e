"""What encoder-decoder training needs besides the loop: what is read and what is to be written, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.model.base import LanguageModel
from lifelong.model.seq2seq import EncoderDecoderModel
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.pairs import PairSource
from lifelong.tokens.rows import RowSource
from lifelong.tokens.shards import Ids
from lifelong.tokens.spans import Spans, sizes


def gaps_of(
    model: LanguageModel, tokenizer: Tokenizer, sources: Sequence[RowSource], seed: int
) -> Callable[[Ids, Ids], tuple[Ids, Ids]] | None:
    """Prepare an encoder-decoder model for the rows of a run; returns what takes spans out of running text.

    None where the rows are prompts and answers already.

    Raises:
        LifelongError: some sources are conversations and some are not, or the tokenizer does not fit the model.
    """
    assert isinstance(model, EncoderDecoderModel)  # `check_phase` has seen to it
    pairs = [isinstance(source, PairSource) for source in sources]
    if any(pairs) and not all(pairs):
        raise LifelongError(
            "running text and conversations cannot be mixed in one run of --phase seq2seq",
            fix="Train on the one first and on the other then.",
        )
    if note := model.fit(tokenizer):
        progress.note(f"note: {note}")
    model.use_prompts("chat" if all(pairs) else "spans", tokenizer)
    return None if all(pairs) else Spans.of(tokenizer, seed).corrupt


def text_share(sources: Sequence[RowSource]) -> float:
    """Return the share of what is to be written that is text: not sentinels, nor the end."""
    if isinstance(sources[0], PairSource):
        return 1.0
    taken, spans = sizes(sources[0].sequence_length)
    return taken / (taken + spans + 1)
