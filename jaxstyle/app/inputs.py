"""The inputs of a run: pictures, masks and network weights, and whether they fit into memory."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxstyle.app.available_memory import available_memory
from jaxstyle.app.console import print_message
from jaxstyle.app.job import Job
from jaxstyle.app.matching import load_mask, load_start
from jaxstyle.app.memory_estimate import (
    can_be_tiled,
    check_memory,
    choose_tile,
    format_memory,
)
from jaxstyle.app.vgg import vgg_of
from jaxstyle.app.working_size import crop, cropped_shape, pad, padded_shape
from jaxstyle.io import InputError
from jaxstyle.io.files import describe_path
from jaxstyle.io.images import Picture, read_picture
from jaxstyle.io.locations import Location
from jaxstyle.io.network_weights.load import load_params_and_info
from jaxstyle.problem import Problem
from jaxstyle.sharding import splits_columns
from jaxstyle.terms.protocol import layers_of


class Pictures(NamedTuple):
    """The pictures of a run, `(H, W, 3)` in [0, 1]; masks are `(H, W)`."""

    content: np.ndarray  # zeros for a texture
    styles: Sequence[np.ndarray]
    masks: np.ndarray | None  # one for each style, or one for all
    style_masks: Sequence[np.ndarray | None] | None
    init: Any  # a picture or a name


class Loaded(NamedTuple):
    """All inputs of a run."""

    pictures: Pictures
    params: Any
    weights: dict[str, Any]
    """Source and hash of the network weights."""
    shape: tuple[int, int]
    """`(H, W)` of the result: the content's, without padding."""
    alpha: np.ndarray | None = None
    """`(H, W)`, the opacity of the result: the content's; None if it is 1 everywhere."""
    dpi: tuple[float, float] | None = None
    """The content's, which the result keeps."""


def load(job: Job) -> Loaded:
    """Reads all files that `job` names.

    Raises:
        InputError: if a file cannot be read, or the pictures do not fit each other.
    """
    styles = [read_source(job, path, "style", job.style_size) for path in job.styles]
    content, init = _load_content(job)
    masks, style_masks = load_masks(job, content, styles)
    preprocessing = vgg_of(job.recipe).preprocessing
    params, info = load_params_and_info(job.params, preprocessing=preprocessing)
    images = tuple(style.image for style in styles)
    pictures = _at_working_size(Pictures(content.image, images, masks, style_masks, init), job)
    weights = {"source": info.source, "sha256": info.sha256}
    shape = (content.image.shape[0], content.image.shape[1])
    return Loaded(pictures, params, weights, shape, content.alpha, content.dpi)


def _at_working_size(pictures: Pictures, job: Job) -> Pictures:
    """Pads and crops pictures as a batch does, to repaint a picture that came from one."""
    if job.multiple_of == 1:
        return pictures
    content, styles, masks, style_masks, init = pictures
    shape = padded_shape(content.shape, job.multiple_of)
    of_styles = [cropped_shape(style.shape, job.multiple_of) for style in styles]
    return Pictures(
        pad(content, shape),
        tuple(crop(style, own) for style, own in zip(styles, of_styles, strict=True)),
        None if masks is None else np.stack([pad(mask, shape) for mask in masks]),
        crop_masks(style_masks, of_styles),
        init,  # a batch has no picture to start from
    )


def crop_masks(
    style_masks: Sequence[np.ndarray | None] | None, shapes: Sequence[tuple[int, int]]
) -> Sequence[np.ndarray | None] | None:
    """Crops the masks of styles like the styles."""
    if style_masks is None:
        return None
    pairs = zip(style_masks, shapes, strict=True)
    return tuple(None if mask is None else crop(mask, shape) for mask, shape in pairs)


def _load_content(job: Job) -> tuple[Picture, Any]:
    """Returns the content, and the picture or the name to start from."""
    init: Any = job.init
    if job.init_picture is None:
        # For a texture only its size is used. That of the style is as good as any.
        path = job.content or job.styles[0]
        content = read_source(job, path, "content", job.size)
        if job.content is None and job.recipe.network.wraps:  # a tile, which is square
            content = Picture(np.zeros((job.size, job.size, 3), np.float32), None, None)
    elif not job.init_picture.suffix and not job.init_picture.exists():
        choices = "content, noise, mean and detail"
        raise InputError(f"--init {job.init}: choose from {choices}, or name a file")
    elif job.content is None:
        content = read_picture(job.init_picture, size=job.size)
        init = content.image
    else:
        content = read_source(job, job.content, "content", job.size)
        init = load_start(job.init_picture, content)
    check_size(job, "init", job.init, content.image.shape)
    if job.content is None:
        content = Picture(np.zeros_like(content.image), None, None)
    return content, init


def load_masks(
    job: Job, content: Picture, styles: Sequence[Picture]
) -> tuple[np.ndarray | None, Sequence[np.ndarray | None] | None]:
    """Returns the regions of the content and of the styles: masks, without what is transparent.

    Raises:
        InputError: if a mask cannot be read, does not fit its picture, or is all black.
    """
    masks = None
    if job.masks:
        masks = np.stack([load_mask("--mask", path, content.image) for path in job.masks])
    if content.alpha is not None:  # without masks, one for all styles
        masks = content.alpha[None] * (1 if masks is None else masks)
        if not masks.max() > 0:
            raise InputError("--mask is white only where the content is transparent: paint it anew")
    of_styles = [style.alpha for style in styles]
    for index, path in enumerate(job.style_masks):
        mask, alpha = load_mask("--style-mask", path, styles[index].image), of_styles[index]
        region = mask if alpha is None else mask * alpha
        if not region.max() > 0:
            raise InputError(
                f"--style-mask {describe_path(path)} is white only where its style is transparent: "
                "paint it anew"
            )
        of_styles[index] = region
    return masks, None if all(mask is None for mask in of_styles) else of_styles


def read_source(
    job: Job,
    path: Location,
    source: str,
    size: int,
    read: Callable[..., Picture] = read_picture,
) -> Picture:
    """Reads a content or a style, named by `source`, with a long edge of `size`.

    Raises:
        InputError: if it cannot be read, is too small, or nothing of it can be seen.
    """
    picture = read(path, size=size)
    check_size(job, source, path, picture.image.shape)
    if picture.alpha is not None and not picture.alpha.max() > 0:
        raise InputError(
            f"{source} {describe_path(path)} is transparent everywhere, which leaves nothing to "
            "paint; save it without its alpha channel"
        )
    return picture


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
