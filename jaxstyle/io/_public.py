"""The public names of `jaxstyle.io`, which loads this module on the first use of one of them."""

from jaxstyle.io.errors import InputError, exit_on_input_error
from jaxstyle.io.files import check_target, write_atomically
from jaxstyle.io.image_writer import (
    check_extension,
    check_writable,
    contact_sheet,
    save_image,
)
from jaxstyle.io.images import SAMPLES, load_image, read_shape
from jaxstyle.io.json_file import write_json
from jaxstyle.io.network_weights.convert import convert
from jaxstyle.io.network_weights.fetch import fetch
from jaxstyle.io.network_weights.load import WeightsInfo, list_weights, load_params, verify
from jaxstyle.io.recipe_codec import build_recipe, describe_recipe, read_recipe
from jaxstyle.io.versions import describe_versions

__all__ = [
    "SAMPLES",
    "InputError",
    "WeightsInfo",
    "build_recipe",
    "check_extension",
    "check_target",
    "check_writable",
    "contact_sheet",
    "convert",
    "describe_recipe",
    "describe_versions",
    "exit_on_input_error",
    "fetch",
    "list_weights",
    "load_image",
    "load_params",
    "read_recipe",
    "read_shape",
    "save_image",
    "verify",
    "write_atomically",
    "write_json",
]
