"""Files of data: downloads that are kept, and one sentence if a file cannot be had."""

import hashlib
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pooch
import pytest

from compressm import DataError, MissingPackageError
from compressm.experiments.data import digits, images, mnist
from tests.compressm.experiments.helpers import mnist_images, write_mnist


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with a small file in the format of MNIST."""
    monkeypatch.delenv("COMPRESSM_DATA", raising=False)
    write_mnist(tmp_path)
    return tmp_path


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
    x, y = mnist_images(3)
    np.savez(path, x_train=x, y_train=y[:2], x_test=x, y_test=y)


def no_images(path):
    x, y = mnist_images(0)
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


def test_the_environment_names_the_folder_unless_the_caller_does(folder, monkeypatch):
    monkeypatch.setenv("COMPRESSM_DATA", str(folder))
    assert len(mnist().y_test) == 12
    with pytest.raises(DataError, match="no file .*elsewhere"):
        mnist(folder / "elsewhere")


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
        monkeypatch.setattr(images, "MNIST_URL", f"http://127.0.0.1:{server.server_port}/mnist.npz")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_download_is_kept(server, folder, monkeypatch):
    content = (folder / "mnist.npz").read_bytes()
    monkeypatch.setattr(images, "MNIST_SHA256", hashlib.sha256(content).hexdigest())
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
