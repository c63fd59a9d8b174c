"""Networks and terms that are not the package's own, for the tests; a term with a weight map."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

import jaxstyle
from jaxstyle import terms


class Layers(nnx.Module):
    """An encoder with an odd stride of 6 in all; its second layer has ceil(h / 2) positions."""

    def __init__(self, rngs):
        dtype = {"param_dtype": jax.dtypes.canonicalize_dtype(float), "rngs": rngs}
        self.stem = nnx.Conv(3, 8, (5, 5), padding=((2, 2), (2, 2)), **dtype)
        self.half = nnx.Conv(8, 12, (3, 3), strides=2, padding=((1, 1), (1, 1)), **dtype)
        self.sixth = nnx.Conv(12, 16, (3, 3), strides=3, padding="VALID", **dtype)

    def __call__(self, image):
        stem = nnx.softplus(self.stem(4 * image - 2))
        half = nnx.softplus(self.half(stem))
        sixth = nnx.softplus(self.sixth(half))
        return {"image": image, "stem": stem, "half": half, "sixth": sixth}


@dataclasses.dataclass(frozen=True)
class Encoder(jaxstyle.Network):
    """`Layers` as a network."""

    graph: nnx.GraphDef

    layers = ("image", "stem", "half", "sixth")

    def apply(self, params, image, layers):
        found = nnx.merge(self.graph, params)(image)
        return {name: found[name] for name in ("image", *layers)}

    def stride(self, layer):
        return {"image": 1, "stem": 1, "half": 2, "sixth": 6}[layer]

    def reach(self, layer):
        return {"image": 0, "stem": 2, "half": 3, "sixth": 3}[layer]

    def minimum_size(self, layers):
        return 5 if "sixth" in layers else 1


def make_encoder():
    """The network, and its parameters in the dtype that JAX has by default."""
    graph, params = nnx.split(Layers(nnx.Rngs(0)))
    return Encoder(graph), params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Keep(terms.Term):
    """Keeps the content's features, where `mask`, `(H, W)` of any size, says so."""

    mask: jax.Array
    layer: str = dataclasses.field(metadata={"static": True})
    name: str = dataclasses.field(default="keep", metadata={"static": True})

    target_image = "content"
    reach = 0

    @property
    def layers(self):
        return (self.layer,)

    def position_weights(self, shape):
        return jax.image.resize(self.mask, shape, "linear")

    def statistics(self, features, target, weight):
        square = (features[self.layer] - target[self.layer]) ** 2
        return jnp.sum(square * weight[self.layer][..., None])

    def loss(self, statistics, target):
        return statistics


def make_recipe(network, layers, mask, **changes):
    """Content with a weight map, style, and a term that reads neighbors, in a few steps."""
    first, second = layers
    settings = {
        "network": network,
        "terms": (
            Keep(mask, second),
            terms.GramStyle((first, second), (0.5, 0.5)),
            terms.NinePointVariation(),
        ),
        "weights": {"keep": 1e-2, "style": 1.0, "total_variation": 1.0},
        "solver": jaxstyle.LBFGS(num_steps=8, history_size=2),
        **changes,
    }
    return jaxstyle.Recipe("own", "", "", **settings)
