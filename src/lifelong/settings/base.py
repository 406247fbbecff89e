"""What every settings object shares: unknown keys are refused with the nearest known one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lifelong.errors import LifelongError

if TYPE_CHECKING:  # a checker is to see the fields
    from pydantic._internal._model_construction import ModelMetaclass as _Explained
else:

    class _Explained(type(BaseModel)):
        """Lets ``Settings(...)`` explain what does not fit as `Settings.build` does, its groups' keys included."""

        def __call__(cls, *args: Any, **values: Any) -> Any:
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                raise _explained(cls, error, None) from None


class Settings(BaseModel, metaclass=_Explained):
    """Base of all settings: frozen, no unknown keys, messages that name key, value and remedy.

    Raises:
        LifelongError: a key is unknown or a value does not fit; all problems are named at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, protected_namespaces=())

    @classmethod
    def build(cls, values: dict[str, Any], *, where: str | None = None) -> Self:
        """Build from a plain (nested) dictionary.

        Raises:
            LifelongError: a key is unknown or a value does not fit; all problems are named at once.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _explained(cls, error, where) from None

    def as_yaml(self) -> str:
        """Return these settings as text that, in a file, ``--config`` reads back."""
        import yaml

        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def to_yaml(self, path: Path) -> None:
        """Write these settings so that ``--config`` on the file reproduces them."""
        from lifelong.files import write_text

        write_text(path, self.as_yaml())


def _explained(cls: type[Settings], error: ValidationError, where: str | None) -> LifelongError:
    return LifelongError("\n  ".join(explain(cls, item) for item in error.errors()), where=where)


def explain(cls: type[Settings], item: Any) -> str:
    """Return what is wrong with a setting of ``cls``, from an item of pydantic's errors; an unknown key's nearest."""
    from lifelong.settings.keys import nearest

    key = ".".join(str(part) for part in item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return f"unknown setting '{key}'.{nearest(cls, key)}"
    if item["type"] == "missing":
        return f"setting '{key}' is needed"
    if not key:
        return message
    return f"setting '{key}': {message[:1].lower()}{message[1:]} (given: {item['input']!r})"
