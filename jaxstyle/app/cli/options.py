"""The options that commands share, in the groups that their help shows.

A group's title is the name of the parameter that holds it.
"""

import dataclasses
from typing import Annotated, Literal

import tyro

_Settings = Annotated[tuple[str, ...], tyro.conf.arg(name="set")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """What the picture looks like.

    Attributes:
        recipe: A recipe that `jaxstyle recipes` lists, or a file.
        settings: Override settings of the recipe; see `jaxstyle recipes NAME`.
        weights: Override loss weights, such as style=2; 0 removes a term.
        style_scale: Size of the painting over --size; above 1: larger strokes.
        color: luminance: photo's colors; recolor: its hues [the recipe's].
        strength: From the photo, 0, to the result, 1, and beyond [the recipe's].
        seed: Random seed of noise and positions; changes strokes.
    """

    recipe: str = "default"
    settings: _Settings = ()
    weights: tuple[str, ...] = ()
    style_scale: float = 1.0
    color: Literal["style", "luminance", "match", "recolor"] | None = None
    strength: float | None = None
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """How large the picture is, and how long it takes.

    Attributes:
        size: Long edge in pixels; original: the photo's [the recipe's].
        steps: Maximum number of solver steps at each size [the recipe's].
        coarsest: First size, from coarse to fine; 0 disables it [the recipe's].
        precision: Of the network; lower is faster on some devices.
    """

    size: int | Literal["original"] | None = None
    steps: int | None = None
    coarsest: int | None = None
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """What the run computes with.

    Attributes:
        params: Network weights in any format `weights convert` reads [cached].
        memory: Memory limit, such as 4GB [what is available].
        devices: Number of devices.
    """

    params: str | None = None
    memory: str | None = None
    devices: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Messages:
    """What the run prints.

    Attributes:
        progress: A bar, lines, or for scripts JSON Lines on stdout.
        quiet: Print errors and warnings only.
    """

    progress: Literal["auto", "plain", "json"] = "auto"
    quiet: bool = False
