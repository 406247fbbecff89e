"""`lifelong chat`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lifelong.cli.common import Adapter, AsJson, Model, ask, configurable, emit, note_if_alone
from lifelong.settings.generate import ChatSettings

if TYPE_CHECKING:
    from lifelong.generate.chat import ChatSession

_HELP = "/reset forgets the conversation, /system TEXT sets instructions, /quit or Ctrl-D ends."


@configurable(ChatSettings)
def chat(
    model: Model,
    *,
    system: Annotated[str | None, Parameter(help="Instructions that stand before the conversation.")] = None,
    system_file: Annotated[Path | None, Parameter(help="Read these instructions from a file.")] = None,
    message: Annotated[str | None, Parameter(help="Ask this once, print the answer, and end.")] = None,
    settings: ChatSettings,
    adapter: Adapter = "routed",
    as_json: AsJson = False,
) -> None:
    """Talk with a model."""
    from lifelong.errors import LifelongError
    from lifelong.generate.chat import ChatSession
    from lifelong.model.directory import load_model

    if as_json and message is None:
        raise LifelongError("--json needs --message TEXT: a conversation is not one JSON object")
    if system is not None and system_file is not None:
        raise LifelongError("give either --system or --system-file")
    instructions = _read(system_file) if system_file is not None else system
    loaded, tokenizer = load_model(model, device=settings.device, adapter=adapter)
    note_if_alone(loaded, settings)
    experts: list[dict[str, float]] = []
    session = ChatSession(loaded, tokenizer, instructions, on_experts=experts.append, **settings.sampling())
    if message is None:
        _talk(session)
    elif as_json:
        answer = session.ask(message)
        emit({"message": message, "answer": answer, **({"experts": experts[-1]} if experts else {})}, as_json=True)
    else:
        _answer(session, message)


def _talk(session: ChatSession) -> None:
    print(_HELP, file=sys.stderr)
    while (line := ask("you> ")) is not None:
        text = line.strip()
        command, _, rest = text.partition(" ")
        if not text:
            continue
        if command in ("/quit", "/exit"):
            return
        if command == "/reset":
            session.reset()
            print("The conversation is forgotten.", file=sys.stderr)
        elif command == "/system":
            session.system = rest.strip() or None
            session.reset()
            print("New instructions, new conversation." if session.system else "No instructions.", file=sys.stderr)
        elif command.startswith("/"):
            print(f"Unknown command {command}. {_HELP}", file=sys.stderr)
        else:
            _turn(session, text)


def _turn(session: ChatSession, text: str) -> None:
    from lifelong.errors import LifelongError

    try:
        _answer(session, text)
    except LifelongError as error:  # too long a message ends the turn, not the conversation
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("\n(stopped)", file=sys.stderr)


def _answer(session: ChatSession, text: str) -> None:
    session.ask(text, on_text=lambda piece: print(piece, end="", flush=True))
    print()


def _read(path: Path) -> str:
    from lifelong.errors import LifelongError

    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LifelongError(f"cannot read the instructions: {error}", where=str(path)) from None
