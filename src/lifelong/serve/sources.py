"""Passages of a store that stand before a question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lifelong.retrieve.answering import RAGModel
from lifelong.retrieve.store import check_query
from lifelong.serve.errors import RequestError
from lifelong.serve.exported import AnyViews, Exported


class Sources:
    """A store, opened for questions.

    Args:
        place: the store's folder.
        views: of the model that answers.

    Raises:
        LifelongError: there is no store, or the model writes nothing.
    """

    def __init__(self, place: Path, views: AnyViews) -> None:
        chat = views.chats if isinstance(views, Exported) else None
        self._model = RAGModel(place, views.model, views.tokenizer, chat=chat)

    def prompt(
        self, messages: Sequence[dict[str, str]], passages: int, room: int
    ) -> tuple[list[int], list[dict[str, Any]]]:
        """Return what the model reads for the last message, and the passages in it, the best first.

        A small model reads the question with its passages, and nothing of the conversation before: there is no room.

        Raises:
            RequestError: the last message is not the user's, or nothing in the store matches it.
            LifelongError: the question does not fit the context.
        """
        last = messages[-1]
        if last["role"] != "user":
            raise RequestError(400, "the last message is no question", param="messages")
        check_query(last["content"])
        hits = self._model.find(last["content"], passages)
        if not hits:
            raise RequestError(400, "nothing in the store matches the question", code="not_found", param="messages")
        prompt = self._model.prompt(last["content"], hits, room)
        return prompt.ids, [{"place": hit.passage.place, "text": hit.text, "score": hit.score} for hit in prompt.hits]
