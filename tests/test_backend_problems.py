"""JAX that cannot start is one line with the way out."""

import logging
import warnings

import pytest

from jaxstyle.app import backend_problems, devices
from jaxstyle.app.cli import main as main_module

INITIALIZE = "Unable to initialize backend 'cuda': "


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (
            "jaxlib is version 0.4.30, but this version of jax requires version >= 0.10.1.",
            "jax[cuda12]",
        ),
        (
            "jaxlib version 0.11.0 is newer than and incompatible with jax version 0.10.2.",
            "jax[cuda13]",
        ),
        ("jax requires jaxlib to be installed. See https://github.com/jax-ml/jax", "pip install"),
        (
            INITIALIZE + "INVALID_ARGUMENT: Mismatched PJRT plugin PJRT API version",
            "together",
        ),
        (INITIALIZE + "INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory", "nvidia-smi"),
        (INITIALIZE + "RESOURCE_EXHAUSTED: Out of memory", "XLA_PYTHON_CLIENT_PREALLOCATE=false"),
        (INITIALIZE + "no supported devices found for platform CUDA", "JAX_PLATFORMS=cpu"),
        (
            INITIALIZE + "Backend 'cuda' is not in the list of known backends: ['cpu']",
            "JAX_PLATFORMS",
        ),
        ("Unable to initialize backend 'tpu': Failed to open libtpu.so", "jax[tpu]"),
        ("Unable to initialize backend 'tpu': No jellyfish device found.", "has a TPU"),
        (INITIALIZE + "CUDA_ERROR_INSUFFICIENT_DRIVER:\n the driver is old", "nvidia-smi"),
    ],
)
@pytest.mark.parametrize("kind", [RuntimeError, ImportError])
def test_jax_that_cannot_start(text, advice, kind, monkeypatch, capsys):
    def fail(*_):
        raise kind(text)

    monkeypatch.setattr(main_module, "_dispatch", fail)
    assert main_module.main(["info"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {text.split()[0]} ")
    assert advice in line


def test_a_card_that_is_not_there(monkeypatch, capsys):
    """JAX 0.10 has no message for it."""
    _default_backend = None

    def fail(*_):
        assert _default_backend is not None

    monkeypatch.setattr(main_module, "_dispatch", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    for plugin, said in (
        (object(), "it finds no device; check nvidia-smi"),
        (None, "there is no plugin of CUDA; set JAX_PLATFORMS to cpu, cuda"),
    ):
        monkeypatch.setattr(backend_problems.importlib.util, "find_spec", lambda _: plugin)  # noqa: B023
        assert main_module.main(["info"]) == 2
        assert f"backend 'cuda': {said}" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ImportError("cannot import name 'x'"), AssertionError()])
def test_other_errors_are_bugs(error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(main_module, "_dispatch", fail)
    with pytest.raises(type(error)):
        main_module.main(["info"])


def test_a_plugin_that_fails_is_one_line(monkeypatch, capsys):
    logger = logging.getLogger("jax._src.xla_bridge")
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(warnings, "showwarning", lambda *_, **__: print("shown"))
    backend_problems.report_in_one_line()
    try:
        raise RuntimeError("cuBLAS internal\nerror")
    except RuntimeError:
        logger.exception("Jax plugin configuration error: Exception when calling %s", "x.start()")
    logger.warning("An NVIDIA GPU may be present on this machine, but a CUDA-enabled jaxlib is not "
                   "installed. Falling back to cpu.")  # fmt: skip
    mismatch = "JAX plugin jax_cuda12_plugin version 0.7.2 is installed, but it is not compatible"
    for message in (mismatch, mismatch, "another"):
        warnings.showwarning(message, RuntimeWarning, "plugin_support.py", 71)
    said = capsys.readouterr()
    assert said.out == "shown\n"
    plugin, fallback, version = said.err.splitlines()
    assert "x.start() cuBLAS internal error; install them together: pip install" in plugin
    assert "Falling back to cpu.; pip install -U 'jax[cuda12]'" in fallback
    assert version.startswith(f"warning: {mismatch} install them together")


@pytest.mark.parametrize(
    ("text", "backend", "advice"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory", "cpu", "; use a smaller --size or --tile"),
        ("RESOURCE_EXHAUSTED: Out of memory", "gpu", "CUDA_VISIBLE_DEVICES"),
        ("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY", "gpu", "smaller --size"),
        ("FAILED_PRECONDITION: DNN library initialization failed", "gpu", "nvidia-smi"),
        ("INTERNAL: something", "gpu", ""),
    ],
)
def test_a_card_that_is_in_use(text, backend, advice, monkeypatch):
    monkeypatch.setattr(devices.jax, "default_backend", lambda: backend)
    found = devices.advice_for(RuntimeError(text))
    assert advice in found
    assert bool(advice) == bool(found)
    assert ("nvidia-smi" in found) == (backend == "gpu" and bool(advice))
