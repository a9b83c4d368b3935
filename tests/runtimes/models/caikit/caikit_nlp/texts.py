"""Modules that say what texts are made of: words as tokens, and words in capitals as something special."""

import re
from typing import Iterable, List, Optional, Union

from caikit.core import ModuleBase, ModuleConfig, module
from caikit.interfaces.nlp.data_model import (
    ClassificationResult,
    ClassificationResults,
    Token,
    TokenClassificationResult,
    TokenClassificationResults,
    TokenClassificationStreamResult,
    TokenizationResults,
)
from caikit.interfaces.nlp.tasks import TextClassificationTask, TokenClassificationTask, TokenizationTask


class _Loaded(ModuleBase):
    @classmethod
    def load(cls, model_path: str, *_: object, **__: object) -> "_Loaded":
        """There is nothing to load."""
        ModuleConfig.load(model_path)
        return cls()


@module("0f9d8a2e-5b1c-4c37-8f4e-2a6b7c1d9e01", "Splitter", "1.0.0", tasks=[TokenizationTask])
class Splitter(_Loaded):
    """Words are tokens, and there is one more at each end, as models have them."""

    @property
    def public_model_info(self) -> dict:
        """What `/info/models` tells of it."""
        return {"max_seq_length": 128}

    @TokenizationTask.taskmethod()
    def run(self, text: str) -> TokenizationResults:
        """The words; a text with the word COUNT is counted only, as by modules that generate text."""
        words = [Token(start=found.start(), end=found.end(), text=found[0]) for found in re.finditer(r"\S+", text)]
        return TokenizationResults(results=None if "COUNT" in text else words, token_count=len(words) + 2)


@module("0f9d8a2e-5b1c-4c37-8f4e-2a6b7c1d9e02", "Capitals", "1.0.0", tasks=[TextClassificationTask])
class Capitals(_Loaded):
    """How much of a text is in capitals."""

    @TextClassificationTask.taskmethod()
    def run(self, text: str) -> ClassificationResults:
        """Two classes whose scores make 1."""
        score = sum(letter.isupper() for letter in text) / max(1, len(text))
        labels = (("UPPER", score), ("LOWER", 1 - score))
        return ClassificationResults(results=[ClassificationResult(label=name, score=each) for name, each in labels])


@module("0f9d8a2e-5b1c-4c37-8f4e-2a6b7c1d9e03", "Names", "1.0.0", tasks=[TokenClassificationTask])
class Names(_Loaded):
    """Words that begin with a capital, the likelier the longer they are."""

    @TokenClassificationTask.taskmethod()
    def run(self, text: str, threshold: Optional[Union[float, int]] = None) -> TokenClassificationResults:
        """The words that are at least as likely as the threshold."""
        return TokenClassificationResults(results=_names(text, threshold or 0.0))

    @TokenClassificationTask.taskmethod(input_streaming=True, output_streaming=True)
    def run_bidi_stream(
        self, text_stream: Iterable[str], threshold: Optional[Union[float, int]] = None
    ) -> Iterable[TokenClassificationStreamResult]:
        """The same for each piece of a text, as soon as it is there."""
        start = 0
        for text in text_stream:
            end = start + len(text)
            found = _names(text, threshold or 0.0)
            yield TokenClassificationStreamResult(results=found, start_index=start, processed_index=end)
            start = end


def _names(text: str, threshold: float) -> List[TokenClassificationResult]:
    found = [(word, len(word[0]) / 10) for word in re.finditer(r"\b[A-Z]\w*", text)]
    return [
        TokenClassificationResult(
            start=word.start(), end=word.end(), word=word[0], entity="NAME", entity_group="words", score=score
        )
        for word, score in found
        if score >= threshold
    ]
