"""What verbs share: flags made from settings, ``--config``, and printing."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

from cyclopts import Group, Parameter, Token
from pydantic.fields import FieldInfo

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.settings.base import Settings
from lifelong.settings.keys import leaves
from lifelong.settings.load import load_settings

if TYPE_CHECKING:
    from lifelong.generate.elsewhere import Elsewhere
    from lifelong.model.base import LanguageModel
    from lifelong.settings.generate import DrawingSettings

Drawing = TypeVar("Drawing", bound="DrawingSettings")
AsJson = Annotated[
    bool,
    Parameter(
        name="--json",
        negative=(),
        show_default=False,
        help="Print one JSON object on standard output, all else on standard error.",
    ),
]
DryRun = Annotated[
    bool,
    Parameter(name="--dry-run", negative=(), show_default=False, help="Say what would be done, and change nothing."),
]


def _mention_killed_lessons(_: Any, model: Path) -> None:
    from lifelong.learn.recovery import mention

    mention(model)


_READ = Parameter(validator=_mention_killed_lessons)
# Of a verb that writes to a model directory: once it holds the lock, it puts right what a killed lesson left.
ChangedModel = Annotated[Path, Parameter(help="A model directory, a run, or a checkpoint.")]
Model = Annotated[ChangedModel, _READ]
ModelOrExport = Annotated[
    Path, Parameter(help="A model directory, a run, a checkpoint; or an ONNX or GGUF export."), _READ
]
Adapter = Annotated[
    str,
    Parameter(help="Answer with this adapter alone, or with `base`; `routed`: all together, by what the text is like."),
]
Greedy = Annotated[
    bool,
    Parameter(
        name="--greedy",
        negative=(),
        show_default=False,
        help="Take the likeliest token every time: the same as --temperature 0.",
    ),
]
Sources = Annotated[
    list[str],
    Parameter(
        consume_multiple=True,
        negative=(),
        help="Files, folders, globs, hf:NAME: PATH[:KIND][@WEIGHT]; a YAML list of them; or a prepared directory.",
    ),
]


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; cyclopts would round 1.5, which is another number than was given."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a whole number") from None


WHOLE = Parameter(converter=_whole)

_CONFIG = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None, Parameter(name="--config", help="A YAML or JSON file of settings; flags win over it.")
    ],
)


def configurable(
    settings: type[Settings], load: Callable[[Path | None, Mapping[str, Any]], Settings] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb ``--config`` and a flag for every setting; it receives them merged, as its ``settings`` argument.

    A setting in a group has its dotted flag (``--optimizer.learning-rate``), and the short ones of the settings'
    synonyms (``--learning-rate``). Dashes and underscores are the same. ``load`` merges file and
    flags in another way than `load_settings`.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(verb)
        hints = get_type_hints(verb, include_extras=True)
        kept = [value.replace(annotation=hints[name]) for name, value in own.parameters.items() if name != "settings"]
        paths = {path.replace(".", "__"): path for path, _ in leaves(settings)}
        flags = [_flag(settings, path, field) for path, field in leaves(settings)]
        signature = inspect.Signature([*kept, _CONFIG, *flags])

        def run(*args: Any, **kwargs: Any) -> None:
            given = dict(signature.bind(*args, **kwargs).arguments)
            overrides = {path: given.pop(name) for name, path in paths.items() if name in given}
            config = given.pop("config", None)
            merged = load(config, overrides) if load is not None else load_settings(settings, config, overrides)
            call = own.bind_partial()
            call.arguments.update({name: given[name] for name in own.parameters if name in given})
            call.arguments["settings"] = merged
            verb(*call.args, **call.kwargs)

        run.__name__, run.__doc__, run.__module__ = verb.__name__, verb.__doc__, verb.__module__
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
        return run

    return decorate


def _flag(settings: type[Settings], path: str, field: FieldInfo) -> inspect.Parameter:
    synonyms: Mapping[str, str] = getattr(settings, "synonyms", {})
    names = [path, *(short for short, target in synonyms.items() if target == path)]
    group, _, _ = path.rpartition(".")
    default = field.get_default(call_default_factory=True)
    shown = "" if default in (None, "", (), [], {}) else f" [default: {_spell(default)}]"
    parameter = Parameter(
        name=[f"--{name.replace('_', '-')}" for name in names],
        help=f"{field.description or ''}{shown}",
        group=Group((group or "settings").capitalize(), sort_key=2 if group else 1),
        negative=None if field.annotation in (bool, bool | None) else (),
    )
    # The default is always None here: what the user did not give must not hide what the file says.
    if field.annotation in (int, int | None):
        parameter = Parameter.combine(parameter, WHOLE)
    annotated: Any = Annotated  # made at run time: nothing for a type checker to read
    kind: Any = field.annotation
    if "dict[" in str(kind):  # pairs, such as NAME=WEIGHT, that the settings read
        kind = list[str]
    if kind == list[str]:
        parameter = Parameter.combine(parameter, Parameter(consume_multiple=True))
    annotation = annotated[kind | None, parameter]
    name = path.replace(".", "__")
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _spell(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def emit(value: Any, *, as_json: bool, show: Callable[[], None] | None = None) -> None:
    """Print a result: as one JSON object on standard output, or as people read it.

    ``show`` prints for people; without it the plain values of ``value`` are listed.
    """
    if as_json:
        json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
        print()
    elif show is not None:
        show()
    else:
        print_facts(value)


def drawing(settings: Drawing, *, greedy: bool) -> Drawing:
    """Return the settings with which ``--greedy`` draws, where it was given.

    Raises:
        LifelongError: a temperature was given too.
    """
    if not greedy:
        return settings
    if "temperature" in settings.model_fields_set and settings.temperature:
        raise LifelongError(
            f"--greedy is temperature 0, and temperature {settings.temperature:g} is given too", fix="Leave one out."
        )
    return settings.model_copy(update={"temperature": 0.0})


def note_if_alone(model: LanguageModel | Elsewhere, settings: Settings) -> None:
    """Say so where options were given that are for several experts, and the model answers alone."""
    given = [name for name in ("fixed_share", "top_experts") if getattr(settings, name, None)]
    if given and model.experts is None:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        progress.note(f"note: {flags} without effect: here one expert answers alone")


def ask(prompt: str) -> str | None:
    """Return a line from standard input, or None at its end; the prompt is for a person at a terminal only."""
    try:
        return input(prompt if sys.stdin.isatty() else "")
    except EOFError:
        return None


def print_facts(facts: Mapping[str, Any], indent: str = "") -> None:
    """Print names and values in two columns; a nested mapping goes below its name."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        title = name.replace("_", " ")
        if isinstance(value, Mapping):
            print(f"{indent}{title}")
            print_facts(value, indent + "  ")
        elif value is not None:
            print(f"{indent}{title:<{width}}  {spell_value(value)}")


def spell_value(value: Any) -> str:
    """Return a number with thousands separated and no needless digits; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def spell_bytes(count: float) -> str:
    """Return a size as people read it: ``850 kB``, ``12.3 MB``, ``1.4 GB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit in ("B", "kB") or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def print_table(columns: list[str], rows: list[list[str]], *, title: str | None = None) -> None:
    """Print a table on standard output; columns after the first are set to the right where they hold numbers.

    Names and numbers are never cut short: where the screen is too narrow for them, lines are longer than it.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows]
        numeric = index > 0 and all(not cell or cell[0] in "0123456789-+" for cell in cells)
        whole = index == 0 or numeric
        width = max(map(cell_len, [column, *cells])) if whole else None
        table.add_column(column, justify="right" if numeric else "left", no_wrap=whole, min_width=width)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    console.width = max(console.width, console.measure(table, options=console.options.update(width=10_000)).minimum)
    console.print(table)
