"""The inputs of a run: pictures, masks and network weights, and whether they fit into memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxstyle.app.available_memory import available_memory
from jaxstyle.app.console import print_message
from jaxstyle.app.job import Job
from jaxstyle.app.memory_estimate import (
    can_be_tiled,
    check_memory,
    choose_tile,
    format_memory,
)
from jaxstyle.app.vgg import vgg_of
from jaxstyle.app.working_size import crop, cropped_shape, pad, padded_shape
from jaxstyle.io import InputError, load_image
from jaxstyle.io.files import describe_path
from jaxstyle.io.network_weights.load import load_params_and_info
from jaxstyle.problem import Problem
from jaxstyle.sharding import splits_columns
from jaxstyle.terms.protocol import layers_of


class Pictures(NamedTuple):
    """The pictures of a run, `(H, W, 3)` in [0, 1]; masks are `(H, W)`."""

    content: np.ndarray  # zeros for a texture
    styles: Sequence[np.ndarray]
    masks: np.ndarray | None  # one for each style
    style_masks: Sequence[np.ndarray] | None
    init: Any  # a picture or a name


class Loaded(NamedTuple):
    """All inputs of a run."""

    pictures: Pictures
    params: Any
    weights: dict[str, Any]
    """Source and hash of the network weights."""
    shape: tuple[int, int]
    """`(H, W)` of the result: the content's, without padding."""


def load(job: Job) -> Loaded:
    """Reads all files that `job` names.

    Raises:
        InputError: if a file cannot be read, or the pictures do not fit each other.
    """
    content, styles, init = _load_images(job)
    masks, style_masks = _load_masks(job, content, styles)
    preprocessing = vgg_of(job.recipe).preprocessing
    params, info = load_params_and_info(job.params, preprocessing=preprocessing)
    pictures = _at_working_size(Pictures(content, styles, masks, style_masks, init), job)
    weights = {"source": info.source, "sha256": info.sha256}
    return Loaded(pictures, params, weights, (content.shape[0], content.shape[1]))


def _at_working_size(pictures: Pictures, job: Job) -> Pictures:
    """Pads and crops pictures as a batch does, to repaint a picture that came from one."""
    if job.multiple_of == 1:
        return pictures
    content, styles, masks, style_masks, init = pictures
    shape = padded_shape(content.shape, job.multiple_of)
    return Pictures(
        pad(content, shape),
        tuple(crop(style, cropped_shape(style.shape, job.multiple_of)) for style in styles),
        None if masks is None else np.stack([pad(mask, shape) for mask in masks]),
        style_masks,  # a batch has neither style masks nor a picture to start from
        init,
    )


def _load_images(job: Job) -> tuple[np.ndarray, tuple[np.ndarray, ...], Any]:
    styles = tuple(_load(job, path, "style", job.style_size) for path in job.styles)
    init: Any = job.init
    named = job.init_picture is None
    if not named:
        if not Path(init).suffix and not Path(init).exists():
            raise InputError(f"--init {init}: choose from content, noise and mean, or name a file")
        init = load_image(init, size=job.size)
    if job.content is not None:
        content = _load(job, job.content, "content", job.size)
    else:
        # Only its size is used. For a texture, the size of the style is as good as any.
        content = np.zeros_like(_load(job, job.styles[0], "content", job.size) if named else init)
    check_size(job, "init", job.init, content.shape)
    if not named and init.shape != content.shape:
        raise InputError(
            f"--init {job.init} has another aspect ratio than the content: "
            f"{init.shape[1]}x{init.shape[0]} px instead of "
            f"{content.shape[1]}x{content.shape[0]}; crop it, or start from content or noise"
        )
    return content, styles, init


def _load_masks(
    job: Job, content: np.ndarray, styles: Sequence[np.ndarray]
) -> tuple[np.ndarray | None, tuple[np.ndarray, ...] | None]:
    masks = [load_mask("--mask", path, content) for path in job.masks]
    of_styles = tuple(
        load_mask("--style-mask", path, style)
        for path, style in zip(job.style_masks, styles)  # noqa: B905  none, or one each
    )
    return np.stack(masks) if masks else None, of_styles or None


def load_mask(option: str, path: Path, image: np.ndarray) -> np.ndarray:
    """Reads a mask, `(H, W)` in [0, 1], for an image `(H, W, 3)`; transparency counts as black.

    Raises:
        InputError: if it cannot be read, has another aspect ratio, or is all black.
    """
    mask = load_image(path, size=max(image.shape[:2]), background=0.0).mean(-1)
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"{option} {path} has another aspect ratio than its picture: {mask.shape[1]}x"
            f"{mask.shape[0]} px instead of {image.shape[1]}x{image.shape[0]}; crop it"
        )
    if not mask.max() > 0:
        raise InputError(f"{option} {path} is all black: paint its region white")
    if mask.min() == 1:
        print_message(f"{option} {describe_path(path)} is all white: it selects the whole picture")
    return mask


def _load(job: Job, path: Path, source: str, size: int) -> np.ndarray:
    image = load_image(path, size=size)
    check_size(job, source, path, image.shape)
    return image


def check_size(job: Job, source: str, path: object, shape: Sequence[int]) -> None:
    """Checks that a picture is large enough for the layers that see it.

    Args:
        job: with the recipe.
        source: content, style or init.
        path: of the picture, for the message.
        shape: `(H, W, ...)`, that it is used at.

    Raises:
        InputError: if it is too small.
    """
    # The image that is optimized has the content's size and passes all layers.
    terms = [term for term in job.recipe.terms if source != "style" or term.target_image == source]
    scaled = " times --style-scale" if source == "style" and job.style_scale != 1 else ""
    require_size(
        f"{source} {path}",
        shape,
        job.recipe.network.minimum_size(layers_of(terms)),
        f"--size {job.size}{scaled}",
        f"recipe {job.recipe.name} needs",
    )


def require_size(picture: str, shape: Sequence[int], minimum: int, size: str, needing: str) -> None:
    """Refuses a picture of a short edge below `minimum` pixels.

    Args:
        picture: what it is, for the message, like `size`, which it was read with, and `needing`.
        shape: `(H, W, ...)`.
        minimum: pixels.
        size: see above.
        needing: see above.

    Raises:
        InputError: if it is too small.
    """
    if min(shape[:2]) < minimum:
        raise InputError(
            f"{picture} is {shape[1]}x{shape[0]} px at {size}; {needing} at least {minimum} px on "
            "the short edge: use a larger --size or a less narrow image"
        )


def fit_memory(
    job: Job, content: np.ndarray, styles: Sequence[np.ndarray], mesh: Mesh | None
) -> int | None:
    """Returns the tile of the job, or else the one that memory requires; None for no tiles.

    Raises:
        InputError: if the picture does not fit into memory, or cannot be split over the devices.
    """
    recipe = job.recipe
    height, width, _ = content.shape
    budget = available_memory() if job.memory is None else job.memory
    shapes = [style.shape for style in styles]
    longest = max(height, width, *(edge for shape in shapes for edge in shape[:2]))
    if job.tile is not None and job.tile < longest and not can_be_tiled(recipe):
        raise InputError(
            f"--tile: recipe {recipe.name} has a term that is not a sum over positions"
        )
    if mesh is not None:
        if recipe.solver.on_host:
            raise InputError(
                f"recipe {recipe.name} runs on the host: leave out --shard and --devices"
            )
        try:
            stride = Problem(recipe.network, recipe.terms).stride
            splits_columns(content.shape, mesh, stride)
        except ValueError as error:
            raise InputError(f"{error}; use another --size or fewer --devices") from None
        part = -(-height // mesh.size)
        check_memory(recipe, part, width, budget)
        return job.tile
    if job.tile is not None:
        check_memory(recipe, height, width, budget, tile=job.tile, style_shapes=shapes)
        return job.tile
    tile = choose_tile(recipe, height, width, budget, style_shapes=shapes)
    if tile is not None and not job.quiet:
        print_message(
            f"{width}x{height} px at once do not fit into {format_memory(budget)}: computing in "
            f"windows of {tile} px, which gives the same picture"
        )
    return tile
