"""A run's numbers do not depend on the pack it is trained in."""

import json
import shutil

import pytest
import torch
from packing import Launches, Spec, trainer, weights

from gsvae import tau
from gsvae.claim import ClaimLost
from gsvae.sampling import (
    GST,
    REBAR,
    RELAX,
    RLOO,
    VIMCO,
    ZGR,
    Decoupled,
    Exact,
    GumbelRao,
    Hard,
    MuProp,
    ReinMax,
    Soft,
    StraightThrough,
)
from gsvae.training import schedules
from gsvae.training.streams import Streams, Uniforms


def relax():
    return RELAX(3, 4, hidden=5)


SAMPLERS = [
    *(Soft, Hard, StraightThrough, ReinMax, RLOO, GumbelRao, GST, ZGR, Decoupled, MuProp, REBAR, relax, VIMCO, Exact)
]
OPTIMIZERS = [
    (torch.optim.Adam, {"weight_decay": 0.01}),
    (torch.optim.AdamW, {"weight_decay": 0.1}),
    (torch.optim.RAdam, {}),
    (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
]
EVERY = [(sampler, *OPTIMIZERS[0]) for sampler in SAMPLERS]
EVERY += [(sampler, *optimizer) for sampler in (Soft, relax) for optimizer in OPTIMIZERS[1:]]
FOUR = [  # every τ schedule, and every schedule of the learning rate
    Spec(0, tau.Constant(1.0), 1e-3, 1.0, None),
    Spec(1, tau.Exponential(2.0, 0.5, 0.05, 3), 3e-3, 0.5, 2.0, schedules.Constant()),
    Spec(2, tau.Linear(1.5, 0.7, 20), 1e-2, 2.0, 0.1, schedules.Exponential(0.7, 5)),
    Spec(3, tau.Cosine(0.9, 0.4, 25), 5e-4, 0.0, 1e6, schedules.Cosine(0.1, 20)),
]


def fit_alone(spec, *args, **kwargs):
    alone = trainer([spec], *args, **kwargs)
    alone.fit()
    return alone


@pytest.mark.parametrize(("sampler", "optimizer", "settings"), EVERY, ids=lambda v: getattr(v, "__name__", ""))
def test_four_runs_packed_end_as_each_alone(sampler, optimizer, settings, tmp_path):
    packed = trainer(FOUR, sampler, optimizer, tmp_path / "packed", dynamic=True, prior="learned", **settings)
    start = [weights(packed, r) for r in range(4)]
    packed.fit()
    for r, spec in enumerate(FOUR):
        alone = fit_alone(spec, sampler, optimizer, tmp_path / "alone", dynamic=True, prior="learned", **settings)
        for name, value in weights(alone, 0).items():
            torch.testing.assert_close(weights(packed, r)[name], value, rtol=0, atol=1e-8)
        moved = max((value - start[r][name]).abs().max() for name, value in weights(alone, 0).items())
        assert moved > 1e-4, "the run did not train"
        theirs, ours = alone.runs[0].outcome["metrics"], packed.runs[r].outcome["metrics"]
        for name in theirs.keys() - {"train/images_per_second"}:
            assert ours[name] == pytest.approx(theirs[name], abs=1e-7), name


@pytest.mark.parametrize("sampler", [Soft, ReinMax, RLOO, relax])
def test_float32_metrics_agree_to_a_thousandth(sampler, tmp_path):
    packed = trainer(FOUR, sampler, torch.optim.Adam, tmp_path / "packed", dtype=torch.float32)
    packed.fit()
    for r, spec in enumerate(FOUR):
        alone = fit_alone(spec, sampler, torch.optim.Adam, tmp_path / "alone", dtype=torch.float32)
        theirs, ours = alone.runs[0].outcome["metrics"], packed.runs[r].outcome["metrics"]
        for name in ("train/loss", "val/neg_elbo", "test/neg_elbo", "test/iwae"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-3), name


def test_equal_learning_rates_take_the_direct_update_and_agree_too(tmp_path):
    specs = [Spec(0), Spec(1)]
    packed = trainer(specs, Soft, torch.optim.Adam, tmp_path / "packed")
    packed.fit()
    for r, spec in enumerate(specs):
        alone = fit_alone(spec, Soft, torch.optim.Adam, tmp_path / "alone")
        for name, value in weights(alone, 0).items():
            torch.testing.assert_close(weights(packed, r)[name], value, rtol=0, atol=1e-8)


def test_a_run_that_diverges_leaves_the_others_untouched_to_the_last_bit(tmp_path):
    calm = [Spec(0, lr=1e-3), Spec(1, lr=2e-3)]
    undisturbed = trainer([*calm, Spec(2, lr=3e-3)], Soft, torch.optim.SGD, tmp_path / "a")
    undisturbed.fit()
    disturbed = trainer([*calm, Spec(2, lr=1e200)], Soft, torch.optim.SGD, tmp_path / "b")
    disturbed.fit()
    assert disturbed.runs[2].outcome["state"] == "diverged"
    assert "not finite at step" in disturbed.runs[2].outcome["error"]
    for r in range(2):
        assert disturbed.runs[r].outcome["state"] == "finished"
        for name, value in weights(undisturbed, r).items():
            assert torch.equal(weights(disturbed, r)[name], value)


def test_a_run_s_checkpoint_from_a_pack_goes_on_alone(tmp_path):
    from gsvae.training.checkpoint import read_checkpoint

    packed = trainer(FOUR, Hard, torch.optim.Adam, tmp_path / "packed", steps=13)
    packed.fit()
    whole = fit_alone(FOUR[2], Hard, torch.optim.Adam, tmp_path / "whole", steps=25)
    state = read_checkpoint(tmp_path / "packed" / "2" / "checkpoints" / "last.pt")
    alone = trainer([FOUR[2]], Hard, torch.optim.Adam, tmp_path / "alone", steps=25)
    alone.resume([state], [{}])
    alone.fit()
    for name, value in weights(whole, 0).items():
        torch.testing.assert_close(weights(alone, 0)[name], value, rtol=0, atol=1e-8)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("specs", [FOUR[:1], FOUR[:2]], ids=["alone", "packed"])
def test_compiled_ends_as_eager(specs, tmp_path):
    eager = trainer(specs, Hard, torch.optim.Adam, tmp_path / "eager")
    compiled = trainer(specs, Hard, torch.optim.Adam, tmp_path / "compiled", compiled=True)
    eager.fit()
    compiled.fit()
    for r in range(len(specs)):
        for name, value in weights(eager, r).items():
            torch.testing.assert_close(weights(compiled, r)[name], value, rtol=0, atol=1e-8)


# ---------------------------------------------------------------- in turns


@pytest.mark.parametrize("sampler", [Soft, RLOO, relax])
@pytest.mark.parametrize("elementwise", [True, False])
def test_runs_that_take_turns_are_to_the_last_bit_what_each_is_alone(sampler, elementwise, tmp_path):
    optimizer = torch.optim.Adam if elementwise else Blocks
    packed = trainer(FOUR, sampler, optimizer, tmp_path / "packed", dtype=torch.float32, lifted=False, dynamic=True)
    packed.fit()
    for r, spec in enumerate(FOUR):
        alone = fit_alone(spec, sampler, optimizer, tmp_path / "alone", dtype=torch.float32, dynamic=True)
        for name, value in weights(alone, 0).items():
            assert torch.equal(weights(packed, r)[name], value)
        theirs, ours = alone.runs[0].outcome["metrics"], packed.runs[r].outcome["metrics"]
        assert {k: v for k, v in ours.items() if "per_second" not in k} == {
            k: v for k, v in theirs.items() if "per_second" not in k
        }


class Blocks(torch.optim.Optimizer):
    """Steps along each parameter's gradient over its norm: not elementwise."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1e-3})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * p.grad / (p.grad.norm() + 1e-6))


# ---------------------------------------------------------------- ended early


@pytest.mark.parametrize("lifted", [True, False])
def test_a_pruned_run_leaves_the_others_untouched_to_the_last_bit(lifted, tmp_path):
    def fitted(folder, pruned):
        made = trainer(FOUR, Hard, torch.optim.Adam, folder, dtype=torch.float32, lifted=lifted)
        made.runs[1].give_up = lambda epoch, metrics: pruned and epoch == 1
        made.fit()
        return made

    whole, cut = fitted(tmp_path / "whole", False), fitted(tmp_path / "cut", True)
    assert [run.outcome["state"] for run in cut.runs] == ["finished", "pruned", "finished", "finished"]
    assert cut.runs[1].step == 10
    for r in (0, 2, 3):
        for name, value in weights(whole, r).items():
            assert torch.equal(weights(cut, r)[name], value)
        assert whole.runs[r].outcome["metrics"].keys() == cut.runs[r].outcome["metrics"].keys()
        for name, value in whole.runs[r].outcome["metrics"].items():
            assert cut.runs[r].outcome["metrics"][name] == value or "per_second" in name


def test_a_pruned_run_s_place_is_free_where_runs_take_turns(tmp_path):
    made = trainer(FOUR, Hard, torch.optim.Adam, tmp_path, lifted=False)
    made.runs[1].give_up = lambda epoch, metrics: True
    steps = [0] * 4
    for r, lane in enumerate(made.lanes):
        step = lane.pack.step
        lane.pack.step = lambda *args, r=r, step=step: (steps.__setitem__(r, steps[r] + 1), step(*args))[1]
    made.fit()
    assert steps == [25, 10, 25, 25]


def test_a_run_whose_folder_cannot_be_written_fails_alone(tmp_path):
    made = trainer(FOUR, Hard, torch.optim.Adam, tmp_path)

    def full(row):
        raise OSError("no space left on device")

    made.runs[2].tracker.log = full
    made.fit()
    assert [run.outcome["state"] for run in made.runs] == ["finished", "finished", "failed", "finished"]
    assert "no space left" in made.runs[2].outcome["error"]


def test_a_run_taken_over_by_another_process_is_left_and_nothing_more_written(tmp_path):
    made = trainer(FOUR, Hard, torch.optim.Adam, tmp_path)

    def lost():
        if made.step >= 12:
            raise ClaimLost("another process has taken over")

    made.runs[3].check = lost
    made.fit()
    assert [run.outcome["state"] for run in made.runs] == ["finished", "finished", "finished", "lost"]
    rows = [json.loads(line)["step"] for line in (tmp_path / "3" / "history.jsonl").read_text().splitlines()]
    assert max(rows) < 14


# ---------------------------------------------------------------- cost


@pytest.mark.parametrize(("sampler", "lrs"), [(Soft, (1e-3, 2e-3)), *((sampler, (1e-3,)) for sampler in SAMPLERS)])
def test_launches_of_a_step_do_not_grow_with_the_runs(sampler, lrs, tmp_path):
    """Nor do an evaluation's, but for each run's own draws and its sums on the host.

    A training step here is one in the middle of a block: each run's uniform numbers are drawn for 64 steps at a time.
    """

    def count(size):
        specs = [Spec(seed, tau.Constant(1.0 + seed), lrs[seed % len(lrs)], clip=1.0) for seed in range(size)]
        made = trainer(specs, sampler, torch.optim.Adam, tmp_path / str(size), dynamic=True)
        (lane,) = made.lanes
        lane.advance(0, 2)
        with Launches() as step:
            lane.advance(2, 3)
        held = [lane.pack.weights(r) for r in range(size)]
        with Launches() as scoring:
            lane.score(range(size), held, made.splits.val, 3, check=lambda: None)
        return step.n, scoring.n

    (step_of_2, scoring_of_2), (step_of_8, scoring_of_8) = count(2), count(8)
    assert step_of_2 == step_of_8
    assert scoring_of_8 - scoring_of_2 <= 6 * 25
    assert step_of_2 < 400


def test_numbers_drawn_in_blocks_do_not_depend_on_where_a_run_goes_on():
    def drawn(start, state):
        streams = Streams(3, torch.device("cpu"))
        if state:
            streams.load(state)
        numbers = Uniforms([streams], "noise", (2, 3), torch.float32, torch.device("cpu"))
        found = {}
        for step in range(start, 150):
            found[step] = numbers.of(step).clone(), streams.state(["noise"] if (step + 1) % numbers.steps == 0 else [])
        return found

    whole = drawn(0, None)
    for start in (1, 63, 64, 65, 128, 149):
        for step, (numbers, _) in drawn(start, whole[start - 1][1]).items():
            assert torch.equal(numbers, whole[step][0])


# ---------------------------------------------------------------- models that cannot be lifted


def test_a_model_or_an_optimiser_that_cannot_be_lifted_says_why(tmp_path):
    fine = trainer(FOUR, Hard, torch.optim.Adam, tmp_path)
    assert fine.lanes[0].hindrance() is None
    other = trainer(FOUR, Hard, Blocks, tmp_path)
    assert other.lanes[0].hindrance() == "Blocks is not elementwise"
    odd = trainer(FOUR, Hard, torch.optim.Adam, tmp_path)
    odd.lanes[0].pack.module.model.encoder.append(torch.nn.BatchNorm1d(12).double())
    odd.lanes[0].pack.module.train()
    assert "cannot be lifted" in (odd.lanes[0].hindrance() or "")
