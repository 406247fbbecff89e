"""What a model writes unprompted: a stand-in for the text that it was trained on, where that is not at hand."""

from __future__ import annotations

from lifelong import progress
from lifelong.generate.engine import generate
from lifelong.model.base import LanguageModel
from lifelong.text.document import Document
from lifelong.tokens.base import Tokenizer

_ROWS = 16


def dream(model: LanguageModel, tokenizer: Tokenizer, count: int, tokens: int, seed: int) -> list[Document]:
    """Return texts drawn from the model's own distribution, with no prompt, temperature or cut-off.

    Replaying them holds a model to what it was (Robins 1995, "Catastrophic forgetting, rehearsal and
    pseudorehearsal"). Texts of nothing but white space are left out.

    Args:
        model: the model; all its experts together.
        tokenizer: the one it was trained with.
        count: texts to write.
        tokens: of each, at most.
        seed: of the draws.
    """
    texts: list[str] = []
    with progress.task("Letting the model write unprompted", total=count) as shown:
        while len(texts) < count:
            texts += generate(
                model,
                tokenizer,
                "",
                max_tokens=min(tokens, model.config.max_seq_len - 1),
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                seed=seed + len(texts),
                num_samples=min(_ROWS, count - len(texts)),
            )
            shown.update(done=len(texts))
    return [Document(text, "the model", f"{number}") for number, text in enumerate(texts) if text.strip()]
