"""The same objective in PyTorch, for the benchmarks; needs the extra `bench`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from jaxstyle.recipes import GATYS_NOTEBOOK
from jaxstyle.terms import CONTENT_LAYERS, STYLE_LAYERS

_MEAN_BGR = (103.939, 116.779, 123.68)


class TorchObjective:
    """The objective of `gatys-notebook`, as it is usually written in PyTorch.

    The layout is channels last, which is faster. Network weights have no gradients.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        content: np.ndarray,
        style: np.ndarray,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Moves parameters to `device` and computes the targets."""
        self.device, self.dtype = device, dtype
        self.mean = torch.tensor(_MEAN_BGR, device=device).view(1, 3, 1, 1)
        last = max(STYLE_LAYERS).replace("relu", "conv")
        self.layers = [
            (
                name.replace("conv", "relu"),
                torch.from_numpy(np.array(layer["kernel"]))
                .permute(3, 2, 0, 1)
                .contiguous(memory_format=torch.channels_last)
                .to(device, dtype),
                torch.from_numpy(np.array(layer["bias"])).to(device, dtype),
            )
            for name, layer in sorted(params["params"].items())
            if name <= last
        ]
        self.layer_weights = GATYS_NOTEBOOK.terms[1].layer_weights  # type: ignore[attr-defined]
        with torch.no_grad():
            self.content = self.features(self.image(content))[CONTENT_LAYERS[0]]
            features = self.features(self.image(style))
            self.grams = [self.gram(features[name]) for name in STYLE_LAYERS]

    def image(self, array: np.ndarray) -> torch.Tensor:
        """`(H, W, 3)` in [0, 1] -> `(1, 3, H, W)` on the device, channels last in memory."""
        tensor = torch.from_numpy(np.array(array)).permute(2, 0, 1)[None]
        return tensor.contiguous(memory_format=torch.channels_last).to(self.device)

    def features(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """All ReLU outputs by name."""
        x = (image.flip(1) * 255 - self.mean).to(self.dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        found = {}
        for name, kernel, bias in self.layers:
            if name.endswith("_1") and name != "relu1_1":
                x = functional.max_pool2d(x, 2)
            x = torch.relu(functional.conv2d(x, kernel, bias, padding=1))
            found[name] = x
        return found

    def gram(self, features: torch.Tensor) -> torch.Tensor:
        """`(1, c, h, w)` -> `(c, c)`, divided by the number of positions."""
        flat = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        return (flat.T @ flat).float() / flat.shape[0]

    def loss(self, image: torch.Tensor) -> torch.Tensor:
        """The value at `image`."""
        features = self.features(image)
        value = functional.mse_loss(features[CONTENT_LAYERS[0]].float(), self.content.float())
        for name, target, weight in zip(STYLE_LAYERS, self.grams, self.layer_weights, strict=True):
            gram = self.gram(features[name])
            value = value + weight * functional.mse_loss(gram, target)
        return value

    def evaluation(self, *, compiled: bool = False) -> Callable[[torch.Tensor], tuple[Any, Any]]:
        """Returns a function: image -> (value, gradient)."""
        loss = torch.compile(self.loss) if compiled else self.loss

        def evaluate(image: torch.Tensor) -> tuple[Any, Any]:
            image = image.detach().requires_grad_(True)
            value = loss(image)
            (gradient,) = torch.autograd.grad(value, image)
            if self.device != "cpu":
                torch.cuda.synchronize()
            return value.detach(), gradient

        return evaluate
