"""A library for caikit's runtime with a model that says the words of its prompt again and again; more in its modules.

The name of the library and the parameters of its methods make caikit generate the same gRPC services and REST routes
as for the real caikit-nlp. A prompt with the word FAIL makes the model fail when it comes to that word.
"""

from pathlib import Path
from typing import Iterable, List, Optional, Tuple, Union

import caikit
import numpy as np
from caikit.core import ModuleBase, ModuleConfig, module
from caikit.core.data_model import DataObjectBase
from caikit.interfaces.nlp.data_model import (
    FinishReason,
    GeneratedTextResult,
    GeneratedTextStreamResult,
    GeneratedToken,
    TokenStreamDetails,
)
from caikit.interfaces.nlp.tasks import TextGenerationTask

from . import texts as texts
from .embedding import Sparrow as Sparrow
from .ranking import Jackdaw as Jackdaw

caikit.configure(str(Path(__file__).with_name("config.yml")))


@caikit.core.dataobject(package="caikit_data_model.caikit_nlp")
class ExponentialDecayLengthPenalty(DataObjectBase):
    """As in caikit-nlp."""

    start_index: int
    decay_factor: float


Penalty = Optional[Union[Tuple[int, float], ExponentialDecayLengthPenalty]]


@module("6c1b6a0c-2f0b-4b7e-9a45-0d9a3f0c5a11", "Parrot", "1.0.0", tasks=[TextGenerationTask])
class Parrot(ModuleBase):
    """Repeats the words of the prompt."""

    @classmethod
    def load(cls, model_path: str, *_: object, **__: object) -> "Parrot":
        """There is nothing to load."""
        ModuleConfig.load(model_path)
        return cls()

    @TextGenerationTask.taskmethod()
    def run(
        self,
        text: str,
        max_new_tokens: Optional[int] = 20,
        min_new_tokens: Optional[int] = 0,
        truncate_input_tokens: Optional[int] = 0,
        decoding_method: Optional[str] = "GREEDY",
        top_k: Optional[int] = None,
        top_p: Optional[float] = None,
        typical_p: Optional[float] = None,
        temperature: Optional[float] = None,
        repetition_penalty: Optional[float] = None,
        max_time: Optional[float] = None,
        exponential_decay_length_penalty: Penalty = None,
        stop_sequences: Optional[List[str]] = None,
        seed: Optional[np.uint64] = None,
        preserve_input_text: bool = False,
        input_tokens: bool = False,
        generated_tokens: bool = False,
        token_logprobs: bool = False,
        token_ranks: bool = False,
        include_stop_sequence: Optional[bool] = None,
    ) -> GeneratedTextResult:
        """All at once."""
        words, reason = _plan(text, max_new_tokens, stop_sequences)
        spoken = [_spoken(word) for word in words]
        return GeneratedTextResult(
            generated_text="".join(spoken),
            generated_tokens=len(words),
            finish_reason=reason,
            producer_id=self.PRODUCER_ID,
            input_token_count=len(text.split()),
            seed=seed,
            tokens=[_token(word, place) for place, word in enumerate(words)] if generated_tokens else [],
        )

    @TextGenerationTask.taskmethod(output_streaming=True)
    def run_stream_out(
        self,
        text: str,
        max_new_tokens: Optional[int] = 20,
        min_new_tokens: Optional[int] = 0,
        truncate_input_tokens: Optional[int] = 0,
        decoding_method: Optional[str] = "GREEDY",
        top_k: Optional[int] = None,
        top_p: Optional[float] = None,
        typical_p: Optional[float] = None,
        temperature: Optional[float] = None,
        repetition_penalty: Optional[float] = None,
        max_time: Optional[float] = None,
        exponential_decay_length_penalty: Penalty = None,
        stop_sequences: Optional[List[str]] = None,
        seed: Optional[np.uint64] = None,
        preserve_input_text: bool = False,
        input_tokens: bool = False,
        generated_tokens: bool = False,
        token_logprobs: bool = False,
        token_ranks: bool = False,
        include_stop_sequence: Optional[bool] = None,
    ) -> Iterable[GeneratedTextStreamResult]:
        """Word by word, after a message about the input."""
        words, reason = _plan(text, max_new_tokens, stop_sequences)
        yield _piece("", FinishReason.NOT_FINISHED, 0, len(text.split()))
        for count, word in enumerate(words, 1):
            last = reason if count == len(words) else FinishReason.NOT_FINISHED
            yield _piece(_spoken(word), last, count, 0)


def _plan(text: str, most: Optional[int], stops: Optional[List[str]]) -> Tuple[List[str], FinishReason]:
    """The words to say, each with the space before it, and why they end."""
    prompt, words = text.split() or ["nothing"], []
    for place in range(most or 20):
        word = f" {prompt[place % len(prompt)]}"
        if any(stop in word for stop in stops or ()):
            return words, FinishReason.STOP_SEQUENCE
        words.append(word)
    return words, FinishReason.MAX_TOKENS


def _spoken(word: str) -> str:
    if word == " FAIL":
        raise ValueError("the prompt wants it")
    return word


def _token(word: str, place: int) -> GeneratedToken:
    return GeneratedToken(text=word, logprob=-0.5, rank=place + 1)


def _piece(text: str, reason: FinishReason, count: int, inputs: int) -> GeneratedTextStreamResult:
    details = TokenStreamDetails(finish_reason=reason, generated_tokens=count, seed=0, input_token_count=inputs)
    return GeneratedTextStreamResult(generated_text=text, tokens=[], input_tokens=[], details=details)
