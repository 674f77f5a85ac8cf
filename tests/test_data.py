"""Data sets read from files the tests write, the bundled digits and the real MNIST."""

import gzip
import io
import struct
import time
from pathlib import Path
from urllib.error import URLError
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from gsvae.data import KMNIST, MNIST, Digits, FashionMNIST, ImageData, Images, Omniglot, binarize
from gsvae.data.idx import read_idx
from gsvae.errors import UserError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(array, code=8):
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def arrays(n_train=30, n_test=12, side=28, seed=0):
    """File contents by name."""
    rng = np.random.default_rng(seed)
    contents = {}
    for split, n in (("train", n_train), ("t10k", n_test)):
        contents[f"{split}-images-idx3-ubyte"] = rng.integers(0, 256, (n, side, side), dtype=np.uint8)
        contents[f"{split}-labels-idx1-ubyte"] = rng.integers(0, 10, n, dtype=np.uint8)
    return contents


def write_mnist(folder, contents):
    folder.mkdir(parents=True)
    for name, array in contents.items():
        (folder / name).write_bytes(idx_bytes(array))


@pytest.fixture
def raw(tmp_path):
    """A folder of a small, sound MNIST; ``tmp_path`` is its root."""
    write_mnist(tmp_path / "MNIST" / "raw", arrays())
    return tmp_path / "MNIST" / "raw"


def message_of(call):
    """The one line of the UserError that ``call`` ends with."""
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def rows(images):
    """Each image with its label as bytes, to compare sets of images."""
    return [p.tobytes() + bytes([n]) for p, n in zip(images.pixels_ND.numpy(), images.labels_N.tolist())]


# ---------------------------------------------------------------- IDX


@pytest.mark.filterwarnings("error")  # torch only warns of memory that is not to be written to
def test_idx_round_trip(tmp_path):
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    for name, data in (("a", idx_bytes(array)), ("a.gz", gzip.compress(idx_bytes(array)))):
        (tmp_path / name).write_bytes(data)
        tensor = read_idx(tmp_path / name, 3)
        assert tensor.dtype == torch.uint8
        np.testing.assert_array_equal(tensor.numpy(), array)
        tensor += 1  # the tensor owns its memory


SOUND = idx_bytes(np.zeros((2, 28, 28), np.uint8))
DAMAGES = {
    "empty": (b"", "not an IDX file"),
    "only half a header": (SOUND[:9], "not an IDX file"),
    "one byte short": (SOUND[:-1], "truncated"),
    "header alone": (SOUND[:16], "truncated"),
    "one byte too long": (SOUND + b"x", "truncated or damaged"),
    "wrong magic number": (b"\x89PNG" + SOUND[4:], "not an IDX file"),
    "a type other than bytes": (idx_bytes(np.zeros((2, 28, 28), np.uint8), code=0x0D), "not an IDX file"),
    "labels where images belong": (idx_bytes(np.zeros(2, np.uint8)), "not an IDX file"),
    "an error page": (b"<html>404 not found</html>" * 100, "not an IDX file"),
}


@pytest.mark.parametrize(("data", "complaint"), DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"])
def test_a_damaged_file_is_named(name, data, complaint, raw, tmp_path):
    (raw / name).write_bytes(data)
    message = message_of(MNIST(root=str(tmp_path), n_val=5).splits)
    assert str(raw / name) in message
    assert complaint in message
    assert "delete it" in message


@pytest.mark.parametrize("data", [gzip.compress(SOUND)[:-9], b"no gzip", b""], ids=["torn", "no gzip", "empty"])
def test_a_damaged_packed_file_is_named(data, raw, tmp_path):
    (raw / FILES[0]).unlink()
    (raw / f"{FILES[0]}.gz").write_bytes(data)
    assert str(raw / f"{FILES[0]}.gz") in message_of(MNIST(root=str(tmp_path), n_val=5).splits)


def test_labels_that_do_not_match_the_images(raw, tmp_path):
    (raw / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(29, np.uint8)))
    message = message_of(MNIST(root=str(tmp_path), n_val=5).splits)
    assert "train-labels-idx1-ubyte" in message
    assert "29 labels for 30 images" in message


def test_images_of_another_size(tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw", arrays(side=8))
    message = message_of(MNIST(root=str(tmp_path), n_val=5).splits)
    assert "train-images-idx3-ubyte" in message
    assert "8x8, expected 28x28" in message


def test_a_folder_in_place_of_a_file_is_not_a_file(raw, tmp_path, offline):
    (raw / FILES[1]).unlink()
    (raw / FILES[1]).mkdir()
    assert FILES[1] in message_of(MNIST(root=str(tmp_path), n_val=5).splits)


# ---------------------------------------------------------------- MNIST and its kin


@pytest.mark.parametrize("data_set", [MNIST, FashionMNIST, KMNIST])
@pytest.mark.parametrize("packed", [False, True])
def test_each_is_read_from_its_own_folder(data_set, packed, tmp_path):
    contents = {cls: arrays(seed=seed) for seed, cls in enumerate((MNIST, FashionMNIST, KMNIST))}
    for cls, files in contents.items():
        write_mnist(tmp_path / cls.__name__ / "raw", files)
    if packed:
        for name in FILES:
            path = tmp_path / data_set.__name__ / "raw" / name
            path.with_name(f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    splits = data_set(root=str(tmp_path), n_val=0).splits()
    for images, part in ((splits.train, "train"), (splits.test, "t10k")):
        expected = contents[data_set]
        np.testing.assert_array_equal(images.pixels_ND, expected[f"{part}-images-idx3-ubyte"].reshape(-1, 784))
        np.testing.assert_array_equal(images.labels_N, expected[f"{part}-labels-idx1-ubyte"])
        assert images.labels_N.dtype == torch.int64


@pytest.fixture
def offline(monkeypatch):
    """Downloads fail as without a network, after half of the first file."""
    from torchvision.datasets import mnist, utils

    def fail(url, root, filename=None, **_):
        path = Path(root) / (filename or url.rpartition("/")[2])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half a file")
        raise URLError("Name or service not known")

    monkeypatch.setattr(
        mnist, "download_and_extract_archive", lambda url, download_root, **k: fail(url, download_root, **k)
    )
    monkeypatch.setattr(utils, "download_url", fail)


@pytest.mark.parametrize("data_set", [MNIST, FashionMNIST, KMNIST])
def test_missing_files_without_a_network(data_set, tmp_path, offline):
    begun = time.monotonic()
    message = message_of(data_set(root=str(tmp_path / "new"), n_val=5).splits)
    assert f"data.root={tmp_path / 'new'}" in message
    assert str(Path(data_set.__name__) / "raw") in message
    assert all(name in message for name in FILES)
    assert "Name or service not known" in message
    assert "data=digits" in message
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [], "a part of a download was left"
    assert time.monotonic() - begun < 5


def test_only_what_is_missing_is_named_and_what_is_there_stays(raw, tmp_path, offline):
    (raw / FILES[2]).unlink()
    before = {p: p.read_bytes() for p in raw.iterdir()}
    message = message_of(MNIST(root=str(tmp_path), n_val=5).splits)
    assert FILES[2] in message
    assert FILES[0] not in message
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_download_comes_whole_and_leaves_nothing_beside(tmp_path, monkeypatch):
    from torchvision.datasets import mnist

    contents = arrays()
    root = tmp_path / "data"

    def fetch(url, download_root, filename, md5):
        assert not (root / "MNIST" / "raw" / FILES[0]).exists(), "in place before all were there"
        name = filename.removesuffix(".gz")
        (Path(download_root) / filename).write_bytes(b"packed")
        (Path(download_root) / name).write_bytes(idx_bytes(contents[name]))

    monkeypatch.setattr(mnist, "download_and_extract_archive", fetch)
    splits = MNIST(root=str(root), n_val=0).splits()
    np.testing.assert_array_equal(splits.train.pixels_ND, contents[FILES[0]].reshape(-1, 784))
    assert {p.name for p in root.rglob("*") if p.is_file()} == set(FILES)
    monkeypatch.setattr(mnist, "download_and_extract_archive", None)
    assert rows(MNIST(root=str(root), n_val=0).splits().test) == rows(splits.test)


def test_a_root_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "data"
    assert f"data.root={root}" in message_of(MNIST(root=str(root)).splits)


def test_real_mnist(mnist_root):
    splits = MNIST(root=str(mnist_root), n_val=5000).splits()
    assert (len(splits.train), len(splits.val), len(splits.test)) == (55_000, 5_000, 10_000)
    counts = torch.bincount(torch.cat((splits.train.labels_N, splits.val.labels_N)))
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(splits.test.labels_N).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert splits.test.labels_N[:5].tolist() == [7, 2, 1, 0, 4]
    pixels = splits.train.pixels_ND
    assert (pixels.shape[1], pixels.dtype) == (784, torch.uint8)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert pixels.double().mean().item() / 255 == pytest.approx(0.1307, abs=0.001)


# ---------------------------------------------------------------- digits and splits


def test_digits_are_the_1797_of_scikit_learn():
    from sklearn.datasets import load_digits

    splits = Digits(n_val=200).splits()
    parts = (splits.train, splits.val, splits.test)
    assert [len(p) for p in parts] == [1300, 200, 297]
    original = load_digits()
    expected = sorted(
        (p * 255 // 16).astype(np.uint8).tobytes() + bytes([n])
        for p, n in zip(original.data.astype(int), original.target)
    )
    assert sorted(row for part in parts for row in rows(part)) == expected
    pixels = torch.cat([p.pixels_ND for p in parts])
    assert (pixels.min(), pixels.max(), pixels.shape) == (0, 255, (1797, 64))
    assert Digits.image_shape == (1, 8, 8)


class Counting(ImageData):
    """Images of which each is its own number."""

    image_shape = (1, 1, 2)

    def load(self):
        number = torch.arange(130)
        pixels = torch.stack((number, 255 - number), 1).to(torch.uint8)
        return Images(pixels[:100], number[:100]), Images(pixels[100:], number[100:])


@pytest.mark.parametrize("n_val", [0, 1, 40, 99])
def test_splits_are_disjoint_and_cover_everything(n_val):
    splits = Counting(n_val=n_val).splits()
    val = splits.val.labels_N.tolist() if splits.val else []
    train = splits.train.labels_N.tolist()
    assert (splits.val is None) == (n_val == 0)
    assert len(val) == n_val
    assert sorted(train + val) == list(range(100))
    assert splits.test.labels_N.tolist() == list(range(100, 130))
    for part in (splits.train, splits.test):  # labels go with their images
        assert part.pixels_ND[:, 0].tolist() == part.labels_N.tolist()


def test_the_split_is_chosen_by_the_seed():
    one, again, other = (Counting(n_val=40, seed=s).splits() for s in (0, 0, 1))
    assert one.val.labels_N.tolist() == again.val.labels_N.tolist()
    assert one.train.labels_N.tolist() == again.train.labels_N.tolist()
    assert set(one.val.labels_N.tolist()) != set(other.val.labels_N.tolist())
    assert one.val.labels_N.tolist() != list(range(40))


@pytest.mark.parametrize("n_val", [100, 5000])
def test_too_many_validation_images(n_val):
    message = message_of(Counting(n_val=n_val).splits)
    assert f"data.n_val={n_val}" in message
    assert "100" in message


def test_test_digits_do_not_depend_on_the_seed_and_too_many_are_refused():
    assert rows(Digits(n_val=200, seed=0).splits().test) == rows(Digits(n_val=100, seed=1).splits().test)
    assert "data.n_test=1797" in message_of(Digits(n_test=1797, n_val=200).splits)


# ---------------------------------------------------------------- binarisation


class Grey(ImageData):
    """Every image has each grey value once."""

    def load(self):
        pixels = torch.arange(256).to(torch.uint8).expand(2000, 256).contiguous()
        return Images(pixels, torch.zeros(2000, dtype=torch.int64)), Images(
            pixels, torch.zeros(2000, dtype=torch.int64)
        )


def is_binary(images):
    return set(images.pixels_ND.unique().tolist()) <= {0, 255}


def assert_mean_is_grey(ink_N256):
    """Shares of ink against grey / 255, within 4.5 standard errors at each of the 256 values."""
    p = torch.arange(256).double() / 255
    standard_error = (p * (1 - p) / len(ink_N256)).sqrt()
    assert ((ink_N256.double().mean(0) - p).abs() <= 4.5 * standard_error).all()


def test_static_binarisation_is_the_same_each_time_and_unbiased():
    one, again = (Grey(n_val=500, binarize="static").splits() for _ in range(2))
    for part in ("train", "val", "test"):
        assert is_binary(getattr(one, part))
        assert torch.equal(getattr(one, part).pixels_ND, getattr(again, part).pixels_ND)
    assert_mean_is_grey(torch.cat((one.train.pixels_ND, one.val.pixels_ND)) == 255)
    assert_mean_is_grey(one.test.pixels_ND == 255)
    whole = Grey(n_val=0, binarize="static").splits()
    assert not torch.equal(whole.train.pixels_ND, whole.test.pixels_ND), "one noise for both parts"
    assert sorted(rows(whole.train)) == sorted(rows(one.train) + rows(one.val)), "depends on the split"


def test_static_binarisation_follows_the_seed():
    one, other = (Grey(n_val=0, seed=s, binarize="static").splits() for s in (0, 1))
    assert not torch.equal(one.train.pixels_ND, other.train.pixels_ND)


def test_threshold_is_at_one_half():
    splits = Grey(n_val=10, binarize="threshold").splits()
    expected = torch.where(torch.arange(256) / 255 > 0.5, 255, 0).to(torch.uint8)
    for part in (splits.train, splits.val, splits.test):
        assert (part.pixels_ND == expected).all()


@pytest.mark.parametrize("protocol", ["none", "dynamic"])
def test_grey_values_are_kept_for_the_protocols_that_need_them(protocol):
    splits = Grey(n_val=10, binarize=protocol).splits()
    assert (splits.train.pixels_ND == torch.arange(256)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dynamic_binarisation_resamples_and_is_unbiased(dtype):
    generator = torch.Generator().manual_seed(0)
    x = (torch.arange(256).to(dtype) / 255).expand(4000, 256)
    first, second = (binarize(x, torch.rand(x.shape, generator=generator, dtype=dtype)) for _ in range(2))
    assert first.dtype == dtype
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    assert_mean_is_grey(first)


@pytest.mark.parametrize("u", [0.0, 1 - 2**-24])
def test_paper_never_turns_to_ink_nor_ink_to_paper(u, monkeypatch):
    """0 and 255 are certain, even where the uniform draw is the least or the largest there is."""

    class Fixed:
        def random(self, shape, dtype):
            return np.full(shape, u, dtype)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Fixed())
    static = Grey(n_val=0, binarize="static").splits().train.pixels_ND
    dynamic = binarize(torch.arange(256).float().expand(10, 256) / 255, torch.full((10, 256), u))
    for ink in (static, dynamic):
        assert (ink[:, 0] == 0).all()
        assert (ink[:, 255] > 0).all()


# ---------------------------------------------------------------- Omniglot


def strokes(seed):
    """A 105×105 one-bit picture, white but for its leftmost 21 + ``seed`` columns."""
    picture = Image.new("1", (105, 105), 1)
    ImageDraw.Draw(picture).rectangle((0, 0, 20 + seed, 104), fill=0)
    return picture


def write_omniglot(root):
    """Two alphabets of two characters with three pictures each, in archives that list them out of order."""
    folder = root / "omniglot-py"
    folder.mkdir(parents=True)
    for part, shift in (("images_background", 0), ("images_evaluation", 30)):
        names = [f"{part}/{a}/character0{c}/{i}.png" for a in ("Greek", "Arcadian") for c in (2, 1) for i in (3, 1, 2)]
        with ZipFile(folder / f"{part}.zip", "w") as archive:
            for seed, name in enumerate(names):
                png = io.BytesIO()
                strokes(seed + shift).save(png, "png")
                archive.writestr(name, png.getvalue())
    return folder


def test_omniglot_is_reduced_inverted_and_labelled_by_character(tmp_path):
    write_omniglot(tmp_path)
    splits = Omniglot(root=str(tmp_path), n_val=0).splits()
    assert (len(splits.train), len(splits.test)) == (12, 12)
    assert splits.train.pixels_ND.dtype == torch.uint8
    assert splits.train.labels_N.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    # Sorted by name, Arcadian/character01/1.png comes first; it was written as the eleventh.
    first = splits.train.pixels_ND[0].view(28, 28)
    width = (20 + 10 + 1) * 28 / 105
    assert (first[:, : int(width)] == 255).all()
    assert (first[:, int(width) + 1 :] == 0).all()
    assert first[0, int(width)].item() == pytest.approx(255 * (width - int(width)), abs=8)
    assert first.double().mean().item() / 255 == pytest.approx(width / 28, abs=0.005)


def test_omniglot_s_cache_is_whole_used_again_and_as_good(tmp_path):
    folder = write_omniglot(tmp_path)
    first = Omniglot(root=str(tmp_path), n_val=0).splits()
    archives = {"images_background.zip", "images_evaluation.zip"}
    caches = {"images_background-28x28.npz", "images_evaluation-28x28.npz"}
    assert {p.name for p in folder.iterdir()} == archives | caches, "temporary files were left"
    for name in archives:
        (folder / name).write_bytes(b"must not be read again")
    again = Omniglot(root=str(tmp_path), n_val=0).splits()
    assert (rows(again.train), rows(again.test)) == (rows(first.train), rows(first.test))


def test_omniglot_in_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    from gsvae.data import omniglot

    folder = write_omniglot(tmp_path)

    def refuse(path, write):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(omniglot, "write_atomically", refuse)
    assert len(Omniglot(root=str(tmp_path), n_val=0).splits().train) == 12
    assert not list(folder.glob("*.npz"))


@pytest.mark.parametrize("name", ["images_background-28x28.npz", "images_evaluation-28x28.npz"])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and then nothing", b"not a zip at all"])
def test_a_damaged_omniglot_cache_is_named(name, data, tmp_path):
    folder = write_omniglot(tmp_path)
    (folder / name).write_bytes(data)
    message = message_of(Omniglot(root=str(tmp_path), n_val=0).splits)
    assert str(folder / name) in message
    assert "delete it" in message


def test_a_damaged_omniglot_archive_is_named(tmp_path):
    folder = write_omniglot(tmp_path)
    archive = folder / "images_evaluation.zip"
    archive.write_bytes(archive.read_bytes()[:-30])
    message = message_of(Omniglot(root=str(tmp_path), n_val=0).splits)
    assert str(archive) in message
    assert "delete it" in message
    assert not (folder / "images_evaluation-28x28.npz").exists()


def test_missing_omniglot_without_a_network(tmp_path, offline):
    message = message_of(Omniglot(root=str(tmp_path / "new")).splits)
    assert f"data.root={tmp_path / 'new'}" in message
    assert "images_background.zip" in message
    assert "Name or service not known" in message
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_omniglot_s_archives_are_downloaded_whole_and_checked(tmp_path, monkeypatch):
    from torchvision.datasets import utils

    folder = write_omniglot(tmp_path / "there")
    root = tmp_path / "new"
    asked = []

    def fetch(url, into, filename=None, md5=None):
        name = url.rpartition("/")[2]
        asked.append((name, md5))
        (Path(into) / name).write_bytes((folder / name).read_bytes())

    monkeypatch.setattr(utils, "download_url", fetch)
    splits = Omniglot(root=str(root), n_val=0).splits()
    assert rows(splits.test) == rows(Omniglot(root=str(tmp_path / "there"), n_val=0).splits().test)
    assert asked == [
        ("images_background.zip", "68d2efa1b9178cc56df9314c21c6e718"),
        ("images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811"),
    ]
    assert len([p for p in root.rglob("*") if p.is_file()]) == 4
