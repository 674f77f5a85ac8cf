"""Schedules are pure functions of the global step."""

import math
import random
from itertools import pairwise

import pytest

from gsvae import tau
from gsvae.training import schedules as lr

FALLING = [
    tau.Constant(0.7),
    tau.Exponential(1.0, 0.5, 3e-5),
    tau.Exponential(1.0, 0.5, 1e-3, 500),
    tau.Exponential(2.0, 0.1, 0.01, 7),
    tau.Linear(1.0, 0.1, 1000),
    tau.Linear(3.0, 3.0, 10),
    tau.Linear(0.9, 0.3, 1),
    tau.Cosine(1.0, 0.0625, 1500),
    tau.Cosine(0.9, 0.1, 3),
    lr.Constant(),
    lr.Exponential(0.9, 1000),
    lr.Exponential(0.5, 1),
    lr.Cosine(0.0, 700),
    lr.Cosine(0.1, 3),
]
TEMPERATURES = [s for s in FALLING if hasattr(s, "init")]
RAMPS = [tau.Linear, tau.Cosine]


@pytest.mark.parametrize("schedule", [*FALLING, lr.Warmup(10)], ids=str)
def test_the_value_depends_on_nothing_but_the_step(schedule):
    steps = list(range(0, 3000, 17))
    in_order = {t: schedule(t) for t in steps}
    random.Random(0).shuffle(steps)
    assert {t: schedule(t) for t in steps} == in_order
    assert all(isinstance(v, float) and math.isfinite(v) for v in in_order.values())


@pytest.mark.parametrize("schedule", FALLING, ids=str)
def test_never_rises(schedule):
    values = [schedule(t) for t in range(3000)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(values))


@pytest.mark.parametrize("schedule", TEMPERATURES, ids=str)
def test_temperature_starts_at_init_and_keeps_above_its_floor(schedule):
    floor = getattr(schedule, "min", schedule.init)
    assert schedule(0) == schedule.init
    assert all(floor * (1 - 1e-12) <= schedule(t) <= schedule.init * (1 + 1e-12) for t in range(3000))
    assert schedule(10**9) == floor


@pytest.mark.parametrize("ramp", RAMPS)
@pytest.mark.parametrize(("init", "floor"), [(1.0, 0.1), (0.9, 0.3), (2.0, 0.7)])
def test_ramps_end_exactly_at_their_floor_half_way_at_the_mean(ramp, init, floor):
    schedule = ramp(init, floor, 1000)
    assert [schedule(t) for t in (1000, 1001, 5000)] == [floor] * 3
    assert schedule(500) == pytest.approx((init + floor) / 2)
    assert schedule(999) > floor
    assert schedule(1) < init


def test_a_line_is_straight_and_a_cosine_flat_at_both_ends():
    line, cosine = tau.Linear(1.0, 0.0625, 100), tau.Cosine(1.0, 0.0625, 100)
    assert line(25) == pytest.approx(1 - 0.25 * 0.9375)
    assert cosine(25) == pytest.approx(0.0625 + 0.9375 * (1 + math.cos(math.pi / 4)) / 2)
    assert 1 - cosine(1) < 0.05 * (1 - line(1))
    assert cosine(99) - cosine(100) < 0.05 * (line(99) - line(100))


@pytest.mark.parametrize("every", [500, 1000])
@pytest.mark.parametrize("rate", [1e-5, 1e-4])
def test_jang_s_formula_held_between_updates(rate, every):
    schedule = tau.Exponential(1.0, 0.5, rate, every)
    for t in (0, 1, every - 1, every, every + 1, 7 * every, 8 * every - 1, 49_999, 200_000):
        update = t - t % every
        assert schedule(t) == pytest.approx(max(0.5, math.exp(-rate * update)), rel=1e-12)
    assert schedule(every - 1) == schedule(0) > schedule(every)
    assert schedule(10**6) == 0.5


def test_exponential_temperature_with_rate_0_is_constant():
    schedule = tau.Exponential(1.3, 0.5, 0.0, 10)
    assert {schedule(t) for t in range(100)} == {1.3}


def test_exponential_learning_rate_is_that_of_jang_s_notebook():
    schedule = lr.Exponential(0.9, 1000)
    for t, times in ((0, 0), (999, 0), (1000, 1), (1999, 1), (49_999, 49)):
        assert schedule(t) == pytest.approx(0.9**times)


@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
def test_cosine_learning_rate_from_1_to_final(final):
    schedule = lr.Cosine(final, 200)
    assert schedule(0) == pytest.approx(1.0)
    assert schedule(100) == pytest.approx((1 + final) / 2)
    assert schedule(200) == schedule(10_000) == pytest.approx(final)


def test_warmup_rises_in_a_line_and_stays_at_1():
    warmup = lr.Warmup(10)
    assert [warmup(t) for t in range(10)] == pytest.approx([(t + 1) / 10 for t in range(10)])
    assert [warmup(t) for t in (9, 10, 11, 10_000)] == [1.0] * 4


def test_no_warmup_is_1_from_the_start():
    assert {lr.Warmup(0)(t) for t in range(100)} == {1.0}


def test_a_constant_is_constant():
    assert {lr.Constant()(t) for t in range(0, 10_000, 97)} == {1.0}
    assert {tau.Constant(0.66)(t) for t in range(0, 10_000, 97)} == {0.66}
