"""R runs trained as one batched computation; a pack of one calls the run's own module directly, at no cost.

Shapes: R runs in the pack, B batch, D pixels. Names of parameters are those of one run's :class:`Objective`.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from gsvae.objective import Objective, Terms

__all__ = ["Pack"]

OptimizerFactory = Callable[[list[Tensor]], torch.optim.Optimizer]
TensorTree = dict[str, dict[str, Tensor]]
SHARED = ("step",)  # optimiser state that is one number for the whole pack


class Pack:
    """Parameters, optimiser and update of R runs that differ only in their numbers.

    Args:
        objectives: one per run, of the same shapes; their initial parameters are taken.
        make_optimizer: torch optimiser class with its settings bound. With R > 1 its update must be elementwise and
            linear in the learning rate, as those of Adam, AdamW, RAdam and SGD are.
        clips: largest gradient norm of each run, None for no clipping.
        bf16: run the networks under bfloat16 autocast.
        compiled: compile the forward and backward computation with ``torch.compile``.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        make_optimizer: OptimizerFactory,
        clips: Sequence[float | None],
        *,
        bf16: bool = False,
        compiled: bool = False,
    ) -> None:
        self.size = len(objectives)
        self.module = objectives[0]
        self._scratch = copy.deepcopy(self.module).eval()
        first = next(self.module.parameters())
        self.device, self.dtype = first.device, first.dtype
        self.params: dict[str, Tensor]
        self.buffers: dict[str, Tensor]
        if self.size == 1:
            self.params, self.buffers = (
                dict(self.module.named_parameters()),
                dict(self.module.named_buffers()),
            )
        else:
            self.params, self.buffers = stack_module_state(list(objectives))
        self.optimizer = make_optimizer(list(self.params.values()))
        self.clips = list(clips)
        self.bf16 = bf16
        terms = self._terms_of_one if self.size == 1 else self._terms_of_many
        self._terms: Callable[..., Terms] = torch.compile(terms) if compiled else terms

    # ---------------------------------------------------------------- one step

    def step(self, x_RBD: Tensor, noise_R: Tensor, tau_R: Tensor, beta_R: Tensor, lr: Sequence[float]) -> Tensor:
        """One update of every run.

        Args:
            x_RBD: pixels in [0, 1]; noise_R: Gumbel noise ``(R, ...)``; tau_R, beta_R: ``(R,)``; lr: one per run.

        Returns:
            ``(4, R)`` loss, reconstruction and KL before the update, in nats per image, and the gradient's norm.
        """
        self.optimizer.zero_grad(set_to_none=True)
        with self._precision():
            terms = self._terms(x_RBD, noise_R, tau_R, beta_R)
        terms.loss.sum().backward()
        norm_R = self._clip()
        self._update(lr)
        return torch.stack((terms.loss.detach(), terms.reconstruction, terms.kl, norm_R))

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def _terms_of_one(self, x_RBD: Tensor, noise_R: Tensor, tau_R: Tensor, beta_R: Tensor) -> Terms:
        terms = self.module(x_RBD[0], noise_R[0], tau_R[0], beta_R[0])
        return Terms(*(term.unsqueeze(0) for term in terms))

    def _terms_of_many(self, x_RBD: Tensor, noise_R: Tensor, tau_R: Tensor, beta_R: Tensor) -> Terms:
        def one(params: Any, buffers: Any, *batch: Tensor) -> Terms:
            return functional_call(self.module, (params, buffers), batch)

        return vmap(one)(self.params, self.buffers, x_RBD, noise_R, tau_R, beta_R)

    def _clip(self) -> Tensor:
        """Scale each run's gradient down to its largest norm; returns the norms before, ``(R,)``."""
        grads = [p.grad for p in self.params.values() if p.grad is not None]
        if self.size == 1:
            norm = torch.nn.utils.get_total_norm(grads)
            if self.clips[0] is not None:
                torch.nn.utils.clip_grads_with_norm_(list(self.params.values()), self.clips[0], norm)
            return norm.unsqueeze(0)
        norm_R = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in grads]).norm(dim=0)
        if any(clip is not None for clip in self.clips):
            largest = [float("inf") if clip is None else clip for clip in self.clips]
            limit_R = torch.tensor(largest, device=self.device, dtype=self.dtype)
            scale_R = (limit_R / (norm_R + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(grads, [per_run(scale_R, g) for g in grads])
        return norm_R

    def _update(self, lr: Sequence[float]) -> None:
        if len(set(lr)) == 1:
            self._optimizer_step(lr[0])
            return
        # One optimiser holds all runs, and it knows one lr: step at lr 1, then scale each run's update.
        params = list(self.params.values())
        before = [p.detach().clone() for p in params]
        self._optimizer_step(1.0)
        lr_R = torch.tensor(lr, device=self.device, dtype=self.dtype)
        with torch.no_grad():
            change = torch._foreach_sub(params, before)
            torch._foreach_mul_(change, [per_run(lr_R, p) for p in params])
            torch._foreach_copy_(params, torch._foreach_add(before, change))

    def _optimizer_step(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()

    # ---------------------------------------------------------------- one run's part

    def weights(self, r: int) -> dict[str, Tensor]:
        """A copy of run ``r``'s parameters and buffers, by name."""
        return {name: self._part(t, r).detach().clone() for name, t in (self.params | self.buffers).items()}

    @torch.no_grad()
    def module_with(self, weights: dict[str, Tensor]) -> Objective:
        """One run's module holding ``weights``, for evaluation; the next call changes it, training never does."""
        for name, tensor in named_tensors(self._scratch).items():
            tensor.copy_(weights[name])
        return self._scratch

    def state(self, r: int) -> dict[str, Any]:
        """Run ``r``'s parameters and optimiser state, in the same form whatever the pack's size."""
        optimizer: TensorTree = {}
        for name, param in self.params.items():
            optimizer[name] = {
                key: (value if key in SHARED else self._part(value, r)).detach().clone()
                for key, value in self.optimizer.state.get(param, {}).items()
            }
        return {"weights": self.weights(r), "optimizer": optimizer}

    @torch.no_grad()
    def load(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from the runs' states, in the order of the runs; they must stand at the same step."""
        for name, tensor in (self.params | self.buffers).items():
            tensor.copy_(self._whole([s["weights"][name] for s in states]))
        held: dict[int, dict[str, Tensor]] = {}
        for index, name in enumerate(self.params):
            parts = [s["optimizer"][name] for s in states]
            held[index] = {
                key: parts[0][key].clone() if key in SHARED else self._whole([part[key] for part in parts])
                for key in parts[0]
            }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": held})

    def _part(self, tensor: Tensor, r: int) -> Tensor:
        return tensor if self.size == 1 else tensor[r]

    def _whole(self, parts: list[Tensor]) -> Tensor:
        return parts[0] if self.size == 1 else torch.stack(parts)


def per_run(values_R: Tensor, like: Tensor) -> Tensor:
    """``(R,)`` viewed so that it multiplies a tensor ``(R, ...)`` run by run."""
    return values_R.view(-1, *[1] * (like.dim() - 1))


def named_tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    """A module's parameters and buffers by name."""
    return dict(module.named_parameters()) | dict(module.named_buffers())
