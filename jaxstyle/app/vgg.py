"""The program's network: it has weights for VGG19 only."""

from jaxstyle.io import InputError
from jaxstyle.network.vgg import VGG19
from jaxstyle.recipe import Recipe


def vgg_of(recipe: Recipe) -> VGG19:
    """Returns the recipe's network.

    Raises:
        InputError: if it is not VGG19.
    """
    if not isinstance(recipe.network, VGG19):
        raise InputError(f"recipe {recipe.name} needs weights of another network than VGG19")
    return recipe.network
