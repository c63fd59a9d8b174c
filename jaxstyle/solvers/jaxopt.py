"""The one place that imports jaxopt.

It is in maintenance only and says so at import. Tests pin the few functions that are used here.
"""

import warnings
from types import ModuleType


def load_jaxopt() -> ModuleType:
    """Imports jaxopt on its first use: that takes as long as JAX itself, mostly for SciPy."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "JAXopt is no longer maintained", DeprecationWarning)
        import jaxopt  # noqa: PLC0415
        import jaxopt._src.lbfgs  # noqa: PLC0415
    return jaxopt
