"""The formats that the image classification example reads."""

import os
import pickle
import struct
import sys
import types
from zlib import crc32

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from reproduce.common.errors import InputError
from reproduce.data import image_files as decoding
from reproduce.data.cifar import load_arrays
from reproduce.data.image_directory import load_directory
from reproduce.data.image_files import EncodedImages

PIXELS = 3072


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _images(count, start=0):
    """Images of which every pixel is known: they count on, modulo 251."""
    values = (start + np.arange(count * PIXELS)) % 251
    return values.reshape(count, PIXELS).astype("uint8")


# --- CIFAR -------------------------------------------------------------------

NAMES_10 = [f"thing {index}" for index in range(10)]
NAMES_100 = [f"thing {index}" for index in range(100)]


def _cifar10_pickles(directory):
    for number in range(1, 6):
        labels = [(number + row) % 10 for row in range(4)]
        content = {b"data": _images(4, number), b"labels": labels}
        _write(directory / f"data_batch_{number}", pickle.dumps(content, 2))
    test = {b"data": _images(3, 9), b"labels": [7, 8, 9]}
    _write(directory / "test_batch", pickle.dumps(test, 2))
    names = {b"label_names": [name.encode() for name in NAMES_10]}
    _write(directory / "batches.meta", pickle.dumps(names, 2))


def _cifar10_binary(directory):
    def records(images, labels):
        rows = zip(images, labels)
        return b"".join(bytes([label]) + row.tobytes() for row, label in rows)

    for number in range(1, 6):
        labels = [(number + row) % 10 for row in range(4)]
        content = records(_images(4, number), labels)
        _write(directory / f"data_batch_{number}.bin", content)
    content = records(_images(3, 9), [7, 8, 9])
    _write(directory / "test_batch.bin", content)
    text = "\n".join(NAMES_10) + "\n\n"
    _write(directory / "batches.meta.txt", text.encode())


def _cifar100_pickles(directory):
    for name, count in (("train", 20), ("test", 3)):
        content = {
            "data": _images(count, 5),
            "fine_labels": [99 - row for row in range(count)],
            "coarse_labels": [0] * count,
        }
        _write(directory / name, pickle.dumps(content))
    content = pickle.dumps({"fine_label_names": NAMES_100})
    _write(directory / "meta", content)


def _cifar100_binary(directory):
    for name, count in (("train", 20), ("test", 3)):
        content = b"".join(
            bytes([0, 99 - row]) + image.tobytes()
            for row, image in enumerate(_images(count, 5))
        )
        _write(directory / f"{name}.bin", content)
    text = "\n".join(NAMES_100)
    _write(directory / "fine_label_names.txt", text.encode())


@pytest.mark.parametrize(
    ("write", "folder"),
    [
        (_cifar10_pickles, "."),
        (_cifar10_pickles, "cifar-10-batches-py"),
        (_cifar10_binary, "cifar-10-batches-bin"),
    ],
)
def test_cifar10_is_read(tmp_path, write, folder):
    write(tmp_path / folder)
    dataset = load_directory(tmp_path)
    assert dataset.name == "CIFAR-10"
    assert dataset.classes == tuple(NAMES_10)
    # Of 20 training images a tenth is held out.
    assert (len(dataset.train), len(dataset.valid)) == (18, 2)
    assert dataset.test.labels.tolist() == [7, 8, 9]
    assert dataset.image_shape == (32, 32, 3)
    rows = _images(3, 9)
    for channel in range(3):
        plane = rows[:, channel * 1024 : (channel + 1) * 1024]
        np.testing.assert_array_equal(
            dataset.test.images[..., channel], plane.reshape(3, 32, 32)
        )
    # Every image is still with its label: its first pixel says which it is.
    label_of = {
        int(_images(4, number)[row, 0]): (number + row) % 10
        for number in range(1, 6)
        for row in range(4)
    }
    assert len(label_of) == 20
    for part in (dataset.train, dataset.valid):
        found = [label_of[int(pixel)] for pixel in part.images[:, 0, 0, 0]]
        assert part.labels.tolist() == found


@pytest.mark.parametrize("write", [_cifar100_pickles, _cifar100_binary])
def test_cifar100_is_read_with_fine_labels(tmp_path, write):
    write(tmp_path)
    dataset = load_directory(tmp_path)
    assert dataset.name == "CIFAR-100"
    assert dataset.classes == tuple(NAMES_100)
    assert dataset.test.labels.tolist() == [99, 98, 97]
    labels = [*dataset.train.labels, *dataset.valid.labels]
    assert sorted(labels) == list(range(80, 100))
    np.testing.assert_array_equal(
        dataset.test.images[1, :, :, 2], _images(3, 5)[1, 2048:].reshape(32, 32)
    )


def test_fewer_training_images_are_taken_and_the_rest_stays(tmp_path):
    _cifar10_pickles(tmp_path)
    every, few = (
        load_directory(tmp_path),
        load_directory(tmp_path, "cifar10", None, 10),
    )
    assert len(few.train) == 10
    np.testing.assert_array_equal(few.valid.images, every.valid.images)
    with pytest.raises(InputError, match="at least 19 images .* got 18"):
        load_directory(tmp_path, train_images=19)


def _broken_pickle(directory, change):
    _cifar10_pickles(directory)
    path = directory / "data_batch_3"
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.update({b"labels": [0, 1, 10, 11]}),
            "labels from 0 to 9, got 10 of image 2 .*, one of 2 such",
        ),
        (
            lambda c: c.update({b"labels": [0, 1, "x", 3]}),
            "got 'x' of image 2 .*, one of 1 such",
        ),
        (
            lambda c: c.update({b"labels": [0, 1]}),
            "expected 4 labels, one for each image, got list of 2",
        ),
        (
            lambda c: c.update({b"data": np.zeros((4, 3071), "uint8")}),
            r"3072 bytes an image, got ndarray of uint8 .*\(4, 3071\)",
        ),
        (
            lambda c: c.update({b"data": np.zeros((4, 3072))}),
            "got ndarray of float64",
        ),
        (lambda c: c.pop(b"data"), "got NoneType"),
    ],
)
def test_broken_cifar_pickles_are_refused(tmp_path, change, message):
    _broken_pickle(tmp_path, change)
    with pytest.raises(InputError, match=f"data_batch_3: .*{message}"):
        load_directory(tmp_path)


def test_truncated_cifar_pickle_is_refused(tmp_path):
    _cifar10_pickles(tmp_path)
    path = tmp_path / "test_batch"
    content = path.read_bytes()
    for length in (0, 1, 200, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="test_batch: .*cut short"):
            load_directory(tmp_path)
    path.write_bytes(content + b"xx")
    with pytest.raises(InputError, match="got 2 bytes after it"):
        load_directory(tmp_path)


def test_missing_cifar_files_are_named_and_counted(tmp_path):
    _cifar10_pickles(tmp_path)
    (tmp_path / "data_batch_4").unlink()
    (tmp_path / "test_batch").unlink()
    message = "2 of 7 files .* missing: data_batch_4, test_batch"
    with pytest.raises(InputError, match=message):
        load_directory(tmp_path)


class _Dangerous:
    def __init__(self, *call):
        self._call = call

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, ("touch was_run",)), r"\w+.system"),
        ((eval, ("open('was_run', 'w')",)), r"\w+.eval"),
        ((np.load, ("was_run",)), r"numpy.*\.load"),
        ((getattr, ("", "join")), r"\w+.getattr"),
    ],
)
def test_pickles_run_nothing(tmp_path, monkeypatch, call, name):
    monkeypatch.chdir(tmp_path)
    _cifar10_pickles(tmp_path)
    content = {b"data": _Dangerous(*call), b"labels": [0]}
    for protocol in (0, 2, 4):
        path = tmp_path / "data_batch_2"
        path.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(InputError, match=f"it names {name}, which"):
            load_directory(tmp_path)
    assert not (tmp_path / "was_run").exists()


def test_pickles_import_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    _write(tmp_path / "planted.py", b"raise SystemExit")
    path = _write(tmp_path / "x", b"cplanted\nthing\n.")
    with pytest.raises(InputError, match="it names planted.thing"):
        load_arrays(path)
    assert "planted" not in sys.modules


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_arrays_of_all_protocols_are_read(tmp_path, protocol):
    content = {b"data": _images(2), "text": ["a", 1, 2.5, None, b"\xff"]}
    path = _write(tmp_path / "x", pickle.dumps(content, protocol))
    found = load_arrays(path)
    np.testing.assert_array_equal(found[b"data"], content[b"data"])
    assert found["text"] == content["text"]


def test_arrays_that_python_2_wrote_are_read(tmp_path):
    # By hand, in its protocol 2: str there is bytes here, and NumPy was at
    # another place.
    path = _write(
        tmp_path / "x",
        b"\x80\x02}q\x00(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\n"
        b"q\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04(K\x01K\x01K\x02"
        b"\x86cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNNJ"
        b"\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x07\x08tbu.",
    )
    found = load_arrays(path)
    assert found[b"data"].dtype == np.uint8
    np.testing.assert_array_equal(found[b"data"], [[7, 8]])


def test_broken_cifar_binary_is_refused(tmp_path):
    _cifar10_binary(tmp_path)
    path = tmp_path / "data_batch_5.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-73])
    message = (
        "records of 3073 bytes, got 12219 bytes, .* 3000 bytes into record 4"
    )
    with pytest.raises(InputError, match=message):
        load_directory(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="data_batch_5.bin: .* got 0 bytes"):
        load_directory(tmp_path)
    path.write_bytes(b"\x0a" + content[1:])
    with pytest.raises(InputError, match="got 10 of image 0"):
        load_directory(tmp_path)
    path.write_bytes(content)
    (tmp_path / "batches.meta.txt").write_text("only\none\n")
    with pytest.raises(InputError, match="10 different class names, got 2"):
        load_directory(tmp_path)


# --- image folders -----------------------------------------------------------


def _png(color, height=6, width=5):
    image = np.full((height, width, 3), color, "uint8")
    return tf.io.encode_png(image).numpy()


def _jpeg(color, height=6, width=5):
    image = np.full((height, width, 3), color, "uint8")
    return tf.io.encode_jpeg(image, quality=100).numpy()


COLORS = {"cat": (250, 20, 30), "dog": (10, 20, 250)}


def _folder(directory, parts=("train", "valid", "test"), count=4):
    for part in parts:
        for name, color in COLORS.items():
            for index in range(count):
                encode, suffix = (_png, "png") if index % 2 else (_jpeg, "JPG")
                path = directory / part / name / f"{index}.{suffix}"
                _write(path, encode(color))


def _check_colors(part, classes):
    for image, label in zip(part.images, part.labels):
        expected = np.broadcast_to(COLORS[classes[label]], image.shape)
        # JPEG keeps colours nearly.
        np.testing.assert_allclose(image, expected, atol=4)


def test_folders_of_three_parts_are_read(tmp_path):
    _folder(tmp_path)
    _write(tmp_path / "train" / "cat" / "notes.txt", b"not an image")
    _write(tmp_path / "train" / "dog" / ".hidden", b"")
    dataset = load_directory(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.image_shape == (6, 5, 3)
    for part in (dataset.train, dataset.valid, dataset.test):
        assert part.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
        _check_colors(part, dataset.classes)
    assert dataset.facts()["skipped files of other suffixes"] == 1


@pytest.mark.parametrize("part", [".", "train"])
def test_folders_are_split_where_they_have_no_parts(tmp_path, part):
    _folder(tmp_path, (part,), count=10)
    dataset = load_directory(tmp_path, "folder")
    sizes = [len(p) for p in (dataset.train, dataset.valid, dataset.test)]
    assert sizes == [16, 2, 2]
    for one in (dataset.train, dataset.valid, dataset.test):
        assert set(one.labels.tolist()) == {0, 1}
        _check_colors(one, dataset.classes)


def test_images_of_other_sizes_are_resized_if_asked(tmp_path):
    _folder(tmp_path)
    _write(tmp_path / "train" / "dog" / "9.png", _png(COLORS["dog"], 9, 12))
    message = r"one size, 5x6 as .*, got 12x9 in .*9.png, .* in 1 of 9 images"
    with pytest.raises(InputError, match=message):
        load_directory(tmp_path)
    dataset = load_directory(tmp_path, side=8)
    assert dataset.image_shape == (8, 8, 3)
    _check_colors(dataset.train, dataset.classes)


def test_parts_must_have_images_of_one_size(tmp_path):
    _folder(tmp_path, ("train", "valid"))
    for name, color in COLORS.items():
        _write(tmp_path / "test" / name / "0.png", _png(color, 7, 7))
    with pytest.raises(InputError, match="5x6 in train, .*7x7 in test"):
        load_directory(tmp_path)


def test_images_past_memory_are_decoded_when_needed(tmp_path, monkeypatch):
    _folder(tmp_path)
    kept = load_directory(tmp_path, side=8)
    monkeypatch.setattr(decoding, "KEPT_BYTES", 100)
    read = load_directory(tmp_path, side=8)
    assert isinstance(read.train.images, EncodedImages)
    assert read.image_shape == kept.image_shape
    chosen = np.array([6, 1])
    np.testing.assert_array_equal(
        read.train.images[chosen], kept.train.images[chosen]
    )
    np.testing.assert_array_equal(
        read.train.at(chosen).images[np.array([0])], kept.train.images[6:7]
    )
    # An empty file is found at once, a truncated one when it is used.
    path = tmp_path / "train" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:45])
    read = load_directory(tmp_path, side=8)
    with pytest.raises(InputError, match="1.png: expected a whole PNG"):
        read.train.images[np.array([0, 1])]
    path.write_bytes(b"")
    with pytest.raises(InputError, match="1.png: .* got 0 bytes"):
        load_directory(tmp_path, side=8)


@pytest.mark.parametrize("side", [None, 8])
def test_broken_images_are_named_and_counted(tmp_path, side):
    _folder(tmp_path)
    for name, content in (
        ("cat/0.JPG", _jpeg(COLORS["cat"])[:-30]),
        ("cat/1.png", _png(COLORS["cat"])[:50]),
        ("dog/2.JPG", b""),
        ("dog/3.png", b"GIF89a"),
    ):
        (tmp_path / "train" / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_directory(tmp_path, side=side)
    message = str(caught.value)
    assert message.startswith("4 of 8 images cannot be read: ")
    for part in (
        "0.JPG: expected a whole JPEG",
        "1.png: expected a whole PNG, got 50 bytes",
        "2.JPG: expected a PNG or JPEG, got 0 bytes",
        "3.png: expected a PNG or JPEG, got a file that begins with b'GIF8'",
    ):
        assert part in message


def _png_header(width, height):
    """A PNG that says its size, and has no pixels."""
    fields = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = b"IHDR" + fields
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT"


# Pillow warns of such images, too.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [None, 8])
@pytest.mark.parametrize("size", [(8193, 8192), (9500, 9500), (65000, 65000)])
def test_images_of_too_many_pixels_are_not_decoded(tmp_path, side, size):
    _folder(tmp_path)
    _write(tmp_path / "test" / "cat" / "big.png", _png_header(*size))
    message = "1 of 9 images .*big.png: expected at most 67108864 pixels"
    with pytest.raises(InputError, match=message):
        load_directory(tmp_path, side=side)


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "I;16", "CMYK"])
def test_images_of_any_mode_become_colours(tmp_path, mode):
    grey = np.arange(0, 240, 8, dtype="uint8").reshape(5, 6)
    if mode == "I;16":
        image = Image.fromarray(grey.astype("uint16") << 8)
    else:
        image = Image.fromarray(grey).convert("RGB").convert(mode)
    _folder(tmp_path, ("train",))
    kind = "JPEG" if mode == "CMYK" else "PNG"
    path = tmp_path / "train" / "cat" / f"a.{kind.lower()}"
    image.save(path, kind, **({"quality": 100} if mode == "CMYK" else {}))
    found = decoding.decode(
        decoding.Encoded("a", lambda: path.open("rb")), None
    )
    assert found.shape == (5, 6, 3)
    atol = 4 if mode == "CMYK" else 0
    expected = np.repeat(grey[..., None], 3, -1)
    np.testing.assert_allclose(found.astype(int), expected, atol=atol)


def test_broken_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="an empty directory"):
        load_directory(tmp_path)
    with pytest.raises(InputError, match="got nothing there"):
        load_directory(tmp_path / "gone")
    _folder(tmp_path)
    (tmp_path / "valid" / "cow").mkdir()
    with pytest.raises(
        InputError, match=r"cow: expected images .* got 0 other"
    ):
        load_directory(tmp_path)
    _write(tmp_path / "valid" / "cow" / "0.png", _png(9))
    message = "valid/cow: expected classes that .*train has, got cow with 1"
    with pytest.raises(InputError, match=message):
        load_directory(tmp_path)
    only = tmp_path / "only"
    _write(only / "cat" / "0.png", _png(1))
    with pytest.raises(InputError, match="two or more classes, got cat"):
        load_directory(only)


# --- TFRecords ---------------------------------------------------------------


def _example(image, label, names=("image/encoded", "image/class/label")):
    features = {
        names[0]: tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[image])
        ),
        names[1]: tf.train.Feature(
            int64_list=tf.train.Int64List(value=[label])
        ),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString()


def _records(path, examples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example)


def _tfrecords(directory, names=("image", "label")):
    for part, file in (
        ("train", "train-00000-of-00002.tfrecord"),
        ("train", "train.tfrecord-00001-of-00002"),
        ("validation", "validation-00000-of-00001"),
        ("test", "test.tfrecords"),
    ):
        encode = _jpeg if part == "test" else _png
        examples = [
            _example(encode(color), label, names)
            for label, color in enumerate(COLORS.values())
        ]
        _records(directory / file, examples)


@pytest.mark.parametrize(
    "names", [("image/encoded", "image/class/label"), ("image", "label")]
)
def test_tfrecords_are_read(tmp_path, names):
    _tfrecords(tmp_path, names)
    dataset = load_directory(tmp_path)
    assert dataset.classes == ("0", "1")
    assert dataset.train.labels.tolist() == [0, 1, 0, 1]
    _write(tmp_path / "labels.txt", b"cat\ndog\n\n")
    dataset = load_directory(tmp_path, "tfrecord")
    assert dataset.classes == ("cat", "dog")
    for part in (dataset.train, dataset.valid, dataset.test):
        _check_colors(part, dataset.classes)


def test_tfrecords_past_memory_are_read_when_needed(tmp_path, monkeypatch):
    _tfrecords(tmp_path)
    kept = load_directory(tmp_path, side=5)
    monkeypatch.setattr(decoding, "KEPT_BYTES", 100)
    read = load_directory(tmp_path, side=5)
    assert isinstance(read.train.images, EncodedImages)
    chosen = np.array([3, 0, 2])
    np.testing.assert_array_equal(
        read.train.images[chosen], kept.train.images[chosen]
    )


def test_broken_tfrecords_are_refused(tmp_path):
    _tfrecords(tmp_path)
    path = tmp_path / "train-00000-of-00002.tfrecord"
    whole = path.read_bytes()

    def refused(message, content=None):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=f"00002.tfrecord.*{message}"):
            load_directory(tmp_path)

    refused("got 0 bytes", b"")
    refused("cut short or broken after record 1", whole[:-3])
    changed = bytearray(whole)
    changed[40] ^= 1
    refused("cut short or broken after record 0", bytes(changed))
    _records(path, [_example(_png(1), 0, ("picture", "label"))])
    refused("record 1: expected the features .* got label, picture")
    _records(path, [b"\xff\xff\xff"])
    refused("record 1: expected a tf.train.Example")
    _records(path, [_example(_png(1), 0), _example(_png(1)[:50], 1)])
    with pytest.raises(InputError, match=r"1 of 4 images .*, record 2: .*PNG"):
        load_directory(tmp_path)
    _records(path, [_example(_png(1), -1)])
    refused("record 1: expected a label from 0 to 1, got -1, one of 1 such")
    _write(tmp_path / "labels.txt", b"cat\n")
    path.write_bytes(whole)
    message = "record 2: expected a label from 0 to 0, got 1, one of 1 such"
    with pytest.raises(InputError, match=message):
        load_directory(tmp_path)


def test_labels_that_would_fill_the_memory_are_refused(tmp_path):
    path = tmp_path / "train.tfrecord"
    _records(path, [_example(_png(1), 0), _example(_png(1), 10_000_000)])
    message = "record 2: expected a label from 0 to 999999, got 10000000, one"
    with pytest.raises(InputError, match=message):
        load_directory(tmp_path)
    # A label below the limit has a class, without a row of its own.
    _records(path, [_example(_png(1), 7)] * 3)
    assert load_directory(tmp_path).classes == tuple("01234567")


def test_names_of_tfrecords_say_their_part(tmp_path):
    _records(tmp_path / "images.tfrecord", [_example(_png(1), 0)])
    with pytest.raises(InputError, match="begins with train, valid or test"):
        load_directory(tmp_path)
    (tmp_path / "images.tfrecord").rename(tmp_path / "test.tfrecord")
    with pytest.raises(InputError, match="begin with train, got test"):
        load_directory(tmp_path)


# --- tensorflow-datasets -----------------------------------------------------


class _Builder:
    """What of tensorflow-datasets is used here."""

    names = ("cat", "dog")

    def __init__(self, name, data_dir):
        if name != "tiny":
            raise ValueError(f"Dataset {name} not found")
        self.info = types.SimpleNamespace(
            splits={"train": 20, "test": 3} if "full" in data_dir else {},
            features={
                "image": None,
                "label": types.SimpleNamespace(names=self.names),
            },
        )

    def as_dataset(self, split):
        count = self.info.splits[split]
        images = np.arange(count * 12, dtype="uint8").reshape(count, 2, 2, 3)
        content = {"image": images, "label": np.arange(count) % 2}
        return tf.data.Dataset.from_tensor_slices(content)


def test_tensorflow_datasets_are_read_by_name(tmp_path, monkeypatch):
    module = types.SimpleNamespace(builder=_Builder)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    full = tmp_path / "full"
    full.mkdir()
    dataset = load_directory(full, tfds="tiny")
    assert dataset.classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.valid)) == (18, 2)
    assert dataset.test.labels.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(dataset.test.images.ravel(), np.arange(36))
    assert load_directory(full, "tfds", 4, tfds="tiny").image_shape == (4, 4, 3)
    with pytest.raises(InputError, match="--tfds gone: .* gone not found"):
        load_directory(full, tfds="gone")
    with pytest.raises(InputError, match="prepared in .* no splits there"):
        load_directory(tmp_path, tfds="tiny")
    with pytest.raises(InputError, match="--format tfds and --tfds NAME"):
        load_directory(full, "tfds")
    monkeypatch.setattr(_Builder, "names", None)
    with pytest.raises(InputError, match="label of named classes, got Simple"):
        load_directory(full, tfds="tiny")


def test_without_the_package_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match="pip install tensorflow-datasets"):
        load_directory(tmp_path, tfds="cifar10")
