"""Terms of an objective: frozen, hashable values built on `losses`, without arrays.

A term is a scalar function of *sums over positions*. It says so in two pure methods:

- `statistics(features, target, weight)`: sums over positions, which add up over disjoint parts of
  an image; `weight` maps a layer to `(h, w)` weights per position, or is None for all ones;
- `loss(statistics, target)`: the scalar.

Beside them stand `name` (its key among weights and targets), `layers` (what it reads) and
`target_image`, which says what its target is: with `content`, the content's features, layer ->
`(h, w, c)`; with `style`, whatever its third method `target(statistics, shares)` makes of the
statistics of each style (taken with None for a target) and of each style's share, layer -> `(S,)`;
with None, None.

An optional `reach` says how many positions around each one `statistics` reads, for tiling; where
it is left out, neighbours are taken to be read.

A term of your own is any frozen dataclass with these; there is nothing to inherit from or to
register.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxstyle import losses
from jaxstyle.checks import as_factor, as_integer, as_number, sum_dtype
from jaxstyle.vgg import LAYERS

Features = Mapping[str, jax.Array]
"""Layer -> `(h, w, c)`."""
PositionWeights = Mapping[str, jax.Array] | None
"""Layer -> `(h, w)`, not negative; None for all ones."""
Shares = Mapping[str, jax.Array]
"""Layer -> `(S,)`, the share of each style; they sum to 1."""
TargetImage = Literal["content", "style"] | None
"""The image that a term's target is made of."""

CONTENT_LAYERS = ("relu4_2",)
"""The layer that Gatys et al. 2016 compare with the content's, their conv4_2."""
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
"""The layers that Gatys et al. 2016 compare with the style's, their conv1_1 to conv5_1."""
_FIFTHS = (0.2, 0.2, 0.2, 0.2, 0.2)


@runtime_checkable
class Term(Protocol):
    """What `prepare_targets` and `evaluate` need of a term; see the module's docstring."""

    target_image: ClassVar[TargetImage]
    """What the target is made of."""

    @property
    def name(self) -> str:
        """The key among weights, targets and losses."""
        ...

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that are read; `image` is one."""
        ...

    def statistics(self, features: Features, target: Any, weight: PositionWeights) -> Any:
        """Returns sums over positions: a pytree of arrays."""
        ...

    def loss(self, statistics: Any, target: Any) -> jax.Array:
        """Returns the loss, `()`."""
        ...


def mix(
    statistics: Sequence[Mapping[str, tuple[Any, jax.Array]]], shares: Shares
) -> dict[str, Any]:
    """Mixes styles: their statistics per position, averaged by `shares`.

    Args:
        statistics: of each of S styles, layer -> (sums, of any shape; number of positions, `()`).
        shares: layer -> `(S,)`, the share of each style.

    Returns:
        Layer -> sums over positions divided by their number, averaged; of the shape of the sums.

    Raises:
        ValueError: if there are no statistics, or not a share for each of them.
    """
    if not statistics:
        raise ValueError("no statistics of styles to mix")

    def average(layer: str) -> Any:
        def leaf(*sums: jax.Array) -> jax.Array:
            means = [each / style[layer][1] for each, style in zip(sums, statistics, strict=True)]
            dtype = sum_dtype(*means)
            factors = as_factor(shares[layer], f"shares of {layer}", (len(means),), dtype)
            # Not a product of matrices: its operands may be rounded, and covariances are
            # differences of these.
            parts = [factors[i] * mean.astype(dtype) for i, mean in enumerate(means)]
            return functools.reduce(operator.add, parts)

        return jax.tree.map(leaf, *(style[layer][0] for style in statistics))

    return {layer: average(layer) for layer in statistics[0]}


def _tuple_of(values: Any, what: str) -> tuple[Any, ...]:
    if not isinstance(values, tuple | list):
        kind = type(values).__name__
        raise ValueError(
            f"{what} must be a tuple, not {kind}: settings are static; what is traced are the "
            "weights of whole terms"
        )
    return tuple(values)


def _check_settings(term: Any) -> None:
    """Checks what terms have in common, and makes it hashable: tuples, bool, str and floats."""
    if not isinstance(term.name, str) or not term.name:
        raise ValueError(f"name must be a text, not {term.name!r}")
    if hasattr(term, "layer_weights"):
        layers = _tuple_of(term.layers, "layers")
        if not layers or any(not isinstance(n, str) or n not in LAYERS for n in layers):
            raise ValueError(f"layers {term.layers!r} are not names out of {', '.join(LAYERS)}")
        if len(set(layers)) < len(layers):
            raise ValueError(f"layers {', '.join(layers)}: each can be named once only")
        weights = _tuple_of(term.layer_weights, "layer_weights")
        if len(weights) != len(layers):
            raise ValueError(f"{len(weights)} layer_weights for {len(layers)} layers")
        weights = tuple(as_number(each, "each of layer_weights") for each in weights)
        object.__setattr__(term, "layers", layers)
        object.__setattr__(term, "layer_weights", weights)
    if not isinstance(getattr(term, "normalize_gradients", False), bool):
        raise ValueError(
            f"normalize_gradients must be True or False, not {term.normalize_gradients!r}"
        )


def _check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{what} {value!r} is not one of {', '.join(choices)}")


def _of_layers(term: Any, target: Any) -> Any:
    """Returns `target` if it has what the term's layers are compared with."""
    if not isinstance(target, Mapping) or not set(term.layers) <= set(target):
        found = ", ".join(map(str, target)) if isinstance(target, Mapping) else "no layers"
        raise ValueError(
            f"the target of {term.name} has {found}, but its layers are {', '.join(term.layers)}: "
            "it must be what prepare_targets returns for these terms"
        )
    return target


def _weight_of(weight: PositionWeights, layer: str, maps: jax.Array) -> jax.Array | None:
    """The weight of each position of `maps`, in the dtype that they are summed in."""
    if weight is None:
        return None
    return as_factor(weight[layer], f"weight of {layer}", maps.shape[:2], sum_dtype(maps))


def _total_weight(maps: jax.Array, weight: jax.Array | None) -> jax.Array:
    """The number of positions, or the sum of their weights: of an empty region, almost none."""
    if weight is None:
        return jnp.asarray(maps.shape[0] * maps.shape[1], sum_dtype(maps))
    return jnp.maximum(jnp.sum(weight), 1e-6)


def _weighted_sum(term: Any, loss: Callable[[str], jax.Array]) -> jax.Array:
    parts = [
        weight * loss(layer) for layer, weight in zip(term.layers, term.layer_weights, strict=True)
    ]
    return functools.reduce(operator.add, parts)


_CONTENT_REDUCTIONS = ("half_sum", "sum", "mean", "scaled")
_GRAM_REDUCTIONS = ("gatys", "mean", "scaled", "keras")


@dataclasses.dataclass(frozen=True)
class Content:
    """Squared difference of the features from the content's (Gatys et al. 2016, eq. 1).

    Attributes:
        layers: layers that are compared.
        layer_weights: a factor for each of them.
        reduction: `half_sum`, `1/2 sum (F - P)^2` as in the paper, and `sum`, both of which grow
            with the image; `mean`, over positions and channels, which does not; or `scaled`, see
            `losses.scaled_squared_error`.
        normalize_gradients: see `losses.normalize_gradient`.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = CONTENT_LAYERS
    layer_weights: tuple[float, ...] = (1.0,)
    reduction: Literal["half_sum", "sum", "mean", "scaled"] = "half_sum"
    normalize_gradients: bool = False
    name: str = "content"

    target_image: ClassVar[TargetImage] = "content"
    reach: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check_settings(self)
        _check_choice("reduction", self.reduction, _CONTENT_REDUCTIONS)

    def statistics(
        self, features: Features, target: Features, weight: PositionWeights
    ) -> dict[str, tuple[jax.Array, ...]]:
        """Returns layer -> (sum of squares, of absolute values, number of positions), all `()`."""

        def sums(layer: str) -> tuple[jax.Array, ...]:
            both = features[layer], target[layer]
            own = _weight_of(weight, layer, features[layer])
            square = losses.squared_error_sum(*both, weight=own)
            absolute = jnp.zeros_like(square)
            if self.reduction == "scaled":
                absolute = losses.absolute_error_sum(*both, weight=own)
            return square, absolute, _total_weight(features[layer], own)

        _of_layers(self, target)
        return {layer: sums(layer) for layer in self.layers}

    def loss(self, statistics: dict[str, tuple[jax.Array, ...]], target: Features) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""
        _of_layers(self, target)

        def reduce(layer: str) -> jax.Array:
            square, absolute, positions = statistics[layer]
            if self.reduction == "half_sum":
                return 0.5 * square
            if self.reduction == "sum":
                return square
            if self.reduction == "scaled":
                return losses.scaled_ratio(square, absolute)
            return square / (target[layer].shape[-1] * positions)

        return _weighted_sum(self, reduce)


@dataclasses.dataclass(frozen=True)
class GramStyle:
    """Squared difference of Gram matrices from the style's (Gatys et al. 2016, eq. 4 and 5).

    Each Gram matrix is divided by its own image's number of positions, so that content and style
    may differ in size (the paper's `1 / M^2` assumes that they do not).

    Attributes:
        layers: layers that are compared.
        layer_weights: the `w_l` of eq. 5, one for each layer.
        reduction: with C channels and D the difference, `gatys` is `sum D^2 / (4 C^2)` (eq. 4),
            `mean` the mean of `D^2`, `scaled` is `losses.scaled_squared_error`, and `keras` that
            of the Keras example, `sum (M D)^2 / (4 * 3^2 * (H W)^2)`, with M positions in the
            layer and H W in the image.
        normalize_gradients: see `losses.normalize_gradient`.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = STYLE_LAYERS
    layer_weights: tuple[float, ...] = _FIFTHS
    reduction: Literal["gatys", "mean", "scaled", "keras"] = "gatys"
    normalize_gradients: bool = False
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"
    reach: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check_settings(self)
        _check_choice("reduction", self.reduction, _GRAM_REDUCTIONS)

    def statistics(
        self, features: Features, target: dict[str, jax.Array] | None, weight: PositionWeights
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns layer -> (Gram sum `(c, c)`, number of positions `()`).

        The Keras example also needs the number of positions of the `image`.
        """
        del target

        def sums(layer: str) -> tuple[jax.Array, jax.Array]:
            own = _weight_of(weight, layer, features[layer])
            return losses.gram_sum(features[layer], weight=own), _total_weight(features[layer], own)

        found = {layer: sums(layer) for layer in self.layers}
        if self.reduction == "keras" and "image" not in found:
            image = features["image"]
            pixels = _total_weight(image, _weight_of(weight, "image", image))
            found["image"] = jnp.zeros((0, 0), pixels.dtype), pixels
        return found

    def target(
        self, statistics: Sequence[dict[str, tuple[jax.Array, jax.Array]]], shares: Shares
    ) -> dict[str, jax.Array]:
        """Returns layer -> `(c, c)`, the styles' Gram matrices, averaged.

        Their losses, averaged, have the same gradient (but for the reduction `scaled`).
        """
        grams = mix(statistics, {"image": jnp.ones(len(statistics)), **shares})
        return {layer: grams[layer] for layer in self.layers}

    def loss(
        self, statistics: dict[str, tuple[jax.Array, jax.Array]], target: dict[str, jax.Array]
    ) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""
        _of_layers(self, target)

        def reduce(layer: str) -> jax.Array:
            total, positions = statistics[layer]
            gram = total / positions
            if self.reduction == "gatys":
                return losses.style_loss(gram, target[layer])
            if self.reduction == "scaled":
                return losses.scaled_squared_error(gram, target[layer])
            square = jnp.square(gram - target[layer])
            if self.reduction == "mean":
                return jnp.mean(square)
            return jnp.sum(square) * jnp.square(positions / statistics["image"][1]) / 36

        return _weighted_sum(self, reduce)


@dataclasses.dataclass(frozen=True)
class MomentStyle:
    """Squared difference of the mean, and the standard deviation, of each channel.

    Li et al., "Demystifying Neural Style Transfer", IJCAI 2017, section 4.2 (batch normalisation
    statistics); the mean over channels of both squares.

    Attributes:
        layers: layers that are compared.
        layer_weights: a factor for each of them.
        order: 1 for means only, 2 for means and standard deviations.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = STYLE_LAYERS
    layer_weights: tuple[float, ...] = _FIFTHS
    order: int = 2
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"
    reach: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check_settings(self)
        if as_integer(self.order, "order") not in (1, 2):
            raise ValueError(f"order {self.order} is not 1 or 2")

    def statistics(
        self, features: Features, target: Any, weight: PositionWeights
    ) -> dict[str, tuple[tuple[jax.Array, jax.Array], jax.Array]]:
        """Returns layer -> ((sum `(c,)`, sum of squares `(c,)`), number of positions `()`)."""
        del target

        def sums(layer: str) -> Any:
            values = features[layer].astype(sum_dtype(features[layer]))
            of_layer = _weight_of(weight, layer, values)
            weighted = values if of_layer is None else values * of_layer[..., None]
            both = jnp.sum(weighted, (0, 1)), jnp.sum(weighted * values, (0, 1))
            return both, _total_weight(values, of_layer)

        return {layer: sums(layer) for layer in self.layers}

    def target(self, statistics: Sequence[Any], shares: Shares) -> dict[str, Any]:
        """Returns layer -> (mean `(c,)`, mean square `(c,)`), averaged over the styles."""
        return mix(statistics, shares)

    def loss(self, statistics: dict[str, Any], target: dict[str, Any]) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""
        _of_layers(self, target)

        def deviation(mean: jax.Array, square: jax.Array) -> jax.Array:
            # The root's derivative is infinite at 0: a channel that is constant gets none.
            variance = square - mean**2
            varies = variance > 1e-6 * square
            return jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 0)

        def reduce(layer: str) -> jax.Array:
            (total, squares), positions = statistics[layer]
            mean, square = total / positions, squares / positions
            error = jnp.square(mean - target[layer][0])
            if self.order == 2:
                error += jnp.square(deviation(mean, square) - deviation(*target[layer]))
            return jnp.mean(error)

        return _weighted_sum(self, reduce)


@dataclasses.dataclass(frozen=True)
class Wasserstein2Style:
    """Squared Wasserstein-2 distance of Gaussians with the features' means and covariances.

    Crowson, style-transfer-pytorch: `mean (m - m_t)^2 + tr(K_t + K - 2 (K_t^1/2 K K_t^1/2)^1/2) /
    C`, with `epsilon` on the diagonals of K and K_t. With `layers=("image",)` it compares colours.

    Attributes:
        layers: layers that are compared.
        layer_weights: a factor for each of them.
        epsilon: added to the covariances' diagonals, in units of squared features.
        iterations: of the Newton-Schulz square root, see `losses.square_root`.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = STYLE_LAYERS
    layer_weights: tuple[float, ...] = _FIFTHS
    epsilon: float = 1e-4
    iterations: int = 12
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"
    reach: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check_settings(self)
        object.__setattr__(self, "epsilon", as_number(self.epsilon, "epsilon"))
        if self.epsilon < 0 or as_integer(self.iterations, "iterations") < 1:
            raise ValueError(
                f"epsilon must be at least 0 and iterations positive, not {self.epsilon}, "
                f"{self.iterations}"
            )

    def statistics(
        self, features: Features, target: Any, weight: PositionWeights
    ) -> dict[str, tuple[tuple[jax.Array, jax.Array], jax.Array]]:
        """Returns layer -> ((sum `(c,)`, Gram sum `(c, c)`), number of positions `()`)."""
        del target

        def sums(layer: str) -> Any:
            own = _weight_of(weight, layer, features[layer])
            both = losses.moment_sums(features[layer], weight=own)
            return both, _total_weight(features[layer], own)

        return {layer: sums(layer) for layer in self.layers}

    def _covariance(self, mean: jax.Array, second: jax.Array) -> jax.Array:
        return second - jnp.outer(mean, mean) + self.epsilon * jnp.eye(len(mean), dtype=mean.dtype)

    def target(self, statistics: Sequence[Any], shares: Shares) -> dict[str, Any]:
        """Returns layer -> (mean, covariance, its root); second moments are averaged."""

        def of_layer(mean: jax.Array, second: jax.Array) -> tuple[jax.Array, ...]:
            covariance = self._covariance(mean, second)
            return mean, covariance, losses.square_root(covariance, iterations=self.iterations)

        return {layer: of_layer(*moments) for layer, moments in mix(statistics, shares).items()}

    def loss(self, statistics: dict[str, Any], target: dict[str, Any]) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""
        _of_layers(self, target)

        def reduce(layer: str) -> jax.Array:
            (total, gram), positions = statistics[layer]
            target_mean, covariance, root = target[layer]
            mean = total / positions
            own = self._covariance(mean, gram / positions)
            distance = losses.covariance_distance(own, covariance, root, iterations=self.iterations)
            return jnp.mean(jnp.square(mean - target_mean)) + distance / len(mean)

        return _weighted_sum(self, reduce)


@dataclasses.dataclass(frozen=True)
class MRFStyle:
    """Squared difference of each patch of features from the most similar one of the styles.

    Li & Wand, "Combining Markov Random Fields and Convolutional Neural Networks for Image
    Synthesis", CVPR 2016, eq. 2 and 3, as a mean over patches and their elements. Its statistics
    add up over an image's positions, given the features around them. Its target is all patches
    of the styles: no sum, so `additive_target` is False; and shares cannot mix it.

    Attributes:
        layers: layers that are compared.
        layer_weights: a factor for each of them.
        size: of the patches, in positions; odd.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    layers: tuple[str, ...] = ("relu3_1", "relu4_1")
    layer_weights: tuple[float, ...] = (1.0, 1.0)
    size: int = 3
    name: str = "style"

    target_image: ClassVar[TargetImage] = "style"
    additive_target: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check_settings(self)
        if as_integer(self.size, "size") < 1 or self.size % 2 == 0:
            raise ValueError(f"size must be odd and positive, not {self.size}")

    @property
    def reach(self) -> int:
        """How many positions around a position are read."""
        return self.size // 2

    def _inner(self, plane: jax.Array) -> jax.Array:
        """Cuts `(h, w)` down to the positions that are the centre of a whole patch."""
        border = self.size // 2
        return plane[border : plane.shape[0] - border, border : plane.shape[1] - border]

    def statistics(
        self, features: Features, target: Any, weight: PositionWeights
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns layer -> (sum of squares `()`, number of patches `()`).

        Without a target, layer -> (patches `(K, size^2 c)`, whether each may be taken `(K,)`).
        """

        def of_layer(layer: str) -> tuple[jax.Array, jax.Array]:
            own = features[layer]
            if min(own.shape[:2]) < self.size:
                raise ValueError(
                    f"{layer} has {own.shape[0]}x{own.shape[1]} positions, too few for patches of "
                    f"{self.size}x{self.size}: use a larger image"
                )
            positions = _weight_of(weight, layer, own)
            if positions is None:
                positions = jnp.ones(own.shape[:2], sum_dtype(own))
            inner = self._inner(positions)
            own_patches = losses.patches(own, size=self.size)
            if target is None:
                # Where a mask is grey all over, its lightest places.
                allowed = inner.reshape(-1) >= jnp.minimum(jnp.max(inner), 0.5)
                return own_patches.reshape(-1, own_patches.shape[-1]), allowed
            style_patches, allowed = target[layer]
            nearest = losses.nearest_patches(own, style_patches, allowed, size=self.size)
            square = losses.squared_error_sum(own_patches, style_patches[nearest], weight=inner)
            return square, _total_weight(own, inner)

        if target is not None:
            _of_layers(self, target)
        return {layer: of_layer(layer) for layer in self.layers}

    def target(self, statistics: Sequence[Any], shares: Shares) -> dict[str, Any]:
        """Returns layer -> (all patches of all styles, whether each may be taken)."""
        del shares
        return {
            layer: jax.tree.map(
                lambda *each: jnp.concatenate(each), *(style[layer] for style in statistics)
            )
            for layer in self.layers
        }

    def loss(
        self, statistics: dict[str, tuple[jax.Array, jax.Array]], target: dict[str, Any]
    ) -> jax.Array:
        """Returns the weighted sum over layers, `()`."""
        _of_layers(self, target)

        def reduce(layer: str) -> jax.Array:
            square, number = statistics[layer]
            return square / (number * target[layer][0].shape[-1])

        return _weighted_sum(self, reduce)


@dataclasses.dataclass(frozen=True)
class TotalVariation:
    """Total variation of the image itself; see `losses.total_variation`.

    Attributes:
        power: 0.5 is the isotropic total variation, 1 the squared one.
        reduction: `sum` over pixels, or `mean`, which does not grow with the image.
        pixel_range: the pixels are multiplied by this first: 255 for those of 8 bits.
        name: the term's name.

    Raises:
        ValueError: for a setting that is out of range; the message says what is valid.
    """

    power: float = 1.0
    reduction: Literal["sum", "mean"] = "sum"
    pixel_range: float = 1.0
    name: str = "total_variation"

    layers: ClassVar[tuple[str, ...]] = ("image",)
    target_image: ClassVar[TargetImage] = None

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check_settings(self)
        object.__setattr__(self, "power", as_number(self.power, "power"))
        object.__setattr__(self, "pixel_range", as_number(self.pixel_range, "pixel_range"))
        if self.power <= 0 or self.pixel_range <= 0:
            raise ValueError(
                f"power and pixel_range must be positive, not {self.power}, {self.pixel_range}"
            )
        _check_choice("reduction", self.reduction, ("sum", "mean"))

    def statistics(
        self, features: Features, target: None, weight: PositionWeights
    ) -> tuple[jax.Array, jax.Array]:
        """Returns (sum, number of positions), both `()`."""
        image = features["image"].astype(sum_dtype(features["image"]))
        own = _weight_of(weight, "image", image)
        return (
            losses.total_variation_sum(image * self.pixel_range, weight=own, power=self.power),
            _total_weight(image, own),
        )

    def loss(self, statistics: tuple[jax.Array, jax.Array], target: None) -> jax.Array:
        """Returns the sum, or the mean over positions, `()`."""
        total, positions = statistics
        return total if self.reduction == "sum" else total / positions


@dataclasses.dataclass(frozen=True)
class NinePointVariation:
    """Mean squared differences to all eight neighbours (Crowson, style-transfer-pytorch).

    `2 (mean dx^2 / 3 + mean dy^2 / 3 + mean d_diagonal^2 / 12 + mean d_antidiagonal^2 / 12)`, of
    the image continued by its outermost pixels; means over positions and channels.

    Attributes:
        name: the term's name.

    Raises:
        ValueError: for a name that is no text.
    """

    name: str = "total_variation"

    layers: ClassVar[tuple[str, ...]] = ("image",)
    target_image: ClassVar[TargetImage] = None

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check_settings(self)

    def statistics(
        self, features: Features, target: None, weight: PositionWeights
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Returns (sum along axes, pixels, sum along diagonals, squares of pixels), all `()`."""
        image = features["image"]
        own = _weight_of(weight, "image", image)
        axes, diagonals, squares = losses.nine_point_variation_sums(image, weight=own)
        return axes, _total_weight(image, own), diagonals, squares

    def loss(self, statistics: tuple[jax.Array, ...], target: None) -> jax.Array:
        """Returns the mean, `()`."""
        axes, pixels, diagonals, squares = statistics
        return 2 / 3 * (axes / (3 * pixels) + diagonals / (12 * squares))
