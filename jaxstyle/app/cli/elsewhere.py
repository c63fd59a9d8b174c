"""What other style transfer programs call the options, for the message about an unknown one."""

_NAMES: dict[str, str] = {
    "--steps": "iterations num-iterations iters num-iters n-iters niter epochs num-epochs max-iter "
    "max-iterations num-steps n-steps maxiter total-steps n i",
    "--size": "image-size img-size max-size max-dim width height resolution res dim imsize "
    "content-size output-size out-size end-scale long-edge resize scale s",
    "--style-scale": "style-size style-image-size",
    "--coarsest": "min-scale pyramid octaves",
    "--content": "content-image content-img content-path content-file content-dir input image "
    "photo source img input-image contents c i",
    "--style": "style-image style-img style-images style-path style-file style-imgs painting "
    "reference styles target target-image s",
    "--output": "output-image output-img output-path output-file out save-dir save-path result "
    "output-dir out-dir name save dest output-folder",
    "--contents": "content content-dir photos content-images input-dir input "
    "inputs content-image images c i",
    "--styles": "style style-dir paintings style-images s",
    "--output-dir": "output out save-dir out-dir output-folder dest result-dir results",
    "--init": "init-image init-img init-method start initialization start-from",
    "--mask": "content-mask masks content-seg content-masks",
    "--style-mask": "style-seg style-masks",
    "--color luminance": "original-colors original-color original-colours preserve-color "
    "preserve-colors keep-colors keep-color preserve-colour preserve-colours luminance-only luma",
    "--color match": "match-colors color-transfer histogram-matching match-color color-match",
    "--color": "colour colors color-control color-mode",
    "--loss-weights": "w",
    "--loss-weights content=VALUE": "content-weight alpha content-loss-weight cw content-coeff",
    "--loss-weights style=VALUE": "style-weight beta style-loss-weight sw style-strength",
    "--loss-weights total_variation=VALUE": "tv-weight tv tvw total-variation-weight smoothness",
    "--sheet": "compare comparison contact-sheet grid sweep all-recipes",
    "--strength": "intensity amount opacity content-style-ratio",
    "--style-weights": "style-blend-weights style-interpolation-weights blend style-layer-weight",
    "--params": "model model-file model-path network-weights vgg vgg-path vgg-model weights-file "
    "pretrained network model-dir",
    "--set network.pooling=VALUE": "pooling pool",
    "--set 'terms.style.layers=[\"relu1_1\", ...]'": "style-layers style-layer",
    "--set 'terms.content.layers=[\"relu4_2\"]'": "content-layers content-layer",
    "--set solver.learning_rate=VALUE": "learning-rate lr step-size",
    "--recipe": "optimizer preset config optim method algorithm r",
    "--progress": "print-iter print-every log-every verbose print-iterations log",
    "--preview-every": "save-iter save-every save-iterations checkpoint-iterations save-freq "
    "print-interval display-interval",
    "--checkpoint": "resume save-checkpoint checkpoint-dir continue",
    "--devices": "gpu gpus device multidevice-strategy num-gpus gpu-id",
    "--memory": "max-memory memory-limit vram ram",
    "--tile": "tile-size tiling patch-size window",
    "--precision": "fp16 half amp mixed-precision dtype bf16 bfloat16",
    "--seed": "random-seed manual-seed rng",
    "--overwrite": "force yes clobber replace",
    "--batch-size": "batch batchsize b",
    "--slice I/N, counted from 1": "processes process shard coordinator num-processes",
    "--quiet": "silent",
    "--host": "listen server-name address ip bind",
    "--allow-host": "allowed-hosts share",
    "--port": "server-port p",
}
ELSEWHERE: dict[str, list[str]] = {}
"""Name of another program, without dashes -> options here that mean it."""
for _option, _names in _NAMES.items():
    for _name in _names.split():
        ELSEWHERE.setdefault(_name, []).append(_option)

ADVICE: dict[str, str] = {
    **dict.fromkeys(
        ("cpu", "no-cuda", "no-gpu", "use-cpu", "use-gpu", "cuda", "backend", "platform", "tpu"),
        "JAX chooses the fastest device; the environment variable JAX_PLATFORMS=cpu chooses the "
        "CPU",
    ),
    **dict.fromkeys(("version", "v"), "write jaxstyle --version"),
    "recursive": "a folder is searched with its subfolders, and ** in a pattern too",
}
"""Name -> what to do, where no option is meant."""
