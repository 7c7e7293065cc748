"""Real data: what arrives, and the one sentence that says why nothing does."""

import hashlib
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pooch
import pytest
import torch

from compressm.experiments import data
from compressm.experiments.data import DataError, MissingPackageError, digits, mnist, require


def images(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), np.arange(n, dtype=np.uint8) % 10


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with a small file in the format of MNIST."""
    monkeypatch.delenv("COMPRESSM_DATA", raising=False)
    (x, y), (xt, yt) = images(30), images(12, seed=1)
    np.savez_compressed(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=xt, y_test=yt)
    return tmp_path


# ------------------------------------------------------------------ what arrives


def test_digits_are_standardised_sequences_in_a_fixed_split():
    one, two = digits(), digits()
    assert one.x_train.shape == (1297, 64, 1) and one.x_train.dtype == torch.float32
    assert one.x_test.shape == (500, 64, 1) and one.y_test.dtype == torch.int64
    assert (one.length, one.n_classes) == (64, 10)
    assert abs(one.x_train.mean()) < 1e-5 and abs(one.x_train.std() - 1) < 1e-4
    assert torch.equal(one.x_test, two.x_test) and torch.equal(one.y_train, two.y_train)
    assert one.y_test.bincount().min() >= 40, "every digit is tested"
    assert one.y_test[:8].tolist() == [2, 8, 2, 6, 6, 7, 1, 9], "the split that results refer to"


def test_mnist_is_the_file_row_by_row(folder):
    got, (x, y) = mnist(folder), images(30)
    assert got.x_train.shape == (30, 784, 1) and got.x_test.shape == (12, 784, 1)
    expected = (x.reshape(30, 784) - x.mean()) / x.std()
    np.testing.assert_allclose(got.x_train[..., 0].numpy(), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(got.y_train.numpy(), y)


def test_the_environment_names_the_folder_unless_the_caller_does(folder, monkeypatch):
    monkeypatch.setenv("COMPRESSM_DATA", str(folder))
    assert len(mnist().y_test) == 12
    with pytest.raises(DataError, match="no file .*elsewhere"):
        mnist(folder / "elsewhere")


def test_real_mnist(data_file):
    got = mnist(data_file("mnist.npz").parent)
    assert got.x_train.shape == (60_000, 784, 1) and got.x_test.shape == (10_000, 784, 1)
    assert got.y_test.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# ------------------------------------------------------------------ one sentence where it does not


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1000])


def overwritten_inside(path):
    content = bytearray(path.read_bytes())
    content[2000:2400] = bytes(400)
    path.write_bytes(content)


def pickled(path):
    np.savez(path, x_train=np.array([{}]), y_train=0, x_test=0, y_test=0)


def one_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def one_array_missing(path):
    np.savez(path, x_train=np.zeros((2, 28, 28)), y_train=np.zeros(2), x_test=np.zeros((2, 28, 28)))


def labels_missing(path):
    x, y = images(3)
    np.savez(path, x_train=x, y_train=y[:2], x_test=x, y_test=y)


def no_images(path):
    x, y = images(0)
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)


CORRUPTIONS = [cut_short, overwritten_inside, pickled, one_array]
CORRUPTIONS += [one_array_missing, labels_missing, no_images, lambda path: path.write_text("404")]
CORRUPTIONS += [lambda path: path.write_bytes(b""), lambda path: (path.unlink(), path.mkdir())]


@pytest.mark.parametrize("corrupt", CORRUPTIONS)
def test_a_corrupt_file_is_one_sentence(folder, corrupt):
    corrupt(folder / "mnist.npz")
    with pytest.raises(DataError, match=r"mnist\.npz .*: give --data-dir") as caught:
        mnist(folder)
    assert "\n" not in str(caught.value)


@pytest.fixture
def server(folder, tmp_path_factory, monkeypatch):
    """Serve `folder` from this machine, as if it were the one on the network."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(pooch, "os_cache", lambda name: cache)
    monkeypatch.setenv("NO_PROXY", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        monkeypatch.setattr(data, "MNIST_URL", f"http://127.0.0.1:{server.server_port}/mnist.npz")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_download_is_kept(server, folder, monkeypatch):
    content = (folder / "mnist.npz").read_bytes()
    monkeypatch.setattr(data, "MNIST_SHA256", hashlib.sha256(content).hexdigest())
    assert len(mnist().y_train) == 30
    (folder / "mnist.npz").unlink()
    assert len(mnist().y_train) == 30, "the second time it comes from the cache"


def test_a_download_of_something_else_is_refused(server):
    with pytest.raises(DataError, match="not the MNIST expected"):
        mnist()


def test_no_network_is_one_sentence(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match="could not be downloaded .*: check the network") as caught:
        mnist()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", [digits, mnist])
def test_a_missing_package_comes_with_its_command(call, monkeypatch):
    monkeypatch.delenv("COMPRESSM_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingPackageError, match="run 'pip install (scikit-learn|pooch)'"):
        call()


def test_require_returns_the_module():
    assert require("json").loads("1") == 1
