"""The rules of all APIs, by the name that an endpoint's `rule` gives."""

from collections.abc import Mapping

from inferbridge.bridge.rules.base import Rule
from inferbridge.bridge.rules.caikit import Caikit
from inferbridge.bridge.rules.models import CaikitModels, OpenAiModels, TgisModelInfo, V2Models, Version
from inferbridge.bridge.rules.openai import OpenAiChat, OpenAiCompletions
from inferbridge.bridge.rules.pooling import CaikitEmbeddings, OpenAiEmbeddings
from inferbridge.bridge.rules.ranking import CaikitRerank, CaikitSimilarity, OpenAiRerank, OpenAiScore
from inferbridge.bridge.rules.tgis import Tgis
from inferbridge.bridge.rules.tokens import CaikitTokenize, OpenAiTokenize, TgisTokenize
from inferbridge.bridge.rules.triton import TritonGenerate, TritonGenerateStream

RULES: Mapping[str, Rule] = {
    "caikit": Caikit(),
    "caikit_embeddings": CaikitEmbeddings(),
    "caikit_models": CaikitModels(),
    "caikit_rerank": CaikitRerank(),
    "caikit_similarity": CaikitSimilarity(),
    "caikit_tokenize": CaikitTokenize(),
    "caikit_version": Version("caikit"),
    "openai_chat": OpenAiChat(),
    "openai_completions": OpenAiCompletions(),
    "openai_embeddings": OpenAiEmbeddings(),
    "openai_models": OpenAiModels(),
    "openai_rerank": OpenAiRerank(),
    "openai_score": OpenAiScore(),
    "openai_tokenize": OpenAiTokenize(),
    "openai_version": Version("vllm"),
    "tgis": Tgis(),
    "tgis_model_info": TgisModelInfo(),
    "tgis_tokenize": TgisTokenize(),
    "v2_models": V2Models(),
    "triton_generate": TritonGenerate(),
    "triton_generate_stream": TritonGenerateStream(),
}
