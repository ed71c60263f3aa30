"""Folders of class folders as a data set: what is found in them, and one line for whatever is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hil.search.prepare import introduced
from munas.data import load_dataset
from munas.errors import DatasetError
from munas.training.train import KerasTraining
from tests.own_data import RNG, write_clip, write_pictures


def test_class_folders_of_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pets", {"cat": 8, "dog": 6})
    data = load_dataset(str(tmp_path / "pets"), None, tmp_path / "cache")
    assert (data.name, data.input_shape, data.classes) == ("pets", (10, 10, 3), ("cat", "dog"))
    assert sum(map(len, (data.train, data.validation, data.test))) == 14
    assert "pictures of 10x10x3 in 2 classes (cat 8, dog 6)" in introduced(data, str(tmp_path / "pets"))[0]


def test_grey_pictures_have_one_channel_and_parts_their_folders(tmp_path: Path) -> None:
    for part, count in (("train", 5), ("val", 2), ("test", 3)):
        write_pictures(tmp_path / "pets" / part, {"cat": count, "dog": count}, mode="L", suffix=".pgm")
    data = load_dataset(f"{tmp_path}/pets/", None, tmp_path / "cache")
    assert data.input_shape == (10, 10, 1)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 4, 6]
    (tmp_path / "pets" / "test" / "cat" / "0.pgm").unlink()
    write_pictures(tmp_path / "more", {"cat": 1})
    (tmp_path / "more" / "cat" / "0.png").rename(tmp_path / "pets" / "test" / "cat" / "0.png")
    changed = load_dataset(str(tmp_path / "pets"), None, tmp_path / "cache")
    assert changed.input_shape == (10, 10, 3)
    assert changed.sha256 != data.sha256


def test_recordings_go_through_the_front_end(tmp_path: Path) -> None:
    for number in range(5):
        for word in ("on", "off"):
            write_clip(tmp_path / "words" / word / f"{number}.wav", samples=9_000 + 4_000 * number)
    data = load_dataset(str(tmp_path / "words"), None, tmp_path / "cache")
    assert (data.input_shape, data.classes) == ((49, 40, 1), ("off", "on"))
    assert set(data.constants) == {"mfcc_mean", "mfcc_deviation"}
    np.testing.assert_allclose(data.train.inputs.mean(axis=(0, 1, 3)), 0, atol=1e-4)
    assert KerasTraining(data).used_recipe.augmentation.shift_pixels == 0


def other_size(root: Path) -> None:
    write_pictures(root, {"cat": 4, "dog": 4})
    write_pictures(root / "x", {"y": 1}, side=11)
    (root / "x" / "y" / "0.png").rename(root / "dog" / "9.png")
    (root / "x" / "y").rmdir()
    (root / "x").rmdir()


def one_example(root: Path) -> None:
    write_pictures(root, {"cat": 4, "dog": 1})


def other_classes(root: Path) -> None:
    write_pictures(root / "train", {"cat": 4, "dog": 4})
    write_pictures(root / "test", {"cat": 4, "cow": 4})


def damaged(root: Path) -> None:
    write_pictures(root, {"cat": 4, "dog": 4})
    (root / "dog" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")


def mixed(root: Path) -> None:
    write_pictures(root, {"cat": 4, "dog": 4})
    write_clip(root / "dog" / "bark.wav")


def empty_class(root: Path) -> None:
    write_pictures(root, {"cat": 4, "dog": 4})
    (root / "cow").mkdir()


def beside(root: Path) -> None:
    write_pictures(root / "train", {"cat": 4, "dog": 4})
    (root / "notes").mkdir()


def silence(root: Path) -> None:
    for word in ("on", "off"):
        for number in range(4):
            write_clip(root / word / f"{number}.wav", loudest=0)


def slow_clip(root: Path) -> None:
    for word in ("on", "off"):
        write_clip(root / word / "0.wav", rate=8_000)


def stereo_clip(root: Path) -> None:
    for word in ("on", "off"):
        write_clip(root / word / "0.wav", channels=2)


def clip_of_floats(root: Path) -> None:
    slow_clip(root)
    path = root / "off" / "0.wav"
    raw = path.read_bytes()
    path.write_bytes(raw[:20] + b"\3" + raw[21:])


def wide_grey(suffix: str, dtype: type) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        write_pictures(root, {"cat": 4, "dog": 4}, mode="L")
        image = pytest.importorskip("PIL.Image")
        picture = image.fromarray(RNG.integers(0, 40_000, (10, 10)).astype(dtype))
        picture.save(root / "dog" / f"2.{suffix}", "PNG" if suffix == "png" else "PPM")

    return make


def empty_picture(root: Path) -> None:
    write_pictures(root, {"cat": 4, "dog": 4})
    (root / "dog" / "2.png").write_bytes(b"")


def cut_picture(root: Path) -> None:
    write_pictures(root, {"cat": 4, "dog": 4})
    path = root / "dog" / "2.png"
    path.write_bytes(path.read_bytes()[:100])


def no_train(root: Path) -> None:
    for part in ("test", "val"):
        write_pictures(root / part, {"cat": 4, "dog": 4})


def no_train_and_more(root: Path) -> None:
    write_pictures(root / "test", {"cat": 4, "dog": 4})
    write_pictures(root, {"more": 4})


def capitals(root: Path) -> None:
    write_pictures(root / "train", {"cat": 4, "dog": 4})
    write_pictures(root / "Train", {"cat": 4, "dog": 4})


def below(root: Path) -> None:
    write_pictures(root, {"cat": 4})
    write_pictures(root / "dog", {"brown": 4})


def other_formats(root: Path) -> None:
    write_pictures(root, {"cat": 4, "dog": 4})
    for number in range(4):
        (root / "dog" / f"{number}.png").rename(root / "dog" / f"{number}.gif")


def underlined(root: Path) -> None:
    write_pictures(root, {"cat": 4, "_dog": 4})


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (other_size, r"dog/9.png is 11x11 pixels, and .*cat/0.png is 10x10"),
        (one_example, r"class dog has 1 example in the train part"),
        (other_classes, r"class cow is in the test part and not in the train part"),
        (damaged, r"dog/2.png is no picture that can be read \(damaged, or not a picture\)(?!.*BytesIO)"),
        (empty_picture, r"dog/2.png is no picture that can be read \(damaged, or not a picture\); PNG, (?!.*BytesIO)"),
        (cut_picture, r"dog/2.png is no picture that can be read \(damaged, or not a picture\): .*truncated"),
        (wide_grey("png", np.uint16), r"dog/2.png has grey values of more than 8 bits .*I;16\); convert it to 8 bits"),
        (wide_grey("pgm", np.int32), r"dog/2.pgm has grey values of more than 8 bits .*I\); convert it to 8 bits"),
        (no_train, r"own has no folder train beside val, test"),
        (no_train_and_more, r"own has no folder train beside test"),
        (capitals, r"own has two folders for one part: Train, train"),
        (below, r"dog has no pictures .*, but 1 folder \(brown\)"),
        (other_formats, r"dog has no pictures .*, but 4 files \(0.gif, 1.gif, 2.gif, 3.gif\)"),
        (underlined, r"own has 1 class folder, but 1 folder \(_dog\); a data set has two or more"),
        (mixed, r"has pictures and recordings"),
        (empty_class, r"cow has no pictures"),
        (beside, r"has a folder train, and notes beside it"),
        (silence, r"all inputs of the train part are the same"),
        (
            slow_clip,
            r"0.wav has 1 channel of 16 bits at 8000 Hz; mono, 16 bits, 16 kHz is needed: ffmpeg .* -ar 16000 ",
        ),
        (stereo_clip, r"0.wav has 2 channels \(stereo\) of 16 bits at 16000 Hz; mono, "),
        (clip_of_floats, r"0.wav has another encoding than PCM \(unknown format: 3\); mono, "),
        (lambda root: (root / "cat").mkdir(parents=True), r"cat has no pictures"),
        (lambda root: root.mkdir(), r"has 0 class folders"),
        (lambda root: None, r"there is no data set"),
    ],
)
def test_bad_folders_are_one_line(make: Callable[[Path], object], text: str, tmp_path: Path) -> None:
    make(tmp_path / "own")
    with pytest.raises(DatasetError, match=text) as caught:
        load_dataset(str(tmp_path / "own"), None, tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_a_recording_whose_chunk_ends_after_the_file(tmp_path: Path) -> None:
    for word in ("on", "off"):
        write_clip(tmp_path / "own" / word / "0.wav", samples=600)
    path = tmp_path / "own" / "on" / "0.wav"
    raw = bytearray(path.read_bytes())
    raw[12:20] = b"junk" + (1 << 30).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(DatasetError, match=r"0.wav is no readable WAV file"):
        load_dataset(str(tmp_path / "own"), None, tmp_path / "cache")
