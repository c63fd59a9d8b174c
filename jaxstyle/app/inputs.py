"""What a run reads: pictures, masks, and the network's weights; and how it fits into memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxstyle.app.job import Job, say
from jaxstyle.app.memory import (
    available_memory,
    can_be_tiled,
    check_memory,
    choose_tile,
    format_memory,
)
from jaxstyle.app.pages.run_page import Pictures
from jaxstyle.app.vgg import vgg_of
from jaxstyle.app.working_size import crop, cropped, extend, extended
from jaxstyle.io import InputError, load_image
from jaxstyle.io.files import describe_path
from jaxstyle.io.network_weights.load import load_params_and_info
from jaxstyle.problem import Problem
from jaxstyle.sharding import splits_columns
from jaxstyle.solvers import ScipyLBFGSB
from jaxstyle.terms.protocol import layers_of


class Loaded(NamedTuple):
    """What a run works on."""

    pictures: Pictures
    params: Any
    weights: dict[str, Any]
    """Source and hash of the network's."""
    shape: tuple[int, int]
    """Of the result: the content's, without what its working size adds."""


def load(job: Job) -> Loaded:
    """Reads all that `job` names.

    Raises:
        InputError: if something is wrong with it.
    """
    content, styles, init = _load_images(job)
    masks, style_masks = _load_masks(job, content, styles)
    preprocessing = vgg_of(job.recipe).preprocessing
    params, info = load_params_and_info(job.params, preprocessing=preprocessing)
    pictures = _at_working_size(Pictures(content, styles, masks, style_masks, init), job)
    weights = {"source": info.source, "sha256": info.sha256}
    return Loaded(pictures, params, weights, (content.shape[0], content.shape[1]))


def _at_working_size(pictures: Pictures, job: Job) -> Pictures:
    """Extends and crops pictures as a batch does, for a picture of one that is painted again."""
    if job.multiple_of == 1:
        return pictures
    content, styles, masks, style_masks, init = pictures
    shape = extended(content.shape, job.multiple_of)
    return Pictures(
        extend(content, shape),
        tuple(crop(style, cropped(style.shape, job.multiple_of)) for style in styles),
        None if masks is None else np.stack([extend(mask, shape) for mask in masks]),
        style_masks,  # a batch has none, nor a picture to start from
        init,
    )


def _load_images(job: Job) -> tuple[np.ndarray, tuple[np.ndarray, ...], Any]:
    style_size = max(round(job.size * job.style_scale), 1)
    styles = tuple(_load(job, path, "style", style_size) for path in job.styles)
    init: Any = job.init
    named = init in ("content", "noise", "mean")
    if not named:
        init = load_image(init, size=job.size)
    if job.content is not None:
        content = _load(job, job.content, "content", job.size)
    else:
        # Nothing reads it but for its size: that of the style, which for a texture is as good.
        content = np.zeros_like(_load(job, job.styles[0], "content", job.size) if named else init)
    _check_size(job, "init", job.init, content.shape)
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
    """Reads a mask, `(H, W)` in [0, 1], for an image of `(H, W, 3)`; transparent is outside.

    Raises:
        InputError: if it cannot be read, has another aspect ratio, or is black all over.
    """
    mask = load_image(path, size=max(image.shape[:2]), background=0.0).mean(-1)
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"{option} {path} has another aspect ratio than its picture: {mask.shape[1]}x"
            f"{mask.shape[0]} px instead of {image.shape[1]}x{image.shape[0]}; crop it"
        )
    if not mask.max() > 0:
        raise InputError(f"{option} {path} is black all over: paint its region white")
    if mask.min() == 1:
        say(f"{option} {describe_path(path)} is white all over: it keeps the whole picture")
    return mask


def _load(job: Job, path: Path, source: str, size: int) -> np.ndarray:
    image = load_image(path, size=size)
    _check_size(job, source, path, image.shape)
    return image


def _check_size(job: Job, source: str, path: object, shape: Sequence[int]) -> None:
    layers = layers_of(term for term in job.recipe.terms if term.target_image == source)
    # The image that is optimised has the content's size, and passes all layers.
    layers = layers if source == "style" else layers_of(job.recipe.terms)
    minimum = job.recipe.network.minimum_size(layers)
    if min(shape[:2]) < minimum:
        scaled = " times --style-scale" if source == "style" and job.style_scale != 1 else ""
        raise InputError(
            f"{source} {path} is {shape[1]}x{shape[0]} px at --size {job.size}"
            f"{scaled}; recipe {job.recipe.name} needs at least {minimum} px on the short edge: "
            "use a larger --size or a less narrow image"
        )


def fit_memory(
    job: Job, content: np.ndarray, styles: Sequence[np.ndarray], mesh: Mesh | None
) -> int | None:
    """Returns the tile that is given, or the one that it takes, if any.

    Raises:
        InputError: if the picture does not fit into memory, or over the devices.
    """
    recipe = job.recipe
    height, width, _ = content.shape
    budget = available_memory() if job.memory is None else job.memory
    shapes = [style.shape for style in styles]
    longest = max(height, width, *(edge for shape in shapes for edge in shape[:2]))
    if job.tile is not None and job.tile < longest and not can_be_tiled(recipe):
        raise InputError(f"--tile: recipe {recipe.name} has a term that is no sum over positions")
    if mesh is not None:
        if isinstance(recipe.solver, ScipyLBFGSB):
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
        say(
            f"{width}x{height} px at once are too much for {format_memory(budget)}: computing in "
            f"windows of {tile} px, which gives the same picture"
        )
    return tile
