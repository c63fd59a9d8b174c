"""One loss and its gradient, against PyTorch."""

import sys
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from common import Options, alternate, compare, load, problem, report

import jaxstyle
from jaxstyle import recipes


def evaluation(options: Options, sizes: tuple[int, ...] = (256, 512)) -> None:
    """One loss and gradient: jaxstyle against PyTorch, eager and compiled, same objective.

    Stops if the gradients of the two differ by more than 1e-2.
    """
    params = jaxstyle.io.load_params()
    rows = [row for size in sizes for row in _evaluations(params, size, options)]
    report("evaluation", rows, options)


def _evaluations(params: Any, size: int, options: Options) -> list[dict[str, Any]]:
    from peers import TorchObjective

    content, style = load(options, size)
    image = jnp.asarray(content)
    value_and_grad, arguments = problem(recipes.GATYS_NOTEBOOK, content, style, params)
    default, default_arguments = problem(recipes.DEFAULT, content, style, params)
    peer = TorchObjective(params, content, style)
    torch_image, eager = peer.image(content), peer.evaluation()
    functions: dict[str, Callable[[], Any]] = {
        "jaxstyle": lambda: value_and_grad(image, *arguments),
        "torch eager": lambda: eager(torch_image),
        "jaxstyle, default recipe": lambda: default(image, *default_arguments),
    }
    compiled = peer.evaluation(compiled=True)
    try:
        compiled(torch_image)
        functions["torch.compile"] = lambda: compiled(torch_image)
    except Exception as reason:  # for example, no C++ compiler
        print(f"torch.compile is left out: {str(reason).splitlines()[0]}", file=sys.stderr)

    (value, _), gradient = value_and_grad(image, *arguments)
    their_value, their_gradient = eager(torch_image)
    difference = gradient - their_gradient[0].permute(1, 2, 0).numpy()
    error = float(jnp.linalg.norm(difference.ravel()) / jnp.linalg.norm(gradient.ravel()))
    print(
        f"{size} px: value {float(value):.7g}, torch {float(their_value):.7g}; gradients differ by "
        f"{error:.1e}"
    )
    if error > 1e-2:
        raise SystemExit("error: the objective in peers.py is another one")
    times = alternate(functions, options)
    return [
        {
            "size": f"{content.shape[1]}x{content.shape[0]}",
            "what": name,
            "seconds": float(np.median(seconds)),
            **compare(seconds, times["torch eager"], "torch eager"),
        }
        for name, seconds in times.items()
    ]
