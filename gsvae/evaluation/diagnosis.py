"""What is wrong with a model, as its one-hot scores tell, each with the settings to try."""

import math
from dataclasses import dataclass

from gsvae.evaluation.evaluate import Scores
from gsvae.evaluation.information import image_information

__all__ = ["COLLAPSE", "SATURATION", "Finding", "diagnose"]

COLLAPSE, SATURATION = "collapse", "saturation"

IDLE = 0.01  # nats of I(x; z) below which a latent knows nothing of the image
COLLAPSED = 0.9  # share of latents, of which at least so many are idle
UNUSED = 0.5  # share of latents, of which more are idle
SATURATED = 0.02  # of ln K, the posteriors' mean entropy
FROZEN = 0.5  # share of latents without gradient at the training's τ
DEAD = 0.25  # share of codes
GAP = 0.1  # of the discrete −ELBO, by which relaxed codes are better
OVERFITTED = 0.05  # of the training images' −ELBO, by which the test images' is larger


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its ``kind``, what was seen, and which settings to try."""

    kind: str
    seen: str
    advice: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.seen}. Try {self.advice}"


def diagnose(scores: Scores, *, train: Scores | None = None, frozen: float | None = None) -> list[Finding]:
    """What is wrong, the worst first; empty for a healthy model.

    Args:
        scores: of images that were not trained on.
        train: of the training images, to tell overfitting.
        frozen: share of latents that get no gradient at the training's τ.
    """
    found = [use_of_latents(scores), saturation(scores, frozen), dead_codes(scores), gap(scores)]
    if train is not None:
        found.append(overfitting(scores, train))
    return [finding for finding in found if finding]


def use_of_latents(scores: Scores) -> Finding | None:
    information_L = image_information(scores.codes)
    n_latent, idle = len(information_L), int((information_L < IDLE).sum())
    if idle >= COLLAPSED * n_latent:
        return Finding(
            COLLAPSE,
            f"{idle} of {n_latent} latents know nothing of the image, KL {scores.kl:.2f} nats; "
            "the decoder does without the codes",
            "more training.epochs, training.beta_warmup=STEPS (a tenth of the run), a smaller training.beta, "
            "or a lower tau.init",
        )
    if idle > UNUSED * n_latent:
        return Finding(
            "unused latents",
            f"{idle} of {n_latent} know nothing of the image",
            "training.beta_warmup=STEPS, a lower tau.init, or a smaller model.n_latent",
        )
    return None


def saturation(scores: Scores, frozen: float | None) -> Finding | None:
    n_latent, n_cat = scores.codes.usage_LK.shape
    entropy, largest = scores.codes.entropy_L.mean().item(), math.log(n_cat)
    if entropy >= SATURATED * largest and (frozen or 0.0) <= FROZEN:
        return None
    without = f"; {frozen:.0%} of the latents get no gradient" if frozen else ""
    return Finding(
        SATURATION,
        f"the posteriors are almost one-hot, mean entropy {entropy:.3f} of ln K = {largest:.2f} nats, "
        f"KL {scores.kl:.1f} beside L ln K = {n_latent * largest:.1f}{without}",
        "a higher tau.init and tau.min, training.beta_warmup=0, a smaller optim.lr, "
        "or, if the codes are simply full, a larger model.n_latent or model.n_cat",
    )


def dead_codes(scores: Scores) -> Finding | None:
    all_codes = scores.codes.usage_LK.numel()
    if scores.codes.dead <= DEAD * all_codes:
        return None
    return Finding(
        "dead codes",
        f"{scores.codes.dead} of {all_codes} are hardly ever used",
        "a higher tau.init, training.beta_warmup=STEPS, or a smaller model.n_cat",
    )


def gap(scores: Scores) -> Finding | None:
    nats = scores.neg_elbo - scores.relaxed_loss
    if nats <= GAP * abs(scores.neg_elbo):
        return None
    return Finding(
        "soft-versus-hard gap",
        f"one-hot codes are {nats:.1f} nats worse than relaxed ones ({scores.neg_elbo:.1f} and "
        f"{scores.relaxed_loss:.1f}); the decoder relies on soft codes",
        "a lower tau.init or tau.min, tau=exponential, sampling=hard or sampling=reinmax",
    )


def overfitting(scores: Scores, train: Scores) -> Finding | None:
    excess = scores.neg_elbo - train.neg_elbo
    if excess <= OVERFITTED * abs(train.neg_elbo):
        return None
    return Finding(
        "overfitting",
        f"the -ELBO is {excess:.1f} nats worse than that of the training images ({scores.neg_elbo:.1f} and "
        f"{train.neg_elbo:.1f})",
        "fewer training.epochs, data.binarize=dynamic, a smaller model, or optim.weight_decay with optim=adamw",
    )
