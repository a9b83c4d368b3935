"""Starts vLLM with its OpenAI REST door and, in the same process, the fmaas gRPC door of vllm-tgis-adapter.

The adapter was written for vLLM 0.10 to 0.12; the vLLM that runs on CPUs here is 0.32. What moved or was renamed
between them is put where the adapter looks for it. How requests are read, checked and answered is the adapter's own
code, untouched. Arguments are the adapter's.
"""

import logging
import runpy
import sys
from collections.abc import AsyncIterator, Generator
from types import ModuleType
from typing import Any

import vllm
import vllm.engine.protocol
import vllm.entrypoints.openai
import vllm.inputs
from transformers import PreTrainedTokenizerBase
from vllm.entrypoints.launchers import cli_args, launcher
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
from vllm.exceptions import VLLMValidationError
from vllm.utils.async_utils import merge_async_iterators
from vllm.v1.engine.async_llm import AsyncLLM

TASKS = ("generate",)
NO_PROCESSORS = "vLLM V1 does not support per request user provided logits processors."


def stand_in(name: str, **contents: Any) -> None:
    """Make a module that is no longer where the adapter imports it from."""
    module = ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module
    parent, _, leaf = name.rpartition(".")
    setattr(sys.modules[parent], leaf, module)


def place_modules() -> None:
    """Where vLLM 0.12 had its servers' parts."""
    stand_in(
        "vllm.entrypoints.openai.api_server",
        build_async_engine_client=build_async_engine_client,
        create_server_socket=lambda address: launcher.create_server_socket(address, reuse_port=False),
        maybe_register_tokenizer_info_endpoint=lambda arguments: None,
        build_app=lambda arguments: build_app(arguments, TASKS),
        init_app_state=lambda engine, state, arguments: init_app_state(engine, state, arguments, TASKS),
    )
    stand_in("vllm.entrypoints.openai.cli_args", make_arg_parser=cli_args.make_arg_parser)
    stand_in("vllm.entrypoints.openai.serving_completion", merge_async_iterators=merge_async_iterators)
    stand_in(
        "vllm.entrypoints.openai.protocol", ErrorResponse=ErrorResponse, LoadLoRAAdapterRequest=LoadLoRAAdapterRequest
    )
    stand_in("vllm.entrypoints.utils", cli_env_setup=cli_env_setup)
    stand_in("vllm.entrypoints.launcher", serve_http=launcher.serve_http)
    vllm.inputs.token_inputs = lambda **fields: fields


class AwaitableTokenizer:
    """A tokenizer that may be awaited: the engine's `get_tokenizer` was asynchronous once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __await__(self) -> Generator[None, None, Any]:
        yield from ()
        return self._tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def adapt_tokenizers() -> None:
    """Let the adapter await the tokenizer, and call it by the name of transformers 4."""
    get_tokenizer = AsyncLLM.get_tokenizer
    AsyncLLM.get_tokenizer = lambda engine: AwaitableTokenizer(get_tokenizer(engine))
    PreTrainedTokenizerBase.encode_plus = lambda tokenizer, text, **options: tokenizer(text, **options)


def adapt_sampling() -> None:
    """Sampling parameters without logits processors; who asks for some is refused as vLLM 0.12 refused."""
    import vllm_tgis_adapter.grpc.grpc_server as adapter

    make, generate = adapter.SamplingParams, adapter.TextGenerationService._make_generator

    def sampling_parameters(logits_processors: Any = None, **fields: Any) -> Any:
        try:
            made = make(**fields)
        except VLLMValidationError as problem:  # was a ValueError, which the adapter catches
            raise ValueError(str(problem)) from None
        made.refused = bool(logits_processors)
        return made

    async def refuse() -> AsyncIterator[Any]:
        raise ValueError(NO_PROCESSORS)
        yield

    def make_generator(service: Any, *arguments: Any, **fields: Any) -> Any:
        return refuse() if fields["sampling_params"].refused else generate(service, *arguments, **fields)

    adapter.SamplingParams = sampling_parameters
    adapter.TextGenerationService._make_generator = make_generator


def adapt_arguments() -> None:
    """vLLM has a --grpc-port of its own now, for another service: the adapter's wins."""
    import vllm_tgis_adapter.tgis_utils.args as arguments

    start = arguments.EnvVarArgumentParser.__init__
    arguments.EnvVarArgumentParser.__init__ = lambda made, parser=None, **options: start(
        made, parser, **{"conflict_handler": "resolve", **options}
    )


def adapt_logging() -> None:
    """A field that the adapter's log format names."""
    make_record = logging.getLogRecordFactory()

    def record(*arguments: Any, **fields: Any) -> logging.LogRecord:
        made = make_record(*arguments, **fields)
        vars(made).setdefault("vllm_process_name", "")
        return made

    logging.setLogRecordFactory(record)


if __name__ == "__main__":  # the engine's own processes import this file, too
    adapt_logging()
    place_modules()
    adapt_tokenizers()
    adapt_arguments()
    adapt_sampling()
    sys.argv[0] = "vllm_tgis_adapter"
    runpy.run_module("vllm_tgis_adapter", run_name="__main__")
