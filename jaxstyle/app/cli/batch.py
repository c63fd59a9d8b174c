"""`jaxstyle batch`: many pairs."""

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxstyle.app.cli.arguments import check_processes, command_line
from jaxstyle.io.errors import InputError, check_positive


def batch(
    manifest: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="MANIFEST")] = None,
    *,
    output_dir: str,
    contents: str | None = None,
    styles: str | None = None,
    recipe: str = "default",
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = (),
    size: int | None = None,
    steps: int | None = None,
    coarsest: int | None = None,
    init: Literal["content", "noise", "mean"] | None = None,
    seed: int = 0,
    precision: Literal["float32", "tf32", "bfloat16"] = "float32",
    weights: tuple[str, ...] = (),
    style_scale: float = 1.0,
    color: Literal["style", "luminance", "match"] | None = None,
    params: str | None = None,
    batch_size: int | None = None,
    memory: str | None = None,
    devices: int | None = None,
    root: str | None = None,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    force: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    report: str | None = None,
    progress: Literal["auto", "plain", "json"] = "auto",
    quiet: bool = False,
) -> int:
    """Paint many pairs, some at a time; start it again to go on where it was stopped.

    Settings are those of `jaxstyle stylize`, for all pairs; a row of the manifest may have its
    own. Recipes that run on SciPy, tiles and checkpoints are for single pictures. Journal and
    pictures are in the output folder; a pair that fails is noted there and does not stop the
    others.

    Args:
        manifest: CSV or JSON Lines: content, style and output in each row.
        output_dir: For pictures, their JSON files and the journal.
        contents: Instead of a manifest: photos, such as 'photos/*.jpg'.
        styles: Paintings; each photo is painted in each of them.
        recipe: For rows without one.
        settings: Override settings of the recipe.
        size: Long edge in pixels [the recipe's].
        steps: Steps of the solver [the recipe's].
        coarsest: First size of the coarse-to-fine schedule, 0 for none.
        init: Start from the photo, noise or the mean colour [the recipe's].
        seed: Random seed, used when starting from noise.
        precision: Of the network; faster on some accelerators.
        weights: Override loss weights, such as style=2; 0 removes a term.
        style_scale: Size of the painting over --size; above 1: larger strokes.
        color: luminance: the photo's colours; match: in its palette.
        params: Network weights in any format `weights convert` reads [cached].
        batch_size: Pairs painted at once, at most [what memory allows].
        memory: Memory limit of a batch, such as 4GB [what is available].
        devices: Use this many devices [all].
        root: Refuse pictures and recipes outside of this folder.
        coordinator: First of several processes; `auto` asks the cluster.
        processes: Number of processes that share manifest and output folder.
        process: Which of the processes this is, from 0.
        force: Repaint pictures made with other settings, weights or photos.
        retry_failed: Try again what has failed before.
        overwrite: Replace existing files of others; never files that are read.
        report: Write a page with all pictures, index.html, here.
        progress: A bar, lines, or for scripts JSON Lines on stdout.
        quiet: Print errors and warnings only.
    """
    command = command_line(batch, locals())
    # They load JAX: not for --help.
    import jax  # noqa: PLC0415

    from jaxstyle.app.batch.plan import plan_pairs  # noqa: PLC0415
    from jaxstyle.app.batch.runner import Options, run_batch  # noqa: PLC0415
    from jaxstyle.app.devices import join  # noqa: PLC0415
    from jaxstyle.app.job import make_job  # noqa: PLC0415
    from jaxstyle.app.memory_estimate import parse_memory  # noqa: PLC0415
    from jaxstyle.io.manifest import cross_product, read_manifest  # noqa: PLC0415

    check_positive("--batch-size", batch_size)
    check_positive("--devices", devices)
    if coordinator is not None:
        check_processes(coordinator, processes, process)
    elif (processes is None) != (process is None) or (
        processes is not None and not 0 <= (process or 0) < processes
    ):
        raise InputError("give --processes N together with --process I, counted from 0")
    folder = Path(output_dir)
    if not folder.parent.is_dir():
        raise InputError(f"--output-dir {output_dir}: make its folder first")
    if (manifest is None) == (contents is None) or (contents is None) != (styles is None):
        raise InputError("give a MANIFEST, or both --contents and --styles")
    if manifest is not None:
        name, rows = manifest, read_manifest(manifest, output_dir=folder, root=root)
    else:
        name, rows = (
            f"{contents} x {styles}",
            cross_product(str(contents), str(styles), output_dir=folder),
        )

    def make(**own: Any) -> Any:
        own["settings"] = (*settings, *own.get("settings", ()))
        own["weights"] = (*weights, *own.get("weights", ()))
        common = {
            "recipe": recipe,
            "size": size,
            "steps": steps,
            "coarsest": coarsest,
            "init": init,
            "seed": seed,
            "precision": precision,
            "style_scale": style_scale,
            "color": color,
            "params": params,
            "command": command,
        }
        return make_job(**{**common, **own})

    pairs = plan_pairs(rows, name, folder, make)
    join(coordinator, processes, process)
    options = Options(
        output_dir=folder,
        manifest=Path(manifest) if manifest else None,
        batch_size=batch_size,
        devices=devices,
        memory=parse_memory(memory) if memory else None,
        process=jax.process_index() if coordinator else process or 0,
        processes=jax.process_count() if coordinator else processes or 1,
        force=force,
        retry_failed=retry_failed,
        overwrite=overwrite,
        report=Path(report) if report else None,
        command=command,
        progress=progress,
        quiet=quiet,
    )
    return run_batch(pairs, options)
