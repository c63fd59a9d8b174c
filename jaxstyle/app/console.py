"""What a run says: messages, and its progress as a bar, as lines, or as JSON Lines for scripts."""

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from jaxstyle.io.locations import redact

if TYPE_CHECKING:  # the command line says what is wrong before JAX is loaded
    from jaxstyle.recipe import Recipe

_LINES = 20  # of progress, without a bar
_RECENT = 10  # entries of a trace to measure speed and change from
_WIDE = 76  # columns that a terminal needs to show the bar itself
_SHORTEST_BAR = 6


def print_message(text: str) -> None:
    """Prints a message on stderr, without passwords in it. A closed stderr is no problem."""
    try:
        print(redact(text), file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO | None) -> None:
    """Redirects a stream that cannot be written; Python would end with another exit code for it."""
    if stream is None:  # it was closed before the program began
        return
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def show_progress(mode: str, quiet: bool, unit: str) -> Iterator[Callable[..., None]]:
    """Yields a function that shows `done` of `total` and a text on stderr.

    Its last argument, `begun`, is how much of the units after `done` is finished already.

    Args:
        mode: `auto` draws a bar on a terminal and prints twenty lines elsewhere; `plain` prints
            lines; `json` shows nothing here.
        quiet: show nothing.
        unit: name of what is counted.
    """
    from rich.console import Console  # noqa: PLC0415  slow to import
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn  # noqa: PLC0415

    console = Console(file=_Stderr())  # type: ignore[arg-type]
    silent = quiet or mode == "json"
    drawn = mode == "auto" and console.is_terminal and not console.is_dumb_terminal
    wide = console.width >= _WIDE
    columns: list[ProgressColumn] = [TextColumn("{task.description}")]
    if wide:
        columns += [BarColumn(bar_width=None), TextColumn("{task.fields[text]}")]
    shown, most = -1, 0.0
    with Progress(*columns, console=console, expand=wide, disable=silent or not drawn) as bar:
        task = bar.add_task("starting", total=None, text="")

        def show(done: int, total: int, text: str, begun: float = 0.0) -> None:
            nonlocal shown, most
            most = max(most, done + begun)  # never moves back
            # A narrow terminal cuts off the end, which is the least important part.
            count = f"{done}/{total} {unit if wide else text}"
            room = console.width - len(count) - _SHORTEST_BAR - 2
            cut = text if len(text) <= room else f"{text[: room - 1]}…"
            bar.update(task, total=total, completed=most, description=count, text=cut)
            part = _LINES if done >= total else min(int(most * _LINES / total), _LINES - 1)
            if not silent and not drawn and part > shown:
                shown = part
                print_message(f"{done}/{total} {unit}  {text}".rstrip())

        yield show


class _Stderr:
    """The error output, for rich. A closed terminal does not stop the program."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except OSError:
            discard(sys.stderr)
            return len(text)

    def flush(self) -> None:
        try:
            sys.stderr.flush()
        except OSError:
            discard(sys.stderr)


def print_json(mode: str, entry: Mapping[str, Any]) -> None:
    """Prints an object as a line of JSON on stdout if the mode is `json`; NaN becomes null."""
    if mode != "json":
        return
    try:
        print(redact(json.dumps(_finite(entry), allow_nan=False)), flush=True)
    except OSError:
        # The reader is gone, or a disk is full; the picture must not be lost for this.
        discard(sys.stdout)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def describe_step(
    trace: Sequence[Mapping[str, Any]], total: int, recipe: "Recipe", shape: tuple[int, ...]
) -> str:
    """Returns the size, the time left, the loss, its mean change per step, and the speed.

    Args:
        trace: entries so far, as in the JSON.
        total: steps of the whole run.
        recipe: of the run.
        shape: of the content, `(H, W, 3)`.
    """
    now, recent = trace[-1], trace[-1 - _RECENT :]
    size, text = f"{now['size'][0]}x{now['size'][1]} px", f"loss {now['loss']:.4g}"
    seconds = now["seconds"] - recent[0]["seconds"]
    if len(recent) < 2 or seconds <= 0:
        return f"{size}, {text}"
    # A mean, since single steps of L-BFGS rise and fall. Losses of two stages do not compare.
    then = entries_of_last_stage(recent)[0]
    if then["loss"] > 0 and now["loss"] > 0 and now["step"] > then["step"]:
        change = (now["loss"] / then["loss"]) ** (1 / (now["step"] - then["step"])) - 1
        text += f", {100 * change:+.2f}%/step"
    text += f", {speed(len(recent) - 1, seconds, 'step')}"
    return f"{size}, {time_left(seconds_left(recent, total, recipe, shape))}, {text}"


def entries_of_last_stage(trace: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the entries of a trace that were made at the stage of its last one."""
    return [entry for entry in trace if entry["stage"] == trace[-1]["stage"]]


def seconds_left(
    trace: Sequence[Mapping[str, Any]], total: int, recipe: "Recipe", shape: tuple[int, ...]
) -> float:
    """Returns how long the steps that are left take, by those in `trace`; inf if it is unknown."""
    then, now = trace[0], trace[-1]
    # The cost is proportional to the pixels.
    work = [width * height for width, height in sizes_of_steps(recipe, total, shape)]
    made = sum(work[then["step"] : now["step"]])
    left = sum(work[now["step"] :])
    return (now["seconds"] - then["seconds"]) * left / made if made else math.inf


def sizes_of_steps(recipe: "Recipe", total: int, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Returns the `(width, height)` of each of `total` steps of a run at full size `(H, W, 3)`."""
    return [size for _, size in _stages_of_steps(recipe, total, shape)]


def describe_stages(
    recipe: "Recipe", total: int, shape: tuple[int, ...]
) -> list[dict[str, int | list[int]]]:
    """Returns `stage` and `size` of each of `total` steps, as in the JSON.

    The first stage of the run is 0. Each size is a stage, and so are the steps after the largest
    one that `Pyramid.finish` asks for.
    """
    stages = _stages_of_steps(recipe, total, shape)
    return [{"stage": stage - stages[0][0], "size": [*size]} for stage, size in stages]


def _stages_of_steps(
    recipe: "Recipe", total: int, shape: tuple[int, ...]
) -> list[tuple[int, tuple[int, int]]]:
    from jaxstyle.image import scaled_shape  # noqa: PLC0415  loads JAX

    pyramid, stages = recipe.pyramid, [(1.0, recipe.solver.num_steps)]
    if pyramid is not None:
        stages = [*pyramid.scales(*shape[:2]), *stages, (1.0, pyramid.finish)]
    steps: list[tuple[int, tuple[int, int]]] = []
    for stage, (scale, number) in enumerate(stages):
        height, width, _ = scaled_shape(shape, scale)
        steps += [(stage, (width, height))] * number
    return steps[-total:]  # a run that has fewer steps skips small sizes


def time_left(seconds: float) -> str:
    """Formats the time left."""
    if not seconds < 1e8:
        return "unknown time left"
    if seconds < 120:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 7200 else f"{seconds / 3600:.1f} h left"


def speed(number: float, seconds: float, noun: str) -> str:
    """Formats a speed, such as `2.5 pairs a second` or `12 s a pair`."""
    if number >= seconds:
        return f"{number / seconds:.3g} {noun}s a second"
    return f"{seconds / number:.3g} s a {noun}"
