"""R runs trained as one batched computation; a pack of one calls the run's own module directly, at no cost.

Shapes: R runs in the pack, P parameters of a run (padded), B batch, D pixels. Names of parameters are those of one
run's :class:`Objective`.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop

from gsvae.evaluation import Alone, Models, Stacked
from gsvae.objective import Objective, Terms

__all__ = ["Pack"]

OptimizerFactory = Callable[[list[Tensor]], torch.optim.Optimizer]
ELEMENTWISE = (Adam, AdamW, RAdam, SGD, NAdam, RMSprop, Adagrad, Adadelta, Adamax)
ALIGNMENT = 16  # elements: parameters start at multiples of 64 bytes


class Pack:
    """Parameters, optimiser and update of R runs that differ only in their numbers.

    All parameters lie in one matrix ``(R, P)``, a row a run; the modules' parameters are views of it. So the
    gradient's norm, clipping and an elementwise optimiser's step are one operation each, whatever R and the model.

    Args:
        objectives: one per run, of the same shapes; their initial parameters are taken.
        make_optimizer: torch optimiser class with its settings bound. One that is not elementwise (and linear in
            lr) gets the parameters one by one, and serves only R = 1; a class of the user's says so by ``elementwise``.
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
        self._lay_out(objectives)
        self.optimizer = make_optimizer([self.params_RP])
        self.elementwise = getattr(self.optimizer, "elementwise", isinstance(self.optimizer, ELEMENTWISE))
        if not self.elementwise and self.size == 1:
            self.optimizer = make_optimizer(list(self.params.values()))
        self._limit_R = self._limits(clips)
        self.bf16 = bf16
        terms = self._terms_of_one if self.size == 1 else self._terms_of_many
        self._terms: Callable[..., Terms] = torch.compile(terms) if compiled else terms

    def _lay_out(self, objectives: Sequence[Objective]) -> None:
        """Bring all parameters into one matrix, with a view of it and of the gradients for each name."""
        own = dict(self.module.named_parameters())
        starts: dict[str, int] = {}
        end = 0
        for name, p in own.items():
            starts[name] = end
            end += -(-p.numel() // ALIGNMENT) * ALIGNMENT
        self.params_RP = torch.zeros(self.size, end, device=self.device, dtype=self.dtype)
        self.grad_RP = torch.zeros_like(self.params_RP)

        def views(matrix_RP: Tensor) -> dict[str, Tensor]:
            cut = {name: matrix_RP[:, starts[name] : starts[name] + p.numel()] for name, p in own.items()}
            return {name: part.view(self.size, *own[name].shape) for name, part in cut.items()}

        self._views, self._grads = views(self.params_RP), views(self.grad_RP)
        for r, objective in enumerate(objectives):
            for name, p in objective.named_parameters():
                self._views[name][r] = p.detach()
        if self.size == 1:
            for name, p in own.items():
                p.data = self._views[name][0]
            self.params: dict[str, Tensor] = dict(own)
            self.buffers = dict(self.module.named_buffers())
        else:
            self.params = {name: view.detach().requires_grad_() for name, view in self._views.items()}
            parts = [dict(objective.named_buffers()) for objective in objectives]
            self.buffers = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    def _limits(self, clips: Sequence[float | None]) -> Tensor | None:
        if all(clip is None for clip in clips):
            return None
        largest = [float("inf") if clip is None else clip for clip in clips]
        return torch.tensor(largest, device=self.device, dtype=self.dtype)

    # ---------------------------------------------------------------- one step

    def step(self, x_RBD: Tensor, noise_R: Tensor, tau_R: Tensor, beta_R: Tensor, lr: float | Tensor) -> Tensor:
        """One update of every run.

        Args:
            x_RBD: pixels in [0, 1]; noise_R: Gumbel noise ``(R, ...)``; tau_R, beta_R: ``(R,)``; lr: all runs', or
                ``(R,)`` where they differ.

        Returns:
            ``(4, R)`` loss, reconstruction and KL before the update, in nats per image, and the gradient's norm.
        """
        with self._precision():
            terms = self._terms(x_RBD, noise_R, tau_R, beta_R)
        self._differentiate(terms.loss.sum())
        norm_R = self._clip()
        self._update(lr)
        return torch.stack((terms.loss.detach(), terms.reconstruction, terms.kl, norm_R))

    def try_terms(self, batch: tuple[Tensor, Tensor]) -> None:
        """Compute the loss of a batch; raises what a model that cannot be lifted raises."""
        one_R = torch.ones(self.size, device=self.device, dtype=self.dtype)
        with torch.no_grad(), self._precision():
            self._terms_of_many(*batch, one_R, one_R)

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def _terms_of_one(self, x_RBD: Tensor, noise_R: Tensor, tau_R: Tensor, beta_R: Tensor) -> Terms:
        terms = self.module(x_RBD[0], noise_R[0], tau_R[0], beta_R[0])
        return Terms(*(term.unsqueeze(0) for term in terms))

    def _terms_of_many(self, x_RBD: Tensor, noise_R: Tensor, tau_R: Tensor, beta_R: Tensor) -> Terms:
        def one(params: Any, buffers: Any, *batch: Tensor) -> Terms:
            return functional_call(self.module, (params, buffers), batch)

        return vmap(one)(self.params, self.buffers, x_RBD, noise_R, tau_R, beta_R)

    def _differentiate(self, loss: Tensor) -> None:
        """Fill ``grad_RP``; a parameter that the loss does not depend on has gradient 0."""
        found = torch.autograd.grad(loss, list(self.params.values()), allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            parts = [grad.view(part.shape) for grad, part in zip(found, self._grads.values(), strict=True)]
            torch._foreach_copy_(list(self._grads.values()), parts)

    def _clip(self) -> Tensor:
        """Scale each run's gradient down to its largest norm; returns the norms before, ``(R,)``."""
        if self.size == 1:
            norm_R = torch.linalg.vector_norm(self.grad_RP).unsqueeze(0)
        else:
            norm_R = torch.linalg.vector_norm(self.grad_RP, dim=1)
        if self._limit_R is not None:
            self.grad_RP *= (self._limit_R / (norm_R + 1e-6)).clamp(max=1.0).unsqueeze(1)
        return norm_R

    def _update(self, lr: float | Tensor) -> None:
        if not isinstance(lr, Tensor):
            self._optimizer_step(lr)
            return
        # One optimiser holds all runs, and it knows one lr: step at lr 1, then take each run's share of the update.
        before_RP = self.params_RP.clone()
        self._optimizer_step(1.0)
        torch.lerp(before_RP, self.params_RP, lr.unsqueeze(1), out=self.params_RP)

    def _optimizer_step(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self.elementwise:
            self.params_RP.grad = self.grad_RP
        else:
            for p, grad in zip(self.params.values(), self._grads.values(), strict=True):
                p.grad = grad[0]
        self.optimizer.step()

    # ---------------------------------------------------------------- one run's part

    def weights(self, r: int) -> dict[str, Tensor]:
        """A copy of run ``r``'s parameters and buffers, by name."""
        params = {name: view[r].clone() for name, view in self._views.items()}
        return params | {name: self._part(tensor, r).clone() for name, tensor in self.buffers.items()}

    @property
    def nbytes(self) -> int:
        """Memory of the parameters, their gradients and the optimiser's state."""
        held = [self.params_RP, self.grad_RP, *self.buffers.values()]
        held += [value for state in self.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
        return sum(tensor.nbytes for tensor in held)

    def models(self, weights: Sequence[dict[str, Tensor]]) -> Models:
        """Models of these weights for evaluation; the next call for one model changes it, training never does."""
        if len(weights) == 1:
            return Alone(self.module_with(weights[0]).model)
        prefix = "model."
        parts = [{k.removeprefix(prefix): v for k, v in each.items() if k.startswith(prefix)} for each in weights]
        return Stacked(self._scratch.model, parts)

    @torch.no_grad()
    def module_with(self, weights: dict[str, Tensor]) -> Objective:
        """One run's module holding ``weights``, for evaluation; the next call changes it, training never does."""
        for name, tensor in (*self._scratch.named_parameters(), *self._scratch.named_buffers()):
            tensor.copy_(weights[name])
        return self._scratch

    def state(self, r: int) -> dict[str, Any]:
        """Run ``r``'s parameters and optimiser state, in the same form whatever the pack's size."""
        held = self.optimizer.state_dict()["state"]
        optimizer = {
            str(index): {key: self._row(value, r).clone() for key, value in values.items()}
            for index, values in held.items()
        }
        return {"weights": self.weights(r), "optimizer": optimizer}

    @torch.no_grad()
    def load(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from the runs' states, in the order of the runs; they must stand at the same step."""
        for name, view in self._views.items():
            view.copy_(torch.stack([s["weights"][name] for s in states]))
        for name, buffer in self.buffers.items():
            buffer.copy_(self._whole([s["weights"][name] for s in states]))
        held = {
            int(index): {key: self._rows([s["optimizer"][index][key] for s in states]) for key in values}
            for index, values in states[0]["optimizer"].items()
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": held})

    def _part(self, tensor: Tensor, r: int) -> Tensor:
        return tensor if self.size == 1 else tensor[r]

    def _whole(self, parts: list[Tensor]) -> Tensor:
        return parts[0] if self.size == 1 else torch.stack(parts)

    def _row(self, value: Tensor, r: int) -> Tensor:
        """Run ``r``'s row of optimiser state ``(R, P)``; what is no matrix, the step, is everyone's."""
        return value[r] if self.elementwise and value.shape == self.params_RP.shape else value

    def _rows(self, values: list[Tensor]) -> Tensor:
        whole = self.elementwise and values[0].shape == self.params_RP.shape[1:]
        return torch.stack(values) if whole else values[0].clone()
