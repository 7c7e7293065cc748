"""Images as sequences of pixels: formats, splits, standardisation."""

import io
import tarfile

import numpy as np
import pytest
import torch

from compressm import DataError
from compressm.experiments.data import cifar, digits, mnist
from tests.compressm.experiments.helpers import mnist_images, write_mnist


def test_digits_are_standardised_sequences_in_a_fixed_split():
    one, two = digits(), digits()
    assert one.x_train.shape == (1297, 64, 1) and one.x_train.dtype == torch.float32
    assert one.x_test.shape == (500, 64, 1) and one.y_test.dtype == torch.int64
    assert (one.length, one.n_outputs) == (64, 10)
    assert abs(one.x_train.mean()) < 1e-5 and abs(one.x_train.std() - 1) < 1e-4
    assert torch.equal(one.x_test, two.x_test) and torch.equal(one.y_train, two.y_train)
    assert one.y_test.bincount().min() >= 40, "every digit is tested"
    assert one.y_test[:8].tolist() == [2, 8, 2, 6, 6, 7, 1, 9], "the split that results refer to"


def test_mnist_is_the_file_row_by_row(tmp_path):
    write_mnist(tmp_path)
    got, (x, y) = mnist(tmp_path), mnist_images(30)
    assert got.x_train.shape == (30, 784, 1) and got.x_test.shape == (12, 784, 1)
    expected = (x.reshape(30, 784) - x.mean()) / x.std()
    np.testing.assert_allclose(got.x_train[..., 0].numpy(), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(got.y_train.numpy(), y)


def test_mnist_by_rows_has_a_channel_for_each_pixel_of_a_row(tmp_path):
    write_mnist(tmp_path)
    rows, pixels = mnist(tmp_path, rows=True), mnist(tmp_path)
    assert rows.name == "MNIST by rows" and rows.x_train.shape == (30, 28, 28)
    assert torch.equal(rows.x_train.flatten(1), pixels.x_train.flatten(1))
    assert torch.equal(rows.x_test[:, 3, 5], pixels.x_test[:, 3 * 28 + 5, 0])


def test_real_mnist(data_file):
    got = mnist(data_file("mnist.npz").parent)
    assert got.x_train.shape == (60_000, 784, 1) and got.x_test.shape == (10_000, 784, 1)
    assert got.y_test.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# ------------------------------------------------------------------ CIFAR


def archive(path, names, records):
    with tarfile.open(path / "cifar-10-binary.tar.gz", "w:gz") as file:
        for name in names:
            content = records.tobytes()
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def test_cifar_is_the_archive_pixel_by_pixel(tmp_path):
    records = np.random.default_rng(0).integers(0, 256, (3, 3073), dtype=np.uint8)
    records[:, 0] = (4, 9, 0)
    archive(tmp_path, BATCHES, records)
    got = cifar(tmp_path)
    assert got.x_train.shape == (15, 1024, 3) and got.x_test.shape == (3, 1024, 3)
    assert got.y_test.tolist() == [4, 9, 0] and got.n_outputs == 10
    pixels = records[:, 1:].astype(float)
    expected = (pixels[1, 1024 + 7] - pixels.mean()) / pixels.std()
    assert got.x_test[1, 7, 1].item() == pytest.approx(expected, abs=1e-5), "green of pixel 7"


@pytest.mark.parametrize("names, size", [(BATCHES[:-1], 3073), (BATCHES, 3072)])
def test_a_corrupt_archive_is_one_sentence(tmp_path, names, size):
    archive(tmp_path, names, np.zeros((2, size), dtype=np.uint8))
    with pytest.raises(DataError, match="cannot be read as CIFAR-10 .*: give --data-dir") as caught:
        cifar(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_archive_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="there is no file .*cifar-10-binary.tar.gz: give"):
        cifar(tmp_path)
