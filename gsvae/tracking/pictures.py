"""Draws what evaluation computed: grids of images, and code usage with the KL of each latent, as PNG files."""

from pathlib import Path

import numpy as np
from PIL import Image

from gsvae.files import write_atomically

__all__ = ["draw_codes", "draw_grid"]

PAPER = 255
TARGET_SIDE = 56  # pixels of a cell at least, so that 8×8 digits can be seen


def draw_grid(path: Path, images: np.ndarray, gap: int = 2) -> None:
    """Write images ``(rows, columns, H, W)`` in [0, 1] as one PNG, enlarged by whole pixels where they are small."""
    scale = max(1, TARGET_SIDE // images.shape[-1])
    cells = (images.clip(0, 1) * 255).round().astype(np.uint8).repeat(scale, -1).repeat(scale, -2)
    rows, columns, height, width = cells.shape
    sheet = np.full((rows, height + gap, columns, width + gap), PAPER, np.uint8)
    sheet[:, :height, :, :width] = cells.transpose(0, 2, 1, 3)
    sheet = sheet.reshape(rows * (height + gap), columns * (width + gap))[:-gap, :-gap]
    framed = np.pad(sheet, gap, constant_values=PAPER)
    write_atomically(path, lambda file: Image.fromarray(framed).save(file, format="png", optimize=False))


def draw_codes(path: Path, usage_LK: np.ndarray, kl_L: np.ndarray) -> None:
    """Write the share of each code (heat map, L × K) beside the KL of each latent (bars, nats per image)."""
    from matplotlib.figure import Figure  # half a second, not needed to start training

    n_latent, n_cat = usage_LK.shape
    figure = Figure(figsize=(3.6 + 0.22 * min(n_cat, 64), 1.4 + 0.16 * min(n_latent, 64)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    largest = max(usage_LK.max(), 2 / n_cat)
    picture = left.imshow(usage_LK, aspect="auto", cmap="viridis", vmin=0, vmax=largest, interpolation="nearest")
    left.set(xlabel="category", ylabel="latent", title="share of each code")
    figure.colorbar(picture, ax=left, label="mean q(z|x)")
    right.barh(np.arange(n_latent), kl_L, color="tab:blue")
    right.axvline(np.log(n_cat), color="tab:red", linewidth=1, linestyle="--", label="ln K")
    right.set(xlabel="KL (nats per image)", title="KL of each latent")
    right.legend(loc="lower right", fontsize="small")
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))
