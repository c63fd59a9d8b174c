"""Paints a picture again from the JSON next to it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from jaxstyle.app.job import Job, check_settings
from jaxstyle.app.sidecar import STDIN, hash_or_none
from jaxstyle.app.vgg import vgg_of
from jaxstyle.app.working_size import MULTIPLE
from jaxstyle.io import InputError, build_recipe, list_weights
from jaxstyle.io.errors import check_positive
from jaxstyle.io.files import describe_path
from jaxstyle.io.json_file import read_json
from jaxstyle.io.locations import is_url, redact
from jaxstyle.io.network_weights.load import load_params_and_info
from jaxstyle.io.recipe_codec import convert


def job_of(path: Path, **others: Any) -> Job:
    """Makes the job that painted the picture next to a JSON file, in any current folder.

    The input files must not have changed. They are looked up at their old paths, and next to the
    JSON.

    Args:
        path: the JSON.
        **others: further fields of `Job`. The default of `output` is `NAME-again.EXTENSION` in the
            current folder.

    Raises:
        InputError: if it is not such a JSON, or if files or network weights have changed.
    """
    record = path.with_suffix(".json")
    if path.suffix.lower() != ".json" and record.is_file():
        raise InputError(f"{describe_path(path)} is the picture: give {describe_path(record)}")
    metadata = read_json(path)
    name = describe_path(path)
    if "cells" in metadata:
        raise InputError(f"{name} is that of a sheet: run its command, or that of one of its cells")
    try:
        files: Mapping[str, Any] = metadata["files"]
        recipe = build_recipe(metadata["recipe"])
        several = {
            role: tuple(_find(entry, path) for entry in files[role])
            for role in ("styles", "masks", "style_masks")
        }
        single = {
            role: None if files[role] is None else _find(files[role], path)
            for role in ("content", "init", "params")
        }
        first = Path(metadata["output"])
        settings = {
            "output": Path(f"{first.stem}-again{first.suffix}"),
            **_settings(metadata, None if single["init"] is None else str(single["init"])),
        }
        weights = convert(str, metadata["weights"]["sha256"], "weights.sha256")
        shares = settings["style_weights"]
        check_settings(
            recipe,
            single["content"],
            several["styles"],
            init=settings["init"],
            seed=settings["seed"],
            style_weights=() if shares is None or isinstance(shares, Mapping) else shares,
            style_scale=settings["style_scale"],
            masks=several["masks"],
            style_masks=several["style_masks"],
        )
    except InputError as error:
        raise InputError(f"{name} cannot be repeated: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{name} does not say how its picture was painted (no {error}); give the JSON that "
            "jaxstyle wrote next to a picture"
        ) from None
    changed = list(_changed(files, {**several, **single}))
    if changed:
        raise InputError(f"{name} cannot be repeated: {'; '.join(changed)}")
    single["params"] = _find_params(single["params"], weights, vgg_of(recipe).preprocessing)
    return Job(
        content=single["content"],
        styles=several["styles"],
        masks=several["masks"],
        style_masks=several["style_masks"],
        params=single["params"],
        recipe=recipe,
        recipe_file=path,
        **{**settings, **others},
    )


def _settings(metadata: Mapping[str, Any], init: str | None) -> dict[str, Any]:
    """Returns the settings that are not files, with checked types; `init` is a picture or None.

    Raises:
        InputError: if one is of another type, or out of its range.
        KeyError: if one is missing.
    """

    def get(hint: Any, name: str) -> Any:
        return convert(hint, metadata[name], name)

    shares = metadata["style_weights"]
    if isinstance(shares, Mapping):
        shares = {
            layer: convert(tuple[float, ...], each, "style_weights")
            for layer, each in shares.items()
        }
    else:
        shares = get(tuple[float, ...] | None, "style_weights")
    size = get(tuple[int, ...], "size")
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"size {list(size)!r:.90}: give width and height, each at least 1")
    multiple_of, tile = get(int, "multiple_of"), get(int | None, "tile")
    if multiple_of not in (1, MULTIPLE):
        raise InputError(f"multiple_of {multiple_of}: choose 1 or {MULTIPLE}")
    check_positive("tile", tile)
    bits = convert(int, metadata.get("bits", 8), "bits")  # older files have none
    if bits not in (8, 16):
        raise InputError(f"bits {bits}: choose 8 or 16")
    return {
        "size": max(size),
        "init": init or get(Literal["content", "noise", "mean", "detail"], "init"),
        "seed": metadata["seed"],
        "style_weights": shares,
        "style_scale": get(float, "style_scale"),
        "precision": get(Literal["float32", "tf32", "bfloat16"], "precision"),
        "multiple_of": multiple_of,
        "bits": bits,
        "tile": tile,
    }


def _find(entry: Mapping[str, Any], beside: Path) -> Path:
    """Returns the path of a file: the old one, unless only a file next to the JSON has its hash."""
    if entry["path"] == STDIN:
        return beside.parent / "stdin"
    path = Path(entry["path"])
    moved = beside.parent / path.name
    if hash_or_none(path) != entry["sha256"] and hash_or_none(moved) == entry["sha256"]:
        return moved
    return path


def _changed(files: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Yields a message for each file that is missing or has changed."""
    for role, paths in found.items():
        several = isinstance(paths, tuple)
        entries = files[role] if several else [files[role]]
        for entry, path in zip(entries, paths if several else [paths], strict=True):
            if path is None:
                continue
            now = hash_or_none(path)
            if now != entry["sha256"] and entry["path"] == STDIN:
                yield (
                    "a picture came from stdin: save it as a file named stdin next to the JSON, "
                    f"as {describe_path(path)}"
                )
            elif now is None and is_url(entry["path"]):
                yield f"download {redact(entry['path'])} and save it next to the JSON"
            elif now is None:
                yield f"{describe_path(path)} is missing or cannot be read"
            elif now != entry["sha256"]:
                yield f"{describe_path(path)} has changed since then"


def _find_params(path: Path | None, sha256: str, preprocessing: Any) -> Path | None:
    """Returns the file with the network weights of that hash, None for the default ones.

    Raises:
        InputError: if there is no such file.
    """
    if path is None:
        for each in list_weights():
            if each.sha256 == sha256:
                return each.path
    _, info = load_params_and_info(path, preprocessing=preprocessing)
    if info.sha256 != sha256:
        raise InputError(
            "the picture was painted with other network weights, with the SHA-256 "
            f"{sha256[:16]}...; put them into the cache with jaxstyle weights convert"
        )
    return path
