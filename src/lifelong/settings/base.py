"""What every settings object shares: unknown keys are refused with the nearest known one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lifelong.errors import LifelongError, suggest

if TYPE_CHECKING:  # a checker is to see the fields
    from pydantic._internal._model_construction import ModelMetaclass as _Explained
else:

    class _Explained(type(BaseModel)):
        """Lets ``Settings(...)`` explain what does not fit as `Settings.build` does, its groups' keys included."""

        def __call__(cls, *args: Any, **values: Any) -> Any:
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                raise _explained(cls, error) from None


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


def _explained(cls: type[BaseModel], error: ValidationError, where: str | None = None) -> LifelongError:
    return LifelongError("\n  ".join(_explain(cls, item) for item in error.errors()), where=where)


def _explain(cls: type[BaseModel], item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        owner: Any = cls
        for part in item["loc"][:-1]:
            owner = owner.model_fields[part].annotation
        return f"unknown setting '{key}'.{suggest(str(item['loc'][-1]), owner.model_fields)}"
    if not key:
        return str(item["msg"]).removeprefix("Value error, ")
    return f"setting '{key}': {str(item['msg']).removeprefix('Value error, ')} (given: {item['input']!r})"
