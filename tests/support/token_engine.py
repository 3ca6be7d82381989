"""An engine with tokens, in vLLM's event shapes: one greedy answer, given token by token from wherever it is asked to.

Its answer is fixed, so whoever continues it must get the rest, and gets an assertion when the tokens sent are others.
Text appears as from vLLM's detokenizer: nothing of a character before it is whole, and with stop strings as many
characters are held back as could be the beginning of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

QUESTION = [7, 8, 9]
CARD = {"id": "scripted", "object": "model", "owned_by": "vllm", "max_model_len": 512}


def dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class TokenEngine:
    """`answer` is the answer's tokens as bytes; `steps` how many of them come in one event, over and over."""

    def __init__(self, answer: Sequence[bytes], steps: Sequence[int] = (1,), name: str = "a") -> None:
        self.vocabulary = sorted(set(answer))
        self.answer = [self.vocabulary.index(piece) for piece in answer]
        self.steps = steps
        self.name = name
        self.asked: list[dict[str, Any]] = []

    def text_of(self, ids: Sequence[int]) -> str:
        return b"".join(self.vocabulary[token_id] for token_id in ids).decode(errors="replace")

    def detokenize(self, body: dict[str, Any]) -> bytes:
        return dump({"prompt": self.text_of(body["tokens"])})

    def stream(self, target: str, body: dict[str, Any]) -> list[bytes]:
        """The events of one answer, each with its blank line."""
        self.asked.append(body)
        chat = target.endswith("/chat/completions")
        prompt, sent = self._prompt(chat, body)
        assert sent == self.answer[: len(sent)], "other tokens than the answer's were sent on"
        return [b"data: " + event + b"\n\n" for event in self._events(chat, body, prompt, sent)] + [b"data: [DONE]\n\n"]

    def whole_text(self, body: dict[str, Any]) -> str:
        events = [json.loads(event[6:]) for event in self.stream("/v1/chat/completions", body)[:-1]]
        return "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])

    def _prompt(self, chat: bool, body: dict[str, Any]) -> tuple[list[int], list[int]]:
        if chat or isinstance(body["prompt"], str):
            return QUESTION, []
        assert body["prompt"][: len(QUESTION)] == QUESTION
        return body["prompt"], body["prompt"][len(QUESTION) :]

    def _events(self, chat: bool, body: dict[str, Any], prompt: list[int], sent: list[int]) -> Iterator[bytes]:
        shows_ids = body.get("return_token_ids")
        kind = "chat.completion.chunk" if chat else "text_completion"
        named = {
            "id": f"{self.name}-{len(self.asked)}",
            "object": kind,
            "created": len(self.asked),
            "model": "scripted",
        }
        if chat:
            choice: dict[str, Any] = {"index": 0, "delta": {"role": "assistant", "content": ""}}
            choice |= {"logprobs": None, "finish_reason": None}
            yield dump({**named, "choices": [choice], "prompt_token_ids": prompt if shows_ids else None})
        num_tokens, first = 0, True
        for new, text, finish, stop in self._generate(body, len(sent)):
            num_tokens += len(new)
            choice = {"index": 0, "delta": {"content": text}} if chat else {"index": 0, "text": text}
            choice |= {"logprobs": None, "finish_reason": finish}
            if not chat or finish is not None:
                choice["stop_reason"] = stop
            if not chat:
                choice["prompt_token_ids"] = prompt if shows_ids and first else None
            first = False
            yield dump({**named, "choices": [{**choice, "token_ids": new if shows_ids else None}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": len(prompt), "completion_tokens": num_tokens}
            yield dump({**named, "choices": [], "usage": {**usage, "total_tokens": len(prompt) + num_tokens}})

    def _generate(self, body: dict[str, Any], start: int) -> Iterator[tuple[list[int], str, str | None, str | None]]:
        stops = body.get("stop") or []
        stops = [stops] if isinstance(stops, str) else stops
        include = bool(body.get("include_stop_str_in_output"))
        held = 0 if include else max((len(stop) for stop in stops), default=1) - 1
        last = min(len(self.answer), start + (body.get("max_completion_tokens") or body.get("max_tokens") or 10**6))
        place, shown, step = start, 0, 0
        while place < last:
            new = self.answer[place : min(last, place + self.steps[step % len(self.steps)])]
            place, step = place + len(new), step + 1
            text = next(
                text
                for end in range(place, start - 1, -1)
                if not (text := self.text_of(self.answer[start:end])).endswith("\ufffd")
            )
            found = min(((text.find(s) + len(s), text.find(s), s) for s in stops if s in text), default=None)
            if found is not None:
                text = text[: found[0]] if include else text[: found[1]]
            if found is not None:  # as vLLM: tokens behind the one that completes the stop string are dropped
                needed = next(
                    end
                    for end in range(place - len(new), place + 1)
                    if found[2] in self.text_of(self.answer[start:end])
                )
                new = new[: len(new) - (place - needed)]
            finish = "stop" if found or place == len(self.answer) else "length" if place == last else None
            end = len(text) if finish else max(shown, len(text) - held)
            yield new, text[shown:end], finish, found[2] if found else None
            shown = end
            if finish:
                return
