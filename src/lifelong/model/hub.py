"""Base models by their name on the Hugging Face hub: from its cache on this machine, or downloaded."""

from __future__ import annotations

import re
from pathlib import Path

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.model.weights import TORCH_WEIGHTS, WEIGHTS

# What the hub allows: letters, digits, dots, dashes and underscores, in one part or two.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FILES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("tokenizer.model", "spm.model", "vocab.json", "merges.txt", "added_tokens.json", "chat_template.jinja"),
)
_BRING = "Or bring it as a directory: hf download NAME --local-dir DIR where there is a network, then --base DIR."


def base_directory(base: Path) -> Path:
    """Return the directory of a base: itself where it exists, else the model of that name in the hub's cache.

    What the cache lacks is downloaded. A path that cannot be a name is returned as it is.

    Raises:
        LifelongError: there is no such model, it cannot be reached, or huggingface_hub is not installed.
    """
    name = base.as_posix()
    if base.exists() or not _NAME.fullmatch(name):
        return base
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        raise LifelongError(
            "no such directory; a model of the hub needs huggingface_hub, which is not installed",
            where=name,
            fix=f"pip install 'lifelong[hub]'. {_BRING}",
        ) from None
    if (cached := _cached(name)) is not None:
        return cached
    try:
        there = {file.rfilename for file in huggingface_hub.HfApi().model_info(name).siblings or ()}
        weights = next((file for file in (WEIGHTS, TORCH_WEIGHTS) if file in there), None)
        if weights is not None:
            progress.note(f"Downloading the base model {name} from the hub.")
            return Path(huggingface_hub.snapshot_download(name, allow_patterns=[*_FILES, weights]))
    except Exception as error:  # the hub's client raises whatever its layers raise
        reason = (str(error).strip().splitlines() or [""])[0][:200] or type(error).__name__
        raise LifelongError(
            f"no such directory here, and the hub's model of that name cannot be had: {reason}",
            where=name,
            fix=f"Check the name and the network. {_BRING}",
        ) from None
    raise LifelongError(
        f"the hub's model has neither {WEIGHTS} nor {TORCH_WEIGHTS}; weights in several files are not read yet",
        where=name,
        fix="Choose a smaller model, or save it as one file.",
    )


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        place = Path(snapshot_download(name, local_files_only=True))
    except Exception:  # it is not there, or not whole: the download says what is wrong
        return None
    whole = (place / "config.json").is_file() and any((place / file).is_file() for file in (WEIGHTS, TORCH_WEIGHTS))
    return place if whole else None


def base_name(place: Path) -> str:
    """Return what a base is called: its directory's name, or in the hub's cache its name on the hub."""
    *_, folder, snapshots, last = ("", "", "", *place.resolve().parts)
    return folder.removeprefix("models--").replace("--", "/") if snapshots == "snapshots" else last
