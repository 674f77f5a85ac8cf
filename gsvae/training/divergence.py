"""Why a run diverged, as far as its last numbers tell."""

from torch import Tensor

__all__ = ["likely_cause"]


def likely_cause(values_n4: Tensor, bad: int, tau: float, lr: float, clip: float | None, bf16: bool) -> str:
    """One clause on the likely cause and what to try.

    Args:
        values_n4: loss, reconstruction, KL and gradient norm of the window's steps.
        bad: the first step that is not finite.
        tau, lr, clip, bf16: the run's settings at that step.
    """
    before = values_n4[:bad]
    if len(before) > 1 and before[-1, 3] > 20 * before[: max(1, bad // 2), 3].median():
        return (
            f"the gradient's norm grew from {before[0, 3]:.3g} to {before[-1, 3]:.3g}; "
            f"lower optim.lr ({lr:g}) or set optim.clip"
        )
    if tau < 0.1:
        return f"τ={tau:g} is small, and relaxed gradients grow as 1/τ; raise tau.init or tau.min"
    if bf16:
        return "bfloat16 has 8 bits of precision; try training.precision=fp32"
    advice = "lower optim.lr" if clip is not None else "lower optim.lr or set optim.clip"
    return f"the updates are too large at lr={lr:g}; {advice}"
