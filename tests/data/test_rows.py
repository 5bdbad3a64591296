"""Rows come from wherever the config points, in one shape, and what is wrong with others is said by name."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path

import pytest

from tests.photos import BREEDS, SHARED, encoded, photo, write_classes, write_csv, write_json_lines, write_photo
from vlcheck.data.conversation import Picture, Turn
from vlcheck.data.read import NoSuchSplit, Row, RowProblem, read_rows, splits
from vlcheck.finding import NotApplicable, Unavailable
from vlcheck.spec import Data

PETS = SHARED / "pets"
needs_pets = pytest.mark.skipif(not PETS.is_dir(), reason="needs the real photos of ../shared/data/pets")


def rows_of(path: Path, split: str = "train", **fields) -> list[Row | RowProblem]:
    return list(read_rows(Data(path=str(path), **fields), split))


def named(rows: list[Row | RowProblem]) -> list[str]:
    return [row.name for row in rows]


# --------------------------------------------------------------------------- flat rows


def test_flat_line_becomes_a_conversation(tmp_path):
    """The user shows the image, then gives the instruction; the assistant answers."""
    file = write_json_lines(tmp_path / "train.jsonl", [{"image": "a/1.jpg", "label": "beagle"}])

    (row,) = rows_of(file, instruction="Which breed?")

    picture = Picture(tmp_path / "a/1.jpg", "a/1.jpg")
    assert row.conversation.turns == (Turn("user", (picture, "Which breed?")), Turn("assistant", ("beagle",)))
    assert (row.name, row.split, row.answer, row.prompt) == ("train.jsonl:1", "train", "beagle", "Which breed?")
    assert row.pictures == (picture,)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "1.jpg"}, 'no column "label"; columns: "image"'),
        ({"picture": "1.jpg", "label": "pug"}, 'no column "image"; columns: "picture", "label"'),
        ({"image": None, "label": "pug"}, "the image is null; allowed: a path, or an image's bytes"),
        ({"image": {}, "label": "pug"}, "the image is null; allowed: a path, or an image's bytes"),
        ({"image": [], "label": "pug"}, 'column "image" is an empty list; allowed: a path, or an image\'s bytes'),
        ({"image": 7, "label": "pug"}, "the image is 7; allowed: a path, or an image's bytes"),
        ({"image": "1.jpg", "label": ""}, 'the answer (label) is ""; allowed: text'),
        ({"image": "1.jpg", "label": None}, "the answer (label) is null; allowed: text"),
        ({"image": "1.jpg", "label": 0.5}, "the answer (label) is 0.5; allowed: text"),
        ({"image": "1.jpg", "label": ["pug"]}, 'the answer (label) is "list"; allowed: text'),
        (
            {"image": "https://example.org/1.jpg", "label": "pug"},
            'the image "https://example.org/1.jpg" is not fetched; allowed: a local file',
        ),
        (
            {"image": "1.jpg", "label": "pug\ud800"},
            "the answer holds an unpaired surrogate (U+D800) as character 4; allowed: printable text",
        ),
        (
            {"image": "1.jpg", "label": "p\x00ug"},
            "the answer holds a control character (U+0000) as character 2; allowed: printable text",
        ),
        (
            {"image": "1\x00.jpg", "label": "pug"},
            "the image's path holds a control character (U+0000) as character 2; allowed: printable text",
        ),
        ({"image": "data:image/png;base64,@@", "label": "pug"}, "the image's base64 text cannot be decoded: "),
        ({"image": "data:image/png,xx", "label": "pug"}, 'the image is "data:image/png"; allowed: data:image/…;base64'),
    ],
)
def test_flat_line_that_cannot_be_trained(tmp_path, row, message):
    """The problem names line, value seen and values allowed."""
    file = write_json_lines(tmp_path / "train.jsonl", [{"image": "0.jpg", "label": "pug"}, row])

    good, bad = rows_of(file)

    assert isinstance(good, Row)
    assert isinstance(bad, RowProblem)
    assert (bad.name, bad.split) == ("train.jsonl:2", "train")
    assert bad.message.startswith(message)


def test_row_without_answer_still_shows_its_image(tmp_path):
    """The scan can look at an image whose answer is missing."""
    (bad,) = rows_of(write_json_lines(tmp_path / "train.jsonl", [{"image": "1.jpg"}]))
    assert bad.pictures == (Picture(tmp_path / "1.jpg", "1.jpg"),)


def test_several_images_and_embedded_ones(tmp_path):
    """A list is several images; a data URI is an image's bytes."""
    content = encoded(photo(1))
    uri = "data:image/jpeg;base64," + base64.b64encode(content).decode()
    (row,) = rows_of(write_json_lines(tmp_path / "train.jsonl", [{"image": ["1.jpg", uri], "label": 3}]))
    assert [picture.source for picture in row.pictures] == [tmp_path / "1.jpg", content]
    assert row.answer == "3"


# --------------------------------------------------------------------------- messages

TEXT = {"type": "text", "text": "Which breed?"}
ANSWER = {"role": "assistant", "content": "beagle"}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "1.jpg"}, TEXT]}, ANSWER]},
        {"messages": [{"role": "user", "content": [{"type": "image", "path": "1.jpg"}, TEXT]}, ANSWER]},
        {"messages": [{"role": "user", "content": [{"type": "image"}, TEXT]}, ANSWER], "images": ["1.jpg"]},
        {"messages": [{"role": "user", "content": [{"type": "image"}, TEXT]}, ANSWER], "images": "1.jpg"},
        {"messages": [{"role": "user", "content": "<image>\nWhich breed?"}, ANSWER], "images": ["1.jpg"]},
        {"messages": [{"role": "user", "content": "Which breed?"}, ANSWER], "images": ["1.jpg"]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "1.jpg"}}, TEXT]},
                {"role": "assistant", "content": [{"type": "text", "text": "beagle", "image": None}]},
            ]
        },
    ],
)
def test_every_way_to_write_a_conversation(tmp_path, row):
    """One conversation in the shapes that trainers take."""
    (read,) = rows_of(write_json_lines(tmp_path / "train.jsonl", [row]))
    picture = Picture(tmp_path / "1.jpg", "1.jpg")
    assert read.conversation.turns == (Turn("user", (picture, "Which breed?")), Turn("assistant", ("beagle",)))


def test_thinking_and_system_turns(tmp_path):
    """A system turn and an assistant's thinking are kept."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi", "reasoning_content": "A greeting."},
    ]
    (row,) = rows_of(write_json_lines(tmp_path / "train.jsonl", [{"messages": messages}]))
    assert row.conversation.turns[0] == Turn("system", ("Be brief.",))
    assert row.conversation.turns[2] == Turn("assistant", ("Hi",), "A greeting.")
    assert row.prompt == "Be brief.\nHello"


USER = {"role": "user", "content": "Which?"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": "hello"}, 'messages is "hello"; allowed: a list of objects with role and content'),
        ({"messages": []}, "no assistant turn, so there is nothing to train"),
        ({"messages": [USER]}, "no assistant turn, so there is nothing to train"),
        ({"messages": [{"role": "human", "content": "x"}]}, 'role is "human"; allowed: system, user, assistant'),
        ({"messages": [{"role": "user", "content": 3}]}, "content of a user message is 3; allowed: text, or a list"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "an assistant message is empty; allowed: text"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, 'a part of type "video"; allowed: text'),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, ANSWER]}, "more image placeholders than"),
        (
            {"messages": [{"role": "user", "content": "<image>?"}, ANSWER], "images": ["1.jpg", "2.jpg"]},
            "2 images for 1 placeholders",
        ),
        ({"messages": [ANSWER], "images": ["1.jpg"]}, "1 images and no user message to show them in"),
        ({"messages": [USER, {"role": "assistant", "content": "a\udfff"}]}, "a assistant message holds an unpaired"),
        ({"messages": [USER, ANSWER, {"role": "system", "content": "late"}]}, "turn 2 is a system turn; allowed: only"),
    ],
)
def test_messages_that_are_no_conversation(tmp_path, row, message):
    """The problem says what was seen and what is allowed."""
    (bad,) = rows_of(write_json_lines(tmp_path / "train.jsonl", [row]))
    assert isinstance(bad, RowProblem)
    assert bad.message.startswith(message)


# --------------------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "column 2: Expecting property name enclosed in double quotes; allowed: one JSON object"),
        (b"[1]", "the line holds a list; allowed: one JSON object"),
        (b"null", "the line holds null; allowed: one JSON object"),
        (b'{"label": "\xff"}', "byte 12 (0xff) is not UTF-8; allowed: UTF-8 text"),
        (b'{"label": ' + b"9" * 5000 + b"}", "not read as JSON: "),
        (b"[" * 200_000, "not read as JSON: "),
        (b"\x00\x01", "column 1: Expecting value; allowed: one JSON object"),
    ],
)
def test_line_that_is_no_object(tmp_path, line, message):
    """A line that cannot be read names itself; the lines around it are read."""
    good = b'{"image": "1.jpg", "label": "pug"}\n'
    (tmp_path / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + good + line + b"\n\n" + good)

    rows = rows_of(tmp_path)

    assert named(rows) == ["train.jsonl:1", "train.jsonl:2", "train.jsonl:4"]
    assert [type(row) for row in rows] == [Row, RowProblem, Row]
    assert rows[1].message.startswith(message)


def test_endless_line(tmp_path):
    """A line of 100 MB is a named problem, and is never held whole."""
    import tracemalloc

    file = tmp_path / "train.jsonl"
    with file.open("wb") as stream:
        stream.write(b'{"image": "1.jpg", "label": "')
        for _ in range(100):
            stream.write(b"x" * 10**6)
        stream.write(b'"}\n{"image": "1.jpg", "label": "pug"}\n')

    tracemalloc.start()
    bad, good = rows_of(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert str(bad).startswith("train.jsonl:1: the line is longer than 33,554,432 bytes; allowed: one JSON object")
    assert good.answer == "pug"
    assert peak < 120 * 2**20


def test_pipe_in_place_of_a_file(tmp_path):
    """To open a pipe would be to wait for its writer."""
    os.mkfifo(tmp_path / "train.jsonl")
    assert [str(row) for row in rows_of(tmp_path)] == ["train.jsonl: cannot be read: not a regular file"]


# --------------------------------------------------------------------------- tables


@needs_pets
def test_real_pets():
    """The photos of record: 640 for training, 298 for the test, two in neither split."""
    data = Data(path=str(PETS), image_column="file", answer_column="breed", train_split="trainval", eval_split="test")
    read = {split: list(read_rows(data, split)) for split in splits(data)}
    assert {split: len(rows) for split, rows in read.items()} == {"trainval": 640, "test": 298}
    assert all(isinstance(row, Row) for rows in read.values() for row in rows)
    assert (read["test"][0].name, read["test"][0].answer) == ("labels.csv:102", "Abyssinian")
    assert str(read["test"][0].pictures[0]) == "images/Abyssinian_2.jpg"


def test_table_names_each_rows_split(tmp_path):
    """One table for all splits; a split it does not name is refused with those it does."""
    write_csv(
        tmp_path / "labels.csv",
        [{"image": f"{n}.jpg", "label": "pug", "part": part} for n, part in enumerate(["a", "b", "a"])],
    )
    fields = {"train_split": "a", "split_column": "part"}
    assert named(rows_of(tmp_path, "a", **fields)) == ["labels.csv:2", "labels.csv:4"]
    assert named(rows_of(tmp_path, "b", **fields)) == ["labels.csv:3"]
    with pytest.raises(NoSuchSplit, match='no split "c"; splits: "a", "b"'):
        rows_of(tmp_path, "c", **fields)


def test_table_whose_splits_are_others(tmp_path):
    """A column that names other splits leaves nothing to train on, and the reason is said."""
    file = write_json_lines(tmp_path / "coco.jsonl", [{"image": "1.jpg", "label": "pug", "split": "train2014"}])
    with pytest.raises(NoSuchSplit, match='no split "train"; splits: "train2014"'):
        rows_of(file)


def test_file_name_column_of_image_folders(tmp_path):
    """`metadata.csv` as the image folders of `datasets` have it, a split a folder."""
    write_csv(tmp_path / "train/metadata.csv", [{"file_name": "1.jpg", "label": "pug"}])
    write_json_lines(tmp_path / "test/metadata.jsonl", [{"file_name": "2.jpg", "label": "pug"}])

    (train,), (test,) = rows_of(tmp_path, "train"), rows_of(tmp_path, "test")

    assert (train.name, train.pictures[0].source) == ("train/metadata.csv:2", tmp_path / "train/1.jpg")
    assert (test.name, test.pictures[0].source) == ("test/metadata.jsonl:1", tmp_path / "test/2.jpg")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"1.jpg", "1 cells; allowed: 2, as in the header"),
        (b"1.jpg,pug,extra", "3 cells; allowed: 2, as in the header"),
        (b'1.jpg,"pug', "not read as CSV: unexpected end of data"),
        (b"1.jpg," + b"x" * 200_000, "not read as CSV: field larger than field limit (131072)"),
        (b"1.jpg,pug\xff", "the answer holds an unpaired surrogate (U+DCFF) as character 4"),
    ],
)
def test_csv_line_that_cannot_be_used(tmp_path, line, message):
    """Each is named by its line."""
    (tmp_path / "labels.csv").write_bytes(b"image,label\n0.jpg,pug\n" + line + b"\n")
    good, bad = rows_of(tmp_path)
    assert good.name == "labels.csv:2"
    assert bad.name == "labels.csv:3"
    assert bad.message.startswith(message)


# --------------------------------------------------------------------------- folders


def test_class_folders_take_turns(tmp_path):
    """The first rows are of every class, so that `train_samples` leaves none out."""
    write_classes(tmp_path / "train", each=2)
    rows = rows_of(tmp_path, train_samples=3)
    assert named(rows) == ["train/beagle/0.jpg", "train/boxer/0.jpg", "train/pug/0.jpg"]
    assert sorted(row.answer for row in rows) == sorted(BREEDS)


def test_folder_without_splits(tmp_path):
    """Class folders alone are the training split, and no other."""
    write_classes(tmp_path)
    assert len(rows_of(tmp_path)) == 6
    with pytest.raises(NoSuchSplit, match='no split "test"; splits: "train"'):
        rows_of(tmp_path, "test")


def test_split_folders_are_no_classes(tmp_path):
    """Folders called `trainval` and `test` are splits, whatever the config calls its own."""
    write_classes(tmp_path / "trainval")
    write_classes(tmp_path / "test")
    with pytest.raises(NoSuchSplit, match='no split "train"; splits: "test", "trainval"'):
        rows_of(tmp_path)


def test_odd_entries_of_a_folder(tmp_path):
    """Hidden and other files are passed over; loops end; images without a class are problems with their image."""
    write_photo(tmp_path / "pug/1.jpg", 1)
    write_photo(tmp_path / "stray.jpg", 2)
    (tmp_path / "pug/deeper").mkdir()
    (tmp_path / "pug/deeper/up").symlink_to(tmp_path / "pug", target_is_directory=True)
    (tmp_path / "pug/notes.txt").write_text("none")
    (tmp_path / "pug/.hidden.jpg").write_text("none")
    (tmp_path / "pug/folder.jpg").mkdir()
    (tmp_path / "pug/loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(tmp_path / "pug/pipe.jpg")

    rows = rows_of(tmp_path)

    assert named(rows) == [
        "stray.jpg", "pug/1.jpg", "pug/folder.jpg", "pug/loop.jpg", "pug/pipe.jpg", "pug/deeper/up",
    ]  # fmt: skip
    assert str(rows[0]).endswith("lies in no class folder, so it has no answer; allowed: CLASS/NAME, metadata.csv")
    assert [type(row) for row in rows[1:]] == [Row, Row, Row, Row, RowProblem]
    assert "a link back to" in rows[-1].message


def test_file_name_that_is_no_text(tmp_path):
    """A class folder whose name is no UTF-8 cannot be an answer."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/pu\xff"))
    try:
        write_photo(folder / "1.jpg", 1)
    except OSError:
        pytest.skip("this file system takes no such name")
    (bad,) = rows_of(tmp_path)
    assert str(bad).startswith("pu\\udcff/1.jpg: the answer holds an unpaired surrogate (U+DCFF)")


# --------------------------------------------------------------------------- datasets


@pytest.fixture
def examples():
    from datasets import ClassLabel, Dataset, Features, Image

    columns = {
        "image": [{"bytes": encoded(photo(n)), "path": None} for n in range(3)],
        "label": [0, 1, 0],
    }
    return Dataset.from_dict(columns, Features({"image": Image(), "label": ClassLabel(names=["pug", "boxer"])}))


@pytest.mark.parametrize("layout", ["hub", "file", "saved", "saved with splits"])
def test_parquet_and_saved_data_sets(tmp_path, examples, layout):
    """Images come undecoded, class numbers as names, from every layout of `datasets`."""
    from datasets import DatasetDict

    path = tmp_path / "pets"
    (path / "data").mkdir(parents=True)
    if layout == "hub":
        examples.to_parquet(path / "data/train-00000-of-00001.parquet")
    elif layout == "file":
        path = path / "any.parquet"
        examples.to_parquet(path)
    elif layout == "saved":
        examples.save_to_disk(path)
    else:
        DatasetDict(train=examples).save_to_disk(path)

    rows = rows_of(path, instruction="Which?")

    assert named(rows) == ["train[0]", "train[1]", "train[2]"]
    assert [row.answer for row in rows] == ["pug", "boxer", "pug"]
    assert [row.pictures[0].source for row in rows] == [encoded(photo(n)) for n in range(3)]
    with pytest.raises(NoSuchSplit, match='no split "test"; splits: "train"'):
        rows_of(path, "test")


def test_conversations_in_parquet(tmp_path):
    """Lists of images inside an example are left undecoded too."""
    from datasets import Dataset, Features, Image, List, Value

    messages = List({"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})})
    row = {
        "images": [{"bytes": b"first", "path": None}, {"bytes": b"second", "path": None}],
        "messages": [
            {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "and"},
                                         {"type": "image", "text": None}]},
            {"role": "assistant", "content": [{"type": "text", "text": "two dogs"}]},
        ],
    }  # fmt: skip
    Dataset.from_list([row], features=Features(images=List(Image()), messages=messages)).to_parquet(
        tmp_path / "train.parquet"
    )

    (read,) = rows_of(tmp_path)

    assert read.conversation.turns[0].content == (
        Picture(b"first", "train[0], image 1"), "and", Picture(b"second", "train[0], image 2"),
    )  # fmt: skip
    assert read.answer == "two dogs"


def test_parquet_cut_short(tmp_path, examples):
    """A broken file is said to be unreadable, by name."""
    file = tmp_path / "train.parquet"
    examples.to_parquet(file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(Unavailable, match=r"the data set .*train.parquet cannot be read"):
        rows_of(file)


def test_hub_data_set_offline():
    """What is not in the cache is unavailable, with what would change that."""
    with pytest.raises(Unavailable, match="nobody/pets is not in the cache of `datasets`") as refused:
        list(read_rows(Data(dataset="nobody/pets"), "train", offline=True))
    assert refused.value.unlock == (
        "run with --stream where the Hub is reached, or load it there once: datasets.load_dataset('nobody/pets')"
    )


def test_hub_data_set_from_the_cache(tmp_path, examples, monkeypatch):
    """Offline, what an earlier `load_dataset` left behind is read, undecoded, with the names of its classes."""
    import datasets.config
    from datasets import load_dataset

    examples.to_parquet(tmp_path / "train.parquet")
    load_dataset("parquet", data_files={"train": str(tmp_path / "train.parquet")}, cache_dir=str(tmp_path / "made"))
    (made,) = (path.parent for path in (tmp_path / "made").rglob("dataset_info.json"))
    cached = tmp_path / "cache/nobody___pets/default/0.0.0" / ("0" * 40)
    shutil.copytree(made, cached)
    (cached / "parquet-train.arrow").rename(cached / "pets-train.arrow")
    info = (cached / "dataset_info.json").read_text().replace('"dataset_name": "parquet"', '"dataset_name": "pets"')
    (cached / "dataset_info.json").write_text(info)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))

    rows = list(read_rows(Data(dataset="nobody/pets"), "train", offline=True))

    assert [(row.name, row.answer) for row in rows] == [("train[0]", "pug"), ("train[1]", "boxer"), ("train[2]", "pug")]
    assert rows[0].pictures[0].source == encoded(photo(0))
    with pytest.raises(NoSuchSplit, match='no split "test"'):
        list(read_rows(Data(dataset="nobody/pets"), "test", offline=True))


# --------------------------------------------------------------------------- the whole


def test_no_data():
    """A run that names no data has no rows to judge."""
    with pytest.raises(NotApplicable, match=r"none of data.path, data.dataset and data.generated is set"):
        read_rows(Data(), "train")


def test_file_of_unknown_kind(tmp_path):
    """A file that could be anything is refused with what can be read."""
    (tmp_path / "rows.xlsx").write_text("?")
    with pytest.raises(Unavailable, match=r"allowed: a folder, or .jsonl, .json, .csv, .tsv, .parquet, .arrow"):
        rows_of(tmp_path / "rows.xlsx")


def test_samples_cut_the_stream(tmp_path):
    """`train_samples` and `eval_samples` count broken rows too."""
    file = write_json_lines(tmp_path / "rows.jsonl", [{"image": "1.jpg"}, *[{"image": "1.jpg", "label": "pug"}] * 5])
    assert named(rows_of(file, train_samples=2)) == ["rows.jsonl:1", "rows.jsonl:2"]


def test_splits_of_a_run():
    """Training first; one that serves both is looked at once."""
    assert splits(Data()) == ("train",)
    assert splits(Data(eval_split="test")) == ("train", "test")
    assert splits(Data(eval_split="train")) == ("train",)
