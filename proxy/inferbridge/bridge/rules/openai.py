"""The OpenAI API as vLLM 0.10 and later speaks it: completions and chat.

* A temperature of 0 is greedy decoding; otherwise tokens are drawn, at 1.0 unless said. vLLM takes more defaults from
  the model's `generation_config.json`, so a request from another API says temperature, top_p, top_k, min_p and
  repetition_penalty explicitly. Zeros that mean "off" elsewhere are errors here and are not sent.
* A LoRA adapter is a model here: its name stands in `model`.
* `response_format` and the older `guided_*` fields mean what `structured_outputs` says. vLLM 0.12 and later ignores the
  `guided_*` fields; they reach a vLLM runtime as they are, and other runtimes as what they once meant.
* `logprobs` lists tokens; those of the prompt come with `echo`, so this is how a prompt's tokens are asked for.
* `finish_reason` "stop" covers the end token and a stop sequence; vLLM's `stop_reason` tells them apart. "length" is
  the client's own limit only when as many tokens were generated.
* Usage is counted over all choices, a prompt once for all of its answers.
* Bounds that differ by version (4 stop sequences in 0.32, 20 `logprobs`) are the runtime's own to refuse.
"""

from copy import copy
from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.rules import logprobs
from inferbridge.bridge.rules.base import MessageReader, MessageWriter, Rule
from inferbridge.bridge.rules.openai_streams import ChunkReader, ChunkWriter, finish_reason, split_prompt

_MAX_SEED = (1 << 63) - 1
_OFF = {"top_p": 1.0, "repetition_penalty": 1.0, "top_k": 0, "min_p": 0.0}
"""What vLLM takes for "no effect"; said explicitly, the model's own defaults do not apply."""
_GUIDES = ("guided_json", "guided_json_object", "guided_regex", "guided_choice", "guided_grammar")


class OpenAi(Rule):
    """What completions and chat share."""

    prefix = ""
    """Of ids."""

    def received_request(self, request: Any, context: Context) -> None:
        """A temperature of 0 means greedy; what vLLM refuses and others would take for "not said" is refused."""
        _check_counts(request)
        if request.temperature == 0:
            request.method, request.temperature = "greedy", None
        else:
            request.method = "sample"
        if request.method == "greedy" and (request.n or 1) > 1:
            raise invalid(f"n must be 1 when using greedy sampling, got {request.n}.")
        if request.top_k == -1:
            request.top_k = 0
        _read_format(request)
        given = [name for name in _GUIDES if getattr(request, name) not in (None, False, [])]
        if len(given) > 1:
            raise invalid(f"only one kind of constraint can be used for structured outputs, there are {len(given)}")

    def sent_request(self, request: Any, context: Context) -> Any:
        """Say explicitly what the model's configuration would decide otherwise."""
        request = copy(request)
        if request.seed is not None and request.seed > _MAX_SEED:
            raise invalid(f"seed: {context.profile.name} takes seeds up to 2^63-1")
        if request.method == "greedy":
            request.temperature = 0.0
        elif request.temperature is None:
            request.temperature = 1.0
        for name, value in _OFF.items():
            if not getattr(request, name):
                setattr(request, name, value)
        request.method = None
        request.truncate_tokens = request.truncate_tokens or None
        request.guided_json_object = request.guided_json_object or None
        if request.adapter:
            request.model, request.adapter = request.adapter, ""
        if context.streamed:
            request.usage_in_stream = request.usage_in_messages = True
        return request

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Reasons, and the counts of a single choice."""
        for choice in reply.choices:
            if len(reply.choices) == 1:
                choice.prompt_tokens, choice.completion_tokens = reply.prompt_tokens, reply.completion_tokens
            choice.finish_reason = finish_reason(choice, choice.completion_tokens, request)

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Totals, and what the client expects to find in every answer."""
        reply.id = reply.id or f"{self.prefix}-{context.new_id()}"
        reply.created = reply.created or int(context.now())
        reply.model = reply.model or request.model
        prompts = reply.choices[:: request.n or 1]
        for name, counted in (("prompt_tokens", prompts), ("completion_tokens", reply.choices)):
            if getattr(reply, name) is None or request.n:
                setattr(reply, name, sum(getattr(choice, name) or 0 for choice in counted))
        reply.total_tokens = reply.prompt_tokens + reply.completion_tokens
        for position, choice in enumerate(reply.choices):
            choice.index = position
            if choice.finish_reason != "stop_sequence":
                choice.stop_sequence = ""  # fmaas names the text of the end token here

    def reader(self, request: Any, context: Context) -> MessageReader:
        """Puts reasons right, and what is known of the prompt first."""
        return ChunkReader(request, context)


class OpenAiCompletions(OpenAi):
    """/v1/completions"""

    prefix = "cmpl"

    def received_request(self, request: Any, context: Context) -> None:
        """Prompts are texts that are not empty; `logprobs` lists the generated tokens, with `echo` all of them."""
        super().received_request(request, context)
        if not request.prompts or not all(request.prompts):
            raise invalid("prompt: a prompt cannot be empty")
        if request.top_n_tokens is not None:
            request.return_tokens = request.return_logprobs = True
            request.return_prompt_tokens = request.echo
            _note_text(context)

    def sent_request(self, request: Any, context: Context) -> Any:
        """Lists of tokens are asked for as `logprobs`."""
        sent = super().sent_request(request, context)
        if request.return_prompt_tokens or request.return_tokens:
            sent.top_n_tokens = request.top_n_tokens or 0
            sent.echo = request.echo or request.return_prompt_tokens
            _note_text(context)
            if not request.return_tokens and not context.streamed:
                sent.return_ranks = None  # those of the prompt are told
        sent.return_tokens = sent.return_prompt_tokens = sent.return_logprobs = None
        return sent

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Tokens, too."""
        super().received_reply(reply, request, context)
        for choice in reply.choices:
            split_prompt(choice, choice.prompt_tokens, request, context)

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Tokens as columns."""
        super().sent_reply(reply, request, context)
        for choice in reply.choices:
            if request.return_tokens:
                prompt = choice.prompt_details if request.echo else ()
                choice.logprobs = logprobs.columns(prompt, choice.tokens, 0, request.top_n_tokens or 0)
            choice.tokens, choice.prompt_details = [], []

    def writer(self, request: Any, context: Context) -> MessageWriter:
        """Ids and usage."""
        return ChunkWriter(self.prefix, request, context, chat=False)


class OpenAiChat(OpenAi):
    """/v1/chat/completions"""

    prefix = "chatcmpl"

    def received_request(self, request: Any, context: Context) -> None:
        """`logprobs` lists the generated tokens."""
        super().received_request(request, context)
        if not request.messages:
            raise invalid("messages: a chat cannot be empty")
        if request.return_logprobs:
            request.return_tokens = True
            _note_text(context)
        elif request.top_n_tokens:
            raise invalid("top_logprobs: logprobs must be true beside it")

    def sent_request(self, request: Any, context: Context) -> Any:
        """Lists of tokens are asked for as `logprobs`."""
        sent = super().sent_request(request, context)
        sent.return_tokens = None
        return sent

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Tokens as a list."""
        super().sent_reply(reply, request, context)
        for choice in reply.choices:
            if request.return_tokens:
                choice.logprobs = logprobs.content(choice.tokens, request.top_n_tokens or 0)
            choice.tokens, choice.prompt_details = [], []

    def writer(self, request: Any, context: Context) -> MessageWriter:
        """Ids and usage, and a first message that gives the role."""
        return ChunkWriter(self.prefix, request, context, chat=True)


def _note_text(context: Context) -> None:
    """Said before the answer begins, so that the head of a stream can tell it."""
    if context.client_api != context.profile.api:
        context.note(logprobs.TEXT)


def _check_counts(request: Any) -> None:
    for name, value, least in (("n", request.n, 1), ("max_tokens", request.max_tokens, 0 if request.echo else 1)):
        if value is not None and value < least:
            raise invalid(f"{name} must be at least 1, got {value}.")
    if request.truncate_tokens == 0:
        raise invalid("truncate_prompt_tokens: the prompt cannot be empty")


def _read_format(request: Any) -> None:
    """`response_format` as the constraint that it is."""
    form, request.response_format = request.response_format, None
    if form is None:
        return
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "json_object":
        request.guided_json_object = True
    elif kind == "json_schema":
        schema = form.get("json_schema")
        request.guided_json = schema.get("schema") if isinstance(schema, dict) else None
        if request.guided_json is None:
            raise invalid("response_format: json_schema needs a schema")
    elif kind != "text":
        raise invalid(f"response_format: the type {kind!r} cannot be carried")
