"""The house: which module may import which, what is loaded when, and what the core must not do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxstyle

PACKAGE = Path(jaxstyle.__file__).parent
# Each floor may import from those before it.
FLOORS = [
    {"jaxstyle.sharding", "jaxstyle.checks"},
    {"jaxstyle.network.padding", "jaxstyle.network.pooling"},
    {"jaxstyle.network.xla", "jaxstyle.network.winograd"},
    {"jaxstyle.network.split"},
    {"jaxstyle.network.convolution"},
    {"jaxstyle.network.protocol"},
    {"jaxstyle.network.vgg"},
    {"jaxstyle.network", "jaxstyle.color", "jaxstyle.image"},
    {"jaxstyle.losses.arguments"},
    {
        "jaxstyle.losses.content",
        "jaxstyle.losses.gradients",
        "jaxstyle.losses.gram",
        "jaxstyle.losses.patch_search",
        "jaxstyle.losses.variation",
    },
    {"jaxstyle.losses.moments"},
    {"jaxstyle.losses"},
    {"jaxstyle.terms.protocol"},
    {
        "jaxstyle.terms.content",
        "jaxstyle.terms.gram",
        "jaxstyle.terms.moments",
        "jaxstyle.terms.patches",
        "jaxstyle.terms.variation",
    },
    {"jaxstyle.terms", "jaxstyle.tiling"},
    {"jaxstyle.regions"},
    {"jaxstyle.targets"},
    {"jaxstyle.evaluation"},
    {"jaxstyle.solvers.state", "jaxstyle.solvers.fourier", "jaxstyle.solvers.jaxopt"},
    {"jaxstyle.solvers.protocol"},
    {"jaxstyle.solvers.lbfgs", "jaxstyle.solvers.adam", "jaxstyle.solvers.scipy"},
    {"jaxstyle.solvers.minimize"},
    {"jaxstyle.solvers", "jaxstyle.pyramid"},
    {"jaxstyle.recipes"},
    {"jaxstyle.pictures", "jaxstyle.problem"},
    {"jaxstyle.guidance", "jaxstyle.start"},
    {"jaxstyle.inputs"},
    {"jaxstyle.checkpoint", "jaxstyle.compiled"},
    {"jaxstyle.transfer"},
    {"jaxstyle._public"},
    {"jaxstyle"},
    {"jaxstyle.io"},
    {"jaxstyle.app"},
    {"jaxstyle.app.cli"},
    {"jaxstyle.__main__"},
]
CORE_LIBRARIES = {"jax", "flax", "optax", "jaxopt", "numpy"}  # NumPy: for constants
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name_of(other) for other in MODULES}
            found |= {name if name in known else str(node.module) for name in names}
    return found


def floor_of(module: str) -> int:
    while module:
        for level, members in enumerate(FLOORS):
            if module in members:
                return level
        module = module.rpartition(".")[0]
    raise AssertionError("unknown module")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_from_lower_floors_only(path):
    own = name_of(path)
    for name in imports(path):
        if name == own or name.split(".")[0] != "jaxstyle":
            continue
        same_package = floor_of(own) == floor_of(name) and own.split(".")[1:2] in (["io"], ["app"])
        assert floor_of(name) < floor_of(own) or same_package, f"{own} imports {name}"


def test_no_circle():
    """No module imports itself by way of others."""
    remaining = {name_of(path): imports(path) for path in MODULES}
    for name, found in remaining.items():
        # A package's __init__ is loaded first, but is no user of what its modules need.
        remaining[name] = {each for each in found if each in remaining and each != "jaxstyle"}
    while remaining:
        free = {name for name, needed in remaining.items() if not needed & remaining.keys()}
        assert free, f"a circle among {sorted(remaining)}"
        remaining = {name: needed for name, needed in remaining.items() if name not in free}


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if p.relative_to(PACKAGE).parts[0] not in ("io", "app", "__main__.py")],
    ids=name_of,
)
def test_the_core_knows_jax_only(path):
    foreign = {name.split(".")[0] for name in imports(path)} - {"jaxstyle"}
    foreign -= sys.stdlib_module_names
    assert foreign <= CORE_LIBRARIES
    assert "jaxopt" not in foreign or name_of(path) == "jaxstyle.solvers.jaxopt"
    text = path.read_text()
    for forbidden in ("config.update", "open(", "np.random", "time.", "print("):
        assert forbidden not in text


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    output = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    )
    return set(output.stdout.split())


def test_import_loads_nothing_heavy():
    # Flax itself loads rich, so what counts is what is added to JAX, Flax and Optax.
    added = loaded_by("import jaxstyle") - loaded_by("import jax, flax.linen, optax")
    assert added - sys.stdlib_module_names == {"jaxstyle"}
    heavy = {"PIL", "h5py", "tyro", "matplotlib", "safetensors", "platformdirs", "jaxopt", "scipy"}
    assert not heavy & loaded_by("import jaxstyle")
    assert "PIL" in loaded_by("import jaxstyle; jaxstyle.io.load_image")
    assert not {"h5py", "tyro", "matplotlib"} & loaded_by("import jaxstyle; jaxstyle.io.load_image")


def test_public_names():
    for name in jaxstyle.__all__:
        assert getattr(jaxstyle, name) is not None
    promised = [
        "VGG19",
        "stylize",
        "stylize_batch",
        "prepare_targets",
        "evaluate",
        "minimize",
        "LBFGS",
        "gram_matrix",
        "content_loss",
        "style_loss",
        "total_variation",
        "recipes",
        "io",
        "StyleResult",
        "Adam",
    ]
    assert set(promised) <= set(jaxstyle.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = jaxstyle.nothing


def test_each_module_can_be_imported_first():
    """Also those that others import, whatever of the package a user names first."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    for each in [each for each in sys.modules if each.partition('.')[0] == 'jaxstyle']:\n"
        "        del sys.modules[each]\n"
        "    importlib.import_module(name)\n"
    )
    names = [name_of(path) for path in MODULES if not {"io", "app"} & set(path.parts)]
    names = [name for name in names if not name.endswith("__")]
    assert len(names) > 10
    run = [sys.executable, "-W", "error", "-c", code, *names]
    found = subprocess.run(run, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
