"""Data sets from files to the registry, and from there into training."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.data.files import JsonLines
from training.errors import DataError, RecipeError, SourceError, TrainingError
from training.registry import Registry

REPOSITORY = Path(__file__).parents[3]
RECIPES = REPOSITORY / "recipes"
WORDS = re.findall(
    r"\w+",
    """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon """,
)


@pytest.fixture
def build(tmp_path: Path, train: Callable[..., Any]) -> Callable[..., Any]:
    """Build a data set called `data` from a recipe in `tmp_path`."""

    def run(*overrides: str, text: str = "") -> Any:
        recipe = tmp_path / "data.yaml"
        recipe.write_text(f"method: data\nname: data\nsources: raw.jsonl\n{text}")
        return train(recipe, *overrides)

    return run


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def message(number: int) -> str:
    """Unlike any other's, by its words."""
    return " ".join(WORDS[number // 20**place % 20] for place in range(3)) + f" {WORDS[number % 7]}"


def messages(count: int) -> list[dict[str, str]]:
    return [{"text": message(number), "label": "spam" if number % 3 else "ham"} for number in range(count)]


def test_what_was_dropped_is_counted_and_what_is_left_is_split(
    tmp_path: Path, build: Callable[..., Any], store: Registry
) -> None:
    rows = [*messages(200), *messages(20), {"text": " \u200b ", "label": "ham"}, {"text": "#" * 50, "label": "ham"}]
    write(tmp_path / "raw.jsonl", *rows)

    outcome = build()

    folder = outcome.checkpoint.path
    train, heldout = lines(folder / "train.jsonl"), lines(folder / "heldout.jsonl")
    card = json.loads((folder / "data-card.json").read_text())
    assert outcome.checkpoint.manifest.kind == "data"
    assert len(train) + len(heldout) == 200
    assert {row["text"] for row in train + heldout} == {row["text"] for row in messages(200)}
    assert 5 <= len(heldout) <= 40
    assert [(step["step"], step["in"], step["out"]) for step in card["steps"]] == [
        ("clean", 222, 221), ("quality", 221, 220), ("deduplicate", 220, 200)]  # fmt: skip
    assert card["records"] == {"read": 222, "train": len(train), "heldout": len(heldout)}
    assert card["labels"]["spam"]["train"] == sum(row["label"] == "spam" for row in train)
    assert outcome.checkpoint.manifest.evaluation["dropped_deduplicate"] == 20
    assert (folder / "labels.svg").read_text().startswith("<svg")
    assert "20 equal to another" in (folder / "data-card.md").read_text()


def test_equal_data_has_equal_digests_wherever_it_lies(
    tmp_path: Path, build: Callable[..., Any], store: Registry
) -> None:
    write(tmp_path / "raw.jsonl", *messages(50))
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere" / "raw.jsonl", *messages(50))

    first, second, other = build(), build("sources=elsewhere/raw.jsonl"), build("seed=1")

    assert first.checkpoint.digest == second.checkpoint.digest != other.checkpoint.digest
    assert not list((store.root.parent / "cache").iterdir())


def test_a_split_that_leaks_is_refused_with_the_number(
    tmp_path: Path, build: Callable[..., Any], store: Registry
) -> None:
    write(tmp_path / "raw.jsonl", *messages(100), *messages(100))

    with pytest.raises(DataError, match=r"the split leaks: (\d+) of (\d+) held-out records \(\d+\.\d% ?\) are trained"):
        build("deduplicate=null", "split.by=row", "split.heldout=0.3")

    assert not store.has("data")
    allowed = build("deduplicate=null", "split.by=row", "split.heldout=0.3", "split.allow_leaks=true")
    heldout = {row["text"] for row in lines(allowed.checkpoint.path / "heldout.jsonl")}
    train = {row["text"] for row in lines(allowed.checkpoint.path / "train.jsonl")}
    assert allowed.checkpoint.manifest.evaluation["leaks"] >= len(heldout & train) > 0
    assert build("deduplicate=null", "split.heldout=0.3").checkpoint.manifest.evaluation["leaks"] == 0


def test_groups_are_on_one_side(tmp_path: Path, build: Callable[..., Any]) -> None:
    rows = [{**row, "group": f"contract {number % 12}"} for number, row in enumerate(messages(120))]
    write(tmp_path / "raw.jsonl", *rows)

    folder = build("split.heldout=0.4").checkpoint.path

    sides = [{row["group"] for row in lines(folder / name)} for name in ("train.jsonl", "heldout.jsonl")]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]


def test_a_published_split_is_kept_and_duplicates_leave_its_training_part(
    tmp_path: Path, build: Callable[..., Any]
) -> None:
    (tmp_path / "published").mkdir()
    write(tmp_path / "published" / "train.jsonl", *messages(30))
    write(tmp_path / "published" / "test.jsonl", *messages(40)[25:])

    folder = build("sources=published", "split.by=published").checkpoint.path

    assert [row["text"] for row in lines(folder / "heldout.jsonl")] == [row["text"] for row in messages(40)[25:]]
    assert len(lines(folder / "train.jsonl")) == 25
    with pytest.raises(DataError, match=r"5 of 15 held-out records \(33\.3%\)"):
        build("sources=published", "split.by=published", "deduplicate=null")


def test_weights_write_a_record_more_than_once_or_not(tmp_path: Path, build: Callable[..., Any]) -> None:
    write(tmp_path / "raw.jsonl", *messages(300)[:200])
    write(tmp_path / "more.jsonl", *messages(300)[200:])

    folder = build(
        "sources=[{path: raw.jsonl, weight: 0.5}, {path: more.jsonl, weight: 2}]", "split.heldout=0.2"
    ).checkpoint.path

    train = [row["text"] for row in lines(folder / "train.jsonl")]
    few = [text for text in train if text in {row["text"] for row in messages(200)}]
    many = [text for text in train if text not in few]
    assert 50 < len(few) == len(set(few)) < 110
    assert len(many) == 2 * len(set(many))


def test_evaluations_and_personal_data_are_kept_out(tmp_path: Path, build: Callable[..., Any]) -> None:
    question = "Which of the four rivers of the northern province flows into the sea?"
    write(tmp_path / "raw.jsonl", *messages(40), {"text": f"Quiz: {question} Mail a.b@example.com", "label": "ham"},
          {"text": "Write to jane.doe@example.com about the boat", "label": "ham"})  # fmt: skip
    write(tmp_path / "evaluation.jsonl", {"question": question, "choices": ["A", "B"]})

    folder = build("decontaminate.against=[evaluation.jsonl]", "personal={}").checkpoint.path

    card = json.loads((folder / "data-card.json").read_text())
    written = (folder / "train.jsonl").read_text() + (folder / "heldout.jsonl").read_text()
    assert "northern province" not in written
    assert "Write to [EMAIL_ADDRESS] about the boat" in written
    assert "example.com" not in (folder / "data-card.json").read_text()
    steps = {step["step"]: step for step in card["steps"]}
    assert steps["decontaminate"]["dropped"] == {"in an evaluation": 1}
    assert steps["personal"]["details"]["EMAIL_ADDRESS"] == 1


def test_texts_with_two_labels_are_pointed_out(tmp_path: Path, build: Callable[..., Any]) -> None:
    rows = messages(40)
    write(tmp_path / "raw.jsonl", *rows, {**rows[0], "label": "other"})

    assert any("1 had other labels than what was kept" in note for note in build().notes)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", r"raw\.jsonl: holds no records"),
        ('{"text": "x"}\n{"text": \n', r"raw\.jsonl:2: is not JSON"),
        ('{"text": "x"}\n{"text": "y", "label": "z"}\n', r"raw\.jsonl:2: is one of labelled texts, where .* are texts"),
        ('{"body": "x"}\n', r"raw\.jsonl:1: has neither messages nor text"),
        ('{"text": "a word"}\n', r"data: nothing is left to hold out, of 1 records: split.heldout \(1e-06\) is"),
    ],
)
def test_bad_data_is_one_line_and_nothing_is_left(
    tmp_path: Path, build: Callable[..., Any], store: Registry, content: str, why: str
) -> None:
    (tmp_path / "raw.jsonl").write_text(content)

    with pytest.raises(DataError, match=why):
        build("split.heldout=0.000001")

    assert not store.has("data")
    assert not list((store.root.parent / "cache").iterdir())


def test_what_is_missing_or_unknown_is_named(tmp_path: Path, build: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"raw\.jsonl: there is no such file or folder, and no such data set"):
        build()
    write(tmp_path / "raw.jsonl", *messages(5))
    with pytest.raises(RecipeError, match=r"language\.keep: 'xx' is not one of ar, bg"):
        build("language.keep=[xx]")
    with pytest.raises(RecipeError, match=r"personal\.kinds: 'EMAIL' is not one of"):
        build("personal.kinds=[EMAIL]")
    with pytest.raises(RecipeError, match=r"unknown setting 'sources.formt': did you mean 'format'"):
        build("sources={path: raw.jsonl, formt: x}")
    with pytest.raises(RecipeError, match=r"sources\.side needs split\.by: published"):
        build("sources={path: raw.jsonl, side: train}")


def test_a_full_disk_is_one_line() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")

    with pytest.raises(TrainingError, match="/dev/full: cannot be written: No space left on device"):
        write_lines(full, 10_000)
    with pytest.raises(TrainingError, match="No space left on device"):
        write_lines(full, 1)  # which only closing writes


def write_lines(path: Path, count: int) -> None:
    with JsonLines(path) as file:
        for _ in range(count):
            file.write({"text": "x" * 100})


# -- domains


def test_the_sms_collection(tmp_path: Path, train: Callable[..., Any]) -> None:
    raw = tmp_path / "SMSSpamCollection"
    texts = [f"{'spam' if number % 4 == 0 else 'ham'}\t{message(number)}" for number in range(60)]
    adverts = [f"spam\tCall 0800 {number} now to win £{number}!" for number in range(9)]
    raw.write_text("\r\n".join([f"ham  {message(99)}", *texts, *adverts, ""]), encoding="utf-8-sig", newline="")

    outcome = train(RECIPES / "data-spam.yaml", f"sources.path={raw}")

    written = [row for name in ("train.jsonl", "heldout.jsonl") for row in lines(outcome.checkpoint.path / name)]
    assert len(written) == 62
    assert {row["label"] for row in written} == {"ham", "spam"}
    assert outcome.checkpoint.manifest.license == "CC-BY-4.0"


def test_pubmedqa(tmp_path: Path, train: Callable[..., Any]) -> None:
    entries = {
        str(number): {
            "QUESTION": f"Does {message(number)} help?",
            "CONTEXTS": [message(number + 50), message(number + 90)],
            "LONG_ANSWER": "It does.",
            "final_decision": ["yes", "no", "maybe"][number % 3],
        }
        for number in range(30)
    }
    (tmp_path / "ori_pqal.json").write_text(json.dumps(entries))
    (tmp_path / "test_ground_truth.json").write_text(json.dumps({str(number): "yes" for number in range(10)}))

    folder = train(RECIPES / "data-pubmedqa.yaml", f"sources.path={tmp_path}").checkpoint.path

    heldout = lines(folder / "heldout.jsonl")
    assert [row["group"] for row in heldout] == [str(number) for number in range(10)]
    assert heldout[0]["text"] == f"Does {message(0)} help?\n{message(50)}\n{message(90)}"
    assert len(lines(folder / "train.jsonl")) == 20


def test_cuad(tmp_path: Path, train: Callable[..., Any]) -> None:
    table = tmp_path / "master_clauses.csv"
    rows = ["Filename,Parties,Parties-Answer,Governing Law,Governing Law-Answer"]
    for number in range(20):
        both = message(number)
        rows.append(f"""c{number}.pdf,"['{both}', '{message(number + 40)}', '{both}']",x,"['{both}']",Texas""")
    table.write_text("\n".join(rows) + "\n")

    folder = train(RECIPES / "data-contracts.yaml", f"sources.path={table}").checkpoint.path

    written = [row for name in ("train.jsonl", "heldout.jsonl") for row in lines(folder / name)]
    assert len(written) == 40
    assert {tuple(row["labels"]) for row in written} == {("Parties", "Governing Law"), ("Parties",)}
    table.write_text(rows[0] + "\nc.pdf,not a list,x,[],y\n")
    with pytest.raises(DataError, match=r"master_clauses\.csv:2: Parties: is not a list of texts"):
        train(RECIPES / "data-contracts.yaml", f"sources.path={table}")


def test_the_recipe_of_chats_runs_as_it_is(train: Callable[..., Any]) -> None:
    card = train(RECIPES / "data-chats.yaml").report["card"]

    assert (card["kind"], card["records"]["read"]) == ("chat", 109)
    assert [step["step"] for step in card["steps"]] == ["clean", "quality", "personal", "deduplicate"]


# -- into training


def test_a_recipe_names_a_data_set_and_its_result_has_it_as_a_parent(
    tmp_path: Path, build: Callable[..., Any], train: Callable[..., Any], tiny: Registry
) -> None:
    chats = [{"instruction": f"What is {message(number)}?", "output": message(number + 70)} for number in range(30)]
    write(tmp_path / "raw.jsonl", *chats)
    built = build("split.heldout=0.3").checkpoint
    recipe = tmp_path / "sft.yaml"
    recipe.write_text("method: sft\nname: out\nbase: tiny\ndata: {train: data}\nsteps: 1\nbatch_size: 2\n")

    manifest = train(recipe).checkpoint.manifest

    assert [parent.ref for parent in manifest.parents] == ["tiny@1", "data@1"]
    assert manifest.parents[1].digest == built.digest
    assert [(digest.name, digest.role) for digest in manifest.data] == [
        ("data@1/train.jsonl", "train"), ("data@1/heldout.jsonl", "heldout")]  # fmt: skip
    assert manifest.recipe.settings["data"]["heldout"] == "data@1/heldout.jsonl"
    assert manifest.data[1].rows == len(lines(built.path / "heldout.jsonl"))


def test_data_sets_are_verified_and_models_are_none(
    tmp_path: Path, build: Callable[..., Any], train: Callable[..., Any], tiny: Registry
) -> None:
    write(tmp_path / "raw.jsonl", *messages(60))
    built = build().checkpoint
    assert build("sources=data", "name=again", "seed=1").checkpoint.manifest.parents[0].ref == "data@1"
    recipe = tmp_path / "sft.yaml"
    recipe.write_text("method: sft\nname: out\nbase: tiny\ndata: {train: data}\nsteps: 1\n")

    with pytest.raises(SourceError, match="tiny@1 is not a data set but base"):
        train(recipe, "data.train=tiny")
    (built.path / "train.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(Exception, match=r"train\.jsonl"):
        train(recipe)


def test_files_of_source_code_are_chosen_by_their_names_and_learned_from(
    tmp_path: Path, train: Callable[..., Any], tiny: Registry
) -> None:
    """The recipes of the domain of code, in their smallest form."""
    for number in range(20):
        path = tmp_path / "code" / f"package_{number % 4}" / f"module_{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"def {WORDS[number]}(count):\n    return [{number}] * count\n\n\ndef main():\n    return 0\n")
    (tmp_path / "code" / "notes.txt").write_text("This is no code.")
    (tmp_path / "code" / "library.so").write_bytes(b"\x00\x01")

    built = train(RECIPES / "data-code.yaml", f"sources.path={tmp_path / 'code'}", "quality.min_characters=1")

    assert built.checkpoint.manifest.evaluation["read"] == 20
    heldout = lines(built.checkpoint.path / "heldout.jsonl")
    assert all("count\n\n\ndef main()" in row["text"] for row in heldout)  # as it was written

    outcome = train(
        RECIPES / "code.yaml", "base=tiny", f"data.train={built.checkpoint.path / 'train.jsonl'}",
        f"data.heldout={built.checkpoint.path / 'heldout.jsonl'}", "steps=20", "optimizer.learning_rate=0.02",
    )  # fmt: skip

    assert outcome.report["perplexity_after"] < outcome.report["perplexity_before"] / 2
    [said] = [note for note in outcome.notes if note.startswith("Perplexity of ")]
    assert re.match(r"Perplexity of \d+ tokens of .*heldout\.jsonl, which were held out", said)

    with pytest.raises(DataError, match=r"code: the folder holds no file named \*\.rs"):
        train(RECIPES / "data-code.yaml", f"sources.path={tmp_path / 'code'}", "sources.files='*.rs'")
