"""A GGUF file in llama.cpp, through the `xllamacpp` package: its server, in this process, on this machine alone."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.evaluate.windows import IGNORED, Window
from lifelong.export.runtimes import Words, installed
from lifelong.generate.sampling import Sampling

_FORCED = 1e4  # added to the logit of a token that has to come; what is reported is the probability without it
_SECONDS = 600.0
_BLOCK = 8  # tokens that are asked for at a time
_ALL = 2**20  # more than any vocabulary has


def lora_name(adapter: str) -> str:
    """Return the name of an adapter's file."""
    return f"{adapter}-lora.gguf"


@contextlib.contextmanager
def open_llama_cpp(file: Path, *, threads: int | None = None, adapters: Sequence[Path] = ()) -> Iterator[LlamaCpp]:
    """Load a GGUF file, with LoRA files over it.

    Raises:
        LifelongError: llama.cpp refuses it.
    """
    import torch
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(file)
    settings.n_ctx = 0  # the model's own
    settings.n_parallel = 1
    settings.warmup = False
    settings.verbosity = -1
    settings.port = 0  # a free one, of 127.0.0.1
    # Keys and values in fp32 and plain attention: what differs is then what the file's precision makes.
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    # Threads of its own wait by spinning: on busy cores more than there are to spare make it 50 times as slow.
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads or torch.get_num_threads()
    settings.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path=str(path), scale=1.0) for path in adapters]
    try:
        server = xllamacpp.Server(settings)
    except (RuntimeError, ValueError) as error:
        raise LifelongError(f"llama.cpp does not load the file: {error}", where=str(file)) from None
    loaded = LlamaCpp(server)
    # A server that is let go before its thread has begun to work waits for that thread forever: one token shows it has.
    next(loaded.stream([0], 1, Sampling(temperature=0.0), ends=()), None)
    yield loaded


class LlamaCpp:
    """A loaded model; see :class:`lifelong.export.runtimes.Runtime`."""

    def __init__(self, server: Any) -> None:
        self.name = f"llama.cpp ({installed('xllamacpp')})"
        self.aside: Words | None = None
        self._server = server

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts; special tokens written in them are text."""
        found = []
        for text in texts:
            answer = self._post("/tokenize", {"content": text, "add_special": False, "parse_special": False})
            found.append([int(token) for token in answer["tokens"]])
        return found

    def losses(self, window: Window) -> list[float]:
        """Return the negative log-probability of each label: one token is forced, and its probability read, a step."""
        found, whole = [], None
        for number, label in enumerate(window.labels, start=1):
            if label == IGNORED:
                continue
            prompt = window.inputs[:number]
            step = self._forced(prompt, label)
            if step is not None:
                whole = label
                assert step["id"] == label  # the bias leaves no other
                found.append(-float(step["logprob"]))
                continue
            # The server says nothing of a token that ends inside a character: then another one, with all others.
            step = self._forced(prompt, self._some_whole_token() if whole is None else whole, others=_ALL)
            assert step is not None
            found += [-float(one["logprob"]) for one in step["top_logprobs"] if one["id"] == label]
        return found

    def _forced(self, prompt: list[int], token: int, *, others: int = 1) -> dict[str, Any] | None:
        """Let a token follow a prompt; returns its log-probability and those of the likeliest, if they are told."""
        answer = self._post(
            "/completion",
            {
                "prompt": prompt,
                "n_predict": 1,
                "n_probs": others,
                "temperature": 0,
                "logit_bias": [[token, _FORCED]],
                "cache_prompt": True,
            },
        )
        steps = answer.get("completion_probabilities")
        return steps[0] if steps else None

    def _some_whole_token(self) -> int:
        return int(self._post("/tokenize", {"content": "a", "add_special": False})["tokens"][-1])

    def stream(
        self, prompt: Sequence[int], most: int, sampling: Sampling, *, ends: Collection[int], key: int = 0
    ) -> Iterator[int]:
        """Yield one token after another.

        They are asked for a few at a time: what the server itself streams leaves out tokens that end inside a
        character.
        """
        greedy = sampling.temperature == 0
        written: list[int] = []
        while len(written) < most:
            body = {
                "prompt": [*prompt, *written],
                "n_predict": min(_BLOCK, most - len(written)),
                "return_tokens": True,
                # In our order: llama.cpp's own has the temperature last.
                "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"],
                "temperature": sampling.temperature,
                "top_k": 1 if greedy else sampling.top_k,
                "top_p": 1.0 if greedy or sampling.top_p == 0 else sampling.top_p,
                "min_p": 0.0 if greedy else sampling.min_p,
                "repeat_penalty": sampling.repetition_penalty,
                "repeat_last_n": len(prompt) + most,
                "seed": (key + len(written)) % 2**32,
                "logit_bias": [[token, False] for token in sorted(sampling.banned)],
                "cache_prompt": True,
            }
            tokens = [int(token) for token in self._post("/completion", body)["tokens"]][: most - len(written)]
            if not tokens:
                return
            for token in tokens:
                if token in ends:
                    return
                yield token
            written += tokens

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self._server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        # No proxy: whatever the environment says, this is the machine itself.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise LifelongError(f"llama.cpp answers: {error.read().decode(errors='replace')[:300]}") from None
