from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from training.data import Example
from training.data.encoding import IGNORED
from training.disk import WORK_PREFIX
from training.errors import DataError, RecipeError, SourceError
from training.evaluate import resolve_source
from training.evaluate.loading import load_model
from training.evaluate.measurement import measure_classifier, measure_source
from training.methods.answers import write_answers
from training.methods.distillation import TokenDistillation
from training.outcome import Outcome
from training.recipes.distill import TeacherAnswers
from training.registry import ManifestDraft, Registry

Run = Callable[..., Outcome]

LANGUAGE = """\
method: distill
name: student
teacher: tiny
student: {layers: 1}
data: {train: train.jsonl, heldout: heldout.jsonl, max_tokens: 128}
steps: 25
batch_size: 4
optimizer: {learning_rate: 5.0e-3}
"""

TEACHER = """\
method: classify
name: teacher
base: words
data: {train: train.jsonl, heldout: heldout.jsonl, max_tokens: 32}
steps: 60
batch_size: 8
optimizer: {learning_rate: 5.0e-3}
"""

STUDENT = """\
method: distill
name: student
teacher: teacher
student: {layers: 1, vocabulary: used}
data: {train: train.jsonl, heldout: heldout.jsonl, max_tokens: 32}
steps: 60
batch_size: 8
optimizer: {learning_rate: 5.0e-3}
"""


def names_a_work_folder(path: Path) -> bool:
    return WORK_PREFIX.encode() in path.read_bytes()


@pytest.fixture
def language(tmp_path: Path, train: Run, tiny: Registry, write_chats: Callable[..., Path]) -> Run:
    """Distill the tiny model with some settings changed."""
    write_chats("train.jsonl", [(f"Question {number}?", "It is open until ten.") for number in range(20)])
    write_chats("heldout.jsonl", [(f"Is shop {number} open?", "It is open until ten.") for number in range(6)])
    (tmp_path / "recipe.yaml").write_text(LANGUAGE)
    return partial(train, tmp_path / "recipe.yaml")


def test_a_student_of_fewer_layers_learns_and_is_measured_again_as_its_manifest_says(
    language: Run, tiny: Registry, tmp_path: Path
) -> None:
    outcome = language()

    assert outcome.checkpoint is not None
    manifest = outcome.checkpoint.manifest
    figures = manifest.evaluation
    assert (manifest.kind, manifest.license) == ("merged", "Apache-2.0")
    assert [parent.ref for parent in manifest.parents] == ["tiny@1"]
    assert figures["perplexity_after"] < figures["perplexity_before"] / 2
    assert figures["parameters"] < figures["teacher_parameters"]
    assert json.loads((outcome.checkpoint.path / "config.json").read_bytes())["num_hidden_layers"] == 1
    assert not any(names_a_work_folder(path) for path in outcome.checkpoint.path.iterdir())
    source = resolve_source("student", tiny, False)
    measured = measure_source(source, tmp_path / "heldout.jsonl", 128, False)
    assert measured.perplexity.value == pytest.approx(figures["perplexity_after"], rel=1e-6)


def test_without_the_datas_share_the_student_nears_its_teacher_and_not_the_data(language: Run) -> None:
    taught = language("alpha=0", "steps=60", "temperature=1").report
    alone = language("alpha=1", "steps=60").report

    # The teacher is random: whoever follows it predicts the data badly.
    assert taught["losses"][-1] < taught["losses"][0] / 2
    assert alone["perplexity_after"] < taught["perplexity_after"]


def test_a_student_learns_the_answers_that_its_teacher_writes(language: Run, tiny: Registry, tmp_path: Path) -> None:
    outcome = language("answers.max_tokens=6", "alpha=1", "steps=120")

    assert outcome.checkpoint is not None
    figures = outcome.checkpoint.manifest.evaluation
    assert 20 <= figures["answer_tokens"] <= 120
    assert figures["last_loss"] < figures["first_loss"] / 3
    # The data's own answers are not what it learned.
    assert figures["perplexity_after"] > 10
    assert outcome.checkpoint.manifest.recipe is not None
    assert outcome.checkpoint.manifest.recipe.settings["answers"] == {"max_tokens": 6, "batch_size": 8}


def test_answers_are_the_greedy_ones_alone_and_in_a_batch(tiny: Registry) -> None:
    teacher = load_model(resolve_source("tiny", tiny, False), torch.float32).eval()
    prompts = [[1, 40, 41, 42], [1, 50], [1, 60, 61, 62, 63, 64, 65]]
    examples = [Example([*prompt, 9, 2], [IGNORED] * len(prompt) + [9, 2], "chats:1") for prompt in prompts]

    found = write_answers(teacher, examples, TeacherAnswers(max_tokens=5), 0, lambda done, total: None)

    for prompt, example in zip(prompts, found.examples, strict=True):
        answer = []
        while len(answer) < 5 and 2 not in answer:
            with torch.inference_mode():
                answer.append(int(teacher(torch.tensor([prompt + answer])).logits[0, -1].argmax()))
        assert example.input_ids == prompt + answer
        assert example.labels == [IGNORED] * len(prompt) + answer
    assert found.tokens == sum(len(example.labels) - example.labels.count(IGNORED) for example in found.examples)


def test_answers_need_a_question_and_a_writer(language: Run, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("To be or not to be. " * 60)
    with pytest.raises(RecipeError, match="a teacher answers chats, not plain text"):
        language("answers.max_tokens=6", f"data.train={tmp_path / 'text.txt'}", "data.heldout=null")


def test_plain_text_is_learned_in_blocks(language: Run, tmp_path: Path) -> None:
    (tmp_path / "prose.txt").write_text("the sea is wide and the sea is deep\n" * 60)

    outcome = language("data={train: prose.txt, max_tokens: 64}", "student={layers: 1}", "steps=10")

    assert outcome.report["perplexity_after"] < outcome.report["perplexity_before"]
    assert outcome.checkpoint is not None
    assert [digest.role for digest in outcome.checkpoint.manifest.data] == ["train", "heldout"]


def test_a_student_by_name_needs_the_teachers_tokenizer(
    language: Run, tiny: Registry, tiny_model_folder: Path, tmp_path: Path
) -> None:
    for name, text in (("other", '"\\u0120"'), ("same", "")):
        folder = tmp_path / name
        shutil.copytree(tiny_model_folder, folder)
        if text:
            path = folder / "tokenizer.json"
            path.write_text(path.read_text().replace('"normalizer": null', '"normalizer": {"type": "NFC"}'))
        tiny.register(folder, name, ManifestDraft(kind="base"))

    with pytest.raises(SourceError, match="other@1 and tiny@1 have different tokenizers"):
        language("student=other")

    outcome = language("student=same", "steps=2")
    assert outcome.checkpoint is not None
    assert [parent.ref for parent in outcome.checkpoint.manifest.parents] == ["tiny@1", "same@1"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("student={layers: 2}", "the teacher has 2; choose fewer"),
        ("student={layers: 1, vocabulary: used}", "a language model may write any token"),
        ("data.heldout=train.jsonl", "what is held out must not be trained on"),
    ],
)
def test_what_cannot_be_is_said(language: Run, change: str, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        language(change)


def test_an_encoder_without_a_head_teaches_nothing_and_is_named(language: Run, words: Registry) -> None:
    with pytest.raises(SourceError, match="words@1 is not a language model: it is a BertModel"):
        language("teacher=words")


def test_errors_of_a_student_that_is_cut_name_its_teacher(language: Run, tiny: Registry, tmp_path: Path) -> None:
    shutil.copytree(tiny.resolve("tiny").path, tmp_path / "copy")
    for path in [*(tmp_path / "copy").glob("manifest*"), tmp_path / "copy/chat_template.jinja"]:
        path.unlink()
    tiny.register(tmp_path / "copy", "plain", ManifestDraft(kind="base"))

    with pytest.raises(SourceError, match=r"^plain@1 has no chat template: [^/]+$"):
        language("teacher=plain")


def test_an_interrupted_run_goes_on_with_the_same_losses(language: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = language("steps=6").report["losses"]
    taken = []
    loss = TokenDistillation.loss

    def stop_at_the_fourth(*given: Any) -> Any:
        taken.append(given)
        if len(taken) == 4:
            raise KeyboardInterrupt
        return loss(*given)

    monkeypatch.setattr(TokenDistillation, "loss", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        language("steps=6", "save_every=1", "name=again")

    assert language("steps=6", "save_every=1", "name=again").report["losses"] == whole


@pytest.fixture
def words(tiny: Registry, tmp_path: Path) -> Registry:
    """A random encoder of three layers with a WordPiece tokenizer, as `words@1`."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    pieces += ["good", "bad", "never", "##ly", *(f"unused{number}" for number in range(300))]
    raw = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path / "words"
    PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    tiny.register(folder, "words", ManifestDraft(kind="embedder", license="MIT"))
    return tiny


@pytest.fixture
def labelled(tmp_path: Path, train: Run, words: Registry) -> Path:
    """A classifier `teacher@1`, and the recipe of its student."""
    for name, start, count in (("train", 0, 40), ("heldout", 100, 12)):
        rows = [
            {"text": f"{['good', 'bad'][number % 2]} day {number}", "label": ["ham", "spam"][number % 2]}
            for number in range(start, start + count)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "teacher.yaml").write_text(TEACHER)
    train(tmp_path / "teacher.yaml")
    (tmp_path / "student.yaml").write_text(STUDENT)
    return tmp_path / "student.yaml"


def test_a_classifier_teaches_one_of_half_its_size(train: Run, labelled: Path, words: Registry, tmp_path: Path) -> None:
    outcome = train(labelled)

    assert outcome.checkpoint is not None
    manifest = outcome.checkpoint.manifest
    figures = manifest.evaluation
    assert (manifest.kind, [parent.ref for parent in manifest.parents]) == ("classifier", ["teacher@1"])
    assert figures["accuracy"] >= 0.9
    assert figures["teacher_accuracy"] >= 0.9
    assert figures["parameters"] < 0.5 * figures["teacher_parameters"]
    assert not any(names_a_work_folder(path) for path in outcome.checkpoint.path.iterdir())
    source = resolve_source("student", words, False)
    again = measure_classifier(source, tmp_path / "heldout.jsonl", 32, show_progress=False)
    assert again.measured.accuracy.value == figures["accuracy"]


def test_a_student_of_one_that_reads_tokens_is_an_encoder_alone(train: Run, labelled: Path) -> None:
    train(labelled.parent / "teacher.yaml", "head=fitted", "lexical=true", "steps=null")

    student = train(labelled, "steps=1").checkpoint

    assert student is not None
    assert student.manifest.parents[0].ref == "teacher@2"
    config = json.loads((student.path / "config.json").read_bytes())
    assert (config["model_type"], config["architectures"]) == ("bert", ["BertForSequenceClassification"])


def test_tokens_that_are_left_read_as_before(train: Run, labelled: Path, words: Registry) -> None:
    from training.evaluate.loading import load_tokenizer

    outcome = train(labelled, "steps=1")
    before = load_tokenizer(words.resolve("teacher").path)
    assert outcome.checkpoint is not None
    after = load_tokenizer(outcome.checkpoint.path)

    assert len(after) < 100
    for text in ("good day 7", "bad day 31"):
        ids = after(text)["input_ids"]
        assert after.convert_ids_to_tokens(ids) == before.convert_ids_to_tokens(before(text)["input_ids"])
    # What the texts never said is spelled, and nothing becomes unknown.
    ids = after("never unused12")["input_ids"]
    assert after.unk_token_id not in ids
    assert after.convert_ids_to_tokens(ids)[:3] == ["[CLS]", "n", "##e"]


def test_data_labelled_otherwise_than_the_teachers_is_refused(train: Run, labelled: Path) -> None:
    rows = [json.loads(line) for line in (labelled.parent / "train.jsonl").read_text().splitlines()]
    several = [{"text": row["text"], "labels": [row["label"]]} for row in rows]
    (labelled.parent / "several.jsonl").write_text("".join(json.dumps(row) + "\n" for row in several))
    with pytest.raises(DataError, match="give each text its label, as the teacher was trained on"):
        train(labelled, "data.train=several.jsonl", "data.heldout=null")

    rows[0]["label"] = "new"
    (labelled.parent / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"new\.jsonl:1: the model was not trained on the label 'new'"):
        train(labelled, "data.train=new.jsonl", "data.heldout=null", "data.heldout_fraction=0.3")


@pytest.mark.parametrize("name", ["distill", "distill-spam"])
def test_the_shipped_recipes_run(train: Run, labelled: Path, name: str) -> None:
    shipped = Path(__file__).parents[3] / "recipes" / f"{name}.yaml"
    changes = {
        "distill": ["teacher=tiny", "student.layers=1", "steps=1", "data.max_tokens=512"],
        "distill-spam": ["teacher=teacher", "student.layers=1", "epochs=0.1"]
        + [f"data.{part}={labelled.parent / part}.jsonl" for part in ("train", "heldout")],
    }

    outcome = train(shipped, *changes[name])

    assert outcome.checkpoint is not None
