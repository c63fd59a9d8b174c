"""Says what a file is that is not of a format that `formats` reads, and how to get one that is."""

from collections.abc import Iterator, Sequence

from jaxstyle.io.foreign import describe_foreign, kind_of

_KNOWN = (
    "give a Keras .h5, a torch .pth, a MatConvNet .mat, an .npz or a .safetensors file of VGG19"
)
_SAVE = "save its arrays with numpy.savez, named conv1_1.kernel, conv1_1.bias and so on"
# First bytes -> what it is, and the way out.
_HEADS = (
    (b"\x93NUMPY", f"a .npy file of NumPy, which runs code when it is loaded; {_SAVE}"),
    (b"MATLAB 7.3", "a MATLAB file of version 7.3; in MATLAB, save it with the option '-v7'"),
    (b"\x80", f"a Python pickle, which runs code when it is loaded; {_SAVE}"),
    (b"\x04\0\0\0\1\0\0\0", f"a .t7 file of Lua's Torch; {_KNOWN}"),
    (b"GGUF", f"a GGUF file; {_KNOWN}"),
)
_TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # the end of a LevelDB table


def describe_other(data: bytes) -> str:
    """Returns the message for a file of another format.

    Args:
        data: all of its bytes.
    """
    if foreign := describe_foreign(data[:512]):
        return f"it {foreign}"
    return next((f"it is {what}" for what in _guesses(data)), f"unknown format; {_KNOWN}")


def _guesses(data: bytes) -> Iterator[str]:
    yield from (what for head, what in _HEADS if data.startswith(head))
    start = data[: 2**16]
    if data.endswith(_TABLE):
        yield f"a checkpoint of TensorFlow; {_SAVE}"
    if data[:1] == b"\x08" and any(word in start for word in (b"onnx", b"pytorch", b"Conv")):
        yield f"an ONNX file; {_SAVE}"
    if data[:1] == b"\x0a" and (b"VGG" in start or b"conv1_1" in start):
        yield "a .caffemodel; Keras' file has the same weights: jaxstyle weights fetch"
    if data.lstrip()[:1] in (b"<", b"{", b"[") and data[:4096].isascii():
        yield "text, such as the message of a server, instead of weights; get it again"
    kind = kind_of(data[:512])
    if kind is not None and "text" not in kind:
        yield f"{kind}; {'unpack it first' if 'archive' in kind else 'get the weights again'}"


def describe_archive(names: Sequence[str]) -> str:
    """Returns the message for a zip archive that holds neither torch's nor NumPy's arrays."""
    if any(name.endswith("model.weights.h5") for name in names):
        return (
            "it is a .keras model; in Keras, run: numpy.savez('vgg19.npz', "
            "**{v.path: v.numpy() for v in model.variables})"
        )
    inside = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
    return f"it is a zip archive of {inside!r:.80}; unpack it, and give the file of weights in it"
