"""Every scheme with everything that a request may ask for. All are asked at once: a server's batch is mixed as well."""

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import chi2

from serving.provenance import MarkKey
from serving.provenance.schemes import SCHEMES, lefthash
from tests.support.engine_client import QUESTION, EngineClient
from training.studies.marks.foreign import foreign_detector

pytestmark = pytest.mark.engine

Answers = dict[tuple[str, str], list[dict[str, Any]]]

GREEN_LISTS = ("kgw", lefthash.NAME)
ALL_SCHEMES = ("gumbel", "dual-gumbel", "synthid", *GREEN_LISTS)
# Letters of prose: a small model that may write nothing but digits soon repeats them. No answer comes to its end.
PROSE = "Once upon a time[a-z ,]{1000}"
FIELDS = ("title", "keeper", "island", "weather", "ship", "storm", "rescue", "morning", "moral", "end")
NOTE = {
    "name": "note",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {field: {"type": "string"} for field in FIELDS},
        "required": FIELDS,
        "additionalProperties": False,
    },
}
ASKED: dict[str, dict[str, Any]] = {
    "plain": {"top_p": 1.0},
    "top-p": {"top_p": 0.9, "logprobs": True, "top_logprobs": 3},
    # Where few tokens are possible, an answer may leave too little to decide: two are judged together.
    "top-k": {"temperature": 0.9, "top_k": 50, "top_p": 0.95, "n": 2},
    "min-p": {"min_p": 0.05, "n": 2},
    "penalties": {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.2},
    "n": {"n": 2, "seed": 1},
    "grammar": {"structured_outputs": {"regex": PROSE}},
    "tools": {
        "tools": [{"type": "function", "function": NOTE}],
        "tool_choice": {"type": "function", "function": {"name": "note"}},
        "max_tokens": 300,
        "min_tokens": 0,
    },
}


def length(scheme: str) -> dict[str, int]:
    """Enough tokens for each to be found, whatever the processor's rounding has the model write."""
    return dict.fromkeys(("min_tokens", "max_tokens"), 150 if scheme in GREEN_LISTS else 120)


@pytest.fixture(scope="module")
def answers(engine: EngineClient) -> Answers:
    asked = list(product(ALL_SCHEMES, ASKED))

    def ask(case: tuple[str, str]) -> list[dict[str, Any]]:
        scheme, name = case
        return engine.choices(scheme, **{"temperature": 1.0, **length(scheme), **ASKED[name]})

    with ThreadPoolExecutor(len(asked)) as pool:
        return dict(zip(asked, pool.map(ask, asked), strict=True))


@pytest.fixture(scope="module")
def vocabulary(model_folder: Path) -> int:
    size: int = json.loads((model_folder / "config.json").read_bytes())["vocab_size"]
    return size


def p_value(scheme: str, key: MarkKey, token_ids: list[int], vocabulary: int) -> float:
    reader = lefthash.Lefthash(vocabulary) if scheme == lefthash.NAME else SCHEMES[scheme]
    pairs = reader.pairs(token_ids)
    return math.exp(reader.log_p_value(float(reader.token_scores([key.seed_for(scheme)], pairs).sum()), len(pairs)))


def combined(p_values: list[float]) -> float:
    """Fisher's method for independent texts."""
    return float(chi2.sf(-2 * sum(map(math.log, p_values)), 2 * len(p_values)))


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_each_answer_carries_the_keys_mark_and_no_other(
    answers: Answers, key: MarkKey, stranger: MarkKey, vocabulary: int, scheme: str, asked: str
) -> None:
    choices = answers[scheme, asked]
    values = [p_value(scheme, key, choice["token_ids"], vocabulary) for choice in choices]

    assert len(choices) == ASKED[asked].get("n", 1)
    # Some tools' arguments are a few words long, or the same words again: too little for one scheme by itself.
    assert asked == "tools" or combined(values) < 1e-2
    assert all(p_value(scheme, stranger, choice["token_ids"], vocabulary) > 1e-6 for choice in choices)


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_a_schemes_answers_together_leave_no_doubt(
    answers: Answers, key: MarkKey, vocabulary: int, scheme: str
) -> None:
    choices = [choice for asked in ASKED for choice in answers[scheme, asked]]

    assert combined([p_value(scheme, key, choice["token_ids"], vocabulary) for choice in choices]) < 1e-15


def test_arguments_of_tools_carry_marks(answers: Answers, key: MarkKey, vocabulary: int) -> None:
    """Of the schemes that decide tokens, taken together."""
    values = [
        p_value(scheme, key, answers[scheme, "tools"][0]["token_ids"], vocabulary)
        for scheme in ALL_SCHEMES
        if scheme not in GREEN_LISTS
    ]

    assert combined(values) < 1e-4


@pytest.mark.parametrize("scheme", sorted(set(ALL_SCHEMES) - {"kgw"}))
def test_a_detector_that_others_wrote_reads_it(answers: Answers, key: MarkKey, vocabulary: int, scheme: str) -> None:
    [choice] = answers[scheme, "plain"]

    assert foreign_detector(scheme, key, vocabulary)(choice["token_ids"])


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_grammars_hold(answers: Answers, scheme: str) -> None:
    [free], [call] = answers[scheme, "grammar"], answers[scheme, "tools"]

    assert re.fullmatch("Once upon a time[a-z ,]{50,1000}", free["message"]["content"])
    if call["finish_reason"] == "length":  # a string that the model did not end; what there is is not JSON yet
        return
    [made] = call["message"]["tool_calls"]
    assert set(json.loads(made["function"]["arguments"])) == set(FIELDS)


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_n_answers_differ(answers: Answers, scheme: str) -> None:
    first, second = answers[scheme, "n"]

    assert first["token_ids"] != second["token_ids"]


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_logprobs_are_the_models_own(answers: Answers, scheme: str) -> None:
    """Taken before the plugin: the chosen token keeps its probability, and others keep theirs."""
    [choice] = answers[scheme, "top-p"]
    tokens = choice["logprobs"]["content"]

    assert len(tokens) == len(choice["token_ids"])
    assert any(token["logprob"] < -0.1 for token in tokens)
    assert all(-100 < top["logprob"] <= 0 for token in tokens for top in token["top_logprobs"])


def cached_tokens(engine: EngineClient) -> float:
    found = re.search(r"^vllm:prefix_cache_hits_total\{.*\} (\S+)$", engine.http.get("/metrics").text, re.MULTILINE)
    assert found
    return float(found[1])


def test_a_prompt_from_the_prefix_cache_changes_nothing(engine: EngineClient, key: MarkKey, vocabulary: int) -> None:
    """The marks read the answer alone: of a cached prompt the plugin sees no logits."""
    messages = [
        {"role": "system", "content": "Be kind, be brief, be right. " * 40},
        {"role": "user", "content": QUESTION},
    ]
    engine.choices(None, messages=messages, max_tokens=1)
    before = cached_tokens(engine)

    def ask(scheme: str) -> list[int]:
        ids: list[int] = engine.choices(scheme, messages=messages, temperature=1.0, **length(scheme))[0]["token_ids"]
        return ids

    schemes = ("gumbel", "kgw")  # one of each kind
    with ThreadPoolExecutor(len(schemes)) as pool:
        answers = dict(zip(schemes, pool.map(ask, schemes), strict=True))

    assert cached_tokens(engine) - before >= 128 * len(schemes)
    for scheme, token_ids in answers.items():
        assert p_value(scheme, key, token_ids, vocabulary) < 1e-2, scheme


def test_a_green_list_marks_greedy_answers(engine: EngineClient) -> None:
    first, again, unmarked = (
        engine.choices(scheme, temperature=0, max_tokens=40)[0]["token_ids"] for scheme in ("kgw", "kgw", None)
    )

    assert first == again != unmarked
