"""One self-contained HTML page that shows what a model learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.evaluate.baselines import LABELS
from lifelong.evaluate.matrix import Matrix
from lifelong.files import write_text
from lifelong.report.markup import esc, esc_with_code
from lifelong.report.matrix_view import matrix_section
from lifelong.report.svg import bar_chart, chance_meter, loss_chart

# By this a page of ours is known again.
_MAKER = '<meta name="generator" content="lifelong">'
_HEAD_BYTES = 1000  # of a page, in which it stands

Metrics = Sequence[Mapping[str, Any]]


def render_report(
    *,
    title: str,
    facts: Mapping[str, str] | None = None,
    runs: Mapping[str, Metrics] | None = None,
    matrix: Matrix | None = None,
    beside: Mapping[str, Matrix] | None = None,
    baselines: Mapping[str, Any] | None = None,
    samples: Sequence[Mapping[str, str]] = (),
    answers: Sequence[Mapping[str, str]] = (),
    choices: Mapping[str, Any] | None = None,
    next_commands: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """Return the page as text. It loads nothing: no script, font, image or style from anywhere; all text is escaped.

    Sections without data are left out.

    Args:
        title: the page's heading.
        facts: short name to short value, shown under the title (machine, time, parameters).
        runs: name to rows of metrics (``step``, ``loss`` in nats per token, ``bits_per_byte``, ``lr``,
            ``gate_bits_per_byte``).
        matrix: bits per byte by session and domain.
        beside: name to the matrix of another way of training on the same text.
        baselines: :func:`lifelong.evaluate.baselines.baselines`'s result, or one such result per domain. The key
            ``model`` is the model's own number; where it is missing, a domain's is taken from the matrix.
        samples: ``title``, ``prompt``, ``before``, ``after``; the last two are continuations.
        answers: ``question``, ``answer`` (the model's), ``truth``.
        choices: :func:`lifelong.evaluate.choices.answer_ranking`'s result.
        next_commands: lines to type; a line that starts with ``#`` is a remark.
        notes: remarks for the reader, shown under the facts.
    """
    sections = [
        matrix_section(matrix, beside or {}) if matrix is not None and matrix.sessions else "",
        _curves(runs or {}),
        _baselines(baselines or {}, matrix),
        _questions(answers, choices),
        _samples(samples),
        _commands(next_commands),
    ]
    style = resources.files("lifelong.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # The browser itself is told to load nothing, whatever a later change may put into the page.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"{_MAKER}\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{esc(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join([_header(title, facts or {}, notes), *filter(None, sections)])
        + "\n</main>\n</body>\n</html>\n"
    )


def is_report(path: Path) -> bool:
    """Whether a file is a page that `write_report` wrote."""
    with path.open("rb") as file:
        return _MAKER.encode() in file.read(_HEAD_BYTES)


def write_report(path: Path, **content: Any) -> None:
    """Write :func:`render_report`'s page to a file, atomically.

    Raises:
        LifelongError: the disk refused the write.
    """
    write_text(path, render_report(**content))


def _header(title: str, facts: Mapping[str, str], notes: Sequence[str]) -> str:
    items = "".join(f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>" for name, value in facts.items())
    remarks = "".join(f'<p class="remark">{esc_with_code(note)}</p>' for note in notes)
    listed = f'<dl class="facts">{items}</dl>' if items else ""
    return f'<header><p class="brand">lifelong</p><h1>{esc(title)}</h1>{listed}{remarks}</header>'


def _curves(runs: Mapping[str, Metrics]) -> str:
    charts = [(name, loss_chart(name, metrics), metrics) for name, metrics in runs.items()]
    figures = "".join(
        f"<figure><h3>{esc(name)}</h3>{chart}<figcaption>{_run_line(metrics)}</figcaption></figure>"
        for name, chart, metrics in charts
        if chart
    )
    return f'<section><h2>How it learned</h2><div class="grid">{figures}</div></section>' if figures else ""


def _run_line(metrics: Metrics) -> str:
    """Return what a run took, all rows together."""
    last = metrics[-1]
    parts = [progress.spell_count(last["step"], "step") if isinstance(last.get("step"), int) else ""]
    tokens, seconds = (sum(row.get(key) or 0 for row in metrics) for key in ("tokens", "seconds"))
    parts.append(f"{tokens:,} tokens" if tokens else "")
    speed = [row["tokens_per_second"] for row in metrics if isinstance(row.get("tokens_per_second"), int | float)]
    parts.append(f"{sorted(speed)[len(speed) // 2]:,.0f} tokens/s" if speed else "")
    parts.append(f"{seconds:,.0f} s" if seconds else "")
    return esc(", ".join(filter(None, parts)))


def _baselines(baselines: Mapping[str, Any], matrix: Matrix | None) -> str:
    nested = any(isinstance(value, Mapping) for value in baselines.values())
    by_domain = baselines if nested else {"": baselines}
    figures = []
    for domain, values in by_domain.items():
        own = values.get("model", _last_value(matrix, domain))
        rows = [(LABELS.get(key, key), float(value), False) for key, value in values.items() if key != "model"]
        rows.sort(key=lambda row: -row[1])
        chart = bar_chart([*rows, ("this model", float(own), True)] if own is not None else rows)
        heading = f"<h3>{esc(domain)}</h3>" if domain else ""
        figures.append(f"<figure>{heading}{chart}</figure>" if chart else "")
    if not any(figures):
        return ""
    note = '<p class="note">Bits per byte of the same held-out text; less is better.</p>'
    return f'<section><h2>Against simpler methods</h2><div class="grid">{"".join(figures)}</div>{note}</section>'


def _last_value(matrix: Matrix | None, domain: str) -> float | None:
    if matrix is None or domain not in matrix.domains or not matrix.bpb:
        return None
    return matrix.bpb[-1][matrix.domains.index(domain)]


def _questions(answers: Sequence[Mapping[str, str]], choices: Mapping[str, Any] | None) -> str:
    meter = ""
    if choices:
        share, chance, error = choices["accuracy"], choices["chance"], choices.get("standard_error")
        spread = f" ± {100 * error:.1f}" if error else ""
        meter = (
            f'<div class="meter"><p><span class="big">{100 * share:.1f}%</span>{spread} of {choices["questions"]} '
            f"questions: the true answer is likelier than {choices['distractors']} answers to other questions.</p>"
            f"{chance_meter(share, chance, error)}</div>"
        )
    rows = "".join(
        f'<div class="answer"><p class="question">{esc_with_code(item["question"])}</p>'
        f'<div class="pair"><div><h4>model</h4><p>{esc_with_code(item["answer"]) or "<i>(nothing)</i>"}</p></div>'
        f"<div><h4>true</h4><p>{esc_with_code(item['truth'])}</p></div></div></div>"
        for item in answers
    )
    listed = f'<h3>Its first {len(answers)} answers, unselected</h3><div class="answers">{rows}</div>' if rows else ""
    return f"<section><h2>Asking it</h2>{meter}{listed}</section>" if meter or rows else ""


def _samples(samples: Sequence[Mapping[str, str]]) -> str:
    shown = []
    for item in samples:
        pair = "".join(
            f'<div><h4>{side}</h4><pre><span class="prompt">{esc(item["prompt"])}</span>{esc(item[side])}</pre></div>'
            for side in ("before", "after")
            if item.get(side) is not None
        )
        shown.append(f'<h3>{esc(item.get("title", ""))}</h3><div class="pair">{pair}</div>')
    return f"<section><h2>What it writes</h2>{''.join(shown)}</section>" if shown else ""


def _commands(commands: Sequence[str]) -> str:
    lines = "\n".join(
        f'<span class="soft">{esc(line)}</span>' if line.lstrip().startswith("#") else esc(line) for line in commands
    )
    return f'<section><h2>Next</h2><pre class="commands">{lines}</pre></section>' if commands else ""
