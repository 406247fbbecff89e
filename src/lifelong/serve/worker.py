"""The one thread that computes: texts join the slots of their view as rows become free, and leave when they end."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lifelong.errors import LifelongError
from lifelong.generate.slots import Engine, Finish, Step
from lifelong.generate.stream import TextStream
from lifelong.model.kernel import release_threads
from lifelong.serve.exported import AnyViews
from lifelong.serve.jobs import Job, Piece, Token

Found = TypeVar("Found")


class Busy(LifelongError):
    """As many texts wait as may."""


@dataclass
class _Writing:
    job: Job
    stream: TextStream
    pieces: list[str]
    tokens: list[Token] = field(default_factory=list)
    written: int = 0
    shown: bool = False  # whether there was a piece


Deliver = Callable[[list[tuple[Job, Piece]]], None]


class Worker:
    """Computes with a model in a thread of its own.

    Args:
        views: the model; no other thread may touch it from then on.
        queue: texts and other work that wait at most.
        deliver: called in that thread with the pieces of texts.
        interval: seconds in which a text gets one piece at most, beside its first and last. A small model writes more
            tokens in a second than anyone reads, and to send one alone costs as much as to write it.
    """

    def __init__(self, views: AnyViews, *, queue: int, deliver: Deliver, interval: float = 0.0) -> None:
        self._views, self._queue, self._deliver, self._interval = views, queue, deliver, interval
        self._due = 0.0
        self._change = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._work: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._closing = False
        self._texts: dict[str, dict[int, _Writing]] = {}  # of each view, by handles
        self.counts = {"prompt_tokens": 0, "completion_tokens": 0, "steps": 0, "given_up": 0}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin; in the thread that computed until now, where there was one."""
        release_threads()
        self._thread.start()

    def close(self) -> None:
        """End after the step in progress; texts that are not finished get no further piece."""
        with self._change:
            self._closing = True
            self._change.notify()
        self._thread.join()

    @property
    def active(self) -> int:
        """Texts that are being written."""
        return sum(map(len, list(self._texts.values())))

    @property
    def waiting(self) -> int:
        """Texts and other work that wait."""
        return len(self._waiting) + len(self._work)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Let texts wait for their slots; raises `Busy` where too many do, and then none of these."""
        with self._change:
            self._require_room(len(jobs))
            self._waiting.extend(jobs)
            self._change.notify()

    def call(self, work: Callable[[], Found]) -> Future[Found]:
        """Run something between two steps; raises `Busy` as `submit` does."""
        future: Future[Found] = Future()
        with self._change:
            self._require_room(1)
            self._work.append((work, future))
            self._change.notify()
        return future

    def give_up(self, jobs: Sequence[Job]) -> None:
        """Write no more of texts; their slots are free before the next step."""
        with self._change:
            for job in jobs:
                job.given_up = True
            self._change.notify()

    def _require_room(self, count: int) -> None:
        if self._closing:
            raise Busy("the server is going down")
        if self.waiting + count > self._queue:
            raise Busy(f"{self.waiting} texts wait already, and {self._queue} may", fix="Try again in a little while.")

    def _run(self) -> None:
        while True:
            with self._change:
                while not (self._closing or self._waiting or self._work or self.active):
                    self._change.wait()
                if self._closing:
                    break
                work = list(self._work)
                self._work.clear()
            for call, future in work:
                _settle(call, future)
            self._drop_given_up()
            now = time.monotonic()
            show = now >= self._due
            if show:
                self._due = now + self._interval
            for view in self._admit():
                self._write(view, show=show)
        for _, future in self._work:
            future.cancel()
        self._views.close()

    def _drop_given_up(self) -> None:
        for view, texts in self._texts.items():
            for handle, writing in list(texts.items()):
                if writing.job.given_up:
                    self._views.slots(view).leave(handle)
                    del texts[handle]
                    self.counts["given_up"] += 1

    def _admit(self) -> list[str]:
        """Let as many texts join as there are slots, those that waited longest first; returns the views with texts."""
        with self._change:
            waiting, self._waiting = self._waiting, deque()
        later: deque[Job] = deque()
        full: set[str] = set()
        failed: list[tuple[Job, Piece]] = []
        for job in waiting:
            if job.given_up:
                self.counts["given_up"] += 1
            elif job.view in full:
                later.append(job)
            else:
                try:
                    if not self._join(job):
                        full.add(job.view)
                        later.append(job)
                except Exception as error:
                    failed.append((job, Piece(error=error)))
        with self._change:
            self._waiting.extendleft(reversed(later))
        if failed:
            self._deliver(failed)
        busy = [view for view, texts in self._texts.items() if texts]
        self._views.drop_idle(busy)
        return busy

    def _join(self, job: Job) -> bool:
        slots = self._views.slots(job.view)
        if slots.free < 1:
            return False
        pieces: list[str] = []
        stream = TextStream(self._views.tokenizer, pieces.append, job.stop)
        handle = slots.join(
            job.ids,
            job.sampling,
            max_tokens=job.max_tokens,
            seed=job.seed,
            sample=job.sample,
            stop_ids=job.stop_ids,
            logprobs=job.logprobs,
        )
        self._texts.setdefault(job.view, {})[handle] = _Writing(job, stream, pieces)
        self.counts["prompt_tokens"] += len(job.ids)
        return True

    def _write(self, view: str, *, show: bool) -> None:
        """Write one more token of all texts of a view, and deliver what is new, or only first and last pieces."""
        texts = self._texts[view]
        out: list[tuple[Job, Piece]] = []
        try:
            slots = self._views.slots(view)
            for step in slots.step():
                writing = texts[step.handle]
                piece = self._piece(writing, step, slots, show=show)
                if piece is not None:
                    out.append((writing.job, piece))
                    if piece.last:
                        del texts[step.handle]
            self.counts["steps"] += 1
        except Exception as error:  # the texts end with it, and the slots are made anew
            out += [(writing.job, Piece(error=error)) for writing in texts.values()]
            texts.clear()
            self._views.drop(view)
        if out:
            self._deliver(out)

    def _piece(self, writing: _Writing, step: Step, slots: Engine, *, show: bool) -> Piece | None:
        """Return what a step adds to a text that can be shown, if anything."""
        job = writing.job
        if job.first is None:
            job.first = time.monotonic() - job.since
        ended, experts = step.finish == "stop", step.experts
        if not ended:
            writing.written += 1
            self.counts["completion_tokens"] += 1
            if job.logprobs is not None:
                writing.tokens.append(Token(step.token, step.logprob, step.top))
            ended = writing.stream.add(step.token)
            if ended and step.finish is None:
                experts = slots.leave(step.handle)
        finish: Finish | None = "stop" if ended else step.finish
        if finish is not None:
            writing.stream.finish()
        elif job.whole or not (writing.pieces or writing.tokens) or (writing.shown and not show):
            return None
        writing.shown = True
        piece = Piece("".join(writing.pieces), writing.tokens, finish, writing.written, experts)
        writing.pieces.clear()
        writing.tokens = []
        return piece


def _settle(call: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except Exception as error:
        future.set_exception(error)
