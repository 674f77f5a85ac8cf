"""How much of the label the one-hot codes give away: a linear probe and the nearest class mean.

Shapes: N images, L latents, K categories, C classes.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gsvae.data import Images
from gsvae.evaluation.information import entropy_of_counts

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Probe", "hindrance", "probe"]

MOST_ITERATIONS = 1000


@dataclass(frozen=True)
class Probe:
    """Classifiers of one-hot codes, fitted to the training images' and scored on others'.

    Attributes:
        accuracy: of the linear probe, in [0, 1].
        train_accuracy: of the linear probe on the codes it was fitted to.
        nearest_class: accuracy of the nearest class mean.
        chance: accuracy of always saying the training images' commonest class.
        information: lower bound on I(z; y) of all latents together, nats: H(y) less the probe's cross-entropy (the
            bound of Barber and Agakov, NIPS 2003; see arXiv 1905.06922).
        converged: whether the probe's fit came to its end.
    """

    accuracy: float
    train_accuracy: float
    nearest_class: float
    chance: float
    information: float
    converged: bool


def hindrance(train: Images, test: Images, *, shared_labels: bool) -> str | None:
    """Why codes cannot be probed for these images' labels; None if they can."""
    if not shared_labels:
        return "training and test images are of different classes"
    if len(train.labels_N.unique()) < 2:
        return "the training images have no labels, or all the same"
    if not bool(torch.isin(test.labels_N.unique(), train.labels_N.unique()).all()):
        return "test images have labels that no training image has"
    return None


def probe(
    train_index_NL: Tensor, train_labels_N: Tensor, test_index_NL: Tensor, test_labels_N: Tensor, n_cat: int
) -> Probe:
    """Fit both classifiers to training codes and score them on test codes.

    Args:
        train_index_NL, test_index_NL: a sampled code of each image as indices, on the host.
        train_labels_N, test_labels_N: at least two classes in training, and no others in test.

    The probe is scikit-learn's multinomial logistic regression with its default L2 penalty (C = 1).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train, test = one_hot_rows(train_index_NL, n_cat), one_hot_rows(test_index_NL, n_cat)
    y_train, y_test = train_labels_N.cpu().numpy(), test_labels_N.cpu().numpy()
    classifier = LogisticRegression(max_iter=MOST_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifier.fit(train, y_train)
    classes, counts = np.unique(y_train, return_counts=True)
    log_p_NC = classifier.predict_log_proba(test)
    cross_entropy = -log_p_NC[np.arange(len(y_test)), np.searchsorted(classes, y_test)].mean()
    entropy_y = entropy_of_counts(test_labels_N.cpu().unique(return_counts=True)[1]).item()
    return Probe(
        accuracy=float(classifier.score(test, y_test)),
        train_accuracy=float(classifier.score(train, y_train)),
        nearest_class=float((nearest_class(train, y_train, test) == y_test).mean()),
        chance=float((y_test == classes[counts.argmax()]).mean()),
        information=float(entropy_y - cross_entropy),
        converged=not any(issubclass(warning.category, ConvergenceWarning) for warning in caught),
    )


def nearest_class(train: "csr_array", labels_N: np.ndarray, test: "csr_array") -> np.ndarray:
    """The class whose mean one-hot code is nearest in Euclidean distance, ``(N,)``.

    Spelt out, because scikit-learn's NearestCentroid refuses codes that do not vary within a class: perfect ones.
    """
    classes, of_class_N = np.unique(labels_N, return_inverse=True)
    member = np.eye(len(classes), dtype=np.float64)[of_class_N]
    mean_CF = (train.T @ member).T / member.sum(0)[:, None]
    distance_NC = np.square(mean_CF).sum(1) - 2 * (test @ mean_CF.T)  # and L, the same for every class
    nearest: np.ndarray = classes[distance_NC.argmin(1)]
    return nearest


def one_hot_rows(index_NL: Tensor, n_cat: int) -> "csr_array":
    """One-hot codes ``(N, L·K)`` as a sparse matrix."""
    from scipy.sparse import csr_array

    n, n_latent = index_NL.shape
    columns = (index_NL.cpu().numpy() + n_cat * np.arange(n_latent)).ravel()
    starts = np.arange(0, n * n_latent + 1, n_latent)
    return csr_array((np.ones(n * n_latent), columns, starts), shape=(n, n_latent * n_cat))
