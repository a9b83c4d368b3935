"""A model that makes a vector of a text, always the same one: its words' digests added up and scaled to length 1.

As caikit-nlp does it, two special tokens are counted on top of the words and truncation is to words alone. A word FAIL
makes it fail; DOUBLE and LIST give the vector as NumPy doubles or as Python floats, which caikit tells apart on gRPC.
"""

import hashlib
from typing import List, Optional, Union

import numpy as np
from caikit.core import ModuleBase, ModuleConfig, module
from caikit.interfaces.common.data_model import ListOfVector1D, Vector1D
from caikit.interfaces.nlp.data_model import EmbeddingResult, EmbeddingResults
from caikit.interfaces.nlp.tasks import EmbeddingTask, EmbeddingTasks

NUMBERS = 384
SPECIAL_TOKENS = 2
MOST_WORDS = 20


@module("1f0a4f3e-6a57-4b0f-9c83-5d2a1b7e9d42", "Sparrow", "1.0.0", tasks=[EmbeddingTask, EmbeddingTasks])
class Sparrow(ModuleBase):
    """Makes vectors."""

    @classmethod
    def load(cls, model_path: str, *_: object, **__: object) -> "Sparrow":
        """There is nothing to load."""
        ModuleConfig.load(model_path)
        return cls()

    @EmbeddingTask.taskmethod()
    def run_embedding(self, text: str, truncate_input_tokens: Optional[int] = 0) -> EmbeddingResult:
        """Of one text."""
        words = _kept(text, truncate_input_tokens)
        return EmbeddingResult(
            result=Vector1D.from_vector(_vector(words)),
            producer_id=self.PRODUCER_ID,
            input_token_count=len(words) + SPECIAL_TOKENS,
        )

    @EmbeddingTasks.taskmethod()
    def run_embeddings(self, texts: List[str], truncate_input_tokens: Optional[int] = 0) -> EmbeddingResults:
        """Of several."""
        kept = [_kept(text, truncate_input_tokens) for text in texts]
        return EmbeddingResults(
            results=ListOfVector1D(vectors=[Vector1D.from_vector(_vector(words)) for words in kept]),
            producer_id=self.PRODUCER_ID,
            input_token_count=sum(len(words) + SPECIAL_TOKENS for words in kept),
        )


def _kept(text: str, most: Optional[int]) -> List[str]:
    """The words that are looked at; a text that is too long is an error unless it may be truncated."""
    words = text.split()
    if not most and len(words) > MOST_WORDS:
        raise ValueError(f"there are {len(words)} words, {MOST_WORDS} is the most")
    return words[: MOST_WORDS if not most or most < 0 else most]


def _vector(words: List[str]) -> Union[np.ndarray, List[float]]:
    if "FAIL" in words:
        raise ValueError("the text wants it")
    digests = [hashlib.shake_256(word.encode()).digest(2 * NUMBERS) for word in words or [""]]
    total = sum(np.frombuffer(digest, "<i2").astype(np.float64) for digest in digests)
    vector = total / np.linalg.norm(total)
    if "LIST" in words:
        return vector.tolist()
    return vector if "DOUBLE" in words else vector.astype(np.float32)
