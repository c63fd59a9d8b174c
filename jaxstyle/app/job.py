"""`Job`, the settings of a run, and how the texts of a command line or manifest are parsed."""

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxstyle.app.loss_weights import parse_style_weights, with_weights
from jaxstyle.app.vgg import vgg_of
from jaxstyle.app.working_size import size_in_pixels
from jaxstyle.io import InputError, describe_recipe, read_recipe
from jaxstyle.io.errors import check_positive, closest, count
from jaxstyle.io.locations import URL, Location
from jaxstyle.io.recipe_codec import override
from jaxstyle.pyramid import Pyramid
from jaxstyle.recipe import MOST, Recipe
from jaxstyle.recipes import RECIPES

MAXIMUM_STEPS = 10**6  # at each size; the JSON has a line for each, and its trace is in memory


@dataclasses.dataclass(frozen=True)
class Job:
    """The settings of a run. Its paths are not validated yet."""

    content: Location | None
    styles: tuple[Location, ...]
    output: Location
    recipe: Recipe
    size: int
    init: str | URL  # content, noise, mean, detail, or where a picture is
    seed: int
    style_weights: Mapping[str, tuple[float, ...]] | tuple[float, ...] | None
    style_scale: float
    masks: tuple[Location, ...]
    style_masks: tuple[Location, ...]
    params: Path | None
    precision: str  # float32, tf32 or bfloat16
    recipe_file: Location | None = None  # the recipe was read from it
    multiple_of: int = 1  # pixels, see `working_size`
    tile: int | None = None
    memory: float | None = None  # bytes
    shard: str | None = None  # rows
    devices: int | None = None
    stdin: Path | None = None  # a temporary file of what stdin holds
    preview_every: int | None = None
    checkpoint: Path | None = None
    plot: bool = False
    report: Location | None = None  # a folder
    bits: int = 8  # of each color of the picture
    overwrite: bool = False  # files that jaxstyle did not write
    command: str = ""  # makes the picture again
    progress: str = "auto"  # plain, json
    quiet: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What the picture depends on, besides its sources and the network weights, for JSON."""
        return {
            "recipe": describe_recipe(self.recipe),
            "size": self.size,
            "init": str(self.init),
            "seed": self.seed,
            "style_weights": self.style_weights,
            "style_scale": self.style_scale,
            "precision": self.precision,
            "multiple_of": self.multiple_of,
            **({} if self.bits == 8 else {"bits": self.bits}),
        }

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that change the picture: no prose and no paths, as read back from JSON."""
        settings = self.settings
        unused = ("name", "source", "description", "size", "init")  # the job has its own
        settings["recipe"] = {k: v for k, v in settings["recipe"].items() if k not in unused}
        if self.init_picture is not None:
            settings["init"] = "picture"
        roles = [self.content is not None, len(self.styles), len(self.masks), len(self.style_masks)]
        return dict(json.loads(json.dumps({**settings, "pictures": roles})))

    @property
    def style_size(self) -> int:
        """Long edge of the styles, in pixels."""
        return max(round(self.size * self.style_scale), 1)

    @property
    def init_picture(self) -> Location | None:
        """The picture to start from; None for a start that has a name."""
        named = self.init in ("content", "noise", "mean", "detail")
        return None if named else _location(self.init)

    @property
    def pictures(self) -> list[Location]:
        """All pictures that are read."""
        paths = [self.content, *self.styles, *self.masks, *self.style_masks, self.init_picture]
        return [path for path in paths if path is not None]

    @property
    def sources(self) -> list[Location]:
        """All files that are read."""
        files = (self.params, self.recipe_file)
        return [*self.pictures, *(path for path in files if path is not None)]

    @property
    def is_stdout(self) -> bool:
        """Whether the picture goes to stdout, as PNG and without its JSON."""
        return str(self.output) == "-"

    @property
    def metadata_path(self) -> Location:
        """The JSON next to the output."""
        return self.output.with_suffix(".json")

    @property
    def plot_path(self) -> Location:
        """The loss curve next to the output."""
        return self.output.with_name(f"{self.output.stem}-loss.png")

    def preview_path(self, step: int) -> Location:
        """A preview next to the output."""
        return self.output.with_name(f"{self.output.stem}-{step:04d}{self.output.suffix}")


def make_job(
    *,
    content: str | Location | None,
    style: Sequence[str | Location],
    output: str | Location,
    recipe: str | URL,
    settings: Sequence[str] = (),
    size: int | str | None = None,
    steps: int | None = None,
    coarsest: int | None = None,
    init: str | URL | None = None,
    seed: int = 0,
    precision: str = "float32",
    weights: Sequence[str] = (),
    style_weights: Sequence[float] = (),
    layer_style_weights: Sequence[str] = (),
    style_scale: float = 1.0,
    color: str | None = None,
    strength: float | None = None,
    mask: Sequence[str | Location] = (),
    style_mask: Sequence[str | Location] = (),
    params: str | None = None,
    **others: Any,
) -> Job:
    """Makes a job from options of `jaxstyle stylize`; `others` are further fields of `Job`.

    Raises:
        InputError: if options are wrong or contradict each other. Of the pictures, only the one
            that `original` stands for the size of is read.
    """
    if size != "original":
        check_positive("--size", size)  # type: ignore[arg-type]
    chosen = with_weights(_recipe(recipe, tuple(settings)), weights)
    chosen = with_settings(chosen, steps, coarsest, precision, color, strength)
    init = chosen.init if init is None else init
    check_settings(
        chosen,
        content,
        style,
        init=init,
        seed=seed,
        style_weights=style_weights,
        style_scale=style_scale,
        masks=mask,
        style_masks=style_mask,
    )
    shares = parse_style_weights(layer_style_weights, tuple(style_weights), chosen, len(style))
    if mask and isinstance(shares, Mapping):
        raise InputError("--layer-style-weights mix styles, which --mask keeps apart: give one")
    return Job(
        content=_location(content) if content else None,
        styles=tuple(map(_location, style)),
        output=output_path(output),
        recipe=chosen,
        size=size_in_pixels(size or chosen.size, [*([content] if content else []), *style]),
        init=init,
        seed=seed,
        style_weights=shares,
        style_scale=style_scale,
        masks=tuple(map(_location, mask)),
        style_masks=tuple(map(_location, style_mask)),
        params=Path(params) if params else None,
        precision=precision,
        recipe_file=_location(recipe) if is_file_name(str(recipe)) else None,
        **others,
    )


def _location(text: str | Location) -> Location:
    """Returns where a file is. A text is a path, whatever it says: only `locate` makes a `URL`."""
    return text if isinstance(text, URL | Path) else Path(text)


def output_path(text: str | Location) -> Location:
    """Returns the path of an output; only `-` itself is stdout, `./-` is a file."""
    if isinstance(text, URL):
        return text
    path = Path(text)
    return path.absolute() if path == Path("-") and text != "-" else path


def _recipe(name: str | URL, settings: tuple[str, ...]) -> Recipe:
    version = None  # of a file: it may be replaced by another one with the same name
    if is_file_name(str(name)):
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(name)
            version = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return _read_recipe(name, settings, version)


# Ten thousand rows of a manifest name only a few recipes.
@functools.lru_cache(maxsize=256)
def _read_recipe(name: str | URL, settings: tuple[str, ...], version: object) -> Recipe:
    del version
    recipe = find_recipe(name)
    return override(recipe, settings) if settings else recipe


def is_file_name(recipe: str) -> bool:
    """Whether `recipe` is the name of a file."""
    return recipe.lower().endswith((".json", ".toml"))


def find_recipe(name: str | URL) -> Recipe:
    """Returns a recipe by its name, or reads it from a file.

    Raises:
        InputError: if there is no such recipe.
    """
    if isinstance(name, URL) or is_file_name(name):
        return read_recipe(name)
    if name not in RECIPES:
        raise InputError(
            f"unknown recipe {name!r}: choose from {', '.join(RECIPES)}, or give a .json or .toml "
            f"file{closest(name, RECIPES)}"
        )
    return RECIPES[name]


def check_settings(
    recipe: Recipe,
    content: object,
    style: Sequence[object],
    *,
    init: str | URL,
    seed: int,
    style_weights: Sequence[float],
    style_scale: float,
    masks: Sequence[object],
    style_masks: Sequence[object],
) -> None:
    """Validates the settings of a job that depend on each other or have a range.

    Raises:
        InputError: if they are out of range or contradict each other.
    """
    pyramid = recipe.pyramid
    others = () if pyramid is None else (*pyramid.steps, pyramid.finish)
    steps = max(recipe.solver.num_steps, *others, 1)
    if steps > MAXIMUM_STEPS:
        raise InputError(f"--steps {steps}: give at most {MAXIMUM_STEPS}")
    sources = {term.target_image for term in recipe.terms}
    if not style and "style" in sources:
        raise InputError("--style is missing: give both --content and --style, or none")
    if not content and ("content" in sources or init in ("content", "detail")):
        raise InputError(
            "--content is missing: give both --content and --style, or none; or, for a texture, "
            "--loss-weights content=0 --init noise"
        )
    if not content and recipe.color != "style":
        raise InputError(f"--color {recipe.color} needs a --content")
    if not content and recipe.strength != 1:
        raise InputError(
            f"--strength {recipe.strength:g} needs a --content: a texture has no photo that it "
            "could be nearer to"
        )
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise InputError(f"--seed {seed!r:.90}: give a whole number from 0 to 2^32 - 1")
    for option, pictures in (("--mask", masks), ("--style-mask", style_masks)):
        if pictures and len(pictures) != len(style):
            numbers = f"{count(len(pictures), 'picture')} for {count(len(style), 'style')}"
            raise InputError(f"{option} has {numbers}: give one for each style")
    if not 0.05 <= style_scale <= 20:
        raise InputError(f"--style-scale {style_scale}: give a number from 0.05 to 20")
    if style_weights and len(style_weights) != len(style):
        raise InputError(
            f"--style-weights has {len(style_weights)} numbers for {len(style)} styles"
        )
    if any(not weight >= 0 for weight in style_weights) or (
        style_weights and not 0 < sum(style_weights) < float("inf")
    ):
        raise InputError("--style-weights must be numbers of at least 0, not all of them 0")


def with_settings(
    recipe: Recipe,
    steps: int | None,
    coarsest: int | None,
    precision: str,
    color: Any = None,
    strength: float | None = None,
) -> Recipe:
    """Returns `recipe` with the settings that the command line overrides.

    Raises:
        InputError: if one of them is out of range.
    """
    check_positive("--steps", steps)
    if coarsest is not None and coarsest < 0:
        raise InputError(f"--coarsest {coarsest}: give a number of pixels, or 0 for none")
    strength = recipe.strength if strength is None else strength
    if not 0 <= strength <= MOST:
        raise InputError(
            f"--strength {strength}: give 0 for the photo, 1 for the result, or a number from 1 to "
            f"{MOST:g} to go beyond it"
        )
    pyramid, solver, network = recipe.pyramid, recipe.solver, vgg_of(recipe)
    if coarsest == 0 and pyramid is not None and (pyramid.finish or pyramid.weight_factors):
        pyramid = dataclasses.replace(pyramid, coarsest=2**31 - 1)  # its other settings stay
    elif coarsest == 0:
        pyramid = None
    elif coarsest is not None:
        pyramid = dataclasses.replace(pyramid or Pyramid(), coarsest=coarsest)
    if steps is not None:
        solver = dataclasses.replace(solver, num_steps=steps)
        if pyramid is not None:
            fewer = tuple(min(steps, each) for each in pyramid.steps)
            finish = min(steps, pyramid.finish)
            pyramid = dataclasses.replace(pyramid, steps=fewer, finish=finish)
    if precision == "bfloat16":
        network = network.clone(dtype=jnp.bfloat16)
    return dataclasses.replace(
        recipe,
        pyramid=pyramid,
        solver=solver,
        network=network,
        color=color or recipe.color,
        strength=strength,
    )
