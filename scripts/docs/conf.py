"""Sphinx settings for `make docs`: guides in Markdown, the reference from the docstrings.

Every warning is an error: a broken link or anchor, an unknown type in a signature, a public name
that is missing in the reference.
"""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy.typing
from jax.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import stringify_annotation

import jaxstyle

sys.path.insert(0, str(Path(__file__).parent))
from public import public_names

project = "jaxstyle"
version = release = jaxstyle.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["*.py"]

highlight_language = "none"  # for blocks that name no language

html_theme = "furo"
html_title = f"jaxstyle {version}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False

myst_heading_anchors = 3
# Text in backticks in a docstring is a link if it is a public name, and code otherwise.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", "(?s).*"),
    ("py:class", r"(jax|jaxlib|numpy|optax|collections|os|typing|pathlib)\..*|ArrayLike"),
    ("py:class", r"jaxstyle\.solvers\.protocol\.Solver"),  # the base of the documented solvers
    ("py:class", r"jaxstyle\.terms\.matched\.\w+"),  # what prepare_targets makes for MatchedStyle
]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_use_rtype = False
napoleon_attr_annotations = False  # they are in the signature


def _shorten(*arguments: Any) -> tuple[str | None, str | None]:
    """Replaces long type unions and defaults in signatures by their names."""
    signature, returned = arguments[-2:]
    if signature is None:
        return signature, returned
    for union in (ArrayLike, numpy.typing.ArrayLike):
        for mode in ("smart", "fully-qualified"):
            signature = signature.replace(stringify_annotation(union, mode), "ArrayLike")
    for default, text in (
        (jaxstyle.recipes.DEFAULT, "recipes.DEFAULT"),
        (jaxstyle.VGG19(), "VGG19()"),
        (jaxstyle.LBFGS(), "LBFGS()"),
    ):
        signature = signature.replace(repr(default).replace("\n", " "), text)
    signature = re.sub(r"=<(?:class|function) '?(?:\w+\.)*(\w+)'?>", r"=\1", signature)
    # Two arguments of every Flax module, and the arguments of a protocol, are not for users.
    signature = re.sub(r", parent: .*", ")", signature)
    return signature.replace("(*args, **kwargs)", ""), returned


def _describe(
    app: Sphinx, what: str, name: str, documented: Any, options: Any, lines: list[str]
) -> None:
    """Documents a recipe by its own fields."""
    if isinstance(documented, jaxstyle.Recipe):
        lines[:] = [f"{documented.description} ({documented.source})"]


def _check_complete(app: Sphinx, environment: Any) -> None:
    public = public_names()
    present = {id(public.get(name)) for name in environment.domaindata["py"]["objects"]}
    for name, each in public.items():
        if id(each) not in present and not isinstance(each, ModuleType):
            logging.getLogger(__name__).warning("%s is public but missing in the reference", name)


def setup(app: Sphinx) -> None:
    """Connects the functions above."""
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-process-docstring", _describe)
    app.connect("env-check-consistency", _check_complete)
