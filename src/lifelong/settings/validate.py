"""Settings of a data-quality report."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from lifelong.settings.keys import NamedSettings


class ValidateSettings(NamedSettings):
    """Settings of ``lifelong validate``."""

    tokenizer: Path | None = Field(default=None, description="A tokenizer or model directory: checks tokens too.")
    max_length: int | None = Field(
        default=None, gt=0, description="Tokens of a row (default: what the model of --tokenizer takes)."
    )
    show: int = Field(default=0, ge=0, description="Documents to print as the loss sees them; needs --tokenizer.")
    examples: int = Field(default=5, ge=0, description="Places named for each finding.")
    near_duplicates: bool = Field(default=True, description="Look for near duplicates.")
    languages: int = Field(default=200, ge=0, description="Documents of each source whose language is guessed.")
