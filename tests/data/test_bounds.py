"""Data folders of any kind are read in bounded time and memory, and nothing outside them is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from tests.photos import encoded, photo
from vlcheck.data.conversation import Picture
from vlcheck.data.images import PLAIN_PIXELS, STRIP_ROWS, BadPicture, decode, open_picture
from vlcheck.data.read import NoSuchSplit, Row, RowProblem, read_rows
from vlcheck.data.sources.listing import files_by_split
from vlcheck.finding import Unavailable
from vlcheck.spec import Data


def parquet(file: Path, label: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list([{"image": {"bytes": encoded(photo(1)), "path": None}, "label": label}]).to_parquet(file)


def answers(folder: Path, split: str = "train") -> list[str]:
    data = Data(path=str(folder), instruction="?", eval_split=split)
    return [row.answer for row in read_rows(data, split) if isinstance(row, Row)]


@pytest.mark.parametrize("where", ["../outside/secret.parquet", "https://example.org/a.parquet", "/etc/*"])
def test_a_readme_says_nothing_about_the_files(tmp_path, where):
    """Its YAML names data outside the folder, or on the web; the folder's own files are read."""
    folder = tmp_path / "data"
    parquet(folder / "train.parquet", "own")
    parquet(tmp_path / "outside" / "secret.parquet", "secret")
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {where}\n---\n"
    )
    assert answers(folder) == ["own"]


def test_files_belong_to_the_split_that_their_name_says(tmp_path):
    names = {
        "data/train-00000-of-00002.parquet": "train", "data/train-00001-of-00002.parquet": "train",
        "data/eval_hard-00000-of-00001.parquet": "eval_hard", "my_val_1.parquet": "validation",
        "test/a.parquet": "test", "b.parquet": "train", "dev.arrow": "validation",
    }  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = files_by_split(tmp_path, (".parquet", ".arrow"))
    told = {str(file.relative_to(tmp_path)): split for split, files in found.items() for file in files}
    assert told == names
    with pytest.raises(NoSuchSplit, match='no split "learn"; splits: "eval_hard", "test", "train", "validation"'):
        list(read_rows(Data(path=str(tmp_path), train_split="learn", instruction="?"), "learn"))


def test_a_saved_data_set_names_no_file_outside(tmp_path):
    """`load_from_disk` would follow it."""
    made = Dataset.from_list([{"label": "red"}])
    made.save_to_disk(tmp_path / "data")
    state = json.loads((tmp_path / "data" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../elsewhere.arrow"}]
    (tmp_path / "data" / "state.json").write_text(json.dumps(state))
    with pytest.raises(Unavailable, match=r"names '\.\./elsewhere\.arrow'; allowed: files of its own folder"):
        answers(tmp_path / "data")


def test_folders_nested_without_end_are_named(tmp_path):
    """1,500 of them: within seconds, and the image beside them is read."""
    top = tmp_path / "train" / "red"
    top.mkdir(parents=True)
    (top / "a.png").write_bytes(encoded(photo(1), "PNG"))
    here = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("n", dir_fd=here)
        inner = os.open("n", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    begun = time.monotonic()
    rows = list(read_rows(Data(path=str(tmp_path), instruction="?"), "train"))
    assert time.monotonic() - begun < 5
    assert [type(row) for row in rows].count(Row) == 1
    assert [row.message[:40] for row in rows if isinstance(row, RowProblem)] == [
        "it lies more than 64 folders deep; allow"
    ]
    subprocess.run(["rm", "-rf", str(top)], check=True)  # deeper than Python removes


def test_a_large_picture_in_plain_text_is_refused_at_once(tmp_path):
    """Its header says it; a small one is read."""
    (tmp_path / "large.ppm").write_bytes(b"P3\n3000 3000\n255\n" + b"1 2 3 " * 10)
    begun = time.monotonic()
    with pytest.raises(BadPicture, match=rf"3000 x 3000 pixels as plain text; allowed: at most {PLAIN_PIXELS:,}"):
        decode(Picture(tmp_path / "large.ppm"))
    assert time.monotonic() - begun < 1
    (tmp_path / "small.ppm").write_bytes(b"P3\n2 1\n255\n1 2 3 4 5 6\n")
    assert open_picture(Picture(tmp_path / "small.ppm")).getpixel((1, 0)) == (4, 5, 6)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("height", [STRIP_ROWS - 1, STRIP_ROWS, 2 * STRIP_ROWS + 3])
def test_strips_give_the_same_pixels_as_the_whole(mode, height):
    layers = photo(1, (40, height)).convert("RGBA")
    layers.putalpha(Image.linear_gradient("L").resize(layers.size))
    image = layers.quantize(32) if mode == "P" else layers.convert(mode)
    content = encoded(image, "PNG", **({"transparency": 3} if mode == "P" else {}))
    decoded = decode(Picture(content))
    whole = image_of(content).convert("RGBA")
    wanted = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    assert np.array_equal(np.asarray(decoded.image), np.asarray(wanted))
    assert decoded.transparent


def image_of(content: bytes) -> Image.Image:
    import io

    return Image.open(io.BytesIO(content))


def test_a_large_transparent_picture_takes_twice_its_pixels(tmp_path):
    """At four bytes a pixel, beside what the libraries take: 36 megapixels in less than 2.5 times 144 MB."""
    Image.new("RGBA", (6000, 6000), (9, 9, 9, 128)).save(tmp_path / "a.png", compress_level=1)
    told = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "a.png")], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ).stdout  # fmt: skip
    assert int(told) < 2.5 * 6000 * 6000 * 4


MEASURED = """
import resource, sys
from pathlib import Path
from PIL import Image
from vlcheck.data.conversation import Picture
from vlcheck.data.images import decode
Image.init()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode(Picture(Path(sys.argv[1])))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
