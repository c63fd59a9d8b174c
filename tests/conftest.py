"""Fixtures: parameters, pictures, and what is skipped where they cannot be had."""

import ast
import dataclasses
import gc
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

# Most of a test's time is compilation, and what is compiled hardly runs. XLA's newer emitters of
# fused loops take twice as long to compile as its older ones, which jaxlib 0.12 no longer has, and
# cutting a small program into 32 parts takes longer than compiling it. Before JAX is imported.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
    " --xla_llvm_disable_expensive_passes=true --xla_cpu_parallel_codegen_split_count=1"
    + " --xla_cpu_use_fusion_emitters=false"
    * (importlib.metadata.version("jaxlib") < "0.11")
)

# On a GPU, JAX rounds the operands of float32 products to TF32, and takes most of the memory for
# each process. For the compiler's flag see jaxstyle/__main__.py.
if importlib.util.find_spec("jax_plugins") and os.environ.get("JAX_PLATFORMS") != "cpu":
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ["XLA_FLAGS"] += " --xla_gpu_enable_triton_gemm=false"

import jax

# A shell's background jobs ignore Ctrl-C, and so would every program that a test starts there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax.numpy as jnp
import numpy as np
import psutil
import pytest
from PIL import Image

import jaxstyle
from jaxstyle import compiled
from jaxstyle.app import compile_cache
from jaxstyle.network.vgg import CONV_SHAPES

# Tracing makes so many objects that by default Python looks for garbage all the time.
gc.set_threshold(50_000, 20, 20)

REPOSITORY = Path(__file__).parent.parent
SHARED_IMAGES = REPOSITORY.parent / "shared" / "images"


def load_golden(name: str) -> dict[str, np.ndarray]:
    """Reads one of the files that `golden/make_golden.py` writes."""
    with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as file:
        return dict(file)


SHALLOW = dataclasses.replace(
    jaxstyle.recipes.DEFAULT,
    name="small",
    terms=(
        jaxstyle.terms.Content(layers=("relu1_1",), reduction="mean"),
        jaxstyle.terms.GramStyle(layers=("relu1_1",), layer_weights=(1.0,)),
    ),
    weights={"content": 1.0, "style": 1e3},
)
"""A recipe that compiles fast."""


def check_public_names(code: str) -> set[str]:
    """Asserts that all that `code` takes from jaxstyle is public; returns its names.

    Public is what `__all__` of jaxstyle names, and in the modules among those their own `__all__`,
    or else what does not begin with an underscore.
    """
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "jaxstyle":
            found |= {(str(node.module), alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("jaxstyle.") for alias in node.names)
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if re.fullmatch(r"jaxstyle(\.[a-z]+)?", owner):
                found.add((owner, node.attr))
    for module, name in found:
        path = module.split(".")
        assert len(path) == 1 or (len(path) == 2 and path[1] in jaxstyle.__all__), module
        owner = importlib.import_module(module)
        public = getattr(owner, "__all__", [each for each in vars(owner) if each[0] != "_"])
        assert name in public, f"{module}.{name}"
    return {f"{module}.{name}" for module, name in found}


def pytest_collection_modifyitems(items):
    """Skips float16 where XLA cannot compile it: on CPUs without F16C, such as `max_isa=SSE4_2`."""
    chosen = [
        item
        for item in items
        if item.get_closest_marker("float16") or re.search(r"(?<!b)float16", item.nodeid)
    ]
    if not chosen:
        return
    try:
        jax.jit(lambda x: x.astype(jnp.float16))(jnp.ones(3)).block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        reason = f"XLA cannot compile float16 for this CPU: {str(error).splitlines()[0]}"
        for item in chosen:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _keep_nothing(monkeypatch):
    """In this process no compiled program is kept on disk; some tests start processes that do."""
    monkeypatch.setattr(compile_cache, "keep_compiled_programs", lambda: compiled.call_jitted)


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """After a module, forgets what JAX has compiled if that has made the process large."""
    yield
    if psutil.Process().memory_info().rss > 3e9:
        jax.clear_caches()
        gc.collect()
        compile_cache.return_freed_memory()


@pytest.fixture(scope="session")
def params():
    """The pretrained weights, fetched if need be."""
    try:
        return jaxstyle.io.load_params()
    except jaxstyle.io.InputError as error:
        pytest.skip(f"no pretrained weights: {error}")


@pytest.fixture(scope="session")
def random_params():
    """Parameters of VGG19's shapes that keep the scale of the activations (He et al. 2015)."""
    rng = np.random.default_rng(0)
    params = {}
    for name, (kernel_shape, bias_shape) in CONV_SHAPES.items():
        scale = np.sqrt(2 / np.prod(kernel_shape[:3])) * (1 / 60 if name == "conv1_1" else 1)
        kernel = np.float32(scale) * rng.standard_normal(kernel_shape, np.float32)
        bias = np.float32(0.1) * rng.standard_normal(bias_shape, np.float32)
        params[name] = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
    return {"params": params}


@pytest.fixture(scope="session")
def double_params(random_params):
    """The same in float64."""
    with jax.enable_x64(True):
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), random_params)


@pytest.fixture
def double(double_params, pictures):
    """Parameters and the maker of pictures in float64, which the test computes in.

    In float32, rounding, which differs from CPU to CPU, turns the signs of some ReLUs, and a solver
    makes what follows grow with every step. In float64 both stay far below 1e-6, so that two ways
    to compute a run can be compared.
    """
    with jax.enable_x64(True):
        yield double_params, lambda *arguments: pictures(*arguments).astype(np.float64)


@pytest.fixture(scope="session")
def params_file(tmp_path_factory, random_params):
    """The same as a file."""
    path = tmp_path_factory.mktemp("params") / "random.npz"
    arrays = {}
    for layer, both in random_params["params"].items():
        arrays[f"{layer}_W"] = np.asarray(both["kernel"])
        arrays[f"{layer}_b"] = np.asarray(both["bias"])
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory):
    """`SHALLOW` as a file, for what is tested of the program whatever the recipe."""
    path = tmp_path_factory.mktemp("recipe") / "small.json"
    path.write_text(json.dumps(jaxstyle.io.describe_recipe(SHALLOW)))
    return str(path)


@pytest.fixture(scope="session")
def shared_image() -> Callable[..., np.ndarray]:
    """Loads a real picture by name, or skips the test where there is none."""

    def load(name: str, size: int) -> np.ndarray:
        path = SHARED_IMAGES / name
        if not path.exists():
            pytest.skip(f"no real pictures: {path} is absent")
        return jaxstyle.io.load_image(path, size=size)

    return load


@pytest.fixture(scope="session")
def pictures() -> Callable[..., np.ndarray]:
    """Smooth random pictures, `(height, width, 3)` float32 in [0, 1]."""

    def make(seed: int, height: int = 32, width: int = 40) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        waves = [
            np.sin(2 * np.pi * (rng.uniform(1, 4) * y / height + rng.uniform(1, 4) * x / width + p))
            for p in rng.uniform(0, 1, 9)
        ]
        image = 0.5 + 0.15 * np.stack([sum(waves[c::3]) for c in range(3)], -1)
        return np.clip(image + rng.normal(0, 0.03, image.shape), 0, 1).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def browser():
    """A Chromium for the tests of the page, which finds all names below on this machine."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: make test-web")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium: apt-get install chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--host-resolver-rules=MAP *.example.org 127.0.0.1"]  # fmt: skip
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def files(tmp_path, pictures):
    """A photo and four paintings, as files."""
    paths = []
    for seed in range(5):
        path = tmp_path / f"picture{seed}.png"
        Image.fromarray((255 * pictures(seed, 48, 64)).astype(np.uint8)).save(path)
        paths.append(path)
    return paths
