"""The loop: what is logged, what is chosen, how divergence ends a run."""

import json
from dataclasses import replace

import pytest
import torch
from packing import BATCH, Spec, splits, trainer

from gsvae.data import Splits
from gsvae.sampling import Hard, Soft
from gsvae.tau import Linear
from gsvae.tracking.painter import Painter
from gsvae.training.divergence import likely_cause
from gsvae.training.streams import derive_seed


def fitted(tmp_path, spec=None, **more):
    made = trainer([spec or Spec(0)], Hard, torch.optim.Adam, tmp_path, **more)
    made.fit()
    return made, rows_of(tmp_path)


def rows_of(tmp_path):
    return [json.loads(line) for line in (tmp_path / "0" / "history.jsonl").read_text().splitlines()]


def test_logged_metrics_are_means_over_the_window(tmp_path):
    seen = []
    made = trainer([Spec(0, Linear(1.0, 0.5, 25), beta=0.5)], Hard, torch.optim.Adam, tmp_path)
    (lane,) = made.lanes
    step = lane.pack.step
    lane.pack.step = lambda *args: seen.append(step(*args)) or seen[-1]
    made.fit()
    rows = [row for row in rows_of(tmp_path) if "train/loss" in row]
    assert [row["step"] for row in rows] == [7, 14, 21, 25]
    values = torch.stack(seen)[:, :, 0]
    begin = 0
    for row in rows:
        window = values[begin : row["step"]]
        begin = row["step"]
        for index, name in enumerate(("loss", "reconstruction", "kl", "grad_norm")):
            assert row[f"train/{name}"] == pytest.approx(window[:, index].mean().item())
        assert row["train/loss"] == pytest.approx(row["train/reconstruction"] + 0.5 * row["train/kl"])
        assert row["train/tau"] == Linear(1.0, 0.5, 25)(row["step"] - 1)
        assert row["train/lr"] == pytest.approx(1e-3 * 0.99 ** (row["step"] - 1))


def test_every_image_is_used_at_most_once_an_epoch_and_the_order_changes(tmp_path):
    made = trainer([Spec(0), Spec(1)], Soft, torch.optim.Adam, tmp_path)
    batches = made.lanes[0].batches
    assert batches.per_epoch == 10  # of 105 images in batches of 10
    epochs = [torch.cat([batches.draw(e * 10 + i)[0] for i in range(10)], dim=1) for e in range(2)]
    for epoch in epochs:
        for run in epoch:
            assert len({tuple(x.tolist()) for x in run}) == 10 * BATCH
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0][0], epochs[0][1])
    assert epochs[0].min() >= 0
    assert epochs[0].max() == 1.0


def test_best_weights_are_those_with_the_lowest_validation_score(tmp_path):
    made, rows = fitted(tmp_path, Spec(0, lr=0.5), steps=64)
    scores = {row["step"]: row["val/neg_elbo"] for row in rows if "val/neg_elbo" in row}
    final = made.runs[0].outcome["metrics"]
    best = min(scores, key=scores.__getitem__)
    assert final["best/step"] == best
    assert best < 64, "the best were the last: the test would show nothing"
    assert final["val/neg_elbo"] == scores[best]
    assert final["val_last/neg_elbo"] == scores[64]
    held = torch.load(made.runs[0].checkpoints / "best.pt", weights_only=True)
    (lane,) = made.lanes

    def score(images, *, iwae):
        model = lane.pack.module_with(held["weights"]).model
        return lane.evaluator.one(model, derive_seed(0, "evaluation"), images, tau=1.0, iwae=iwae)

    again = score(made.splits.val, iwae=False)
    assert again.neg_elbo == pytest.approx(scores[best])
    tested = score(made.splits.test, iwae=True)
    assert final["test/neg_elbo"] == pytest.approx(tested.neg_elbo)
    assert final["test/neg_elbo"] != final["test_last/neg_elbo"]


def test_training_images_are_scored_for_each_run_of_a_pack(tmp_path):
    made = trainer([Spec(0, lr=0.5), Spec(1)], Hard, torch.optim.Adam, tmp_path, steps=64)
    made.plan = replace(made.plan, on_train=True)
    made.fit()
    (lane,) = made.lanes
    for r, run in enumerate(made.runs):
        best = torch.load(run.checkpoints / "best.pt", weights_only=True)["weights"]
        for name, weights in (("train", best), ("train_last", lane.pack.weights(r))):
            model = lane.pack.module_with(weights).model
            alone = lane.evaluator.one(model, derive_seed(run.seed, "evaluation"), made.splits.train, 1.0)
            assert run.outcome["metrics"][f"{name}/neg_elbo"] == pytest.approx(alone.neg_elbo)
    assert made.runs[0].outcome["metrics"]["train/neg_elbo"] != pytest.approx(alone.neg_elbo)


@pytest.mark.parametrize("asked", [False, True])
def test_without_validation_images_nothing_is_chosen_and_test_shows_only_if_asked(asked, tmp_path):
    made = trainer([Spec(0)], Hard, torch.optim.Adam, tmp_path)
    data = splits()
    made.splits = Splits(data.train, None, data.test)
    made.val_images = data.test if asked else None
    made.fit()
    final = made.runs[0].outcome["metrics"]
    assert ("val/neg_elbo" in final) is asked
    assert "best/step" not in final
    assert final["test/neg_elbo"] == final["test_last/neg_elbo"]
    held = torch.load(made.runs[0].checkpoints / "best.pt", weights_only=True)
    assert held["step"] == 25


def test_gradients_are_clipped_to_the_norm(tmp_path):
    made = trainer([Spec(0, clip=1e-3), Spec(1)], Soft, torch.optim.SGD, tmp_path)
    (lane,) = made.lanes
    x_RBD, noise_R = lane.batches.draw(0)
    ones = torch.ones(2, dtype=torch.float64)
    metrics = lane.pack.step(x_RBD, noise_R, ones, ones, 0.1)
    norms = lane.pack.grad_RP.norm(dim=1)
    assert norms[0] == pytest.approx(1e-3, rel=2e-3)
    assert norms[1] == pytest.approx(metrics[3, 1].item())
    assert metrics[3, 0] > 1e-2, "the norm logged is the one before clipping"


def test_a_diverging_run_ends_with_its_step_and_a_likely_cause(tmp_path):
    _, rows = fitted(tmp_path, Spec(0, lr=1e200))
    status = json.loads((tmp_path / "0" / "status.json").read_text())
    assert status["state"] == "diverged"
    assert status["error"].startswith(f"loss not finite at step {status['step']}")
    assert "optim.lr" in status["error"]
    assert not (tmp_path / "0" / "checkpoints" / "last.pt").exists(), "a broken state must not be saved"
    assert rows[-1]["train/loss"] is None, "JSON has no NaN"


def test_causes_of_divergence():
    steady = torch.ones(10, 4)
    growing = steady.clone()
    growing[:, 3] = 4.0 ** torch.arange(10)
    assert "grew" in likely_cause(growing, 9, 1.0, 1e-3, None, bf16=False)
    assert "τ=0.05" in likely_cause(steady, 5, 0.05, 1e-3, None, bf16=False)
    assert "fp32" in likely_cause(steady, 5, 1.0, 1e-3, None, bf16=True)
    assert "set optim.clip" in likely_cause(steady, 5, 1.0, 1e-3, None, bf16=False)
    assert "set optim.clip" not in likely_cause(steady, 5, 1.0, 1e-3, 1.0, bf16=False)


def test_pictures_drawn_by_others_are_those_drawn_here(tmp_path):
    here, there = (
        trainer([Spec(0)], Hard, torch.optim.Adam, tmp_path / name, pictures=True) for name in ("here", "there")
    )
    there.runs[0].tracker.painter = Painter(1)
    for made in (here, there):
        made.report = lambda run: run.tracker.close("finished")
        made.fit()
    folders = (tmp_path / name / "0" / "images" for name in ("there", "here"))
    ours, theirs = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert ours.keys() == {"reconstructions.png", "samples.png", "traversals.png", "codes.png"}
    assert ours == theirs


def test_a_picture_that_cannot_be_drawn_fails_its_run(tmp_path):
    made = trainer([Spec(0)], Hard, torch.optim.Adam, tmp_path, pictures=True)
    made.runs[0].tracker.painter = Painter(1)
    made.report = lambda run: run.tracker.close("finished")
    (tmp_path / "0" / "images").write_text("no folder")
    made.fit()
    assert made.runs[0].outcome["state"] == "failed"
    assert json.loads((tmp_path / "0" / "status.json").read_text())["state"] == "failed"
