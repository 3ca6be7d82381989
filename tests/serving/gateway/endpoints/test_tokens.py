from __future__ import annotations

from serving.gateway.endpoints.tokens import DETOKENIZE, TOKENIZE


def test_what_would_be_asked_is_the_question() -> None:
    assert list(TOKENIZE.prompt_texts({"prompt": "a"})) == ["a"]
    assert list(TOKENIZE.prompt_texts({"messages": [{"role": "user", "content": "b"}]})) == ["b"]
    assert list(DETOKENIZE.prompt_texts({"tokens": [1, 2]})) == []


def test_what_ids_spell_is_an_answer() -> None:
    [field] = DETOKENIZE.text_fields({"prompt": "Hello"})

    assert field.holder[field.key] == "Hello"
    assert DETOKENIZE.text_fields({"prompt": None}) == []
    assert DETOKENIZE.cleans_answer
    assert TOKENIZE.text_fields({"prompt": "Hello"}) == []
