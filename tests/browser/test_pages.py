"""mitmweb in a real browser, on live traffic through the gateway."""

import re
from pathlib import Path

import pytest

from browser.chromium import found
from browser.pages import INFER, opened, streaming

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(found() is None, reason="needs a Chromium: apt-get install chromium"),
]


async def test_a_chat_is_seen_while_it_streams_and_as_it_was_translated(tmp_path: Path) -> None:
    """An OpenAI chat to a gRPC runtime: its text grows on the page, and both sides stand side by side."""
    async with opened(tmp_path) as pages, streaming(pages) as call:
        await pages.choose("/v1/chat/completions")
        await pages.tab("Response")
        seen = 0
        for _ in range(3):
            await pages.page.until(f"new Set(document.body.innerText.match(/word\\d+/g)).size > {seen}")
            seen = len(set(re.findall(r"word\d+", await pages.message())))
            assert not call.done()
        assert seen >= 3
        await pages.view("inferbridge translation")
        shown = await pages.message()
        assert "openai chat over rest -> tgis generate_stream over grpc" in shown
        assert re.search(r'model = "tiny" +\| +model_id = "tiny"', shown)
        assert "fmaas.SingleGenerationRequest" in shown
        assert b"[DONE]" in await call
        await pages.view("inferbridge timing")
        assert "TTFT" in await pages.message()


async def test_tensors_are_seen_on_both_sides(tmp_path: Path) -> None:
    """V2 in JSON to a gRPC runtime: the client's tensors, and those that the runtime was sent and gave back."""
    async with opened(tmp_path) as pages:
        await pages.call("/v2/models/resnet/infer", INFER)
        await pages.choose("/v2/models/resnet/infer")
        await pages.page.until("document.body.innerText.includes('inferbridge tensors')")
        assert re.search(r"pixels.*FP32.*\[2, ?3\]", await pages.message())
        await pages.view("inferbridge upstream")
        shown = await pages.message()
        assert "/inference.GRPCInferenceService/ModelInfer" in shown
        assert shown.count("pixels") >= 2
