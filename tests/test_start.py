"""From where runs go on: packs stay whole, also when they were killed between two of their checkpoints."""

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gsvae.sweep.start import by_step
from gsvae.training.checkpoint import write_last


@dataclass
class Starting:
    folder: Path
    cfg: DictConfig = field(default_factory=lambda: OmegaConf.create({"resume": None}))


def run(folder, *steps):
    """A run folder that wrote checkpoints at these steps."""
    (folder / "checkpoints").mkdir(parents=True)
    for step in steps:
        write_last(folder / "checkpoints", {"step": step})
    return Starting(folder)


def test_runs_at_one_step_go_on_together(tmp_path):
    a, b, c, fresh = (run(tmp_path / n, *steps) for n, steps in {"a": [10], "b": [5, 10], "c": [20], "d": []}.items())
    assert by_step([a, b, c, fresh]) == [[a, b], [c], [fresh]]
    assert a.cfg.resume == str(tmp_path / "a")
    assert fresh.cfg.resume is None


def test_runs_one_checkpoint_ahead_go_back_to_the_others(tmp_path):
    ahead, behind, other = run(tmp_path / "a", 10, 20), run(tmp_path / "b", 5, 10), run(tmp_path / "c", 7, 8)
    assert by_step([ahead, behind, other]) == [[ahead, behind], [other]]
    assert ahead.cfg.resume == str(tmp_path / "a" / "checkpoints" / "previous.pt")
    assert behind.cfg.resume == str(tmp_path / "b")


def test_a_damaged_run_begins_anew_and_a_torn_write_is_cleared(tmp_path):
    damaged, torn = run(tmp_path / "a", 10), run(tmp_path / "b", 10)
    (tmp_path / "a" / "checkpoints" / "last.pt").write_bytes(b"nothing")
    (tmp_path / "b" / "checkpoints" / ".next.pt.7.tmp").write_bytes(b"half")
    assert by_step([damaged, torn]) == [[damaged], [torn]]
    assert damaged.cfg.resume is None
    assert not (tmp_path / "a" / "checkpoints").exists()
    assert [path.name for path in (tmp_path / "b" / "checkpoints").iterdir()] == ["last.pt"]
