"""The conventions of the public names: documented, typed, pure; values that behave as such."""

import ast
import builtins
import collections.abc
import copy
import dataclasses
import functools
import inspect
import itertools
import json
import os
import pickle
import pydoc
import re
import runpy
import subprocess
import sys
import textwrap
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxstyle
from jaxstyle import recipes, terms

REPOSITORY = Path(__file__).parent.parent
PUBLIC = runpy.run_path(str(REPOSITORY / "scripts" / "docs" / "public.py"))["public_names"]()
CLASSES = {name: each for name, each in PUBLIC.items() if isinstance(each, type)}
METHODS = {
    f"{owner}.{name}": each
    for owner, cls in CLASSES.items()
    for name, each in vars(cls).items()
    if inspect.isfunction(each) and each.__module__.startswith("jaxstyle")  # not Flax's
    if not name.startswith("_") or name == "__call__"
}
ROUTINES = {name: each for name, each in PUBLIC.items() if callable(each)} | METHODS
# The methods of terms and solvers are those of `Term`, or called by `minimize` alone.
PROTOCOL = {"statistics", "target", "loss", "start", "step", "advance", "carried", "warm_start"}
PROTOCOL |= {"at_smaller_size", "loss_of_draw", "position_weights", "normalized_gradients"}
FUNCTIONS = {
    name: each
    for name, each in ROUTINES.items()
    if inspect.isfunction(inspect.unwrap(each)) and name.split(".")[-1] not in PROTOCOL
}
# What may have a default and be given by its position: `network.apply(params, image, layers)`,
# `load_params(path)`, and its neighbour.
POSITIONAL = {
    "jaxstyle.VGG.__call__": {"layers"},
    "jaxstyle.io.load_params": {"path"},
    "jaxstyle.io.verify": {"path"},
}

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises")
SHAPE = r"`\([^`]*\)`|any shape|`jax.random.key`"


def sections(documented) -> dict[str, str]:
    """The text before the sections of a Google docstring, under "", and that of each of them."""
    parts = re.split(
        rf"^({'|'.join(SECTIONS)}):\n", inspect.getdoc(documented) or "", flags=re.MULTILINE
    )
    names = ("", *parts[1::2])
    return dict(zip(names, map(textwrap.dedent, parts[0::2]), strict=True))


def entries(section: str) -> dict[str, str]:
    """Name -> text of each entry of a section."""
    found = re.findall(r"^\*{0,2}(\w+): (.*(?:\n(?: .*)?)*)", section, re.MULTILINE)
    return dict(found)


def parameters(function) -> dict[str, inspect.Parameter]:
    found = inspect.signature(function).parameters
    return {name: each for name, each in found.items() if name != "self"}


def has_arrays(hint) -> bool:
    if typing.get_origin(hint) is collections.abc.Callable:
        return False
    return hint in (jax.Array, np.ndarray) or any(map(has_arrays, typing.get_args(hint)))


def own_fields(cls) -> set[str]:
    """Of a dataclass, named tuple or enumeration, as they stand in its body."""
    found: set[str] = set()
    for node in tree_of(cls).body[0].body:
        if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets}
    return found


def documented_by_strings(node: ast.AST) -> set[str]:
    """Names of a module or class whose assignment is followed by a string."""
    found: set[str] = set()
    for before, after in itertools.pairwise(node.body):
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            targets = getattr(before, "targets", [getattr(before, "target", None)])
            found |= {each.id for each in targets if isinstance(each, ast.Name)}
    return found


def tree_of(documented) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(documented))))


def raised_by(function, seen: set) -> set[str]:
    """Names of the exceptions raised in a function, or in functions of ours that it calls.

    What stands in a `try` is left out: who knows what becomes of it.
    """
    function = inspect.unwrap(function)
    if function in seen:
        return set()
    seen.add(function)
    found: set[str] = set()
    waiting = list(tree_of(function).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Try) and node.handlers:
            waiting += [*node.handlers, *node.orelse, *node.finalbody]
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            error = function.__globals__.get(node.exc.func.id)  # or what makes one
            made = inspect.isfunction(error)
            found.add(error.__annotations__["return"].__name__ if made else node.exc.func.id)
        elif isinstance(node, ast.Call):
            path = ast.unparse(node.func).split(".")
            try:
                called = functools.reduce(getattr, path[1:], function.__globals__[path[0]])
            except (AttributeError, KeyError):
                continue  # a local name, a method
            if inspect.isfunction(called) and called.__module__.startswith("jaxstyle"):
                found |= raised_by(called, seen)
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_has_a_docstring(name):
    each = PUBLIC[name]
    if isinstance(each, jaxstyle.Recipe):
        assert each.description
        assert each.source
    elif inspect.ismodule(each) or name in CLASSES or name in FUNCTIONS:
        assert (each.__doc__ or "").strip()
        if dataclasses.is_dataclass(each):
            assert not each.__doc__.startswith(f"{each.__name__}("), "dataclass's own"
    else:
        # A constant or a type: where it is assigned.
        module, constant = name.rsplit(".", 1)
        modules = [sys.modules[module]]
        modules += {
            "jaxstyle": [jaxstyle.network.vgg],
            "jaxstyle.io": [jaxstyle.io.images],
            "jaxstyle.terms": [jaxstyle.terms.protocol, jaxstyle.terms.sampled],
        }.get(module, [])
        assert any(constant in documented_by_strings(tree_of(each)) for each in modules)


@pytest.mark.parametrize("name", CLASSES)
def test_fields_and_methods_are_documented(name):
    cls = CLASSES[name]
    told = set(entries(sections(cls).get("Attributes", ""))) | documented_by_strings(
        tree_of(cls).body[0]
    )
    assert told >= own_fields(cls)
    assert set(entries(sections(cls).get("Attributes", ""))) <= own_fields(cls), "no such field"
    for member, each in vars(cls).items():
        if inspect.isfunction(each) or isinstance(each, property):
            assert member.startswith("_") or each.__doc__, member
    if "__post_init__" in vars(cls) and raised_by(cls.__post_init__, set()):
        assert "ValueError" in entries(sections(cls).get("Raises", ""))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_results_and_errors_are_documented(name):
    function = FUNCTIONS[name]
    told, hints = sections(function), typing.get_type_hints(inspect.unwrap(function))
    arguments = entries(told.get("Args", ""))
    assert list(arguments) == list(parameters(function))
    assert set(hints) == {*parameters(function), "return"}, "type hints"
    for argument, text in arguments.items():
        if match := re.match(r"see `(\w+)`", text):
            assert argument in parameters(PUBLIC[f"{name.rpartition('.')[0]}.{match[1]}"])
            continue
        if has_arrays(hints[argument]):
            assert re.search(SHAPE, text), f"no shape: {argument}"
            picture = argument in ("image", "content", "style")
            assert not picture or re.search(r"\[0, 1\]|any scale", text), f"no range: {argument}"
    if hints["return"] is not type(None):
        result = told.get("Returns", told.get("Yields", ""))
        result = result if result else told[""] if told[""].startswith("Returns ") else ""
        assert result, "what is returned"
        assert not has_arrays(hints["return"]) or re.search(SHAPE, result), "its shape"
    raises = entries(told.get("Raises", ""))
    assert set(raises) >= raised_by(function, set())
    known = vars(builtins) | {"InputError": jaxstyle.io.InputError}
    assert all(issubclass(known[error], Exception) for error in raises)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_defaults_are_keyword_only(name):
    positional = {
        argument
        for argument, each in parameters(FUNCTIONS[name]).items()
        if each.default is not each.empty and each.kind is not each.KEYWORD_ONLY
    }
    assert positional == POSITIONAL.get(name, set())


@pytest.mark.parametrize("name", PUBLIC)
def test_names_in_docstrings_are_public(name):
    text = inspect.getdoc(PUBLIC[name]) or ""
    for path in re.findall(r"`(jaxstyle\.[\w.]+)`", text):
        functools.reduce(getattr, path.split(".")[1:], jaxstyle)
    known = {path.split(".", start)[-1] for path in PUBLIC for start in (1, 2)}
    known |= set(entries(sections(PUBLIC[name]).get("Attributes", "")))
    assert set(re.findall(r"\b[Ss]ee `([\w.]+)`", text)) <= known


STYLIZE = [each for name, each in FUNCTIONS.items() if "stylize" in name]


@pytest.mark.parametrize("function", STYLIZE, ids=lambda function: function.__name__)
def test_the_options_are_shown_whole(function):
    """By `help`, which shows signature and docstring, as if they were written out."""
    hints = typing.get_type_hints(jaxstyle.StylizeOptions)
    shown = inspect.signature(function).parameters
    names = list(shown)
    assert names[3 : 3 + len(hints)] == list(hints)
    for name, hint in hints.items():
        assert shown[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert shown[name].annotation == hint
        assert shown[name].default is (recipes.DEFAULT if name == "recipe" else None)
    written = entries(sections(jaxstyle.StylizeOptions)["Attributes"])
    told = entries(sections(function)["Args"])
    assert {name: " ".join(told[name].split()) for name in hints} == {
        name: " ".join(text.split()) for name, text in written.items()
    }
    text = pydoc.render_doc(function, renderer=pydoc.plaintext)
    assert all(f"{name}: {written[name].splitlines()[0]}" in text for name in hints)
    signature = text.split("\n\n")[1].partition("\n")[0]
    assert "recipe=recipes.DEFAULT, weights=None, solver=None" in signature
    assert "Union" not in text.replace(inspect.getdoc(function), "")
    assert len(signature) < 400


@pytest.mark.slow
def test_mypy_checks_the_options(tmp_path):
    code = """
        from typing import Any, Unpack
        import jaxstyle

        def wrapped(x: Any, **options: Unpack[jaxstyle.StylizeOptions]) -> jaxstyle.StyleResult:
            return jaxstyle.stylize(x, x, x, **options)

        def calls(x: Any) -> None:
            wrapped(x, tile=64)
            jaxstyle.stylize_batch(x, x, x, recipe=jaxstyle.recipes.GATYS, weights={"style": 2.0})
            jaxstyle.stylize_batch_steps(x, x, x, every=2, tile=64)
            jaxstyle.stylize(x, x, x, tiles=64)
            jaxstyle.stylize_steps(x, x, x, tile="64")
            wrapped(x, mash=None)
    """
    file = tmp_path / "calls.py"
    file.write_text(textwrap.dedent(code))
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path), str(file)]
    found = subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)
    errors = [line for line in found.stdout.splitlines() if "error" in line and "calls.py" in line]
    assert len(errors) == 3
    for error, text in zip(errors, ("tiles", 'Argument "tile" to', "mash"), strict=True):
        assert text in error


def test_the_package_is_typed():
    assert (Path(jaxstyle.__file__).parent / "py.typed").exists()


def test_the_core_touches_arrays_only():
    """No file, environment, process, network, clock, generator, warning or setting of JAX."""
    output = subprocess.run(
        [sys.executable, "-W", "error", str(Path(__file__).parent / "pure_core.py")],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    ).stdout
    report = json.loads(output)
    assert report["touched"] == []
    assert report["changed"] == {"by import": [], "by calls": []}
    core = [name.removeprefix("jaxstyle.") for name in FUNCTIONS if ".io." not in name]
    core = [name for name in core if not name.startswith("Network.")]  # those of VGG are called
    aliases = {name for name in core if f"losses.{name}" in core}
    assert set(report["called"]) == set(core) - aliases


# Of each kind of value, another one for every field.
OF_VGG = {
    "pooling": "l2",
    "padding": "reflect",
    "first_padding": "zero",
    "dtype": jnp.bfloat16,
    "preprocessing": "torchvision",
    "white": 256.0,
    "pooling_scale": 2.0,
}
OF_DRAWS = {"samples": 7, "redraw": 7, "style_samples": 7, "name": "other"}
CHANGES = {
    jaxstyle.VGG19: OF_VGG,
    jaxstyle.VGG16: OF_VGG,
    jaxstyle.LBFGS: {
        "num_steps": 7,
        "history_size": 7,
        "first_step": 0.5,
        "smoothness": 0.5,
        "tolerance": 0.5,
        "patience": 7,
        "bounds": (0.0, 1.0),
        "history_dtype": "bfloat16",
    },
    jaxstyle.Adam: {
        "num_steps": 7,
        "learning_rate": 0.5,
        "b1": 0.5,
        "b2": 0.5,
        "eps": 0.5,
        "clip": True,
        "average": 0.5,
        "keep_moments": True,
        "tolerance": 0.5,
        "patience": 7,
        "coordinates": "laplacian",
        "levels": 7,
    },
    jaxstyle.RMSprop: {
        "num_steps": 7,
        "learning_rate": 0.5,
        "decay": 0.5,
        "eps": 0.5,
        "coarse_factor": 0.5,
        "clip": True,
        "average": 0.5,
        "tolerance": 0.5,
        "patience": 7,
        "coordinates": "laplacian",
        "levels": 7,
    },
    jaxstyle.ScipyLBFGSB: {"num_steps": 7, "maxfun": 7, "history_size": 7},
    jaxstyle.Pyramid: {
        "coarsest": 7,
        "factor": 3.0,
        "steps": (7,),
        "carry": "image",
        "last_carry": "image",
        "weight_factors": {"style": (7.0, 1.0)},
        "factors_from": "smallest",
        "finish": 7,
    },
    terms.Content: {
        "layers": ("pool1",),
        "layer_weights": (7.0,),
        "reduction": "mean",
        "normalize_gradients": True,
        "name": "other",
    },
    terms.GramStyle: {
        "layers": ("relu1_1", "relu1_2", "relu2_1", "relu3_1", "relu4_1"),
        "layer_weights": (1.0, 2.0, 3.0, 4.0, 5.0),
        "reduction": "keras",
        "normalize_gradients": True,
        "name": "other",
    },
    terms.MomentStyle: {
        "layers": ("relu1_1", "relu1_2", "relu2_1", "relu3_1", "relu4_1"),
        "layer_weights": (1.0, 2.0, 3.0, 4.0, 5.0),
        "order": 1,
        "name": "other",
    },
    terms.Wasserstein2Style: {
        "layers": ("relu1_1", "relu1_2", "relu2_1", "relu3_1", "relu4_1"),
        "layer_weights": (1.0, 2.0, 3.0, 4.0, 5.0),
        "epsilon": 0.5,
        "iterations": 7,
        "name": "other",
    },
    terms.MRFStyle: {
        "layers": ("relu1_1", "relu1_2"),
        "layer_weights": (1.0, 2.0),
        "size": 5,
        "stride": 2,
        "reduction": "sum",
        "name": "other",
    },
    terms.NearestStyle: {
        "groups": (("relu1_1", "relu1_2"),),
        "group_weights": (2.0,),
        "samples": 7,
        "redraw": 7,
        "style_samples": 7,
        "center": True,
        "rotations": True,
        "name": "other",
    },
    terms.MatchedStyle: {
        "layers": ("relu2_1", "relu3_1"),
        "grid": "relu2_1",
        "style_samples": 7,
        "alpha": 0.5,
        "rotations": True,
        "name": "other",
    },
    terms.SelfSimilarity: {"layers": ("pool1",), "samples": 7, "redraw": 7, "name": "other"},
    terms.RelaxedEMD: {"layers": ("pool1",), **OF_DRAWS},
    terms.SampleMoments: {"layers": ("pool1",), "scale": 7.0, **OF_DRAWS},
    terms.Palette: OF_DRAWS,
    terms.SlicedStyle: {
        "layers": ("image", *terms.SlicedStyle.layers[1:]),
        "layer_weights": (7.0, *terms.SlicedStyle.layer_weights[1:]),
        "directions": "axes",
        **OF_DRAWS,
    },
    terms.LocalAffine: {"epsilon": 0.5, "reduction": "mean", "name": "other"},
    terms.TotalVariation: {
        "power": 0.5,
        "reduction": "mean",
        "pixel_range": 255.0,
        "name": "other",
    },
    terms.NinePointVariation: {"name": "other"},
    jaxstyle.Recipe: {
        "name": "other",
        "source": "other",
        "description": "other",
        "terms": (terms.Content(), terms.MomentStyle()),
        "weights": {"content": 1.0, "style": 7.0},
        "network": jaxstyle.VGG19(dtype=jnp.bfloat16),
        "solver": jaxstyle.Adam(),
        "init": "noise",
        "grain": 7.0,
        "pyramid": jaxstyle.Pyramid(),
        "size": 7,
        "median_filter": 7,
        "strength": 0.5,
        "color": "match",
    },
}


def test_all_values_are_known():
    made = {jaxstyle.StyleResult, jaxstyle.Trace, jaxstyle.Checkpoint, jaxstyle.Status}
    others = {jaxstyle.io.InputError, jaxstyle.io.WeightsInfo, terms.Term, terms.SampledTerm}
    others |= {jaxstyle.Optax}  # its functions are equal only to themselves, see test_optax.py
    others |= {jaxstyle.Network, jaxstyle.VGG, jaxstyle.StylizeOptions}
    assert set(CHANGES) == set(CLASSES.values()) - made - others


@pytest.mark.parametrize("cls", CHANGES, ids=lambda cls: cls.__name__)
def test_values_hash_and_compare_by_value_and_are_static(cls):
    changes = CHANGES[cls]
    assert set(changes) == own_fields(jaxstyle.VGG if issubclass(cls, jaxstyle.VGG) else cls)
    value = recipes.GATYS if cls is jaxstyle.Recipe else cls()
    traced = []
    compute = jax.jit(lambda static, x: traced.append(static) or x + 1, static_argnums=0)
    compute(value, 1.0)
    for twin in (
        dataclasses.replace(value),
        copy.copy(value),
        copy.deepcopy(value),
        pickle.loads(pickle.dumps(value)),
    ):
        assert twin is not value
        assert twin == value
        assert hash(twin) == hash(value)
        compute(twin, 1.0)
    assert len(traced) == 1
    assert value != cls.__name__
    for number, (field, new) in enumerate(changes.items(), start=2):
        changed = dataclasses.replace(value, **{field: new})
        assert changed != value
        assert pickle.loads(pickle.dumps(changed)) == changed
        compute(changed, 1.0)
        assert len(traced) == number
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, new)


def test_recipes_of_another_process_are_the_same():
    """With other hashes of strings there, which must not come along."""
    code = (
        "import pickle, sys, jaxstyle; recipes = dict(jaxstyle.recipes.RECIPES);"
        "[hash(recipe) for recipe in recipes.values()];"
        "sys.stdout.buffer.write(pickle.dumps(recipes))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    ).stdout
    for name, recipe in pickle.loads(output).items():
        assert recipe == recipes.RECIPES[name]
        assert hash(recipe) == hash(recipes.RECIPES[name])


def test_results_survive_pickle(random_params, pictures):
    recipe = dataclasses.replace(
        recipes.GATYS,
        terms=(terms.Content(layers=("relu1_1",)), terms.TotalVariation()),
        weights={"content": 1.0, "total_variation": 1.0},
        solver=jaxstyle.LBFGS(num_steps=2),
    )
    result = jaxstyle.stylize(random_params, pictures(0), None, recipe=recipe)
    for twin in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert type(twin) is jaxstyle.StyleResult
        assert jax.tree.structure(twin) == jax.tree.structure(result)
        for own, other in zip(jax.tree.leaves(result), jax.tree.leaves(twin), strict=True):
            assert isinstance(other, jax.Array)
            assert other.dtype == own.dtype
            np.testing.assert_array_equal(own, other)
