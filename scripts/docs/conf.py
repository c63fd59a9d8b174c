"""Sphinx's settings, for `make docs`: guides in Markdown, the reference from the docstrings.

Every warning is an error: a link or anchor that leads nowhere, a type in a signature that is not
in the reference, a public name that is missing there.
"""

import ast
import inspect
from types import ModuleType
from typing import Any

from jax.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import stringify_annotation

import jaxstyle
from jaxstyle.recipes import Recipe

project = "jaxstyle"
author = "The jaxstyle developers"
version = release = jaxstyle.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

html_theme = "furo"
html_title = f"jaxstyle {version}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
