"""`python -m jobs.shipping.measure MODEL.gguf REQUEST.json ANSWERS.json`: run a GGUF file.

In llama.cpp's environment. Perplexity is taken from the logits of every supervised token; answers
are generated greedily from the tokens that llama.cpp itself makes of a prompt, since those are
what a server will feed the file.
"""

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cyllama.llama import llama_cpp

from jobs.shipping.wire import Answers, MeasureRequest, Prompt, SupervisedRow

IGNORED = -100  # as in jobs.data, which this environment cannot import
# Tokens a decode: 128 rows of logits of a vocabulary of 152,000 are 78 MB in 32 bits.
BATCH_TOKENS = 128
# Bytes of text a token may stand for; above the longest tokens (runs of 128 spaces in Llama 3's).
TOKEN_BYTES = 256


class _Model(llama_cpp.LlamaModel):
    """cyllama 0.2.18's `get_logits_ith` asks the model for this, which only its vocabulary has."""

    @property
    def n_vocab(self) -> int:
        return self.get_vocab().n_vocab


class Runner:
    """A GGUF file with a context of `n_ctx` tokens, one sequence at a time."""

    def __init__(self, path: Path, n_ctx: int) -> None:
        llama_cpp.disable_logging()
        self._model = _Model(str(path), llama_cpp.LlamaModelParams(), verbose=False)
        settings = llama_cpp.LlamaContextParams()
        settings.n_ctx = n_ctx
        settings.n_batch = settings.n_ubatch = BATCH_TOKENS
        settings.n_threads = settings.n_threads_batch = threads()
        self._context = llama_cpp.LlamaContext(self._model, settings, verbose=False)
        self._batch = llama_cpp.LlamaBatch(n_tokens=BATCH_TOKENS, embd=0, n_seq_max=1)
        self._sampler = llama_cpp.LlamaSampler(llama_cpp.LlamaSamplerChainParams())
        self._sampler.add_greedy()
        self.vocabulary = self._model.get_vocab()

    def _decode(self, ids: Sequence[int], start: int, wanted: Sequence[bool]) -> Iterator[range]:
        """Feed tokens from position `start` on, part by part; a part's logits last to the next."""
        for first in range(0, len(ids), BATCH_TOKENS):
            part = range(first, min(first + BATCH_TOKENS, len(ids)))
            self._batch.clear()
            for i in part:
                self._batch.add(ids[i], start + i, [0], wanted[i])
            self._context.decode(self._batch)
            self._context.synchronize()
            yield part

    def negative_log_likelihoods(self, row: SupervisedRow) -> list[float]:
        """Of each supervised token, given all before it."""
        self._context.kv_cache_clear()
        following = [*row.labels[1:], IGNORED]
        wanted = [label != IGNORED for label in following]
        found = []
        for part in self._decode(row.ids, 0, wanted):
            for i in (i for i in part if wanted[i]):
                logits = np.array(self._context.get_logits_ith(i - part.start))
                found.append(_log_sum_exp(logits) - float(logits[following[i]]))
        return found

    def tokens(self, prompt: Prompt) -> list[int]:
        found: list[int] = self.vocabulary.tokenize(prompt.text, not prompt.templated, True)
        return found

    def answer(self, prompt: Sequence[int], most: int) -> str:
        """The greedy continuation, until a token that ends generation or `most` of them."""
        self.read(prompt)
        said: list[int] = []
        while len(said) < most:
            token = self.write(len(prompt) + len(said))
            if self.vocabulary.is_eog(token):
                break
            said.append(token)
        text: str = self.vocabulary.detokenize(said, TOKEN_BYTES * (len(said) + 1), False, False)
        return text

    def read(self, prompt: Sequence[int]) -> None:
        """Forget all, take in the prompt, be ready to write."""
        self._context.kv_cache_clear()
        deque(self._decode(prompt, 0, [False] * (len(prompt) - 1) + [True]), maxlen=0)

    def write(self, position: int) -> int:
        """The most likely next token, which is taken in as well."""
        token: int = self._sampler.sample(self._context, -1)
        deque(self._decode([token], position, [True]), maxlen=0)
        return token


def threads() -> int:
    """OMP_NUM_THREADS, else the cores that this process may use."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdigit():
        return int(named)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _log_sum_exp(values: Any) -> float:
    top = values.max()
    return float(top + np.log(np.exp(values - top).sum()))


def measure(path: Path, request: MeasureRequest) -> Answers:
    longest = max(
        [len(row.ids) for row in request.rows]
        + [len(prompt.ids) + request.max_new_tokens for prompt in request.prompts]
    )
    # Room for a prompt that llama.cpp cuts into more tokens than Transformers did.
    runner = Runner(path, n_ctx=longest + BATCH_TOKENS)
    losses = [loss for row in request.rows for loss in runner.negative_log_likelihoods(row)]
    loss = sum(losses) / len(losses) if losses else nan
    own = [runner.tokens(prompt) for prompt in request.prompts]
    return Answers(
        loss=loss if isfinite(loss) else None,
        supervised_tokens=len(losses),
        answers=[runner.answer(ids, request.max_new_tokens) for ids in own],
        tokenised_otherwise=sum(
            ids != prompt.ids for ids, prompt in zip(own, request.prompts, strict=True)
        ),
    )


def main(model: str, request: str, answers: str) -> None:
    asked = msgspec.json.decode(Path(request).read_bytes(), type=MeasureRequest)
    Path(answers).write_bytes(msgspec.json.encode(measure(Path(model), asked)))


if __name__ == "__main__":
    main(*sys.argv[1:])
