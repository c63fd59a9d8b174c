"""Paints the two bundled samples: a tower over a waterfront at dusk, and a night sky of strokes.

This repository has no third-party pictures, so this program paints the samples. They depend on the
seed only. Everything is drawn at twice the size and then reduced.

    python scripts/paint_samples.py [--output-dir DIR] [--width N] [--seed N]
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

Array = NDArray[np.floating]
Color = tuple[int, int, int]

SAMPLES = Path(__file__).parent.parent / "jaxstyle" / "app" / "samples"


def mix(a: Array, b: Array | Color, share: Array | float) -> Array:
    """Returns `a` where `share` is 0 and `b` where it is 1; `(h, w)` shares are per pixel."""
    part = np.asarray(share, float)
    part = part[..., None] if part.ndim == 2 else part
    return a * (1 - part) + np.asarray(b, float) * part


def gradient(position: Array, stops: list[tuple[float, Color]]) -> Array:
    """Interpolates colors; `(...)` -> `(..., 3)`."""
    at, colors = [stop for stop, _ in stops], np.array([color for _, color in stops], float)
    return np.stack([np.interp(position, at, colors[:, c]) for c in range(3)], -1)


def fractal_noise(
    rng: np.random.Generator, shape: tuple[int, int], scale: float, stretch: float = 1.0
) -> Array:
    """Returns five octaves of smooth noise in [0, 1]; `scale` is the largest feature in pixels."""
    total = np.zeros(shape)
    for octave in range(5):
        sigma = scale / 2**octave
        grid = (int(shape[0] / sigma) + 4, int(shape[1] / (sigma * stretch)) + 4)
        coarse = rng.standard_normal(grid)
        rows = np.linspace(1, grid[0] - 3, shape[0])
        columns = np.linspace(1, grid[1] - 3, shape[1])
        mesh = np.meshgrid(rows, columns, indexing="ij")
        total += ndimage.map_coordinates(coarse, mesh, order=3) / 2**octave
    low, high = np.quantile(total, (0.01, 0.99))
    return np.clip((total - low) / (high - low), 0, 1)


def reduce(image: Array, width: int) -> NDArray[np.uint8]:
    """Rounds a picture of twice the width and reduces it to `width`."""
    picture = Image.fromarray(np.clip(image + 0.5, 0, 255).astype(np.uint8))
    height = round(width * picture.height / picture.width)
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


# ------------------------------------------------------------------------------------- the photo


def paint_content(width: int = 640, seed: int = 0) -> NDArray[np.uint8]:
    """Paints a tower over a waterfront at dusk: `(3/4 width, width, 3)`."""
    rng = np.random.default_rng(seed)
    w, h = 2 * width, 3 * width // 2
    unit = w / 1536
    horizon = int(0.70 * h)
    y, x = np.mgrid[:h, :w].astype(float)

    image = _dusk_sky(rng, y / horizon, (h, w), unit)
    for depth, (height, color) in enumerate([(0.10, (150, 118, 140)), (0.065, (104, 88, 122))]):
        ridge = fractal_noise(rng, (4, w), 260 * unit / (depth + 1))[0]
        top = horizon - h * height * (0.35 + ridge)
        image = mix(image, color, np.clip(y - top[None], 0, 1) * (y < horizon))

    picture = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    lights = Image.new("RGB", picture.size)
    hill = 0.17 * h * np.exp(-(((np.arange(w) / w - 0.58) / 0.26) ** 2)) + 0.055 * h
    _draw_houses(rng, picture, lights, hill, horizon, unit)
    _draw_tower(rng, picture, lights, 0.585 * w, horizon - 0.19 * h, unit)
    _draw_quay(rng, picture, lights, horizon, unit)

    land = np.asarray(picture, float)
    grain = fractal_noise(rng, (h, w), 7 * unit)[..., None]
    built = np.abs(land - image).max(-1, keepdims=True) > 2
    land = np.where(built, land * (0.84 + 0.32 * grain), image)
    lamp = np.asarray(lights, float)
    for sigma, strength in ((2, 0.9), (9, 0.8), (34, 0.9)):
        land = land + strength * ndimage.gaussian_filter(lamp, (sigma * unit, sigma * unit, 0))
    land = land * (1 - 0.10 * np.clip((x / w - 0.5) ** 2 * 4, 0, 1))[..., None]

    water = _reflect(rng, land, horizon, unit)
    scene = np.where((y < horizon)[..., None], land, water)
    scene = _draw_boats(rng, scene, horizon, unit)
    scene += rng.normal(0, 3.0, (h, w, 1)) + rng.normal(0, 1.5, (h, w, 3))
    return reduce(scene, width)


def _dusk_sky(
    rng: np.random.Generator, height: Array, shape: tuple[int, int], unit: float
) -> Array:
    sky = gradient(
        height,
        [
            (0.0, (27, 38, 84)),
            (0.35, (66, 78, 138)),
            (0.60, (142, 112, 150)),
            (0.80, (228, 142, 112)),
            (0.95, (252, 190, 120)),
            (1.0, (255, 214, 150)),
        ],
    )
    clouds = fractal_noise(rng, shape, 150 * unit, stretch=3.2)
    below = ndimage.shift(clouds, (-10 * unit, 0), order=1, mode="nearest")
    body = np.clip((clouds - 0.52) * 3.0, 0, 1) * np.clip(1.15 - height, 0, 1)
    lit = np.clip((clouds - below) * 5 + 0.35, 0, 1)
    tint = gradient(height, [(0, (58, 62, 110)), (0.5, (136, 96, 130)), (1, (224, 130, 110))])
    glow = gradient(height, [(0, (120, 110, 160)), (0.5, (250, 160, 130)), (1, (255, 220, 160))])
    return mix(sky, mix(tint, glow, lit), 0.75 * body)


def _draw_houses(
    rng: np.random.Generator,
    picture: Image.Image,
    lights: Image.Image,
    hill: Array,
    horizon: int,
    unit: float,
) -> None:
    draw, glow = ImageDraw.Draw(picture), ImageDraw.Draw(lights)
    rows = 9
    for row in range(rows):
        share = row / (rows - 1)  # 0 is the farthest row, on top of the hill
        left = -60 * unit
        while left < picture.width:
            wide = unit * rng.uniform(34, 74) * (0.62 + 0.5 * share)
            tall = unit * rng.uniform(36, 84) * (0.62 + 0.5 * share)
            middle = int(np.clip(left + wide / 2, 0, picture.width - 1))
            base = horizon - hill[middle] * (1 - share) + unit * rng.uniform(-6, 10)
            tone = rng.uniform(0.55, 1.0)
            warm = np.array([rng.uniform(120, 176), rng.uniform(92, 128), rng.uniform(92, 126)])
            wall = mix(warm * tone * 0.74, (138, 112, 142), 0.55 * (1 - share))
            side = tuple(int(v) for v in wall)
            shade = tuple(int(v * 0.66) for v in wall)
            roof = tuple(int(v) for v in mix(np.array([112, 52, 46]) * tone, wall, 0.3))
            right, top = left + wide, base - tall
            draw.rectangle((left, top, right, base + 90 * unit), fill=side)
            draw.rectangle((left + 0.72 * wide, top, right, base + 90 * unit), fill=shade)
            peak = top - wide * rng.uniform(0.22, 0.42)
            over = 0.06 * wide
            draw.polygon(
                [(left - over, top), (left + 0.36 * wide, peak), (right + over, top)], fill=roof
            )
            pane_w, pane_h = 0.13 * wide, 0.13 * wide * 1.5
            for level in np.arange(top + 0.8 * pane_h, base - pane_h, 2.0 * pane_h):
                for column in (0.16, 0.42, 0.78):
                    at = left + column * wide
                    box = (at, level, at + pane_w, level + pane_h)
                    if rng.uniform() < 0.34:
                        lamp = (255, int(rng.uniform(178, 220)), int(rng.uniform(84, 140)))
                        draw.rectangle(box, fill=lamp)
                        glow.rectangle(box, fill=tuple(v // 4 for v in lamp))
                    else:
                        draw.rectangle(box, fill=tuple(int(v * 0.5) for v in wall))
            left = right + unit * rng.uniform(-10, 8)


def _draw_tower(
    rng: np.random.Generator,
    picture: Image.Image,
    lights: Image.Image,
    middle: float,
    base: float,
    unit: float,
) -> None:
    """Draws a round tower: courses of stone shaded as a cylinder, a gallery, a cone."""
    draw, glow = ImageDraw.Draw(picture), ImageDraw.Draw(lights)
    radius, tall = 62 * unit, 270 * unit
    stone, low = np.array([196, 158, 132.0]), base + 120 * unit

    def band(top: float, bottom: float, half: float, color: Array, texture: float) -> None:
        steps = max(int(2 * half / unit), 2)
        for i in range(steps):
            across = 2 * (i + 0.5) / steps - 1
            light = 0.34 + 0.66 * max(0.0, np.sin(np.arccos(across) * 0.9 + 0.1 - 0.35)) ** 1.3
            tint = color * light * rng.normal(1, texture) + np.array([8, 12, 30]) * (1 - light)
            at = middle + across * half
            line = tuple(int(np.clip(v, 0, 255)) for v in tint)
            draw.rectangle((at - unit, top, at + unit, bottom), fill=line)

    course = 11 * unit
    level = base - tall
    while level < low:
        band(level, level + course, radius, stone * rng.normal(0.97, 0.05), 0.03)
        draw.line((middle - radius, level, middle + radius, level), fill=(84, 66, 70), width=2)
        level += course
    crown = base - tall
    band(crown - 16 * unit, crown + 6 * unit, radius * 1.18, stone * 0.8, 0.02)
    band(crown - 62 * unit, crown - 16 * unit, radius * 1.02, stone * 0.95, 0.03)
    band(crown - 74 * unit, crown - 62 * unit, radius * 1.14, stone * 0.72, 0.02)

    def window(at: float, level: float, wide: float, lit: bool) -> None:
        color = (255, 206, 120) if lit else (44, 36, 54)
        left, right, high = at - wide, at + wide, 2.6 * wide
        for canvas, fill in ((draw, color), (glow, tuple(v // 3 for v in color))):
            if canvas is glow and not lit:
                continue
            canvas.rectangle((left, level, right, level + high), fill=fill)
            canvas.ellipse((left, level - wide, right, level + wide), fill=fill)

    for i in range(-3, 4):
        across = np.sin(i * 0.36)
        half = 6.5 * unit * np.cos(i * 0.36)
        window(middle + across * radius * 0.98, crown - 48 * unit, half, True)
    for row, level in enumerate(np.arange(crown + 48 * unit, base - 20 * unit, 72 * unit)):
        for across in (-0.5, 0.12) if row % 2 else (-0.2, 0.45):
            window(middle + across * radius, level, 5 * unit, rng.uniform() < 0.5)

    peak, eaves = crown - 216 * unit, crown - 70 * unit
    steps = 150
    for i in range(steps):
        across = 2 * (i + 0.5) / steps - 1
        light = 0.42 + 0.58 * np.exp(-((across + 0.35) ** 2) / 0.22)
        color = tuple(int(v * light * rng.normal(1, 0.02)) for v in (104, 100, 128))
        at, step = middle + across * radius * 1.18, radius * 1.18 / steps * 1.3
        draw.polygon([(middle, peak), (at - step, eaves), (at + step, eaves)], fill=color)
    draw.line(
        (middle, peak - 34 * unit, middle, peak), fill=(60, 54, 70), width=max(int(3 * unit), 1)
    )


def _draw_quay(
    rng: np.random.Generator,
    picture: Image.Image,
    lights: Image.Image,
    horizon: int,
    unit: float,
) -> None:
    draw, glow = ImageDraw.Draw(picture), ImageDraw.Draw(lights)
    draw.rectangle((0, horizon - 26 * unit, picture.width, horizon), fill=(62, 52, 66))
    draw.rectangle(
        (0, horizon - 27 * unit, picture.width, horizon - 23 * unit), fill=(128, 102, 96)
    )
    for place in np.arange(50 * unit, picture.width, 118 * unit):
        at = place + unit * rng.uniform(-14, 14)
        draw.line((at, horizon - 76 * unit, at, horizon - 24 * unit), fill=(40, 34, 44), width=3)
        box = [at - 5 * unit, horizon - 84 * unit, at + 5 * unit, horizon - 74 * unit]
        draw.ellipse(box, fill=(255, 236, 180))
        glow.ellipse(box, fill=(255, 190, 104))


def _reflect(rng: np.random.Generator, land: Array, horizon: int, unit: float) -> Array:
    """Returns the land upside down, broken by waves that grow toward the viewer."""
    h, w, _ = land.shape
    y, x = np.mgrid[:h, :w].astype(float)
    depth = np.clip((y - horizon) / (h - horizon), 0, 1)
    waves = fractal_noise(rng, (h, w), 26 * unit, stretch=4.0) - 0.5
    swell = fractal_noise(rng, (h, w), 90 * unit, stretch=3.0) - 0.5
    up = 2 * horizon - y + (waves * 90 + swell * 70) * unit * (0.15 + depth)
    across = x + (waves * 34 + swell * 20) * unit * (0.2 + depth)
    mirror = np.stack(
        [
            ndimage.map_coordinates(land[..., c], (np.clip(up, 0, horizon - 1), across), order=1,
                                    mode="nearest")
            for c in range(3)
        ],
        -1,
    )  # fmt: skip
    water = mix(mirror * 0.80, (30, 44, 88), 0.22 + 0.34 * depth)
    crest = np.clip((waves - 0.20) * 4, 0, 1) * (0.25 + depth)
    return mix(water, (214, 168, 170), 0.28 * crest)


def _draw_boats(rng: np.random.Generator, scene: Array, horizon: int, unit: float) -> Array:
    h, w, _ = scene.shape
    layer = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(layer)
    for at, level, size in ((0.16, 0.10, 1.0), (0.33, 0.035, 0.6), (0.84, 0.16, 1.35)):
        x0, y0, s = at * w, horizon + level * h, size * 74 * unit
        hull = (36, 28, 40)
        for flip, shade in ((1, 1.0), (-1, 0.8)):
            dark = tuple(int(v * shade) for v in hull)
            deep = 0.2 * s * flip
            hull_shape = [(-s, -deep), (s * 1.08, -deep * 1.25), (s * 0.72, 0), (-s * 0.8, 0)]
            draw.polygon([(x0 + a, y0 + b) for a, b in hull_shape], fill=dark)
            cabin = (x0 - 0.42 * s, y0 - 2.4 * deep, x0 + 0.10 * s, y0 - deep)
            draw.rectangle((cabin[0], min(cabin[1::2]), cabin[2], max(cabin[1::2])), fill=dark)
            draw.line((x0, y0, x0, y0 - 7.2 * deep), fill=dark, width=max(int(3 * unit), 1))
            sail = [(x0 + 3 * unit, y0 - 6.8 * deep), (x0 + 0.72 * s, y0 - 1.7 * deep)]
            cloth = (206, 172, 158) if flip == 1 else (112, 96, 118)
            draw.polygon([*sail, (x0 + 3 * unit, y0 - 1.7 * deep)], fill=cloth)
        lamp = (255, 214, 130)
        draw.rectangle((x0 - 0.3 * s, y0 - 0.40 * s, x0 - 0.16 * s, y0 - 0.30 * s), fill=lamp)
    boats = np.asarray(layer, float)
    changed = np.abs(boats - np.clip(scene, 0, 255).astype(np.uint8)).max(-1) > 0
    soft = ndimage.gaussian_filter(changed.astype(float), 1.2 * unit)
    return mix(scene, boats, soft * changed)


# ----------------------------------------------------------------------------------- the painting

# x, y and radius of each swirl in units of the width, and the direction in which it turns.
_STARS = (
    (0.13, 0.13, 0.060, 1.0),
    (0.27, 0.075, 0.045, -1.0),
    (0.385, 0.185, 0.050, 1.0),
    (0.60, 0.075, 0.050, -1.0),
    (0.725, 0.205, 0.058, 1.0),
    (0.205, 0.30, 0.042, -1.0),
    (0.93, 0.31, 0.045, 1.0),
)
_MOON = (0.875, 0.115, 0.092, 1.0)
_SWIRLS = ((0.43, 0.325, 0.135, 1.0), (0.595, 0.375, 0.105, -1.0), (0.80, 0.40, 0.07, 1.0))


def paint_style(width: int = 640, seed: int = 0) -> NDArray[np.uint8]:
    """Paints a night sky of swirling strokes: `(3/4 width, width, 3)`."""
    rng = np.random.default_rng(seed)
    w, h = 2 * width, 3 * width // 2
    y, x = np.mgrid[:h, :w] / w
    angle, color = _plan(rng, x, y)

    canvas = Image.fromarray(np.clip(color * 0.55, 0, 255).astype(np.uint8))
    relief = Image.new("L", canvas.size, 110)
    unit = w / 1536
    for breadth, length, density in ((30, 130, 1.0), (19, 92, 1.3), (12, 64, 1.6), (8, 46, 0.9)):
        _stroke_layer(rng, canvas, relief, angle, color, breadth * unit, length * unit, density)

    # Light from the upper left over the relief of the paint, and the weave of the canvas.
    height = ndimage.gaussian_filter(np.asarray(relief, float), 1.1 * unit)
    weave = 2.0 * (np.sin(x * w / unit * 1.3) + np.sin(y * w / unit * 1.3))
    slope_y, slope_x = np.gradient(height + weave)
    shading = np.clip(1 - 0.030 * (slope_x + slope_y) * unit, 0.62, 1.45)
    lit = np.asarray(canvas, float) * shading[..., None]
    lit += 0.9 * np.clip(shading - 1.12, 0, 1)[..., None] * 120
    return reduce(lit, width)


def _plan(rng: np.random.Generator, x: Array, y: Array) -> tuple[Array, Array]:
    """Returns the direction of the strokes, an angle per pixel, and their colors."""
    h, w = x.shape
    flow_x = np.ones_like(x)
    flow_y = 0.28 * np.cos(7 * x + 1.2) + 0.10 * np.sin(17 * x + 9 * y)
    for cx, cy, radius, turn in (*_STARS, _MOON, *_SWIRLS):
        dx, dy = x - cx, y - cy
        r = np.hypot(dx, dy) + 1e-6
        pull = 3.4 * np.exp(-((r / (1.35 * radius)) ** 2))
        inward = 0.16
        flow_x += pull * turn * (-dy - inward * turn * dx) / r
        flow_y += pull * turn * (dx - inward * turn * dy) / r

    noise = fractal_noise(rng, (h, w), 0.10 * w)
    color = gradient(
        np.clip(y / 0.56 + 0.30 * (noise - 0.5), 0, 1),
        [
            (0.0, (18, 34, 96)),
            (0.35, (32, 66, 150)),
            (0.65, (58, 110, 182)),
            (1.0, (128, 172, 190)),
        ],
    )
    # A river of lighter air runs through the swirls.
    river = 0.335 + 0.055 * np.sin(7.5 * x - 0.6)
    color = mix(color, (150, 196, 208), 0.75 * np.exp(-(((y - river) / 0.038) ** 2)))
    for cx, cy, radius, _ in _SWIRLS:
        r = np.hypot(x - cx, y - cy) / radius
        bands = 0.5 + 0.5 * np.cos(9 * r + 2.2 * np.arctan2(y - cy, x - cx))
        color = mix(color, (206, 224, 204), 0.85 * bands * np.exp(-((r / 0.95) ** 4)))
    for cx, cy, radius, _ in (*_STARS, _MOON):
        r = np.hypot(x - cx, y - cy) / radius
        rings = 0.5 + 0.5 * np.cos(11 * r)
        color = mix(color, (196, 214, 150), 0.80 * np.exp(-((r / 1.05) ** 4)) * (0.5 + 0.5 * rings))
        color = mix(color, (250, 214, 92), np.exp(-((r / 0.62) ** 4)))
        color = mix(color, (255, 244, 196), np.exp(-((r / 0.30) ** 4)))
    mx, my, radius, _ = _MOON
    disc = np.hypot(x - mx, y - my) < 0.50 * radius
    bite = np.hypot(x - mx - 0.22 * radius, y - my + 0.08 * radius) < 0.40 * radius
    color = mix(color, (244, 158, 52), (disc & ~bite).astype(float))

    angle = np.arctan2(flow_y, flow_x)
    return _foreground(noise, x, y, angle, color)


def _foreground(
    noise: Array, x: Array, y: Array, angle: Array, color: Array
) -> tuple[Array, Array]:
    """Adds hills, a village and a cypress, with strokes along their shapes."""
    for base, swing, phase, tint in (
        (0.520, 0.030, 0.4, (54, 88, 142)),
        (0.565, 0.026, 2.1, (38, 74, 112)),
        (0.620, 0.022, 4.0, (32, 78, 84)),
        (0.690, 0.018, 5.2, (44, 92, 66)),
    ):
        top = base + swing * np.sin(6.2 * x + phase)
        inside = np.clip((y - top) * 260, 0, 1)
        bands = 0.5 + 0.5 * np.sin((y - top) * 120 + 6 * noise)
        shade = mix(np.array(tint, float) * (0.75 + 0.4 * noise[..., None]), (150, 170, 96),
                    0.34 * bands)  # fmt: skip
        color = mix(color, shade, inside)
        slope = np.arctan(swing * 6.2 * np.cos(6.2 * x + phase))
        angle = np.where(inside > 0.5, slope + 0.5 * (noise - 0.5), angle)
    rng = np.random.default_rng(7)  # the village is the same for every seed
    for _ in range(34):
        cx, cy = rng.uniform(0.36, 0.90), rng.uniform(0.595, 0.685)
        half, tall = rng.uniform(0.010, 0.019), rng.uniform(0.014, 0.026)
        wall = (np.abs(x - cx) < half) & (np.abs(y - cy) < tall)
        roof = (y < cy - tall) & (y > cy - 2.0 * tall + np.abs(x - cx) * tall / half * 0.9)
        color = mix(color, (54, 66, 110), wall.astype(float))
        color = mix(color, (122, 62, 52), roof.astype(float))
        pane = (np.abs(x - cx) < 0.34 * half) & (np.abs(y - cy) < 0.36 * tall)
        color = mix(color, (255, 206, 84), pane.astype(float))
        angle = np.where(wall, np.pi / 2, angle)
    # The cypress: two flames with a wavering outline.
    for cx, foot, tip, breadth in ((0.105, 0.80, 0.175, 0.070), (0.182, 0.80, 0.40, 0.045)):
        along = np.clip((foot - y) / (foot - tip), 0, 1)
        outline = (
            breadth * np.sin(np.pi * np.clip(along, 0, 1) ** 0.72) ** 0.85 * (1 - 0.35 * along)
        )
        sway = 0.010 * np.sin(26 * y + 3 * cx) * along
        inside = (np.abs(x - cx - sway) < outline * (0.86 + 0.28 * noise)) & (y > tip) & (y < foot)
        flame = 0.5 + 0.5 * np.sin(150 * (x - cx) + 9 * noise + 10 * y)
        shade = mix(
            np.broadcast_to(np.array([20, 34, 36.0]), color.shape), (78, 92, 52), 0.55 * flame
        )
        color = np.where(inside[..., None], shade, color)
        angle = np.where(inside, np.pi / 2 + 0.55 * np.sin(30 * y + 60 * (x - cx)), angle)
    return angle, color


def _stroke_layer(
    rng: np.random.Generator,
    canvas: Image.Image,
    relief: Image.Image,
    angle: Array,
    color: Array,
    breadth: float,
    length: float,
    density: float,
) -> None:
    """Covers the canvas with strokes of one brush; a stroke is a bundle of bristles."""
    draw, heights = ImageDraw.Draw(canvas), ImageDraw.Draw(relief)
    h, w = angle.shape
    number = int(density * w * h / (breadth * length * 0.42))
    # Strokes also start outside of the picture; otherwise its left edge stays bare.
    starts = rng.uniform((-length, -length), (w, h), (number, 2))
    steps, bristles = 7, 5
    for start in starts:
        path = [start]
        for _ in range(steps):
            x, y = path[-1]
            theta = angle[int(np.clip(y, 0, h - 1)), int(np.clip(x, 0, w - 1))]
            path.append(path[-1] + length / steps * np.array([np.cos(theta), np.sin(theta)]))
        points = np.array(path)
        middle = np.clip(points[steps // 2], 0, (w - 1, h - 1)).astype(int)
        paint = color[middle[1], middle[0]] * rng.normal(1, 0.09) + rng.normal(0, 9, 3)
        along = np.gradient(points, axis=0)
        normal = np.stack([-along[:, 1], along[:, 0]], -1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        taper = np.sin(np.linspace(0.35, np.pi - 0.25, steps + 1))[:, None]
        level = rng.uniform(95, 150)
        for bristle in range(bristles):
            across = (bristle - (bristles - 1) / 2) / bristles
            line = points + normal * taper * across * breadth
            tint = paint * (1 + rng.normal(0, 0.07))
            flat = [tuple(point) for point in line]
            thick = max(int(breadth / bristles * 1.5), 1)
            draw.line(flat, tuple(int(np.clip(v, 0, 255)) for v in tint), thick, "curve")
            ridge = level + 46 * (1 - (2 * across) ** 2) + rng.normal(0, 16)
            heights.line(flat, int(np.clip(ridge, 0, 255)), thick, "curve")


def main() -> None:
    """Paints both samples into a folder."""
    parser = argparse.ArgumentParser(description="Paint the bundled sample pair.")
    parser.add_argument("--output-dir", type=Path, default=SAMPLES)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    for name, paint in (("content", paint_content), ("style", paint_style)):
        path = arguments.output_dir / f"{name}.png"
        Image.fromarray(paint(arguments.width, arguments.seed)).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 2**10:.0f} KiB")


if __name__ == "__main__":
    main()
