"""Which jobs may be one pack, how packs are cut, and what is said of it; what memory bears."""

import pytest
import torch
from omegaconf import OmegaConf
from test_composition import compose_row

from gsvae.packing import memory
from gsvae.packing.memory import Memory, measure
from gsvae.packing.partition import Cut, cut, partition, shared_settings

TOGETHER = [
    ["seed=3"],
    ["optim.lr=0.1"],
    ["optim.clip=2"],
    ["optim/schedule=cosine"],
    ["optim/schedule=exponential", "optim.schedule.factor=0.5"],
    ["tau.init=0.3"],
    ["tau=exponential", "tau.rate=1e-4"],
    ["tau=cosine"],
    ["training.beta=0.5", "training.beta_warmup=100"],
    ["tracking.name=x", "tracking.tags=[a]", "tracking.mode=offline"],
]
APART = [
    ["model.n_cat=5"],
    ["model=linear"],
    ["model.prior=learned"],
    ["data.binarize=dynamic"],
    ["data.n_val=100"],
    ["sampling=hard"],
    ["optim=sgd"],
    ["optim.weight_decay=0.1"],
    ["training.batch_size=50"],
    ["training.epochs=3"],
    ["training.precision=bf16"],
    ["evaluation.n_samples=2"],
    ["evaluation.every=2"],
    ["tracking.log_every=7"],
    ["device=cpu"],
]


def settings(overrides):
    cfg, _ = compose_row(["model=tiny", *overrides])
    return shared_settings(OmegaConf.to_container(cfg, resolve=True))


def test_runs_that_differ_in_what_is_a_run_s_own_are_one_pack():
    found = partition([settings(overrides) for overrides in TOGETHER])
    assert [each.jobs for each in found] == [list(range(len(TOGETHER)))]


@pytest.mark.parametrize("overrides", APART, ids=lambda overrides: overrides[0])
def test_runs_that_differ_in_anything_else_are_apart_and_it_is_said_why(overrides):
    first, second = partition([settings([]), settings(overrides), settings(["seed=2"])])
    assert first.jobs == [0, 2]
    assert second.jobs == [1]
    key, _, value = overrides[0].partition("=")
    if key in ("model", "optim", "sampling"):
        key, value = f"{key}.", ""
    assert f"{key}" in second.why
    assert value.lower() in second.why.lower()


def test_the_reason_is_the_difference_to_the_nearest_pack():
    packs = [{"a": 1, "b": 1}, {"a": 2, "b": 2}, {"a": 2, "b": 3}]
    assert [each.why for each in partition(packs)] == [
        "",
        "apart from the first with a=2 (1), b=2 (1)",
        "apart from another with b=3 (2)",
    ]


@pytest.mark.parametrize(
    ("n", "most", "least", "sizes"),
    [
        (10, 64, 1, [10]),
        (64, 64, 1, [64]),
        (65, 64, 1, [32, 33]),
        (10, 4, 1, [3, 4, 3]),
        (4, 64, 2, [2, 2]),
        (1, 8, 4, [1]),
    ],
)
def test_cuts_are_even_and_lose_nobody(n, most, least, sizes):
    parts = cut(Cut(list(range(n)), {}), most, "why", least)
    assert [len(part.jobs) for part in parts] == sizes
    assert [job for part in parts for job in part.jobs] == list(range(n))
    assert all(part.limits == (["why"] if len(parts) > 1 else []) for part in parts)


# ---------------------------------------------------------------- memory


def test_memory_of_a_run_is_measured_and_grows_with_the_model(monkeypatch):
    small, large = (measure(compose_row([f"model={size}", "tracking=disabled"])[0]) for size in ("small", "large"))
    assert small.per_run < large.per_run
    cfg, _ = compose_row(["model=large", "tracking=disabled"])
    parameters = 2 * 64 * 1024  # the first and the last layer alone
    assert large.per_run > 5 * 4 * parameters, "parameters, gradients, two moments and the best weights"
    monkeypatch.setattr(memory, "free_memory", lambda: 10 * small.per_run)
    assert measure(compose_row(["model=small", "tracking=disabled"])[0]).most == 8
    assert cfg.seed == 0
    assert not torch.is_inference_mode_enabled()


def test_one_run_is_always_tried():
    assert Memory(per_run=2**40, free=2**30).most == 1
    assert str(Memory(2**20, 2**31)) == "memory: 1 MiB a run, 2.0 GiB free"
