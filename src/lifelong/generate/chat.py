"""Talking with a model over several turns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError
from lifelong.files import read_json, write_text
from lifelong.generate.elsewhere import Elsewhere
from lifelong.generate.engine import generate, note_to_stderr
from lifelong.model.seq2seq import EncoderDecoderModel

if TYPE_CHECKING:
    from lifelong.model.base import LanguageModel
    from lifelong.tokens.base import Tokenizer

# For models that were trained with system prompts; one would only confuse a model that never saw any (see `manners`).
DEFAULT_SYSTEM = "You are a helpful assistant. Answer briefly and say so when you do not know."
DEFAULT_MAX_TOKENS = 128


class ChatSession:
    """One conversation: a system prompt, and the turns that still fit the model's context.

    Args:
        system: instructions that stay in front of every turn; none unless given.
        sampling: arguments of :func:`lifelong.generate.engine.generate`: ``max_tokens`` (128 here, or half the context
            where that is less), ``temperature``, ``top_p``, ``top_k``, ``seed``, ``fixed_share``, ``top_experts``,
            ``on_note``, ``on_experts``, and so on.
        plain: for a model that was not trained on conversations: no tokens of the chat format; the model goes on with
            the text so far, of which what is asked is the next part.
    """

    def __init__(
        self,
        model: LanguageModel | Elsewhere,
        tokenizer: Tokenizer,
        system: str | None = None,
        *,
        plain: bool = False,
        **sampling: Any,
    ) -> None:
        if not isinstance(model, EncoderDecoderModel) or model.config.prompts != "chat":
            model.config.require_causal("hold a conversation")
        self.model, self.tokenizer, self.system, self.plain = model, tokenizer, system, plain
        self.sampling = {"max_tokens": min(DEFAULT_MAX_TOKENS, model.config.max_seq_len // 2), **sampling}
        self._note: Callable[[str], None] = self.sampling.pop("on_note", note_to_stderr)
        self.seed: int | None = self.sampling.pop("seed", None)
        self._turn = 0
        self.history: list[dict[str, str]] = []

    def ask(self, text: str, on_text: Callable[[str], None] | None = None) -> str:
        """Return the model's answer, and remember both turns.

        The answer ends at the model's end of turn; tokens that open a turn are banned. When the conversation outgrows
        the context, its oldest turns are forgotten (the system prompt stays) and a note says so. Interrupted by an
        error or Ctrl-C, the conversation is as it was before.

        Raises:
            LifelongError: the message alone does not fit the context.
        """
        history = [*self.history, {"role": "user", "content": text}]
        history, prompt = self._fit(history)
        # Each turn draws from its own seed: the same seed repeats a conversation, not a turn.
        seed = None if self.seed is None else self.seed + self._turn
        answer = generate(
            self.model,
            self.tokenizer,
            prompt,
            **self.sampling,
            seed=seed,
            stop_ids=(self.tokenizer.end_of_turn_id,),
            banned_ids=self.tokenizer.role_token_ids,
            on_text=on_text,
            on_note=self._note,
        )[0]
        self.history = [*history, {"role": "assistant", "content": answer}]
        self._turn += 1
        return answer

    def retry(self, on_text: Callable[[str], None] | None = None) -> str:
        """Answer the last question again, with other draws.

        Raises:
            LifelongError: nothing was asked yet.
        """
        if len(self.history) < 2:
            raise LifelongError("there is no answer to try again")
        before = self.history
        self.history = before[:-2]
        try:
            return self.ask(before[-2]["content"], on_text)
        except BaseException:
            self.history = before
            raise

    def reset(self) -> None:
        """Forget the conversation but not the system prompt; a seed starts over."""
        self.history, self._turn = [], 0

    def save(self, path: Path) -> None:
        """Write the conversation as ``{"messages": [...]}``, which `lifelong prepare` and `load` read."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        write_text(path, json.dumps({"messages": [*system, *self.history]}, ensure_ascii=False, indent=2) + "\n")

    def load(self, path: Path) -> None:
        """Go on with a saved conversation, and its system prompt.

        Raises:
            LifelongError: the file is no conversation of a user and an assistant in turns.
        """
        found = read_json(path)
        messages = found.get("messages") if isinstance(found, dict) else None
        good = isinstance(messages, list) and all(
            isinstance(one, dict) and isinstance(one.get("content"), str) for one in messages
        )
        turns = [one for one in messages or [] if good and one.get("role") != "system"]
        roles = [one.get("role") for one in turns]
        if not good or roles != ["user", "assistant"] * (len(roles) // 2):
            raise LifelongError(
                "not a conversation of a user and an assistant in turns", where=str(path), fix="/save writes one."
            )
        systems = [str(one["content"]) for one in messages or [] if one.get("role") == "system"]
        self.reset()
        self.system, self.history = "\n".join(systems) or None, [dict(one) for one in turns]

    def _fit(self, history: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[int]]:
        """Return the turns that fit, the newest question last, and their token ids."""
        if self.plain:  # what is too long is cut at the front, and `generate` says so
            text = "".join(message["content"] for message in history)
            return history, [self.tokenizer.eos_id, *self.tokenizer.encode(text)]
        room = self.model.config.max_seq_len - int(self.sampling["max_tokens"])
        system = [{"role": "system", "content": self.system}] if self.system else []
        kept = history
        while len(ids := self.tokenizer.encode_chat([*system, *kept], add_generation_prompt=True)[0]) > room:
            if len(kept) == 1:
                raise LifelongError(
                    f"the message has {len(ids)} tokens, the model can read {max(room, 0)} before its answer",
                    fix="Send a shorter message, or ask for a shorter answer (--max-tokens).",
                )
            kept = kept[2:]  # a question and its answer
        if len(kept) < len(history):
            self._note(
                f"the conversation is longer than the context: its first {len(history) - len(kept)} turns are forgotten"
            )
        return kept, ids
