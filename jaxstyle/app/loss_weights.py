"""Loss weights and style shares of a job, parsed from the texts of a command line or manifest."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from jaxstyle.guidance import check_layer_shares
from jaxstyle.io import InputError
from jaxstyle.io.errors import closest
from jaxstyle.recipe import Recipe
from jaxstyle.terms.protocol import layers_of


def with_weights(recipe: Recipe, texts: Sequence[str]) -> Recipe:
    """Returns `recipe` with weights from `NAME=VALUE` texts; a term of weight 0 is removed.

    Raises:
        InputError: for another form, an unknown name, or a number that is negative or not finite,
            or if no term is left.
    """
    weights = dict(recipe.weights)
    for text in texts:
        terms_are = f"the terms of recipe {recipe.name} are"
        name, value = _split("--loss-weights", text, weights, terms_are, "NAME=VALUE")
        weights[name] = parse_number(value)
        if not 0 <= weights[name] < math.inf:
            raise InputError(f"--loss-weights {text}: write TERM=X, a number of at least 0")
    terms = tuple(term for term in recipe.terms if weights[term.name] != 0)
    if not terms:
        raise InputError(
            "--loss-weights: all terms have weight 0, which leaves nothing to optimize"
        )
    names, pyramid = [term.name for term in terms], recipe.pyramid
    if pyramid is not None:
        factors = {name: own for name, own in pyramid.weight_factors.items() if name in names}
        pyramid = dataclasses.replace(pyramid, weight_factors=factors)
    kept = {name: weights[name] for name in names}
    try:
        return dataclasses.replace(recipe, terms=terms, weights=kept, pyramid=pyramid)
    except ValueError as error:  # a size at which no term is left
        raise InputError(f"--loss-weights: {error}") from None


def parse_style_weights(
    texts: Sequence[str], shares: tuple[float, ...], recipe: Recipe, number: int
) -> Mapping[str, tuple[float, ...]] | tuple[float, ...] | None:
    """Returns the shares of `number` styles, by layer if there are `LAYER=SHARE,SHARE...` texts.

    Raises:
        InputError: for another form, an unknown layer, shares that are no shares, or a term that
            has none by layer.
    """
    if not texts:
        return shares or None
    layers = layers_of(term for term in recipe.terms if term.target_image == "style")
    by_layer = dict.fromkeys(layers, shares or (1.0,) * number)
    for text in texts:
        layers_are, form = "the style's layers are", "LAYER=SHARE,SHARE..."
        layer, values = _split("--layer-style-weights", text, by_layer, layers_are, form)
        by_layer[layer] = tuple(parse_number(value) for value in values.split(","))
        fits = len(by_layer[layer]) == number and all(share >= 0 for share in by_layer[layer])
        if not fits or not 0 < sum(by_layer[layer]) < math.inf:
            raise InputError(
                f"--layer-style-weights {text}: give {number} numbers of at least 0 with commas "
                "between them, not all of them 0"
            )
    try:
        check_layer_shares(recipe.terms, by_layer)
    except ValueError as error:
        raise InputError(f"--layer-style-weights: {error}, --style-weights X Y") from None
    return by_layer


def _split(
    option: str, text: str, valid: Mapping[str, object], names_are: str, form: str
) -> tuple[str, str]:
    """Splits a text such as `NAME=VALUE` into its name, which must be valid, and the rest."""
    name, _, value = text.partition("=")
    if name not in valid:
        known = f"{names_are} {', '.join(valid)}"
        raise InputError(f"{option} {text}: {known}; write {form}{closest(name, valid)}")
    return name, value


def parse_number(text: str) -> float:
    """Returns a number, or NaN for a text that is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
