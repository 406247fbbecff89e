"""The whole story in one command: text, tokenizer, pretraining, chat tuning, one lesson, and what it kept.

Every step goes through the public rooms below, on files that stay for the user to look at. A step that is finished is
noted in ``quickstart.json`` and not done again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import Interrupted, LifelongError
from lifelong.files import read_json, write_json
from lifelong.quickstart.closing import chat_line, show, write_page

NOTES = "quickstart.json"
# Shares of the time that is left once text and tokenizer are there. What remains is for measuring and drawing.
PRETRAIN, CHAT, LESSON = 0.42, 0.15, 0.12
ROWS, LENGTH, VOCABULARY = 8, 256, 4096
MEASURED_BYTES = 40_000


def run(out: Path, minutes: float = 5.0, seed: int = 0) -> dict[str, Any]:
    """Build, tune, teach and report, in about ``minutes`` on this machine; returns what the report says.

    Run again on the same ``out``, it goes on where it stopped.

    Raises:
        LifelongError: ``out`` holds something else.
        Interrupted: Ctrl-C; what is finished is kept.
    """
    story = _Story(out, minutes, seed)
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "text": story.text,
        "tokenizer": story.tokenizer,
        "pretrain": story.pretrain,
        "chat": story.chat,
        "lesson": story.lesson,
        "naive": story.naive,
        "report": lambda: write_page(out, story.notes),
    }
    if all(name in story.notes for name in steps):
        progress.note(f"This quickstart is finished. Delete {out} to run it anew.")
    for number, (name, step) in enumerate(steps.items(), start=1):
        if name in story.notes:
            continue
        progress.note(f"[{number}/{len(steps)}] {_TITLES[name]}")
        began = time.perf_counter()
        try:
            result = step()
        except (KeyboardInterrupt, Interrupted) as stopped:
            raise Interrupted(
                "interrupted; what was finished is kept", fix=f"Go on with: lifelong quickstart --out {out}"
            ) from stopped
        story.finish(name, {**result, "wall_seconds": round(time.perf_counter() - began, 1)})
    show(story.notes)
    return story.notes


_TITLES = {
    "text": "Text: Python's own documentation, its source code, and questions about both",
    "tokenizer": "Tokenizer: byte-level BPE, from the documentation alone",
    "pretrain": "Pretraining on the documentation",
    "chat": "Chat tuning on questions and answers",
    "lesson": "One lesson: the standard library's source code, with an adapter, replay and EWC",
    "naive": "The same lesson taught naively, on a copy: what forgetting looks like",
    "report": "Samples, answers and the report",
}


class _Story:
    """One quickstart: where things are, and what has been found out so far."""

    def __init__(self, out: Path, minutes: float, seed: int) -> None:
        self.out, self.seed = out, seed
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / NOTES).is_file())):
            raise LifelongError(
                "the output exists and is not a quickstart's; it is never overwritten",
                where=str(out),
                fix="Choose another --out.",
            )
        out.mkdir(parents=True, exist_ok=True)
        self.notes: dict[str, Any] = read_json(out / NOTES) if (out / NOTES).is_file() else {}
        if not self.notes:
            self.notes = {"minutes": minutes, "seed": seed}
            write_json(out / NOTES, self.notes)
        self.minutes = float(self.notes["minutes"])
        self.model, self.copy = out / "model", out / "naive"

    def finish(self, name: str, result: dict[str, Any]) -> None:
        self.notes[name] = result
        write_json(self.out / NOTES, self.notes)

    def data(self, name: str) -> str:
        return str(self.out / "data" / name)

    def left(self) -> float:
        """Minutes of the budget after what text and tokenizer took."""
        spent: float = sum(self.notes.get(name, {}).get("wall_seconds", 0.0) for name in ("text", "tokenizer")) / 60
        return max(0.2, self.minutes - spent)

    def text(self) -> dict[str, Any]:
        from lifelong.text import prepare, write_python_corpora

        # One split by module name for all three: what a test module's prose says is not in any training text.
        places = write_python_corpora(self.out / "python")
        found = {}
        for name, place in places.items():
            corpus = prepare([place], self.out / "data" / name, domain=name, split_by="name", seed=self.seed)
            found[name] = {
                split: {"documents": len(corpus.split(split)), "bytes": sum(d.bytes for d in corpus.split(split))}
                for split in ("train", "gate", "test")
            }
            progress.note(f"  {name}: " + ", ".join(f"{s} {f['bytes'] / 1e6:.2f} MB" for s, f in found[name].items()))
        return {"corpora": found}

    def tokenizer(self) -> dict[str, Any]:
        from lifelong.text import load_prepared
        from lifelong.tokens.tokenizer import BPETokenizer

        tokenizer = BPETokenizer(VOCABULARY).train(d.text for d in load_prepared(self.data("prose")).train)
        tokenizer.save(self.out / "tokenizer")
        return {"vocab_size": tokenizer.vocab_size}

    def pretrain(self) -> dict[str, Any]:
        from lifelong.settings.train import TrainSettings

        return self._train(
            TrainSettings(preset="nano", minutes=self.left() * PRETRAIN, domain="prose", **self._common()), "prose"
        )

    def chat(self) -> dict[str, Any]:
        from lifelong.settings.train import TrainSettings

        before = self._judge_chat()
        result = self._train(
            TrainSettings(
                phase="sft",
                minutes=self.left() * CHAT,
                domain="chat",
                replay=0.15,
                optimizer={"learning_rate": 2e-3},  # type: ignore[arg-type]
                **self._common(),
            ),
            "chat",
        )
        after = self._judge_chat()
        judged = {**result, "judged_before": before, "judged_after": after}
        progress.note(f"  {chat_line(judged)}")
        return judged

    def _common(self) -> dict[str, Any]:
        return {
            "batch_size": ROWS,
            "sequence_length": LENGTH,
            "seed": self.seed,
            "evaluation": {"max_bytes": MEASURED_BYTES},
            "checkpoint": {"every_minutes": 1.0, "keep": 1},
        }

    def _train(self, settings: Any, data: str) -> dict[str, Any]:
        from lifelong.train.folder import RunFolder
        from lifelong.train.run import resume, train

        runs = sorted((self.model / "runs").glob(f"*-{settings.phase}"))
        if runs and RunFolder(runs[-1]).resumable():
            return resume(runs[-1]).to_dict()
        return train([self.data(data)], self.model, settings, tokenizer=self.out / "tokenizer").to_dict()

    def _judge_chat(self) -> dict[str, Any]:
        from lifelong.evaluate.bits import score
        from lifelong.evaluate.choices import answer_ranking
        from lifelong.model.directory import load_model
        from lifelong.text import load_prepared

        model, tokenizer = load_model(self.model)
        documents = load_prepared(self.data("chat")).test
        scored = score(model, tokenizer, documents[:: max(1, len(documents) // 400)], max_bytes=MEASURED_BYTES)
        return {**scored.to_dict(), "ranking": answer_ranking(model, tokenizer, documents, limit=100, seed=self.seed)}

    def lesson(self) -> dict[str, Any]:
        if not self.copy.exists():
            unfinished = self.copy.with_name(f".{self.copy.name}.tmp")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(self.model, unfinished, ignore=shutil.ignore_patterns("runs", ".lock"))
            unfinished.replace(self.copy)
        return self._learn(self.model, minutes=self.left() * LESSON, mode="adapter")

    def naive(self) -> dict[str, Any]:
        taught = self.notes["lesson"]
        # As many steps on new text as the lesson had: the others of its rows were replay.
        return self._learn(
            self.copy,
            steps=max(1, round(taught["steps"] * (1 - taught.get("replay_share", 0.5)))),
            mode="full",
            replay_share=0.0,
            use_ewc=False,
            accept=True,
        )

    def _learn(self, model: Path, **choices: Any) -> dict[str, Any]:
        from lifelong.learn.ledger import read_history, rollback
        from lifelong.learn.lesson import LessonResult
        from lifelong.learn.session import learn
        from lifelong.settings.learn import LearnSettings

        if any(event["event"] == "lesson" for event in read_history(model)):
            rollback(model)  # it was done, but the quickstart stopped before noting it
        settings = LearnSettings(
            domain="code",
            batch_size=ROWS,
            sequence_length=LENGTH,
            seed=self.seed,
            max_bytes=MEASURED_BYTES,
            **choices,
        )
        result = learn(model, [self.data("code")], settings)
        assert isinstance(result, LessonResult)  # this is no dry run
        progress.note("\n".join(f"  {line}" for line in result.summary().splitlines()))
        return result.to_dict()
