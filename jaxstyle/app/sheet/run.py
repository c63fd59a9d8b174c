"""Makes a sheet, from its cells to the saved files."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jaxstyle.app import compile_cache, outputs, saving
from jaxstyle.app.console import print_json, print_message, show_progress
from jaxstyle.app.interrupts import Interrupts, leave
from jaxstyle.app.job import Job
from jaxstyle.app.pages.html import page_path, write_page
from jaxstyle.app.pages.sheet_page import describe_sheet
from jaxstyle.app.sheet.drawing import Panel, draw_sheet
from jaxstyle.app.sheet.painter import SheetPainter
from jaxstyle.app.sheet.plan import Cell, Group, announce, make_groups
from jaxstyle.app.sidecar import (
    SECONDS,
    count_compilation,
    describe_files,
    device_name,
    hash_or_none,
    round_seconds,
    text_of,
    timed,
)
from jaxstyle.io import check_extension, describe_recipe, describe_versions, write_json
from jaxstyle.io.files import describe_error
from jaxstyle.io.image_alpha import on_white


def paint_sheet(cells: Sequence[Cell], job: Job) -> int:
    """Paints the cells of a sheet, and saves it.

    Args:
        cells: what to paint.
        job: the outputs, and what all cells have in common.

    Returns:
        The exit code: 0, 1 if a cell is empty, 128 + the number of a signal.

    Raises:
        InputError: for anything that is wrong with the input, before the run starts.
    """
    jobs = [cell.job for cell in cells if cell.job is not None]
    outputs.check_job(job, [path for each in jobs for path in each.sources])
    call = compile_cache.keep_compiled_programs()
    seconds = dict.fromkeys(SECONDS, 0.0)
    with timed(seconds, "load"):
        groups = make_groups(cells)
    panels = [*_inputs(job, groups[0]), *(Panel(cell.label, "", None) for cell in cells)]
    shape = groups[0].loaded.pictures.content.shape
    if not job.is_stdout:
        check_extension(job.output, size=max(draw_sheet(panels, shape).shape), bits=job.bits)
    if not job.quiet:
        announce(groups)
        compile_cache.announce_compilation(call)
    with Interrupts() as interrupts:
        with (
            show_progress(job.progress, job.quiet, "pictures") as show,
            timed(seconds, "optimize"),
            count_compilation(seconds),
        ):
            painter = SheetPainter(groups, call, interrupts, show)
            problem = interrupts.watch(
                painter.paint, lambda: any(cell.has_picture for cell in cells)
            )
        seconds["optimize"] -= seconds["compile"]
        code = interrupts.code
        if problem is not None and not code:
            if not any(cell.has_picture for cell in cells):
                raise problem
            print_message(f"error: stopped: {describe_error(problem)}")
            code = 1
        if any(cell.has_picture for cell in cells):
            code = _save(cells, groups[0], job, seconds, code)
        elif code:
            print_message("interrupted before there was anything to save")
        else:
            code = 1
            print_json(job.progress, {"output": None, "status": "failed"})
            print_message("error: no picture could be painted. Nothing was saved")
        code = code or interrupts.code
        if interrupts.abandoned:
            leave(code)
    return code


def _inputs(job: Job, group: Group) -> list[Panel]:
    """Returns the panels of photo and paintings."""
    pictures, alpha = group.loaded.pictures, group.loaded.alpha
    content = pictures.content if alpha is None else on_white(pictures.content, alpha)
    photo = [] if job.content is None else [Panel("photo", job.content.name, content)]
    styles = zip(job.styles, pictures.styles, strict=True)
    return [*photo, *(Panel("painting", path.name, style) for path, style in styles)]


def _save(
    cells: Sequence[Cell], group: Group, job: Job, seconds: dict[str, float], code: int
) -> int:
    """Saves the sheet, its JSON and its page; returns the exit code, which was `code` so far."""
    begin = time.perf_counter()
    panels = [
        *_inputs(job, group),
        *(Panel(cell.label, cell.note, cell.image if cell.has_picture else None) for cell in cells),
    ]
    sheet = draw_sheet(panels, (*group.loaded.shape, 3))
    saving.make_folder(job.output)
    saved = saving.save_picture(job.output, sheet, overwrite=job.overwrite, bits=job.bits)
    seconds["save"] += time.perf_counter() - begin
    empty = sum(not cell.has_picture for cell in cells)
    complete = saved == job.output and not empty
    page = None if job.report is None else str(page_path(job.report))
    if saved is not None:
        there = dataclasses.replace(job, output=saved)
        metadata = _describe(cells, there, sheet.shape, seconds)
        for what, write in (
            ("JSON", lambda: _write_json(there, metadata)),
            ("report", lambda: _write_page(cells, group, there, metadata)),
        ):
            try:
                write()
            except Exception as error:  # one file that cannot be written does not affect the other
                print_message(f"error: there is no {what}: {describe_error(error)}")
                complete = False
    painted = len(cells) - empty
    facts = {"painted": painted, "failed": sum(bool(cell.problem) for cell in cells)}
    status = {0: "done", 1: "failed"}.get(code, "interrupted")
    print_json(
        job.progress,
        {"output": None if saved is None else str(saved), "report": page, "status": status,
         **facts, "total": len(cells), "seconds": round_seconds(seconds)},
    )  # fmt: skip
    if not job.quiet:
        place = "stdout" if job.is_stdout else str(saved)
        stopped = sum(cell.status == "interrupted" for cell in cells)
        early = f", {stopped} of them stopped early," if stopped else ""
        print_message(
            f"{place}: {painted} of {len(cells)} pictures{early} in {seconds['optimize']:.0f} s "
            f"(+ {seconds['compile']:.0f} s compilation)"
        )
        if not job.is_stdout:
            print_message(f"next: the command of each picture is in {there.metadata_path.name}")
    return code or (0 if complete else 1)


def _write_json(job: Job, metadata: Mapping[str, Any]) -> None:
    if job.is_stdout:
        return
    if not job.overwrite:
        outputs.check_replaceable(job.metadata_path)
    write_json(job.metadata_path, metadata)


def _write_page(cells: Sequence[Cell], group: Group, job: Job, metadata: Mapping[str, Any]) -> None:
    if job.report is None:
        return
    if not job.overwrite:
        outputs.check_replaceable(page_path(job.report))
    write_page(job.report, describe_sheet(job, cells, group.loaded.pictures, metadata))


def _describe(
    cells: Sequence[Cell], job: Job, shape: Sequence[int], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """Returns the content of the JSON next to a sheet."""
    return {
        "output": job.output.name,
        "command": job.command or None,
        "content": None if job.content is None else text_of(job.content, job),
        "styles": [text_of(path, job) for path in job.styles],
        "cells": [
            {
                "label": cell.label,
                **({"problem": cell.problem} if cell.problem else {}),
                "command": None if cell.job is None else cell.job.command,
                "recipe": None if cell.job is None else describe_recipe(cell.job.recipe),
                **(cell.facts if cell.has_picture else {}),
                "status": cell.status,
            }
            for cell in cells
        ],
        "files": describe_files(job),
        "versions": describe_versions(),
        "device": device_name(),
        "size": [shape[1], shape[0]],
        "seconds": round_seconds(seconds),
        "sha256": hash_or_none(job.output),
    }
