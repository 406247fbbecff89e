"""The end of a quickstart: samples and answers, the report page, and what is said at the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lifelong.progress import spell_seconds

PROMPTS = {
    "documentation": "Return the name of the",
    "source code": "def read(self, size=-1):\n    ",
}
CAVEAT = (
    "A model of this size, trained for minutes, writes English that looks like a docstring and gets facts wrong. "
    "Knowing things takes far more text than this: the way there is a pretrained base (lifelong train --base MODEL, or "
    "lifelong import for a GGUF file)."
)
_RUNS = {"pretrain": "Pretraining", "chat": "Chat tuning", "lesson": "The lesson"}


def write_page(out: Path, notes: dict[str, Any]) -> dict[str, Any]:
    """Let the model speak, draw the pictures, write ``report/index.html``; returns what the page says.

    Args:
        out: the quickstart's directory.
        notes: what its steps found out.
    """
    from lifelong.evaluate.baselines import baselines
    from lifelong.evaluate.matrix import Matrix
    from lifelong.report.html import write_report
    from lifelong.report.plots import loss_curves, matrix_picture
    from lifelong.text import load_prepared
    from lifelong.tokens.loading import load_tokenizer
    from lifelong.train.folder import RunFolder

    tokenizer = load_tokenizer(out / "tokenizer")
    corpora = {name: load_prepared(str(out / "data" / name)) for name in ("prose", "chat", "code")}
    place = out / "report"
    place.mkdir(exist_ok=True)
    runs = {title: RunFolder(Path(notes[step]["run"])).metrics() for step, title in _RUNS.items()}
    for (step, title), rows in zip(_RUNS.items(), runs.values(), strict=True):
        loss_curves(rows, place / f"{step}.png", title=title)
    matrix, naive = (Matrix.from_dict(notes[step]["matrix"]) for step in ("lesson", "naive"))
    matrix_picture(matrix, place / "matrix.png", beside=naive)
    content = {
        "facts": _facts(notes),
        "baselines": {name: baselines(corpus.train, corpus.test, tokenizer) for name, corpus in corpora.items()},
        **_speak(out / "model", corpora["chat"].test, notes["seed"]),
        "choices": notes["chat"]["judged_after"]["ranking"],
        "next_commands": _next(out / "model"),
    }
    write_report(
        place / "index.html",
        title="lifelong quickstart",
        runs=runs,
        matrix=matrix,
        beside={"naive fine-tuning": naive},
        notes=[CAVEAT, chat_line(notes["chat"])],
        **content,
    )
    return {"page": str(place / "index.html"), **content}


def _speak(place: Path, asked: Sequence[Any], seed: int) -> dict[str, Any]:
    """Return samples before and after the lesson, and answers to ten questions evenly through the test split."""
    from lifelong.generate.chat import ChatSession
    from lifelong.generate.engine import generate
    from lifelong.model.directory import load_model

    before, tokenizer = load_model(place, adapter=None)
    after, _ = load_model(place)
    samples = [
        {
            "title": title,
            "prompt": prompt,
            "before": generate(before, tokenizer, prompt, max_tokens=60, seed=seed)[0],
            "after": generate(after, tokenizer, prompt, max_tokens=60, seed=seed)[0],
        }
        for title, prompt in PROMPTS.items()
    ]
    answers = []
    for document in asked[:: max(1, len(asked) // 10)][:10]:
        question, truth = (turn["content"] for turn in (document.messages or ())[:2])
        answer = ChatSession(after, tokenizer, temperature=0.0, max_tokens=80).ask(question)
        answers.append({"question": question, "answer": answer, "truth": truth})
    return {"samples": samples, "answers": answers}


def chat_line(chat: dict[str, Any]) -> str:
    """Say what chat tuning did, from the notes of that step."""
    before, after = chat["judged_before"], chat["judged_after"]
    return (
        f"Chat tuning took held-out answers from {before['bits_per_byte']:.3f} to {after['bits_per_byte']:.3f} "
        f"bits per byte. The true answer was the likeliest of four in {before['ranking']['accuracy']:.0%} of "
        f"questions before and {after['ranking']['accuracy']:.0%} after (chance: 25%)."
    )


def _facts(notes: dict[str, Any]) -> dict[str, str]:
    pretrain, chat, lesson = (notes[name] for name in ("pretrain", "chat", "lesson"))
    seconds = sum(note.get("wall_seconds", 0.0) for note in notes.values() if isinstance(note, dict))
    return {
        "parameters": f"{pretrain['parameters']:,}",
        "pretrained on": f"{pretrain['tokens']:,} tokens",
        "chat tuned on": f"{chat['tokens']:,} tokens of answers",
        "taught": f"{lesson['tokens']:,} tokens ({lesson['replay_share']:.0%} of them replay)",
        "speed": f"{pretrain['tokens_per_second']:,.0f} tokens/s",
        "time": spell_seconds(seconds),
    }


def _next(model: Path) -> list[str]:
    return [
        f"lifelong chat {model}",
        f'lifelong generate {model} --prompt "Return the"',
        f"lifelong learn {model} YOUR_FILES --domain mine",
        f"lifelong matrix {model}",
        f"lifelong rollback {model}",
    ]


def show(notes: dict[str, Any]) -> None:
    """Print what came out, for the person at the terminal."""
    from rich.console import Console

    from lifelong.evaluate.matrix import Matrix

    console = Console(stderr=True)
    report = notes["report"]
    lesson, naive = (Matrix.from_dict(notes[name]["matrix"]) for name in ("lesson", "naive"))
    console.print("\nBits per byte on held-out text, before and after the lesson:")
    console.print(lesson.to_table())
    console.print("The same text taught naively:")
    console.print(naive.to_table())
    for domain, values in report["baselines"].items():
        own = lesson.bpb[-1][lesson.domains.index(domain)]
        simple = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
        console.print(f"  {domain}: this model {own:.2f}; {simple}", highlight=False)
    console.print("\nIts first ten answers, unselected:")
    for item in report["answers"]:
        console.print(f"  Q {item['question']}\n  A {item['answer']}\n", markup=False, highlight=False)
    for item in report["samples"]:
        console.print(f"  [{item['title']}] {item['prompt']}{item['after']}\n", markup=False, highlight=False)
    console.print(f"{CAVEAT}\n\nThe report: {report['page']}\nNext:", highlight=False)
    for line in report["next_commands"]:
        console.print(f"  {line}", markup=False, highlight=False)
