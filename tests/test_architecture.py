"""The house: which module may import which, what is loaded when, and what the core must not do."""

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import pytest

import jaxstyle
from jaxstyle.io import versions

PACKAGE = Path(jaxstyle.__file__).parent
# Each floor may import from those before it.
FLOORS = [
    {"jaxstyle._lazy"},
    {"jaxstyle.sharding", "jaxstyle.checks"},
    {"jaxstyle.network.padding", "jaxstyle.network.pooling"},
    {"jaxstyle.network.xla", "jaxstyle.network.winograd"},
    {"jaxstyle.network.split"},
    {"jaxstyle.network.convolution"},
    {"jaxstyle.network.protocol", "jaxstyle.network.vgg_layers"},
    {"jaxstyle.network.vgg"},
    {"jaxstyle.network", "jaxstyle.color", "jaxstyle.image", "jaxstyle.laplacian"},
    {"jaxstyle.losses.arguments"},
    {
        "jaxstyle.losses.content",
        "jaxstyle.losses.gradients",
        "jaxstyle.losses.gram",
        "jaxstyle.losses.nearest",
        "jaxstyle.losses.patch_search",
        "jaxstyle.losses.variation",
    },
    {
        "jaxstyle.losses.local_affine",
        "jaxstyle.losses.moments",
        "jaxstyle.losses.similarity",
        "jaxstyle.losses.sliced",
    },
    {"jaxstyle.losses"},
    {"jaxstyle.terms.protocol"},
    {"jaxstyle.terms.sampled"},
    {
        "jaxstyle.terms.content",
        "jaxstyle.terms.gram",
        "jaxstyle.terms.local_affine",
        "jaxstyle.terms.matched",
        "jaxstyle.terms.moments",
        "jaxstyle.terms.nearest",
        "jaxstyle.terms.patches",
        "jaxstyle.terms.self_similarity",
        "jaxstyle.terms.sliced",
        "jaxstyle.terms.transport",
        "jaxstyle.terms.variation",
    },
    {"jaxstyle.terms", "jaxstyle.tiling"},
    {"jaxstyle.regions", "jaxstyle.pictures"},
    {"jaxstyle.guidance", "jaxstyle.sampling"},
    {"jaxstyle.matching"},
    {"jaxstyle.targets"},
    {"jaxstyle.evaluation"},
    {
        "jaxstyle.solvers.state",
        "jaxstyle.solvers.frequencies",
        "jaxstyle.solvers.jaxopt",
    },
    {"jaxstyle.solvers.protocol"},
    {"jaxstyle.solvers.lbfgs", "jaxstyle.solvers.optax", "jaxstyle.solvers.scipy"},
    {"jaxstyle.solvers.adam", "jaxstyle.solvers.minimize", "jaxstyle.solvers.rmsprop"},
    {"jaxstyle.solvers", "jaxstyle.pyramid"},
    {"jaxstyle.recipe"},
    {"jaxstyle.recipes"},
    {"jaxstyle.problem"},
    {"jaxstyle.finishing", "jaxstyle.options", "jaxstyle.schedule", "jaxstyle.start"},
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


def functions(path: Path) -> dict[str, int]:
    """Name -> lines of code, docstring aside, of each function of a module."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= node.body[0].end_lineno - node.body[0].lineno + 1
            found[f"{node.name}:{node.lineno}"] = lines
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_and_functions_fit_on_a_few_screens(path):
    assert len(path.read_text().splitlines()) <= 350
    assert {name: lines for name, lines in functions(path).items() if lines > 60} == {}


def test_most_modules_are_short():
    lengths = sorted(len(path.read_text().splitlines()) for path in MODULES)
    assert lengths[len(lengths) // 2] < 150


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


def test_ray_is_loaded_by_its_engine_only():
    assert "ray" not in loaded_by("import jaxstyle.app.cli.main, jaxstyle.app.batch.runner")


# Module -> its public names, as of the first edition of the house, and those of the design.
PROMISED = {
    "": [
        "LAYERS", "LBFGS", "VGG19", "Adam", "Checkpoint", "Pyramid", "Recipe", "ScipyLBFGSB",
        "Status", "StyleResult", "Trace", "color", "content_loss", "evaluate", "gram_matrix", "io",
        "losses", "make_mesh", "median_filter", "minimize", "prepare_targets", "recipes",
        "style_loss", "stylize", "stylize_batch", "stylize_batch_steps", "stylize_steps", "terms",
        "total_variation",
    ],
    "color": [
        "luminance_only", "match_color",
    ],
    "io": [
        "SAMPLES", "InputError", "WeightsInfo", "build_recipe", "check_extension", "check_target",
        "check_writable", "contact_sheet", "convert", "describe_recipe", "describe_versions",
        "exit_on_input_error", "fetch", "list_weights", "load_image", "load_params", "read_recipe",
        "read_shape", "save_image", "verify", "write_atomically", "write_json",
    ],
    "losses": [
        "absolute_error_sum", "content_loss", "covariance_distance", "gram_matrix", "gram_sum",
        "moment_sums", "nearest_patches", "nine_point_variation_sums", "normalize_gradient",
        "patches", "scaled_ratio", "scaled_squared_error", "square_root", "squared_error_sum",
        "style_loss", "total_variation", "total_variation_sum", "trace_of_square_root",
    ],
    "recipes": [
        "CROWSON_GRAM", "CROWSON_W2", "DEFAULT", "GATYS", "GATYS_NOTEBOOK", "GOKALP_KIM", "JOHNSON",
        "KERAS_EXAMPLE", "PASTICHE", "RECIPES", "Recipe",
    ],
    "terms": [
        "CONTENT_LAYERS", "Content", "Features", "GramStyle", "MRFStyle", "MomentStyle",
        "NinePointVariation", "PositionWeights", "STYLE_LAYERS", "Shares", "TargetImage", "Term",
        "TotalVariation", "Wasserstein2Style", "mix",
    ],
}  # fmt: skip


def test_public_names():
    for name in jaxstyle.__all__:
        assert getattr(jaxstyle, name) is not None
    assert set(PROMISED[""]) <= set(jaxstyle.__all__)
    for module, names in PROMISED.items():
        owner = importlib.import_module(f"jaxstyle.{module}".rstrip("."))
        assert [name for name in names if not hasattr(owner, name)] == []
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


def test_the_version_is_written_twice_and_the_same():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert project["version"] == jaxstyle.__version__


def test_a_package_that_is_not_installed_knows_its_version(monkeypatch):
    find = importlib.metadata.version

    def version(name):
        if name == "jaxstyle":
            raise importlib.metadata.PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = versions._versions.__wrapped__()
    assert found["jaxstyle"] == jaxstyle.__version__
    assert found["jax"] == jax.__version__
