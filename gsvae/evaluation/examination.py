"""Everything measured of a trained model: scores by split, its codes and the labels, the soft-versus-hard gap."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from gsvae.data import Images
from gsvae.evaluation.diagnosis import Finding, diagnose
from gsvae.evaluation.encoding import encode
from gsvae.evaluation.evaluate import Evaluator, Scores
from gsvae.evaluation.gap import Gap, gap_over_tau
from gsvae.evaluation.information import entropy_of_counts, image_information, label_information
from gsvae.evaluation.probe import Probe, hindrance, probe
from gsvae.model import CategoricalVAE

__all__ = ["Examination", "bits_per_dim", "examine"]


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        scores: by split, nats per image.
        subject: the split whose codes and gap these are.
        n_pixels: D.
        probe: of the subject's codes; None with the reason in ``unprobed``.
        label_information_L: I(z_l; y), nats; None for images with one label.
        label_entropy: H(y), nats.
        image_information_L: I(x; z_l), nats.
        gaps: over τ, the training's among them.
        tau: the training's τ.
        findings: what is wrong.
    """

    scores: dict[str, Scores]
    subject: str
    n_pixels: int
    probe: Probe | None
    unprobed: str | None
    label_information_L: Tensor | None
    label_entropy: float
    image_information_L: Tensor
    gaps: list[Gap]
    tau: float
    findings: list[Finding]

    def metrics(self) -> dict[str, float]:
        """The numbers under their metric names.

        Of the training images only the −ELBO: ``train/kl`` and the like are a run's means over training steps.
        """
        found: dict[str, float] = {}
        for split, scores in self.scores.items():
            named = {"neg_elbo": scores.neg_elbo, "bits_per_dim": bits_per_dim(scores.neg_elbo, self.n_pixels)}
            if split != "train":
                named |= {"reconstruction": scores.reconstruction, "kl": scores.kl}
            if scores.iwae is not None:
                named |= {"iwae": scores.iwae, "iwae_bits_per_dim": bits_per_dim(scores.iwae, self.n_pixels)}
            found |= {f"{split}/{name}": value for name, value in named.items()}
        found |= self.scores[self.subject].code_metrics()
        found |= {
            "codes/image_information": self.image_information_L.mean().item(),
            "codes/entropy": self.scores[self.subject].codes.entropy_L.mean().item(),
        }
        if self.label_information_L is not None:
            found |= {
                "codes/label_information": self.label_information_L.mean().item(),
                "codes/label_information_max": self.label_information_L.max().item(),
                "codes/label_entropy": self.label_entropy,
            }
        if self.probe:
            found |= {
                "probe/accuracy": self.probe.accuracy,
                "probe/train_accuracy": self.probe.train_accuracy,
                "probe/nearest_class": self.probe.nearest_class,
                "probe/chance": self.probe.chance,
                "probe/label_information": self.probe.information,
            }
        found |= {f"gap/tau_{gap.tau:g}": gap.nats for gap in self.gaps}
        at_tau = next(gap for gap in self.gaps if gap.tau == self.tau)
        return found | {"gap/at_training_tau": at_tau.nats, "gap/frozen": at_tau.frozen}


def bits_per_dim(nats: float, n_pixels: int) -> float:
    """Nats per image as bits per pixel: nats / (D ln 2)."""
    return nats / (n_pixels * math.log(2))


def examine(
    model: CategoricalVAE,
    splits: dict[str, Images],
    scored: Sequence[str],
    evaluator: Evaluator,
    seed: int,
    tau: float,
    taus: Sequence[float],
    *,
    iwae: Collection[str] = ("test",),
    shared_labels: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Examination:
    """Measure everything of one model.

    Args:
        splits: images by name, on the model's device; ``train`` is there.
        scored: names of the splits to be scored; the last is the one whose codes and gap are looked at.
        seed: of the evaluation's streams; the training's gives the training's numbers.
        tau: the training's τ; taus: of the gap, beside it.
        iwae: splits whose importance-weighted bound is asked for.
        say: told what comes next.
    """
    scores: dict[str, Scores] = {}
    for name in scored:
        bound = f" and IWAE with {evaluator.iwae_samples} samples" if name in iwae else ""
        say(f"scoring {len(splits[name]):,} {name} images: −ELBO{bound}")
        scores[name] = evaluator.one(model, seed, splits[name], tau, iwae=name in iwae)
    subject, rows, dynamic = scored[-1], evaluator.max_rows, evaluator.dynamic
    images = splits[subject]
    labels_N = images.labels_N.cpu()
    say(f"codes and labels of {len(images):,} {subject} images")
    index_NL = encode(model, images, seed, rows, dynamic=dynamic)
    label_counts = labels_N.unique(return_counts=True)[1]
    unprobed = "asked for no images but the training's" if subject == "train" else None
    unprobed = unprobed or hindrance(splits["train"], images, shared_labels=shared_labels)
    probed = None
    if unprobed is None:
        say(f"fitting the probe to the codes of {len(splits['train']):,} train images")
        train_index_NL = encode(model, splits["train"], seed, rows, dynamic=dynamic)
        probed = probe(train_index_NL, splits["train"].labels_N, index_NL, labels_N, model.n_cat)
    taus = sorted({*taus, tau})
    say(f"soft-versus-hard gap at {len(taus)} temperatures")
    gaps = gap_over_tau(model, images, taus, seed, rows, dynamic=dynamic)
    frozen = next(gap.frozen for gap in gaps if gap.tau == tau)
    return Examination(
        scores=scores,
        subject=subject,
        n_pixels=model.n_pixels,
        probe=probed,
        unprobed=unprobed,
        label_information_L=label_information(index_NL, labels_N) if len(label_counts) > 1 else None,
        label_entropy=entropy_of_counts(label_counts).item(),
        image_information_L=image_information(scores[subject].codes),
        gaps=gaps,
        tau=tau,
        findings=diagnose(scores[subject], train=scores.get("train") if subject != "train" else None, frozen=frozen),
    )
