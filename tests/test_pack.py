"""A run's numbers do not depend on the pack it is trained in."""

import shutil

import pytest
import torch
from packing import Spec, trainer, weights

from gsvae.sampling import RLOO, Hard, ReinMax, Soft, StraightThrough
from gsvae.tau import Constant, Cosine, Exponential, Linear

SAMPLERS = [Soft, Hard, StraightThrough, ReinMax, RLOO]
OPTIMIZERS = [
    (torch.optim.Adam, {"weight_decay": 0.01}),
    (torch.optim.AdamW, {"weight_decay": 0.1}),
    (torch.optim.RAdam, {}),
    (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
]
FOUR = [
    Spec(0, Constant(1.0), 1e-3, 1.0, None),
    Spec(1, Exponential(2.0, 0.5, 0.05, 3), 3e-3, 0.5, 2.0),
    Spec(2, Linear(1.5, 0.7, 20), 1e-2, 2.0, 0.1),
    Spec(3, Cosine(0.9, 0.4, 25), 5e-4, 0.0, 1e6),
]


def fit_alone(spec, *args, **kwargs):
    alone = trainer([spec], *args, **kwargs)
    alone.fit()
    return alone


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("optimizer", "settings"), OPTIMIZERS, ids=lambda v: getattr(v, "__name__", ""))
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


@pytest.mark.parametrize("sampler", SAMPLERS)
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
