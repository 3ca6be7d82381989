"""The stand-in is judged by the official client, unmodified: what it accepts, gateways may rely on."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import anthropic
import httpx
import openai
import pytest

from loadtests.benchmarks.gateway import set_pace
from loadtests.tools.answers import PLAIN_BODY_BYTES, StreamAsked, answer_text, plain_body, stream_response


@pytest.fixture
def client(standin_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{standin_url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_chat_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="standin", messages=[{"role": "user", "content": "hi"}])

    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content.startswith("The river rose")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_completion_answer(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="standin", prompt="hi")

    assert answer.choices[0].text.startswith("The river rose")


def test_chat_stream_has_one_word_per_chunk_and_a_reason_at_the_end(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="standin", messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=5
    )
    chunks = list(stream)

    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert words == [" The", " river", " rose", " slowly", " through"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 5 + ["length"]
    assert all(chunk.usage is None for chunk in chunks)


def test_log_probabilities_come_with_as_many_alternatives_as_were_asked_for(client: openai.OpenAI) -> None:
    ask = {"model": "standin", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "logprobs": True}
    for fields, num_alternatives in (({}, 0), ({"top_logprobs": 5}, 5)):
        chunks = client.chat.completions.create(stream=True, **ask, **fields)
        told = [chunk.choices[0].logprobs.content[0] for chunk in chunks if chunk.choices[0].logprobs]

        assert [token.token for token in told] == [" The", " river", " rose"]
        assert [len(token.top_logprobs) for token in told] == [num_alternatives] * 3
        assert all(bytes(token.bytes).decode() == token.token for token in told)


def test_responses_and_messages_are_streamed_as_their_clients_read_them(
    client: openai.OpenAI, standin_url: str
) -> None:
    with client.responses.stream(model="standin", input="hi", max_output_tokens=3) as events:
        response = events.get_final_response()
    with anthropic.Anthropic(base_url=standin_url, api_key="none", max_retries=0) as claude:
        hello = [{"role": "user", "content": "hi"}]
        with claude.messages.stream(model="standin", messages=hello, max_tokens=3) as events:
            message = events.get_final_message()
    refused = httpx.post(f"{standin_url}/v1/messages", json={"model": "standin"})

    assert (response.output_text, response.usage.output_tokens) == (" The river rose", 3)
    assert (message.content[0].text, message.usage.output_tokens) == (" The river rose", 3)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "not_streamed")


def test_usage_comes_last_where_it_was_asked_for(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="standin",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        max_completion_tokens=7,
        stream_options={"include_usage": True},
    )
    *_, last = stream

    assert last.choices == []
    assert last.usage.completion_tokens == 7


def test_completion_stream(client: openai.OpenAI) -> None:
    stream = client.completions.create(model="standin", prompt="hi", stream=True, max_tokens=3)

    assert "".join(chunk.choices[0].text for chunk in stream) == " The river rose"


def test_models_and_unknown_paths(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["standin"]
    with pytest.raises(openai.NotFoundError, match="no such path"):
        client.embeddings.create(model="standin", input="hi")


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_plain_answers_have_the_size_that_figures_are_compared_with(endpoint) -> None:
    assert len(plain_body("standin", endpoint)) == PLAIN_BODY_BYTES == 376


def test_a_stream_in_one_write_and_in_steps_is_the_same_stream() -> None:
    answer = stream_response(StreamAsked("standin", "chat", 4, include_usage=True))

    assert len(answer.rest) == 3
    assert answer.whole.count(b"data: ") == 1 + 4 + 1 + 1
    assert answer.whole.endswith(b"0\r\n\r\n")


def test_steps_are_paced(standin_url: str) -> None:
    set_pace(standin_url, 30)
    times: list[float] = []
    body = {"stream": True, "max_tokens": 5, "messages": []}
    try:
        with httpx.stream("POST", f"{standin_url}/v1/chat/completions", json=body) as answer:
            for piece in answer.iter_raw():
                times += [time.perf_counter()] if piece else []
    finally:
        set_pace(standin_url, 0)

    # The first token at once; the four others at 30 ms each, whatever else the machine does in between.
    assert times[-1] - times[0] >= 0.110
    assert len(times) >= 3


def test_metrics_count_requests(standin_url: str) -> None:
    def count() -> float:
        lines = httpx.get(f"{standin_url}/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("vllm:request_success_total")).split()[-1])

    before = count()
    httpx.post(f"{standin_url}/v1/chat/completions", json={"messages": []})

    assert count() == before + 1


def test_a_request_in_pieces_and_two_at_once_are_both_answered(standin_url: str) -> None:
    parts = urlsplit(standin_url)
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 15\r\n\r\n" + b'{"messages":[]}'
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        for left, right in itertools.pairwise((0, 30, 80, len(request))):
            connection.sendall(request[left:right])
        connection.sendall(request + request)
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 3 or not received.endswith(b"}"):
            piece = connection.recv(65536)
            assert piece, received
            received += piece


def test_what_is_not_http_gets_an_error(standin_url: str) -> None:
    parts = urlsplit(standin_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")

        assert connection.recv(65536).startswith(b"HTTP/1.1 400")


def test_an_answer_goes_on_from_its_tokens(standin_url: str) -> None:
    """As vLLM: token ids with the events, and token ids as the prompt of what follows."""

    def ask(path: str, **fields: object) -> list[dict]:
        body = {"stream": True, "return_token_ids": True, **fields}
        lines = httpx.post(f"{standin_url}/v1/{path}", json=body).text.splitlines()
        return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    role, *words = ask("chat/completions", messages=[], max_tokens=6)
    ids = [token for event in words for token in event["choices"][0]["token_ids"]]
    rest = ask("completions", prompt=[*role["prompt_token_ids"], *ids[:4]], max_tokens=2)

    assert "".join(event["choices"][0]["text"] for event in rest) == answer_text(6).removeprefix(answer_text(4))
    assert [event["choices"][0]["token_ids"] for event in rest] == [[token_id] for token_id in ids[4:]]
