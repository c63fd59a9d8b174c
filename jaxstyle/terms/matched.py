"""Style by features of the painting that replace those of the content."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxstyle import losses
from jaxstyle.checks import as_integer, as_number, sum_dtype
from jaxstyle.laplacian import unfold
from jaxstyle.terms.protocol import (
    Features,
    PositionWeights,
    Shares,
    TargetImage,
    Term,
    check_flag,
    check_layer_names,
    weight_of,
)

_HYPERCOLUMN_LAYERS = (
    "relu1_1",
    "relu1_2",
    "relu2_1",
    "relu2_2",
    "relu3_1",
    "relu3_2",
    "relu3_3",
    "relu4_1",
    "relu4_2",
    "relu4_3",
)


class Candidates(NamedTuple):
    """Hypercolumns of a style, which those of the image may be compared with."""

    rows: Mapping[str, jax.Array]
    """Layer -> `(M, c)`, its features at the positions of the grid."""
    weight: jax.Array
    """`(M, 1)`, the weight of each in its style's mask."""


class Mixture(NamedTuple):
    """The styles that the positions of a picture, or of a region of it, are shared out among."""

    styles: tuple[Candidates, ...]
    shares: jax.Array
    """`(S,)`, the share of each style of the positions."""


class Matched(NamedTuple):
    """The target of `MatchedStyle`."""

    rows: jax.Array
    """`(M, C)`, hypercolumns of the styles."""
    scale: jax.Array
    """`(C,)`, what features are multiplied by."""
    chosen: Mapping[str, jax.Array]
    """Layer of the grid -> `(h, w, 1)` int32, the row that belongs to each position."""


@dataclasses.dataclass(frozen=True)
class MatchedStyle(Term):
    """Cosine distance of each position from a hypercolumn of the styles, chosen once at each size.

    Kolkin et al., "Neural Neighbor Style Transfer", 2022: at the beginning of each size the picture
    so far and the content are mixed, and each position of the mixture is matched with the most
    similar one of the styles, by the cosine of centered hypercolumns. What the image is compared
    with is then fixed, as for a content term. So the structure is the content's, and all features
    are the painting's.

    A hypercolumn has the features of all layers at one position of the grid. Each layer is divided
    by its number of channels, and by the mean of the styles' features, so that no layer counts more
    because of the network's weights. Finer layers have the means of their positions there, coarser
    ones are interpolated bilinearly. (The authors' program picks single positions of finer layers,
    and does not divide by means, which are about 1 with torchvision's weights.)

    With several styles, each has its share of the positions: those where its most similar
    hypercolumn is most ahead of those of the other styles. (First those of the first style are
    chosen, then those of the second among the rest, and so on.)

    Attributes:
        layers: layers of a hypercolumn.
        grid: the one of them whose positions are compared.
        style_samples: positions of each style, and of each of its rotations, at most. The positions
            of a larger style are thinned out evenly.
        alpha: share of the content in the mixture. The less, the more the style of smaller sizes
            decides what is chosen.
        rotations: whether the styles also count turned by 90, 180 and 270 degrees.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = _HYPERCOLUMN_LAYERS
    grid: str = "relu3_1"
    style_samples: int = 16384
    alpha: float = 0.75
    rotations: bool = False
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_layer_names(self)
        if self.grid not in self.layers:
            raise ValueError(f"grid {self.grid!r} is none of the layers {', '.join(self.layers)}")
        if as_integer(self.style_samples, "style_samples") < 1:
            raise ValueError(f"style_samples must be positive, not {self.style_samples}")
        if not 0 <= as_number(self.alpha, "alpha") <= 1:
            raise ValueError(f"alpha must be from 0 to 1, not {self.alpha}")
        check_flag("rotations", self.rotations)

    def statistics(
        self, features: Features, target: Matched, weight: PositionWeights
    ) -> tuple[jax.Array, jax.Array]:
        """Returns (sum of distances, sum of weights), both `()`."""
        if not isinstance(target, Matched):
            raise ValueError(f"the target of {self.name} must be what prepare_targets returns")
        own = hypercolumns(self, at_grid(self, features)) * target.scale
        index = target.chosen[self.grid][..., 0]
        rows = own.reshape(-1, own.shape[-1])
        distances = losses.cosine_distances(rows, target.rows[index.reshape(-1)])
        positions = weight_of(weight, self.grid, own)
        if positions is None:
            positions = jnp.ones(own.shape[:2], own.dtype)
        return jnp.sum(distances * positions.reshape(-1)), jnp.sum(positions)

    def loss(self, statistics: tuple[jax.Array, jax.Array], target: Any) -> jax.Array:
        """Returns the mean distance, `()`."""
        del target
        total, number = statistics
        return total / jnp.maximum(number, 1e-6)

    def target(self, statistics: Sequence[Candidates], shares: Shares) -> Mixture:
        """Returns the hypercolumns of all styles; `prepare_targets` chooses among them.

        The shares are those of the grid's layer: a hypercolumn is of one style.
        """
        return Mixture(tuple(statistics), shares[self.grid])


def at_grid(term: MatchedStyle, features: Features, *, wraps: bool = False) -> dict[str, jax.Array]:
    """Returns layer -> `(h, w, c)`, its features at the positions of the grid.

    Features that are at the grid already stay as they are. Where an image `wraps`, coarser layers
    are interpolated across its opposite edges.
    """
    shape = features[term.grid].shape[:2]
    dtype = sum_dtype(*(features[layer] for layer in term.layers))
    return {layer: _at_grid(features[layer].astype(dtype), shape, wraps) for layer in term.layers}


def hypercolumns(term: MatchedStyle, layers: Mapping[str, jax.Array]) -> jax.Array:
    """Returns `(.., C)` of layer -> `(.., c)`."""
    return jnp.concatenate([layers[layer] for layer in term.layers], axis=-1)


def mixture(
    term: MatchedStyle, content: jax.Array, start: jax.Array | None, *, wraps: bool = False
) -> jax.Array:
    """Returns the picture `(H, W, 3)` whose positions are matched with the styles'.

    `start` is the picture so far, which gets the content's finest detail; None for none: the
    mixture is the content. Where the content `wraps`, so does its detail.
    """
    if start is None:
        return content
    border = 2 if wraps else 0  # even, and more than a pixel of detail is made of
    around = jnp.pad(content, ((border, border), (border, border), (0, 0)), mode="wrap")
    detail, *_ = (*unfold(around, 1)[:-1], jnp.zeros_like(around))
    height, width, _ = content.shape
    detail = detail[border : border + height, border : border + width]
    return (1 - term.alpha) * (start + detail) + term.alpha * content


def _at_grid(maps: jax.Array, shape: tuple[int, ...], wraps: bool) -> jax.Array:
    """Brings `(h, w, c)`, of a finer or coarser layer, to the positions of the grid, `(h, w)`."""
    while maps.shape[0] > shape[0]:
        height, width = (n // 2 * 2 for n in maps.shape[:2])
        blocks = maps[:height, :width].reshape(height // 2, 2, width // 2, 2, -1)
        maps = blocks.mean((1, 3))
    chain = [shape]
    while chain[-1][0] > maps.shape[0]:
        chain.append((chain[-1][0] // 2, chain[-1][1] // 2))
    for height, width in chain[-2::-1]:
        maps = _double(_double(maps, height, wraps).swapaxes(0, 1), width, wraps).swapaxes(0, 1)
    if maps.shape[:2] != shape:
        raise ValueError("layers of a hypercolumn must be halved from one to the next")
    return maps


def _double(maps: jax.Array, length: int, wraps: bool) -> jax.Array:
    """Interpolates `(n, m, c)` to `(2 n, m, c)` bilinearly; an odd length repeats the last.

    Beyond the first position is the first one again, or the last one where the picture `wraps`.
    """
    first, last = (maps[-1:], maps[:1]) if wraps else (maps[:1], maps[-1:])
    before, after = jnp.concatenate([first, maps[:-1]]), jnp.concatenate([maps[1:], last])
    both = jnp.stack([0.25 * before + 0.75 * maps, 0.75 * maps + 0.25 * after], axis=1)
    doubled = both.reshape(-1, *maps.shape[1:])
    return jnp.concatenate([doubled, maps[-1:]]) if length % 2 else doubled
