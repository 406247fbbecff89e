"""`lifelong chat`."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lifelong.cli.common import Adapter, AsJson, Greedy, ModelOrExport, ask, configurable, drawing, emit, note_if_alone
from lifelong.cli.writers import open_writer
from lifelong.settings.generate import COMPUTING, ChatSettings

if TYPE_CHECKING:
    from lifelong.generate.chat import ChatSession

_HELP = """/system TEXT   new instructions, and a new conversation; without TEXT none
/reset         forget the conversation
/retry         answer the last question again
/save FILE     write the conversation as JSON, which /load FILE reads
/load FILE     go on with a saved conversation
/seed N        draw from this seed from now on
/params        show how the next token is chosen; /params temperature=0.5 changes it
/quit          end, as Ctrl-D does; Ctrl-C stops an answer"""


@configurable(ChatSettings)
def chat(
    model: ModelOrExport,
    *,
    system: Annotated[
        str | None, Parameter(help='Instructions that stand before the conversation; "" for none.')
    ] = None,
    system_file: Annotated[Path | None, Parameter(help="Read these instructions from a file.")] = None,
    message: Annotated[str | None, Parameter(help="Ask this once, print the answer, and end.")] = None,
    greedy: Greedy = False,
    settings: ChatSettings,
    adapter: Adapter = "routed",
    as_json: AsJson = False,
) -> None:
    """Talk with a model; one that was taught no conversations goes on with what is typed."""
    from lifelong.errors import LifelongError
    from lifelong.generate.chat import DEFAULT_SYSTEM, ChatSession
    from lifelong.model.seq2seq import EncoderDecoderModel
    from lifelong.progress import note

    if as_json and message is None:
        raise LifelongError("--json needs --message TEXT: a conversation is not one JSON object")
    if system is not None and system_file is not None:
        raise LifelongError("give either --system or --system-file")
    settings = drawing(settings, greedy=greedy)
    instructions = _read(system_file) if system_file is not None else system
    loaded, tokenizer, manners = open_writer(model, settings, adapter)
    note_if_alone(loaded, settings)
    plain = not manners.chats and not isinstance(loaded, EncoderDecoderModel)
    if plain:
        note(f"note: this model was not taught to talk ({manners.why}): it goes on with what you type")
        if instructions:
            note("note: instructions are not used: it would not know what they are")
        instructions = None
    elif instructions is None and manners.system:
        instructions = DEFAULT_SYSTEM
        note(f'note: instructions: "{DEFAULT_SYSTEM}" ({manners.why}; --system TEXT for others)')
    experts: list[dict[str, float]] = []
    session = ChatSession(
        loaded, tokenizer, instructions or None, plain=plain, on_experts=experts.append, **settings.sampling()
    )
    if message is None:
        _talk(session, settings)
    elif as_json:
        answer = session.ask(message)
        emit({"message": message, "answer": answer, **({"experts": experts[-1]} if experts else {})}, as_json=True)
    else:
        _answer(session.ask, message)


def _talk(session: ChatSession, settings: ChatSettings) -> None:
    from lifelong.errors import LifelongError

    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            importlib.import_module("readline")  # input() then edits lines and knows earlier ones
    print("/help says what can be done; /quit or Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            line = ask("you> ")
        except KeyboardInterrupt:  # it stops an answer, not the program
            print("\n(/quit ends)", file=sys.stderr)
            continue
        if line is None:
            return
        text = line if session.plain else line.strip()
        command, _, rest = text.strip().partition(" ")
        if command in ("/quit", "/exit"):
            return
        try:
            if command.startswith("/"):
                settings = _obey(session, settings, command, rest.strip())
            elif command:
                _answer(session.ask, text)
        except LifelongError as error:  # too long a message ends the turn, not the conversation
            print(error, file=sys.stderr)
        except KeyboardInterrupt:
            print("\n(stopped)", file=sys.stderr)


def _obey(session: ChatSession, settings: ChatSettings, command: str, rest: str) -> ChatSettings:
    """Do what a command says; returns the settings after it."""
    from lifelong.errors import LifelongError

    said = ""
    if command == "/help":
        said = _HELP
    elif command == "/reset":
        session.reset()
        said = "The conversation is forgotten."
    elif command == "/system":
        if session.plain:
            raise LifelongError("this model was not taught to talk: it would not know what instructions are")
        session.system = rest or None
        session.reset()
        said = "New instructions, new conversation." if session.system else "No instructions."
    elif command == "/retry":
        _answer(lambda _, on_text: session.retry(on_text), "")
    elif command in ("/save", "/load"):
        if not rest:
            raise LifelongError(f"{command} needs the name of a file")
        (session.save if command == "/save" else session.load)(Path(rest))
        said = f"Questions and answers {'saved' if command == '/save' else 'loaded'}: {len(session.history) // 2}."
    elif command in ("/seed", "/params"):
        changes = {"seed": rest} if command == "/seed" else _pairs(rest)
        settings = ChatSettings.build({**settings.model_dump(), **changes})
        sampling = settings.sampling()
        session.seed = sampling.pop("seed", None)
        session.sampling.update(sampling)
        shown = {**settings.model_dump(exclude=set(COMPUTING)), "max_tokens": session.sampling["max_tokens"]}
        said = "  ".join(f"{name}={value}" for name, value in shown.items())
    else:
        raise LifelongError(f"unknown command {command}", fix="/help lists them.")
    if said:
        print(said, file=sys.stderr)
    return settings


def _pairs(text: str) -> dict[str, Any]:
    from lifelong.errors import LifelongError

    pairs = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        if not equals or name in COMPUTING:
            raise LifelongError(f"'{part}' is not NAME=VALUE", fix="For example: /params temperature=0.5 top_k=20")
        pairs[name.replace("-", "_")] = [value] if name == "stop" else value
    return pairs


def _answer(ask_model: Callable[[str, Callable[[str], None]], str], text: str) -> None:
    ask_model(text, lambda piece: print(piece, end="", flush=True))
    print()


def _read(path: Path) -> str:
    from lifelong.errors import LifelongError

    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LifelongError(f"cannot read the instructions: {error}", where=str(path)) from None
