"""Answers of single operations: what they promise beyond being valid."""

from inferbridge.mock.answers import messages_to, reply_to
from inferbridge.mock.values import VECTOR
from inferbridge_generated import operations as made


def test_tensors_come_back() -> None:
    """The outputs are the inputs; one that is asked for by name has that name."""
    x, y = (made.Tensor(name=name, datatype="INT8", shape=[1], data=name.encode()) for name in "xy")
    reply = reply_to("infer", made.InferRequest(model="m", id="7", inputs=[x, y]), made)
    assert (reply.outputs, reply.id) == ([x, y], "7")
    wanted = [made.RequestedOutput(name="y"), made.RequestedOutput(name="z")]
    reply = reply_to("infer", made.InferRequest(model="m", inputs=[x, y], outputs=wanted), made)
    assert [(tensor.name, tensor.data) for tensor in reply.outputs] == [("y", b"y"), ("z", b"y")]


def test_vectors_follow_from_their_texts() -> None:
    """Equal texts have equal vectors, others have others; `dimensions` says how many numbers."""
    reply = reply_to("embed", made.EmbedRequest(texts=["a", "b c", "a"]), made)
    first, second, third = (vector.values for vector in reply.vectors)
    assert first == third != second
    assert len(first) == VECTOR
    assert reply.prompt_tokens == 4
    reply = reply_to("embed", made.EmbedRequest(texts=["a"], dimensions=3), made)
    assert len(reply.vectors[0].values) == 3


def test_each_sentence_is_compared() -> None:
    """One score a sentence and source; a text is most like itself."""
    reply = reply_to("similarity", made.SimilarityRequest(sources=["a", "b"], sentences=["c", "b", "a"]), made)
    scores = [result.scores for result in reply.results]
    assert [len(some) for some in scores] == [3, 3]
    assert (scores[0][2], scores[1][1]) == (1.0, 1.0)


def test_the_best_documents_come_first() -> None:
    """Ranked by score, cut at `top_n`, with texts unless the client declines them."""
    documents = [{"text": text} for text in ("x", "y", "why", "z")]
    reply = reply_to("rerank", made.RerankRequest(queries=["why"], documents=documents, top_n=3), made)
    (ranking,) = reply.rankings
    scores = [ranked.score for ranked in ranking.documents]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3
    assert (ranking.documents[0].index, ranking.documents[0].text) == (2, "why")
    request = made.RerankRequest(queries=["why"], documents=documents, return_text=False, return_documents=False)
    ranked = reply_to("rerank", request, made).rankings[0].documents[0]
    assert (ranked.text, ranked.document) == (None, None)


def test_a_word_is_a_token() -> None:
    """Count, ids, pieces and places of the words."""
    reply = reply_to("tokenize", made.TokenizeRequest(prompts=["to  be to"]), made)
    (result,) = reply.results
    assert (result.count, result.pieces) == (3, ["to", "be", "to"])
    assert result.ids[0] == result.ids[2] != result.ids[1]
    assert [(span.start, span.end) for span in result.spans] == [(0, 2), (4, 6), (7, 9)]
    assert reply_to("detokenize", made.DetokenizeRequest(ids=[5, 7]), made).text == "token5 token7"


def test_an_operation_without_an_answer_of_its_own_gets_a_valid_one() -> None:
    """Every operation has an answer, made of its types; one that streams has messages."""
    assert reply_to("server_ready", made.ServerReadyRequest(), made).ready
    assert list(messages_to("generate", made.GenerateRequest(prompts=["a"]), made))[-1].finish_reason == "eos_token"
