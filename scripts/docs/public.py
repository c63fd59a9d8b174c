"""Lists all public names, for the reference, which must be complete, and tests/test_api.py."""

import ast
import inspect
from types import ModuleType
from typing import Any

import jaxstyle


def _names(module: ModuleType) -> list[str]:
    """Returns `__all__`, or all names that a module defines without an underscore."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    names: list[str] = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_")]


def public_names() -> dict[str, Any]:
    """Returns the names of `jaxstyle` and of its public modules: full name -> object."""
    found = {f"jaxstyle.{name}": getattr(jaxstyle, name) for name in _names(jaxstyle)}
    for module in [each for each in found.values() if isinstance(each, ModuleType)]:
        found |= {f"{module.__name__}.{name}": getattr(module, name) for name in _names(module)}
    return found
