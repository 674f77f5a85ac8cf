"""Draws what evaluation computed: grids of images, and code usage with the KL of each latent, as PNG files."""

from pathlib import Path

import numpy as np
from PIL import Image

from gsvae.files import write_atomically

__all__ = ["draw_codes", "draw_grid", "draw_traversals"]

PAPER = 255
TARGET_SIDE = 56  # pixels of a cell at least, so that 8×8 digits can be seen


def draw_grid(path: Path, images: np.ndarray) -> None:
    """Write images ``(rows, columns, H, W)`` in [0, 1] as one PNG, enlarged by whole pixels where they are small."""
    picture = Image.fromarray(sheet_of(images))
    write_atomically(path, lambda file: picture.save(file, format="png"))


def sheet_of(images: np.ndarray, gap: int = 2) -> np.ndarray:
    """Images ``(rows, columns, H, W)`` side by side on white paper, uint8."""
    scale = max(1, TARGET_SIDE // images.shape[-1])
    cells = (images.clip(0, 1) * 255).round().astype(np.uint8).repeat(scale, -1).repeat(scale, -2)
    rows, columns, height, width = cells.shape
    sheet = np.full((rows, height + gap, columns, width + gap), PAPER, np.uint8)
    sheet[:, :height, :, :width] = cells.transpose(0, 2, 1, 3)
    sheet = sheet.reshape(rows * (height + gap), columns * (width + gap))[:-gap, :-gap]
    return np.pad(sheet, gap, constant_values=PAPER)


def draw_traversals(path: Path, images: np.ndarray, latents: list[int], kl_L: np.ndarray) -> None:
    """Write a labelled grid: row r shows an image ``(rows, columns, H, W)`` for each value of ``latents[r]``."""
    from matplotlib.figure import Figure  # half a second, not needed to start training

    rows, columns = images.shape[:2]
    figure = Figure(figsize=(1.6 + 0.6 * columns, 0.8 + 0.6 * rows), layout="constrained")
    axes = figure.subplots()
    axes.imshow(
        sheet_of(images),
        cmap="gray",
        vmin=0,
        vmax=PAPER,
        interpolation="nearest",
        extent=(0, columns, rows, 0),
    )
    axes.set_yticks(np.arange(rows) + 0.5, [f"{latent} (KL {kl_L[latent]:.2f})" for latent in latents])
    axes.set_xticks(np.arange(columns) + 0.5, [str(k) for k in range(columns)])
    axes.tick_params(length=0)
    axes.set(xlabel="value", ylabel="latent, with its mean KL in nats", title="one latent changed, the others kept")
    axes.spines[:].set_visible(False)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=100))


def draw_codes(path: Path, usage_LK: np.ndarray, kl_L: np.ndarray) -> None:
    """Write the share of each code (heat map, L × K) beside the KL of each latent (bars, nats per image)."""
    from matplotlib.figure import Figure

    n_latent, n_cat = usage_LK.shape
    figure = Figure(figsize=(4.6 + 0.2 * min(n_cat, 64), 1.8 + 0.16 * min(n_latent, 64)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    largest = max(usage_LK.max(), 2 / n_cat)
    picture = left.imshow(usage_LK, aspect="auto", cmap="viridis", vmin=0, vmax=largest, interpolation="nearest")
    left.set(xlabel="category", ylabel="latent", title="share of each code, mean q(z|x)")
    figure.colorbar(picture, ax=left, location="left", shrink=0.8)
    right.barh(np.arange(n_latent), kl_L, color="tab:blue")
    right.axvline(np.log(n_cat), color="tab:red", linewidth=1, linestyle="--", label="ln K")
    right.set(xlabel="nats per image", title="KL of each latent")
    right.legend(loc="lower right", fontsize="small")
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))
