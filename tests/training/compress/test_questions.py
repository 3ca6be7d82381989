from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.compress.questions import QUESTIONS, encode_questions, read_questions
from training.data import IGNORED
from training.errors import DataError, SourceError

ROWS = [
    {"question": "What do bees make?", "choices": ["milk", "honey", "wool"], "answer": 1},
    {"question": "Two plus two?", "choices": ["four", "five"], "answer": 0},
]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_choice_with_the_smallest_loss_is_the_answer(tmp_path: Path, tiny_model_folder: Path) -> None:
    file = read_questions(write(tmp_path / "q.jsonl", *map(json.dumps, ROWS)))

    questions = encode_questions(file, tiny_model_folder)

    assert list(questions.right([3.0, 1.0, 2.0, 4.0, 9.0])) == [1, 1]
    assert list(questions.right([1.0, 3.0, 2.0, 4.0, 9.0])) == [0, 1]
    honey = questions.examples[1]
    said = [token for token in honey.labels if token != IGNORED]
    # The tiny model's tokens are bytes: a space and the word.
    assert len(said) == len(" honey")
    assert honey.input_ids[-len(said) :] == said


def test_the_built_in_questions_have_one_right_answer_each_anywhere_among_four() -> None:
    found = read_questions(QUESTIONS).questions

    assert len({question.question for question in found}) == len(found) >= 60
    assert all(len(set(question.choices)) == 4 for question in found)
    places = [question.answer for question in found]
    assert min(places.count(place) for place in range(4)) > len(found) / 8


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "q.jsonl:2: is not JSON"),
        ("[]", 'q.jsonl:2: has no "question"'),
        ('{"question": "?", "choices": "a", "answer": 0}', '"choices" is not a list of texts'),
        ('{"question": "?", "choices": ["a"], "answer": 0}', "fewer than two choices"),
        ('{"question": "?", "choices": ["a", " "], "answer": 0}', '"choices" is not a list of texts'),
        ('{"question": "?", "choices": ["a", "b"], "answer": 2}', "from 0 to 1"),
        ('{"question": "?", "choices": ["a", "b"], "answer": true}', "from 0 to 1"),
        ('{"question": "?", "choices": ["a", "b"], "answer": "b"}', "from 0 to 1"),
    ],
)
def test_a_bad_line_is_named(line: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=why):
        read_questions(write(tmp_path / "q.jsonl", json.dumps(ROWS[0]), line))


def test_an_empty_file_and_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no questions"):
        read_questions(write(tmp_path / "q.jsonl", ""))
    with pytest.raises(DataError, match="cannot be read"):
        read_questions(tmp_path / "none.jsonl")
    with pytest.raises(SourceError, match="no usable tokenizer"):
        encode_questions(read_questions(QUESTIONS), tmp_path)
