"""Draws what evaluation computed, as PNG files: grids of images, code usage, what latents know, the gap over τ."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gsvae.files import write_atomically

__all__ = ["draw_codes", "draw_evaluation", "draw_grid", "draw_traversals"]

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


def draw_evaluation(
    path: Path,
    taus: Sequence[float],
    relaxed_T: Sequence[float],
    one_hot: float,
    tau: float,
    kl_L: np.ndarray,
    image_information_L: np.ndarray,
    label_information_L: np.ndarray | None,
) -> None:
    """Write the relaxed reconstruction over τ beside its one-hot level, and what each latent knows, largest KL first.

    I(z; y) ≤ I(x; z) ≤ KL, so the bars of a latent stand in each other.
    """
    from matplotlib.figure import Figure

    n_latent = len(kl_L)
    figure = Figure(figsize=(5.2 + min(6.5, 2.2 + 0.16 * n_latent), 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[5, min(6.5, 2.2 + 0.16 * n_latent)])
    left.axhline(one_hot, color="tab:red", linewidth=1.2, label="one-hot codes")
    left.plot(taus, relaxed_T, "o-", color="tab:blue", label="relaxed codes at τ")
    left.fill_between(taus, relaxed_T, one_hot, color="tab:blue", alpha=0.12, linewidth=0, label="gap")
    left.axvline(tau, color="0.4", linestyle=":", linewidth=1.2, label=f"training's τ = {tau:.3g}")
    left.set_xscale("log")
    left.set_xticks(list(taus), [f"{t:.3g}" for t in taus])
    left.minorticks_off()
    left.set(xlabel="τ", ylabel="reconstruction, nats per image", title="soft-versus-hard gap")
    left.legend(fontsize="small")
    order = np.argsort(-kl_L)
    bars = [(kl_L, 0.9, "0.8", "KL(q ‖ p)"), (image_information_L, 0.64, "tab:blue", "I(x; z)")]
    if label_information_L is not None:
        bars.append((label_information_L, 0.34, "tab:orange", "I(z; y)"))
    for value_L, width, colour, label in bars:
        right.bar(np.arange(n_latent), value_L[order], width, color=colour, label=label)
    step = -(-n_latent // 32)
    right.set_xticks(np.arange(0, n_latent, step), [str(latent) for latent in order[::step]], fontsize="x-small")
    right.set(xlabel="latent, largest KL first", ylabel="nats", title="what each latent knows")
    right.legend(fontsize="small")
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))
