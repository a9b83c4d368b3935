"""The rules of all APIs, by the name that an endpoint's `rule` gives."""

from collections.abc import Mapping

from inferbridge.bridge.rules.base import Rule
from inferbridge.bridge.rules.caikit import Caikit
from inferbridge.bridge.rules.openai import OpenAiChat, OpenAiCompletions
from inferbridge.bridge.rules.pooling import CaikitEmbeddings, OpenAiEmbeddings
from inferbridge.bridge.rules.ranking import CaikitRerank, CaikitSimilarity, OpenAiRerank, OpenAiScore
from inferbridge.bridge.rules.tgis import Tgis
from inferbridge.bridge.rules.tokens import OpenAiModels, OpenAiTokenize, TgisModelInfo, TgisTokenize

RULES: Mapping[str, Rule] = {
    "caikit": Caikit(),
    "caikit_embeddings": CaikitEmbeddings(),
    "caikit_rerank": CaikitRerank(),
    "caikit_similarity": CaikitSimilarity(),
    "openai_chat": OpenAiChat(),
    "openai_completions": OpenAiCompletions(),
    "openai_embeddings": OpenAiEmbeddings(),
    "openai_rerank": OpenAiRerank(),
    "openai_models": OpenAiModels(),
    "openai_score": OpenAiScore(),
    "openai_tokenize": OpenAiTokenize(),
    "tgis": Tgis(),
    "tgis_model_info": TgisModelInfo(),
    "tgis_tokenize": TgisTokenize(),
}
