"""What an export is tried with: texts whose token ids, and held-out text whose probabilities, have to be the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from lifelong.evaluate import masked, seq2seq
from lifelong.evaluate.bits import encode_documents, scored_text
from lifelong.evaluate.windows import IGNORED, Window, cut_windows
from lifelong.export.source import CAUSAL, MASKED, Source
from lifelong.text.document import Document
from lifelong.text.memory import read_slice
from lifelong.tokens.pieces import spelled_bytes
from lifelong.tokens.sentencepiece import SentencePieceTokenizer
from lifelong.tokens.spm import SPACE
from lifelong.train.founding import MEMORY, slice_path

_LENGTH = 256  # tokens of one window
_PIECE = 300  # characters of one string
_PROMPT, _PROMPTS = 16, 4  # tokens of a beginning, and how many
# What tokenizers disagree about: white space, digits, contractions, scripts, emoji, controls, other forms of a letter.
# Not U+0000, at which onnxruntime-genai ends a text.
EDGES = (
    *("", " ", "  ", "\n", "\n\n\n", "\t\t", " \n ", "a", " a", "a ", "\r\n", "a\r\nb", "  a\n\n\n b\t\tc  "),
    *("12345 1,000.50", "3.14159e-10", "1a2b3c", "١٢٣٤ ½²", "don't I'LL we've they'd", "'s 's", "it’s “quoted”"),
    *(
        "漢字かな交じり文",
        "😀👍🏽👩‍👩‍👧‍👦",
        "e\u0301 \u00e9",
        "ﬁ ﬀ",
        "Straße",
        "ÅÄÖ åäö",
        "привет мир",
        "שלום",
        "مرحبا",
    ),
    *("ไทย", "हिन्दी", "한국어", "\u200b\u200d\ufeff", "\u00a0\u2003x", "\x7f\x1b[0m", "\u2581x", "\ufffd"),
    *("def f(x):\n    return x**2  # square\n", "if (a && b || !c) { x += 1; }", "<html><body>&amp;</body></html>"),
    *("https://example.org/a?b=c&d=%20e#f", "user@example.org", "C:\\Users\\x\\y", "$HOME/.config/*.yaml"),
    *("AAAAAAAAAAAAAAAA", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "=" * 40, "-" * 80, " " * 33 + "x", "!?!?...…"),
    *("𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𠜎𠜱", "\U0001f1e9\U0001f1ea", "|<>|", "<0x41>", "<unk>x", "▁▁", "[PAD]", "Ω≈ç√∫˜µ≤≥÷", "\\n \\t"),
)


@dataclass(frozen=True)
class Evidence:
    """Texts; windows of held-out text; the beginnings that greedy writing goes on from; bytes that the windows spell.

    ``held_out`` is False where the model keeps no text of its own, and Python's documentation stands in.
    """

    strings: list[str]
    windows: list[Window]
    prompts: list[list[int]]
    spelled: int
    held_out: bool


def gather(source: Source, *, strings: int, tokens: int) -> Evidence:
    """Return what to try an export of ``source`` with.

    Args:
        source: the model.
        strings: how many texts at most.
        tokens: how many tokens of held-out text, about: whole windows of at most 256.
    """
    documents = list(_documents(source))
    held_out = bool(documents)
    if not held_out:
        documents = list(_python_docs())
    length = min(_LENGTH, source.model.config.max_seq_len - 1)  # llama.cpp leaves room for one more
    windows = _windows(source, documents, length, tokens)
    known: dict[int, int] = {}
    labels = [label for window in windows for label in window.labels if label != IGNORED]
    prompts = []
    if source.kind == CAUSAL:
        for start in (0, length // 2):
            prompts += [window.inputs[start : start + _PROMPT] for window in windows if len(window.inputs) > start]
    return Evidence(
        _strings(source, documents, strings),
        windows,
        prompts[:_PROMPTS],
        spelled_bytes(source.tokenizer, labels, known),
        held_out,
    )


def _documents(source: Source) -> Iterator[Document]:
    """Yield frozen documents, those of the test slices first, the domains in turn; then what is remembered."""
    for split in ("test", "gate"):
        paths = [source.place / slice_path(domain, split) for domain in source.state.get("domains", [])]
        held = [read_slice(path) for path in paths if path.is_file()]
        for row in zip_longest(*held):
            yield from (document for document in row if document is not None and scored_text(document).strip())
    if (source.place / MEMORY).is_file():
        yield from read_slice(source.place / MEMORY)


def _python_docs() -> Iterator[Document]:
    from pydoc_data import topics

    for name, text in sorted(topics.topics.items()):
        yield Document(text=text, source="pydoc_data.topics", name=name)


def _windows(source: Source, documents: Sequence[Document], length: int, tokens: int) -> list[Window]:
    """Return one window of each document until they hold ``tokens`` tokens that count."""
    found: list[Window] = []
    count = 0
    for owner, document in enumerate(documents):
        if source.kind == CAUSAL:
            windows = cut_windows(owner, encode_documents(source.tokenizer, [document])[0], length)
        elif source.kind == MASKED:
            windows = masked.held_out_windows(source.model, source.tokenizer, [document], length)
        else:
            windows = seq2seq.held_out_windows(source.tokenizer, [document], length)
        if windows:
            found.append(windows[0])
            count += sum(label != IGNORED for label in windows[0].labels)
        if count >= tokens:
            break
    return found


def _strings(source: Source, documents: Sequence[Document], most: int) -> list[str]:
    """Return fixed hard cases and pieces of the documents, all different.

    None has a special token's spelling: in text it is text here, while most programs read it as the token.
    """
    apart = [str(source.tokenizer.library.id_to_token(token)) for token in sorted(source.tokenizer.marks)]
    if isinstance(source.tokenizer, SentencePieceTokenizer):
        apart.append(SPACE)  # the library's own sign for a space; other programs take it for one
    pieces = (
        text[at : at + _PIECE]
        for document in documents
        for text in [scored_text(document)]
        for at in range(0, len(text), _PIECE)
    )
    found: dict[str, None] = {}
    for text in (*EDGES, *pieces):
        if len(found) >= most:
            break
        if not any(spelling in text for spelling in apart):
            found[text] = None
    return list(found)
