"""`jaxstyle features`, `recipes` and `info`: the network's features, settings, the machine."""

import json
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxstyle.app.cli.pictures import check_output_dir, check_picture
from jaxstyle.io.errors import InputError, check_positive, closest


def features(
    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")],
    *,
    layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
    output_dir: str = ".",
    size: int = 512,
    maps: int = 64,
    params: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write a contact sheet of VGG19's feature maps for each layer, as PNG.

    Args:
        image: The picture.
        layers: Layers of the network.
        output_dir: Folder for IMAGE-LAYER.png.
        size: Long edge in pixels.
        maps: Maximum number of feature maps on a sheet.
        params: Network weights in any format `weights convert` reads [cached].
        overwrite: Replace existing files that jaxstyle did not write.
    """
    import numpy as np  # noqa: PLC0415

    from jaxstyle import LAYERS, VGG19  # noqa: PLC0415
    from jaxstyle.app.inputs import require_size  # noqa: PLC0415
    from jaxstyle.app.outputs import check_outputs  # noqa: PLC0415
    from jaxstyle.io import (  # noqa: PLC0415
        check_target,
        check_writable,
        contact_sheet,
        load_image,
        load_params,
        save_image,
    )

    check_picture("", image)
    folder = check_output_dir(output_dir)
    check_positive("--size", size)
    check_positive("--maps", maps)
    if not layers:
        raise InputError("--layers is empty: name at least one, such as relu4_1")
    for layer in layers:
        if layer not in LAYERS:
            known = f"choose from {', '.join(LAYERS)}{closest(layer, LAYERS)}"
            raise InputError(f"--layers: unknown layer {layer!r}: {known}")
    layers = tuple(dict.fromkeys(layers))
    outputs = [folder / f"{Path(image).stem}-{layer}.png" for layer in layers]
    if not folder.exists():
        check_target(folder)
    for path in outputs if folder.exists() else ():
        check_writable(path)
    check_outputs(outputs, [Path(image), *([Path(params)] if params else [])], overwrite=overwrite)
    network = VGG19()
    array = load_image(image, size=size)
    minimum = network.minimum_size(layers)
    require_size(image, array.shape, minimum, f"--size {size}", "these layers need")
    computed: Any = network.apply(load_params(params), array, layers)
    folder.mkdir(exist_ok=True)
    for layer, path in zip(layers, outputs, strict=True):
        save_image(path, contact_sheet(np.asarray(computed[layer])[:, :, :maps]))
        print(path)
    return 0


def recipes(
    name: Annotated[str | None, tyro.conf.Positional] = None,
    *,
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = (),
    toml: bool = False,
) -> int:
    """List the recipes, or print all settings of one, in the format that `--recipe FILE` reads.

    Args:
        name: A recipe or a file.
        settings: Override settings of the recipe.
        toml: Print TOML instead of JSON.
    """
    from jaxstyle.app.job import find_recipe  # noqa: PLC0415
    from jaxstyle.io.recipe_codec import describe_recipe, override, to_toml  # noqa: PLC0415
    from jaxstyle.recipes import RECIPES  # noqa: PLC0415

    if name is not None:
        description = describe_recipe(override(find_recipe(name), settings))
        print(to_toml(description) if toml else json.dumps(description, indent=2))
        return 0
    if settings or toml:
        raise InputError("name a recipe: jaxstyle recipes NAME")
    width = max(len(recipe) for recipe in RECIPES)
    for recipe in RECIPES.values():
        print(f"{recipe.name:{width}}  {recipe.description}\n{'':{width}}  [{recipe.source}]")
    return 0


def info(*, recipe: str = "default", memory: str | None = None) -> int:
    """Print versions, devices, weights and caches, and the memory that each size needs.

    Args:
        recipe: A recipe or a file.
        memory: Memory limit, such as 4GB [what is available].
    """
    import jax  # noqa: PLC0415

    from jaxstyle.app import memory_estimate as needed  # noqa: PLC0415
    from jaxstyle.app.available_memory import available_memory  # noqa: PLC0415
    from jaxstyle.app.job import find_recipe  # noqa: PLC0415
    from jaxstyle.io import describe_versions, list_weights  # noqa: PLC0415
    from jaxstyle.io.network_weights.cache import cache_dir  # noqa: PLC0415

    chosen = find_recipe(recipe)
    budget = needed.parse_memory(memory) if memory else available_memory()
    for name, version in describe_versions().items():
        print(f"{name:10} {version}")
    for device in jax.devices():
        print(f"{'device':10} {device} ({device.device_kind})")
    try:
        print(f"{'cache':10} {cache_dir()}")
        found = list_weights()
    except InputError as error:
        print(f"{'cache':10} none: {error}")
        found = []
    for weights in found:
        print(f"{'weights':10} {weights.path.name}: {weights.source}")
    if not found:
        print(f"{'weights':10} none yet; `jaxstyle weights fetch` gets them")
    limit = needed.format_memory(budget)
    print(f"{'memory':10} {limit}, {'the limit of --memory' if memory else 'available to a run'}")
    print(
        f"\nMemory that recipe {chosen.name} needs, as a whole, and here, with {limit}.\n"
        "A picture that does not fit as a whole is computed in windows: the same, in more time.\n\n"
        f"  {'size':>11}  {'as a whole':>10}  here"
    )
    for width in (256, 512, 1024, 2048, 4096, 8192):
        height = 3 * width // 4
        whole = needed.format_memory(needed.estimate_memory(chosen, height, width))
        try:
            tile = needed.choose_tile(chosen, height, width, budget)
        except InputError:
            here = "does not fit"
        else:
            taken = needed.estimate_memory(chosen, height, width, tile=tile)
            here = f"{needed.format_memory(taken)}, in windows of {tile} px"
            if tile is None:
                here = "as a whole"
        print(f"  {f'{width}x{height}':>11}  {whole:>10}  {here}")
    return 0
