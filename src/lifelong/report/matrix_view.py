"""The matrix on the page: coloured tables, the findings in words, and a chart of what changed."""

from __future__ import annotations

from collections.abc import Mapping

from lifelong.evaluate.growing import ANEW
from lifelong.evaluate.matrix import Matrix
from lifelong.report.markup import esc, percent, signed, signed_class
from lifelong.report.svg import change_chart

_OWN = "this model"
# The change at which a cell has its full colour.
_FULL_COLOUR = 0.4


def matrix_section(matrix: Matrix, beside: Mapping[str, Matrix]) -> str:
    """Return the section: findings and chart above, one table per matrix below."""
    findings = "".join(f"<p>{sentence}</p>" for sentence in _findings(matrix, beside))
    chart = change_chart(_changes(matrix, beside))
    top = f'<div class="finding"><div class="words">{findings}</div><figure>{chart}'
    top += "<figcaption>What the last session changed, in bits per byte on held-out text. Left is better.</figcaption>"
    top += "</figure></div>" if chart else ""
    tables = [_table(_OWN if beside else "", matrix), *(_table(name, other) for name, other in beside.items())]
    how = (
        "Each row is the model after one session, each column one domain's held-out text; the cell gives bits per byte "
        "(lower is better) and the change since the domain was taught, or first measured. A ring marks the domain just "
        "taught. "
        "<b>Backward transfer</b>: what the domains gained (+) or lost (−) after they were learned; below zero is "
        "forgetting. <b>Forward transfer</b>: how much earlier sessions helped a domain before it was taught. "
        "<b>Forgetting</b>: bits per byte above the best figure before."
    )
    return (
        "<section><h2>What it learned, what it kept</h2>"
        f'{top if chart else findings}<div class="grid">{"".join(tables)}</div><p class="note">{how}</p></section>'
    )


def _findings(matrix: Matrix, beside: Mapping[str, Matrix]) -> list[str]:
    """Say in words what the last session did to each domain, against when it was taught or first measured."""
    last, sentences = len(matrix.sessions) - 1, []
    for j, domain in enumerate(matrix.domains):
        change = matrix.change(last, j)
        if change is None:
            continue
        name, taught = f"<b>{esc(domain)}</b>", matrix.sessions[last] == domain
        first = matrix.bpb[matrix.row_before(last, j) or 0][j]
        numbers = f"{first:.3f} → {matrix.bpb[last][j]:.3f}"
        if taught:
            less = "fewer" if change <= 0 else "more"
            sentence = f"Taught {name}, it needs {abs(100 * change):.1f}% {less} bits per byte there ({numbers})."
        else:
            kind = signed_class(change)
            verb = f"It kept {name}" if kind == "same" else f"On {name} it got {kind}"
            sentence = f"{verb}: {percent(change)} ({numbers})."
        others = [
            f"{esc(label)}: {percent(theirs)}"
            for label, other in beside.items()
            if (theirs := _final_change(other, domain)) is not None
        ]
        sentences.append(sentence + (f' <span class="soft">{"; ".join(others)}.</span>' if others else ""))
    return sentences


def _final_change(matrix: Matrix, domain: str) -> float | None:
    if domain not in matrix.domains or not matrix.sessions:
        return None
    return matrix.change(len(matrix.sessions) - 1, matrix.domains.index(domain))


def _changes(matrix: Matrix, beside: Mapping[str, Matrix]) -> list[tuple[str, list[tuple[str, float]]]]:
    groups = []
    for domain in matrix.domains:
        named = [(label, _final_change(one, domain)) for label, one in [(_OWN, matrix), *beside.items()]]
        rows = [(label, change) for label, change in named if change is not None]
        if rows:
            groups.append((domain, rows))
    return groups


def _table(title: str, matrix: Matrix) -> str:
    head = "".join(f'<th scope="col">{esc(name)}</th>' for name in matrix.domains)
    rows = []
    for i, label in enumerate(matrix.sessions):
        cells = "".join(_cell(matrix, i, j) for j in range(len(matrix.domains)))
        name = esc(label) if i == 0 or label == ANEW else f"after {esc(label)}"
        rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    caption = f"<caption>{esc(title)}</caption>" if title else ""
    table = f'<table class="matrix">{caption}<thead><tr><td></td>{head}</tr></thead>'
    notes = "".join(f'<p class="note">Note on {esc(name)}: {esc(note)}.</p>' for name, note in matrix.notes.items())
    notes += f'<p class="note">Note: {esc(matrix.stale)}.</p>' if matrix.stale else ""
    return f'<div class="scroll">{table}<tbody>{"".join(rows)}</tbody></table>{_numbers(matrix)}{notes}</div>'


def _cell(matrix: Matrix, i: int, j: int) -> str:
    value = matrix.bpb[i][j]
    if value is None:
        return '<td class="none">–</td>'
    change = matrix.change(i, j)
    taught = " taught" if i and matrix.sessions[i] == matrix.domains[j] else ""
    if change is None:
        return f'<td class="start{taught}">{value:.3f}</td>'
    kind = signed_class(change)
    strength = 0.0 if kind == "same" else min(1.0, 0.1 + abs(change) / _FULL_COLOUR)
    style = f' style="--strength:{strength:.2f}"'
    return f'<td class="{kind}{taught}"{style}>{value:.3f}<small>{percent(change)}</small></td>'


def _numbers(matrix: Matrix) -> str:
    pairs = []
    if matrix.average is not None:
        pairs.append(("average", f"{matrix.average:.3f}"))
    if matrix.bwt is not None:
        pairs.append(("backward transfer", signed(matrix.bwt)))
    if matrix.fwt is not None:
        pairs.append(("forward transfer", signed(matrix.fwt)))
    lost = matrix.forgetting.items() if len(matrix.sessions) > 2 else ()
    pairs += [(f"forgetting of {esc(name)}", signed(value)) for name, value in lost if value is not None]
    ends = ((name, both["end"]) for name, both in matrix.intransigence.items())
    pairs += [(f"intransigence of {esc(name)}", signed(value)) for name, value in ends if value is not None]
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f'<dl class="numbers">{items}</dl>' if items else ""
