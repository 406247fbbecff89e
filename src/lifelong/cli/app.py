"""`lifelong`: the list of verbs, each imported when it is called, and what happens when one fails."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from itertools import pairwise

from cyclopts import App, CycloptsError, Group, UnknownOptionError

from lifelong.errors import LifelongError, suggest
from lifelong.version import __version__

_BUILD = Group.create_ordered("Build a model")
_TEACH = Group.create_ordered("Teach it, and look back")
_USE = Group.create_ordered("Use it")

# Verb, where it is defined, and its line in the help: written here, so that the help imports no verb.
_VERBS: dict[Group, dict[str, tuple[str, str]]] = {
    _BUILD: {
        "quickstart": ("quickstart:quickstart", "The whole story on this machine's own Python documentation."),
        "prepare": ("prepare:prepare", "Read, clean, deduplicate and split text."),
        "validate": ("validate:validate", "Check the quality of text: errors, warnings, facts."),
        "tokenizer": ("tokenizer:app", "Train a tokenizer, or show one."),
        "cache": ("cache:app", "Build token caches, show them, plan a mixture of them."),
        "presets": ("presets:presets", "Shapes of models, and what they cost."),
        "profiles": ("profiles:profiles", "Named settings of runs, and what they cost here."),
        "import": ("bring:bring", "Make a model directory of a GGUF file, or of a Hugging Face one."),
        "train": ("train:train", "Train a model on text, or train further what --out holds."),
        "pipeline": ("pipeline:pipeline", "All stages in one command, each skipped when up to date."),
        "resume": ("resume:resume", "Go on exactly where an interrupted run stopped."),
    },
    _TEACH: {
        "learn": ("learn:learn", "Teach a model one more domain, and keep or undo the lesson."),
        "consolidate": ("consolidate:consolidate", "Fold what the adapters know into plain weights."),
        "matrix": ("matrix:matrix", "What every lesson did to every domain."),
        "domains": ("domains:domains", "What a model knows, domain by domain."),
        "forget": ("forget:forget", "Drop a source from what a model remembers."),
        "history": ("history:history", "What a model was taught, and when."),
        "rollback": ("rollback:rollback", "Put a model back to where it was before a lesson."),
        "report": ("report:report", "One page on a model or a run: curves, matrix, history."),
    },
    _USE: {
        "evaluate": ("evaluate:evaluate", "Measure a model on held-out text."),
        "generate": ("generate:generate", "Let a model continue a text."),
        "chat": ("chat:chat", "Talk with a model."),
        "export": ("export:export", "Write a model for transformers, llama.cpp, Ollama or onnxruntime, and verify it."),
        "verify": ("verify:verify", "Compare an export with the trained model."),
        "index": ("index:index", "Put texts into a store that can be searched; keeps up with folders."),
        "search": ("search:search", "Find passages in a store."),
        "ask": ("ask:ask", "Answer a question with passages of a store."),
        "rag-eval": ("rag_eval:rag_eval", "Measure how well a store finds what it should."),
        "serve": ("serve:serve", "Serve a model over HTTP, with a page to talk to it."),
        "watch": ("watch:watch", "A page with the curves of a training while it goes on."),
    },
}

_EPILOGUE = "`lifelong VERB --help` explains a verb. First steps: `lifelong quickstart`."


def build_app() -> App:
    """Return the command line, with every verb still unimported."""
    app = App(
        name="lifelong",
        help="Language models that keep learning: build one from your own text, teach it more, see what it keeps.",
        help_epilogue=_EPILOGUE,
        help_format="plaintext",  # Markdown would cost 40 ms of the help's 200
        version=__version__,
        suppress_keyboard_interrupt=False,  # ours to report, with exit code 130
    )
    app["--help"].group = app["--version"].group = Group("Options", sort_key=99)
    for group, verbs in _VERBS.items():
        for order, (verb, (target, text)) in enumerate(verbs.items()):
            app.command(f"lifelong.cli.{target}", name=verb, help=text, group=group, sort_key=order)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code: 0, 2 for what the user can put right, 130 after Ctrl-C."""
    try:
        build_app()(
            _forwarded(list(sys.argv[1:] if arguments is None else arguments)),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
    except CycloptsError as error:
        said = _unknown_option(error) if isinstance(error, UnknownOptionError) else str(error)
        return _fail(f"{said}\n  `{_help_command(error)}` lists what there is.", 2)
    except LifelongError as error:
        return _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if extra := _extra_of(error.name or ""):
            return _fail(f"{error.name} is not installed\n  pip install 'lifelong[{extra}]'", 2)
        raise
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was left half done\n  Run the same command again.", 130)
    except BrokenPipeError:  # `lifelong presets | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _forwarded(words: list[str]) -> list[str]:
    """Return `pipeline ...` for `train --phase pipeline ...`, as other tools spell it; anything else as it is."""
    rest = words[1:]
    if words[:1] == ["train"] and ("--phase=pipeline" in rest or ("--phase", "pipeline") in pairwise(rest)):
        joined = re.sub(r"(^|\0)--phase[=\0]pipeline(?=\0|$)", "", "\0".join(rest))
        return ["pipeline", *filter(None, joined.split("\0"))]
    return words


def _fail(message: str, code: int) -> int:
    print(f"lifelong: {message}", file=sys.stderr)
    return code


def _unknown_option(error: UnknownOptionError) -> str:
    """Return what is wrong, and the option that is meant where one is near: a far one would lead astray."""
    given = (error.token.keyword or error.token.value).partition("=")[0]
    if not given.startswith("--"):
        return str(error)
    word = given.removeprefix("--")
    hint = _of_a_phase(word) if tuple(error.command_chain or ()) == ("pipeline",) else ""
    if not hint:
        names = [name.removeprefix("--") for argument in error.argument_collection for name in argument.names]
        hint = suggest(word, names).replace("'", "--", 1).replace("'", "")
    return f"Unknown option: {given}.{hint}"


def _of_a_phase(word: str) -> str:
    """Return how a pipeline is given a setting of `train`; an empty string where ``word`` is none."""
    from lifelong.settings.keys import canonical, leaves
    from lifelong.settings.train import TrainSettings

    key = canonical(TrainSettings, word)
    if key not in dict(leaves(TrainSettings)):
        return ""
    length = " --epochs N bounds both." if key in TrainSettings.exclusive else ""
    name = word.replace("-", "_")
    return f" It is a setting of each training: --pretrain {name}=VALUE, --sft {name}=VALUE.{length}"


def _help_command(error: CycloptsError) -> str:
    return " ".join(["lifelong", *(error.command_chain or ()), "--help"])


def _extra_of(module: str) -> str | None:
    """Return the extra of this package that brings a missing module, or None."""
    from importlib.metadata import PackageNotFoundError, requires

    root = module.partition(".")[0].replace("_", "-").lower()
    try:
        lines = requires("lifelong") or []
    except PackageNotFoundError:
        return None
    for line in lines:
        match = re.match(r"([A-Za-z0-9._-]+).*extra == ['\"]([\w-]+)['\"]", line)
        if match and match[1].replace("_", "-").lower() == root and match[2] != "all":
            return match[2]
    return None


if __name__ == "__main__":
    sys.exit(main())
