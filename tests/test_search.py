"""The search: Hydra's grammar as Optuna's distributions, studies that are gone on with, pruning."""

import itertools
import json
import logging
import multiprocessing
import os

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution as Categorical
from optuna.distributions import FloatDistribution as Float
from optuna.distributions import IntDistribution as Int

from gsvae.errors import UserError
from gsvae.search import PruningHandle, SearchSettings, Study, read_settings, read_space

# ---------------------------------------------------------------- the space


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("a,b", Categorical(["a", "b"])),
        ("choice(1,2.5)", Categorical(["1", "2.5"])),
        ("[64,32],[8]", Categorical(["[64,32]", "[8]"])),
        ("range(10,41,10)", Int(10, 40, step=10)),
        ("range(10,40,10)", Int(10, 30, step=10)),
        ("range(3)", Int(0, 2)),
        ("range(0,1,0.25)", Float(0, 0.75, step=0.25)),
        ("interval(0.5,2)", Float(0.5, 2)),
        ("int(interval(1,9))", Int(1, 9)),
        ("tag(log,interval(1e-4,1e-2))", Float(1e-4, 1e-2, log=True)),
        ("tag(log,int(interval(1,100)))", Int(1, 100, log=True)),
    ],
)
def test_hydras_grammar_as_a_distribution(typed, expected):
    space = read_space([f"+x.y={typed}", "seed=0", "sampling=hard"])
    assert space.distributions == {"+x.y": expected}
    assert space.constants == ["seed=0", "sampling=hard"]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("interval(2,1)", "must lie above its start"),
        ("tag(log,interval(0,1))", "start above 0"),
        ("shuffle(a,b)", "a search takes"),
        ("glob(*)", "a search takes"),
        ("1", "nothing to search"),
    ],
)
def test_what_cannot_be_searched_costs_one_line(typed, words):
    with pytest.raises(UserError, match=words) as raised:
        read_space([f"x={typed}"])
    assert "\n" not in str(raised.value)


def test_a_trials_overrides_are_its_values_to_the_last_bit(tmp_path):
    space = read_space(
        ["a=interval(0,1)", "b=tag(log,interval(1e-9,1))", "c=[1,2],[3]", "d='x,y',z", "e=range(0,1,0.1)"]
    )
    study = Study(SearchSettings(n_trials=30, sampler="random"), space, tmp_path, "s")
    for suggestion in study.ask(30):
        params = study.optuna.trials[suggestion.number].params
        for override in OverridesParser.create().parse_overrides(suggestion.overrides):
            key, value = override.key_or_group, override.value()
            text = override.get_value_element_as_str()
            assert params[key] == (value if isinstance(value, float) else text)


def test_corners_are_the_ends_of_everything():
    space = read_space(["a=interval(0.5,2)", "b=x,y,z", "c=range(1,6,2)"])
    assert space.corners() == [["a=0.5", "b=x", "c=1"], ["a=2.0", "b=z", "c=5"]]


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n_trials": 0}, r"hydra\.sweeper\.n_trials=0: must be an integer, at least 1"),
        ({"n_trial": 3}, "did you mean n_trials"),
        ({"sampler": "cma"}, "did you mean cmaes"),
        ({"pruner": "medain"}, "did you mean median"),
        ({"sampler_args": {"n_startup_trial": 3}}, "did you mean n_startup_trials"),
        ({"sampler_args": {"n_startup_trials": "abc"}}, "n_startup_trials=abc: must be an integer, such as 10"),
        ({"pruner": "median", "pruner_args": {"n_startup_trials": -1}}, "negative"),
        ({"pruner_args": {"x": 3}}, "needs a pruner"),
        ({"objectives": ["val/neg_elob"]}, "did you mean val/neg_elbo"),
        ({"objectives": ["val/kl", "test/kl"], "directions": ["minimize"]}, "must be 2"),
        ({"directions": ["least"]}, "allowed are minimize, maximize"),
        ({"objectives": ["val/kl", "val/reconstruction"], "pruner": "median"}, "single objective"),
        ({"objectives": ["test/neg_elbo"], "pruner": "median"}, "known during training"),
        ({"storage": "journal.log"}, "a database's URL"),
        ({"storage": "mysql://me:hunter2@host/db"}, "oc.env"),
    ],
)
def test_wrong_settings_cost_one_line(given, words):
    with pytest.raises(UserError, match=words) as raised:
        read_settings(given)
    assert "hunter2" not in str(raised.value)


def test_a_secret_comes_from_the_environment_and_is_written_nowhere(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("STUDY_URL", f"sqlite:///{tmp_path}/hunter2.db")
    settings = read_settings({"storage": "${oc.env:STUDY_URL}", "pruner": "median", "n_trials": 2})
    with caplog.at_level(logging.DEBUG):
        study = Study(settings, read_space(["x=interval(0,1)"]), tmp_path, "s")
        (trial,) = study.ask(1)
        PruningHandle(study.handle(trial.number)).report(1, 3.0)
    assert (tmp_path / "hunter2.db").exists()
    assert "hunter2" not in study.handle(trial.number) + caplog.text
    monkeypatch.setenv("STUDY_URL", "nodb://me:hunter2@nowhere/x")
    with pytest.raises(UserError, match="cannot be opened") as raised:
        Study(settings, read_space(["x=interval(0,1)"]), tmp_path, "s")
    assert "hunter2" not in str(raised.value)


# ---------------------------------------------------------------- studies

SPACE = ["x=interval(-3,3)", "y=interval(-3,3)", "z=a,b"]


def value_at(overrides):
    x, y, z = (override.partition("=")[2] for override in overrides)
    return (float(x) - 1) ** 2 + (float(y) + 2) ** 2 + (z == "a")


def work(study, most=1):
    """Ask and tell until nothing is left, in batches."""
    done = {}
    while batch := study.ask(most):
        for suggestion in batch:
            study.tell(suggestion.number, [value_at(suggestion.overrides)], "finished")
            done[suggestion.number] = suggestion.overrides
    return done


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "nsga2"])
def test_a_study_stopped_and_gone_on_with_is_one_never_stopped(sampler, tmp_path):
    settings, space = SearchSettings(n_trials=25, sampler=sampler), read_space(SPACE)
    whole = work(Study(settings, space, tmp_path / "whole", "s"))
    first = work(Study(SearchSettings(n_trials=14, sampler=sampler), space, tmp_path / "cut", "s"))
    rest = work(Study(settings, space, tmp_path / "cut", "s"))
    assert sorted(whole) == list(range(25))
    assert {**first, **rest} == whole
    assert sorted(rest) == list(range(14, 25))


def test_tpe_finds_what_chance_does_not(tmp_path):
    best = {}
    for sampler in ("tpe", "random"):
        study = Study(SearchSettings(n_trials=60, sampler=sampler), read_space(SPACE), tmp_path / sampler, "s")
        work(study)
        (found,) = study.best()
        best[sampler] = found.values[0]
        assert found.values == [value_at(found.overrides)]
    assert best["tpe"] < 0.2 < best["random"]


def test_a_grid_has_its_points_once(tmp_path):
    settings = SearchSettings(n_trials=100, sampler="grid")
    found = work(Study(settings, read_space(["x=range(0,3)", "y=range(0,1,0.5)", "z=a,b"]), tmp_path, "s"), most=4)
    assert sorted(map(tuple, found.values())) == sorted(
        (f"x={x}", f"y={y}", f"z={z}") for x, y, z in itertools.product(range(3), (0.0, 0.5), "ab")
    )
    with pytest.raises(UserError, match="grid: an interval"):
        Study(settings, read_space(SPACE), tmp_path / "other", "s")


def test_several_objectives_have_a_front(tmp_path):
    settings = SearchSettings(n_trials=12, sampler="random", objectives=["a", "b"], directions=["minimize", "maximize"])
    study = Study(settings, read_space(["x=interval(0,1)"]), tmp_path, "s")
    points = {}
    for suggestion in study.ask(12):
        x = float(suggestion.overrides[0][2:])
        points[suggestion.number] = [x, x if suggestion.number % 3 else x - 1]  # each third is beaten
        study.tell(suggestion.number, points[suggestion.number], "finished")
    front = {n for n, p in points.items() if not any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points.values())}
    assert {best.number for best in study.best()} == front
    assert front
    assert len(front) < 12


def test_trials_of_a_killed_process_are_found_again_and_counted(tmp_path):
    settings, space = SearchSettings(n_trials=5), read_space(SPACE)
    first = Study(settings, space, tmp_path, "s")
    asked = first.ask(3)
    first.tell(asked[0].number, [1.0], "finished")
    first.optuna._storage.create_new_trial(first.optuna._study_id)  # killed between creating and suggesting
    again = Study(settings, space, tmp_path, "s")
    assert again.running() == asked[1:]
    again.tell(1, None, "pruned")
    again.tell(2, None, "diverged")
    again.tell(2, [7.0], "finished")  # another process was quicker
    assert [suggestion.number for suggestion in again.ask(10)] == [4, 5]
    assert again.ended() == {"finished": 1, "pruned": 1, "diverged": 1, "lost": 1, "running": 2}
    assert again.left == 0


def ask_all(folder, barrier, asked):
    study = Study(SearchSettings(n_trials=30, sampler="random"), read_space(SPACE), folder, "s")
    barrier.wait()
    while batch := study.ask(2):
        for suggestion in batch:
            asked.put((os.getpid(), suggestion.number))
            study.tell(suggestion.number, [1.0], "finished")
    asked.put(None)


def test_processes_share_the_trials_of_a_study(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, asked = context.Barrier(3), context.Queue()
    workers = [context.Process(target=ask_all, args=(tmp_path, barrier, asked)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found, ended = [], 0
    while ended < 3:
        item = asked.get(timeout=60)
        ended += item is None
        found += [item] if item else []
    assert sorted(number for _, number in found) == list(range(30))
    assert len({pid for pid, _ in found}) > 1


def test_another_space_or_objective_is_another_study(tmp_path):
    Study(SearchSettings(), read_space(SPACE), tmp_path, "s")
    with pytest.raises(UserError, match=r"another space \(z\); take another sweep.name"):
        Study(SearchSettings(), read_space([*SPACE[:2], "z=a,b,c"]), tmp_path, "s")
    with pytest.raises(UserError, match="another objectives"):
        Study(SearchSettings(objectives=["val/kl"]), read_space(SPACE), tmp_path, "s")
    Study(SearchSettings(n_trials=99, sampler="random"), read_space(SPACE), tmp_path, "s")


# ---------------------------------------------------------------- pruning


def epochs_survived(study, number, curve):
    handle = PruningHandle(study.handle(number))
    for epoch, value in enumerate(curve[:-1], 1):  # after the last there is nothing to save
        if handle.report(epoch, value):
            study.tell(number, None, "pruned")
            return epoch
    study.tell(number, [curve[-1]], "finished")
    return len(curve)


@pytest.mark.parametrize(
    ("pruner", "arguments"),
    [("median", {"n_startup_trials": 3}), ("hyperband", {"min_resource": 1, "max_resource": 9, "reduction_factor": 3})],
)
def test_the_bad_are_pruned_and_the_good_are_not(pruner, arguments, tmp_path):
    settings = SearchSettings(n_trials=30, sampler="random", pruner=pruner, pruner_args=arguments)
    study = Study(settings, read_space(SPACE), tmp_path, "s")
    survived = {"good": [], "bad": []}
    for suggestion in study.ask(30):
        kind = "bad" if suggestion.number % 3 == 2 else "good"
        level = 100.0 if kind == "bad" else 1.0 - suggestion.number / 100  # ever better
        survived[kind].append(epochs_survived(study, suggestion.number, [level + 9 - epoch for epoch in range(9)]))
    assert set(survived["good"]) == {9}
    assert min(survived["bad"]) < 9
    assert study.ended()["pruned"] == sum(epochs < 9 for epochs in survived["bad"])


def test_what_a_resumed_run_reports_again_counts_once(tmp_path, recwarn):
    study = Study(SearchSettings(pruner="median"), read_space(SPACE), tmp_path, "s")
    (suggestion,) = study.ask(1)
    for _ in range(2):
        handle = PruningHandle(json.loads(json.dumps(study.handle(suggestion.number))))
        for epoch in (1, 2):
            handle.report(epoch, 5.0 - epoch)
    (trial,) = study.optuna.get_trials()
    assert trial.intermediate_values == {1: 4.0, 2: 3.0}
    assert not [w for w in recwarn if not issubclass(w.category, optuna.exceptions.ExperimentalWarning)]
