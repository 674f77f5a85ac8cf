"""The command line: mistakes cost one line, faults show a traceback, help and completion tell what there is."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import yaml
from command_line import RUN_PY, Done, run_py
from omegaconf import OmegaConf

from gsvae.build import build
from gsvae.cli import hydra_record, put_back
from gsvae.config import CONF
from gsvae.errors import UserError
from gsvae.overrides import expand

SMALL = ("model=tiny", "training.batch_size=400", "evaluation.iwae_samples=2", "tracking=disabled")
ROOT = "data, model, tau, sampling, optim, training, evaluation, tracking, sweep, seed, device, resume, allow_targets"


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and W&B must not be reached."""

    def begun(*arguments: object, **settings: object) -> None:
        raise AssertionError("the run began")

    monkeypatch.setattr("gsvae.training.loop.Trainer.fit", begun)
    monkeypatch.setattr("gsvae.tracking.tracker.WandbSink", begun)


def assert_refused(done: Done, *words: str) -> None:
    """One line on stderr with these words in it, nothing on stdout, exit code 2."""
    assert re.fullmatch(r"error: [^\n]+\n", done.err), done.err
    missing = [word for word in words if word not in done.err]
    assert not missing, f"{missing} not in {done.err}"
    assert (done.code, done.out) == (2, "")


# ---------------------------------------------------------------- mistakes

UNKNOWN = {
    "tau.inti=1": ["tau.inti=1", "tau=constant has init", "did you mean tau.init?"],
    "tau.min=1 tau=constant": ["tau.min=1", "tau=constant has init"],
    "optim.schedule.factor=0.5": ["optim.schedule.factor=0.5", "optim/schedule=constant has none"],
    "tau={inti:1}": ["tau.inti", "did you mean tau.init?"],
    "tau.inti.x=1": ["tau.inti", "did you mean tau.init?"],
    "dta=mnist": ["dta=mnist", ROOT, "did you mean data?"],
    "lr=0.1": ["lr=0.1", ROOT, "did you mean optim.lr?"],
    "hydra.run.dri=x": ["hydra.run.dri=x", "did you mean hydra.run.dir?"],
    "+foo=1": ["foo=1", ROOT],
    "+training.epoch=1": ["training.epoch=1", "epochs, steps, batch_size", "did you mean training.epochs?"],
    "data=mnst": ["data=mnst", "custom, digits, fashion_mnist, kmnist, mnist, omniglot", "did you mean mnist?"],
    "optim/schedule=cosin": ["optim/schedule=cosin", "constant, cosine, custom, exponential", "did you mean cosine?"],
    "experiment=debag": ["experiment=debag", "debug, jang2017, original", "did you mean debug?"],
    "hydra/launcher=nope": ["hydra/launcher=nope", "basic"],
    "~foo": ["foo", "does not exist"],
    "--foo": ["--foo"],
    "--config-dir nowhere": ["nowhere", "not found"],
    "--config-name nope": ["nope"],
}
WRONG_TYPE = {
    "tau.init=abc": ["tau.init=abc", "a number"],
    "tau.init=null": ["tau.init=null", "a number"],
    "tau.init.x=1": ["tau.init.x=1", "a number"],
    "training.steps=1 training.steps=true": ["training.steps=true", "an integer or null"],
    "training.compile=maybe": ["training.compile=maybe", "true or false"],
    "data.n_val=1.5": ["data.n_val=1.5", "an integer"],
    "data.binarize=[3]": ["data.binarize=[3]", "a text"],
    "model.hidden=[3,a]": ["model.hidden[1]=a", "an integer"],
    "model.hidden=3": ["model.hidden=3", "a list of integers"],
    "data=mnist model=conv model.hidden=[1,2]": ["model.hidden=[1,2]", "an integer"],
    "data=mnist model=conv model.channels=[a]": ["model.channels[0]=a", "an integer"],
    "sweep.retry_failed=perhaps": ["sweep.retry_failed=perhaps", "true or false"],
    "sweep.zip=tau.init": ["sweep.zip=tau.init", "a list of texts"],
    "allow_targets=mine": ["allow_targets=mine", "a list of texts"],
    "tau.init='${foo}'": ["tau.init=${foo}", "'foo' not found"],
    "optim.betas=['${foo}',0.9]": ["optim.betas", "'foo' not found"],
    "tau.init='${data.binarize}'": ["tau.init=${data.binarize}", "to Float"],
    "optim.schedule=cosine": ["optim.schedule=cosine", "optim/schedule=cosine", "constant, cosine, custom"],
    "tau=null": ["tau=null", "constant, cosine, custom, exponential"],
    "~tau": ["tau is not set", "constant, cosine, custom, exponential"],
    "training=3": ["training=3", "default"],
    "optim=[adam,sgd]": ["optim=[adam,sgd]", "adam, adamw, custom, radam, sgd"],
    "~tau.init": ["~tau.init", "cannot be removed"],
}
UNREADABLE = {
    "tau.init=[1,": ["tau.init=[1,", "cannot be read"],
    "tau": ["tau: expected key=value"],
    "=3": ["=3: expected key=value"],
    "model.hidden[0]=3": ["model.hidden[0]=3"],
    "model.hidden.x=3": ["model.hidden.x=3"],
    "seed=1,2": ["seed=1,2", "-m", "seed=[...]"],
    "model=tiny,small": ["model=tiny,small", "-m"],
    "tau.init=choice(1,2)": ["tau.init=choice(1,2)", "-m"],
    "seed=1 -m tau.init=1,2": ["tau.init=1,2", "-m", "before"],
    "--resolve": ["--resolve", "--cfg job"],
    "--multirun --cfg job": ["--multirun", "--cfg"],
}
OUT_OF_RANGE = {
    "tau.init=0": ["tau.init=0", "above 0"],
    "tau.init=nan": ["tau.init=nan", "finite"],
    "tau.init=inf": ["tau.init=inf", "finite"],
    "model.n_cat=1": ["model.n_cat=1", "at least 2"],
    "model.hidden=[0]": ["model.hidden[0]=0", "at least 1"],
    "optim.betas=[1.0,0.9]": ["optim.betas[0]=1", "at least 0 and below 1"],
    "optim.betas=[0.9]": ["optim.betas=[0.9]", "list of 2"],
    "training.epochs=0": ["training.epochs=0", "at least 1"],
    "seed=-1": ["seed=-1", "at least 0"],
    "data.binarize=dinamic": ["data.binarize=dinamic", "none, dynamic, static, threshold", "did you mean dynamic?"],
    "tau=exponential tau.min=2": ["tau.min=2", "tau.init=1"],
    "tau.init=???": ["tau.init is not set"],
    "sampling=custom": ["sampling._target_ is not set"],
}
FOUND_WHILE_BUILDING = {
    "+tau.inti=1": ["tau.inti=1", "it takes init", "did you mean tau.init?"],
    "+model.hiden=[3]": ["model.hiden=[3]", "hidden, n_latent, n_cat", "did you mean model.hidden?"],
    "+data.foo=1": ["data.foo=1", "n_test, root, n_val"],
    "sampling=relax training.compile=true": ["training.compile=true", "gsvae.sampling.RELAX", "differentiates"],
    "+sampling.gain=2": ["sampling.gain=2", "gsvae.sampling.ReinMax", "takes no settings"],
    "+optim.beta=[0.9,0.9]": ["optim.beta=[0.9, 0.9]", "torch.optim.Adam", "did you mean optim.betas?"],
    "sampling._target_=Soft": ["sampling._target_=Soft", "module.Name", "gsvae, torch"],
    "sampling._target_=os.system": ["sampling._target_=os.system", "gsvae, torch", "allow_targets=[os]"],
    "sampling._target_=nope.A allow_targets=[nope]": ["sampling._target_=nope.A", "no module nope"],
    "sampling._target_=gsvae.sampling.Sof": ["gsvae.sampling has no Sof", "did you mean Soft?"],
    "sampling._target_=gsvae.tau.Constant +sampling.init=1": ["sampling._target_", "gsvae.sampling.Sampler"],
    "tau=custom tau._target_=gsvae.tau.Linear +tau.init=1": ["tau.min is not set", "gsvae.tau.Linear"],
    "optim/schedule=custom optim.schedule._target_=os.system": ["optim.schedule._target_=os.system"],
    "data.n_val=1500": ["data.n_val=1500", "below the 1500"],
    "training.batch_size=1301": ["training.batch_size=1301", "at most the 1300"],
    "evaluation.val_on_test=true": ["evaluation.val_on_test=true", "data.n_val=0"],
    "model=conv": ["model.channels=[32, 64]", "8x8"],
    "training.precision=tf32 device=cpu": ["training.precision=tf32", "device=cuda"],
}


@pytest.mark.parametrize(
    ("arguments", "words"), [*(UNKNOWN | WRONG_TYPE | UNREADABLE | OUT_OF_RANGE | FOUND_WHILE_BUILDING).items()]
)
@pytest.mark.usefixtures("nothing_begins")
def test_a_mistake_costs_one_line_and_leaves_no_run_folder(arguments: str, words: list[str]) -> None:
    done = run_py(*arguments.split(" "))
    assert_refused(done, *words)
    assert not list(Path().glob("outputs/*")), list(Path().rglob("*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
@pytest.mark.usefixtures("nothing_begins")
def test_cuda_is_refused_where_there_is_none() -> None:
    assert_refused(run_py("device=cuda"), "device=cuda", "cpu")


@pytest.mark.usefixtures("nothing_begins")
def test_missing_data_files_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: object, **settings: object) -> None:
        raise URLError("offline")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    done = run_py("data=mnist", "data.root=nowhere")
    assert_refused(done, "data.root=nowhere", "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "data=digits")
    assert not list(Path().glob("outputs/*"))


@pytest.mark.usefixtures("nothing_begins")
def test_a_mistake_in_the_users_yaml_names_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "mine" / "tau").mkdir(parents=True)
    (tmp_path / "mine" / "tau" / "hot.yaml").write_text("defaults: [/schema.tau.linear@_here_, _self_]\ninit: warm\n")
    assert_refused(run_py("--config-dir", "mine", "tau=hot"), "tau/hot.yaml", "init", "warm")
    (tmp_path / "mine" / "tau" / "hot.yaml").write_text("defaults: [/schema.tau.linear@_here_, _self_]\ninit: 3\n")
    assert_refused(run_py("--config-dir", "mine", "tau=hot", "tau.mni=1"), "tau=hot has init, min, steps")


# ---------------------------------------------------------------- resume


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    done = run_py(*SMALL, "training.epochs=2", f"hydra.run.dir={folder}")
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "a"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resume=nowhere"], ["resume=nowhere", "checkpoints/"]),
        (["resume=a/checkpoints/none.pt"], ["resume=a/checkpoints/none.pt"]),
        (["resume=a/checkpoints/best.pt"], ["resume=a/checkpoints/best.pt", "weights only"]),
        (["resume=a", "tau.init=3", "seed=7"], ["seed=7 (checkpoint: 0)", "tau.init=3.0 (checkpoint: 1.0)"]),
        (["resume=a", "training.epochs=1"], ["training.epochs=1", "step 6"]),
        (["resume=a", "model.n_cat=1"], ["model.n_cat=1", "at least 2"]),
        (["-m", "resume=a", "seed=0,1"], ["resume=a", "-m"]),
    ],
)
@pytest.mark.usefixtures("nothing_begins")
def test_a_refused_resume_leaves_the_run_as_it_was(arguments: list[str], words: list[str], run_folder: Path) -> None:
    before = {p: p.read_bytes() for p in run_folder.rglob("*") if p.is_file()}
    assert_refused(run_py(*arguments), *words)
    assert {p: p.read_bytes() for p in run_folder.rglob("*") if p.is_file() and p.name != "run.log"} == {
        p: content for p, content in before.items() if p.name != "run.log"
    }


def test_resuming_a_finished_run_evaluates_it_again(run_folder: Path) -> None:
    before = json.loads((run_folder / "summary.json").read_text())
    done = run_py("resume=a")
    assert done.code == 0, done.err
    after = json.loads((run_folder / "summary.json").read_text())
    assert {k: v for k, v in after.items() if k.startswith(("test/", "val/", "step"))} == {
        k: v for k, v in before.items() if k.startswith(("test/", "val/", "step"))
    }
    assert json.loads((run_folder / "status.json").read_text())["state"] == "finished"


def test_resume_remembers_the_settings_it_went_on_with(run_folder: Path) -> None:
    assert run_py("resume=a", "training.epochs=3").code == 0
    assert expand(["resume=a"]) == [*SMALL, "training.epochs=3", "resume=a", "hydra.run.dir='a'"]
    assert expand(["resume=a", "training.epochs=4"]).count("training.epochs=3") == 0


def test_put_back_leaves_a_run_that_has_begun(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text("a: 1")
    before = hydra_record(tmp_path / "none")
    (folder / "status.json").write_text("{}")
    put_back(folder, before)
    assert (folder / ".hydra" / "config.yaml").is_file()
    (folder / "status.json").unlink()
    put_back(folder, before)
    assert not folder.exists()


# ---------------------------------------------------------------- faults

BOOM = """
from gsvae.sampling import Soft

class Boom(Soft):
    def forward(self, *inputs):
        raise RuntimeError("boom")
"""


def test_a_fault_in_the_run_shows_its_traceback_and_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "boom.py").write_text(BOOM)
    command = [sys.executable, str(RUN_PY), *SMALL, "sampling._target_=boom.Boom", "allow_targets=[boom]"]
    done = subprocess.run([*command, "hydra.run.dir=r"], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert 'boom.py", line 6, in forward' in done.stderr
    status = json.loads((tmp_path / "r" / "status.json").read_text())
    assert (status["state"], status["error"]) == ("failed", "RuntimeError: boom")


def test_a_fault_that_looks_like_hydras_is_still_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        OmegaConf.create({"a": "${b}"}).a  # noqa: B018

    monkeypatch.setattr("gsvae.parts.load_data", broken)
    done = run_py(*SMALL)
    assert done.code == 1
    assert "Traceback" in done.err


def test_an_import_error_inside_the_users_module_is_not_taken_for_a_missing_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half.py").write_text("import not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="not_installed"):
        build(OmegaConf.create({"_target_": "half.Thing"}), allow=["half"], key="sampling")


# ---------------------------------------------------------------- what targets take


class Base:
    def __init__(self, a: int, b: int = 0) -> None: ...


class Child(Base):
    def __init__(self, c: int = 0, **kwargs: int) -> None:
        super().__init__(**kwargs)


class Anything:
    def __init__(self, **kwargs: int) -> None: ...


@pytest.mark.parametrize(
    ("target", "settings", "refusal"),
    [
        (Base, {"a": 1}, None),
        (Base, {"a": 1, "c": 1}, "does not take c; it takes a, b"),
        (Base, {"b": 1}, "x.a is not set"),
        (Child, {"a": 1, "c": 1}, None),
        (Child, {"a": 1, "d": 1}, "does not take d; it takes c, a, b"),
        (Anything, {"a": 1}, "takes no settings"),
        (lambda a, **more: None, {"d": 1, "a": 1}, None),
    ],
)
def test_settings_are_held_against_what_the_target_takes(
    target: Callable[..., object], settings: dict[str, int], refusal: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsvae.tau.Target", target, raising=False)
    node = OmegaConf.create({"_target_": "gsvae.tau.Target", **settings})
    if refusal is None:
        build(node, key="x")
        return
    with pytest.raises(UserError, match=re.escape(refusal)):
        build(node, key="x")


# ---------------------------------------------------------------- help, config and completion


def test_help_fits_a_screen_and_needs_no_torch() -> None:
    program = (
        f"import runpy, sys; sys.argv = ['run.py', '--help']; runpy.run_path({str(RUN_PY)!r}, run_name='__main__');"
        "print(sorted({'torch', 'wandb', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    environment = {"PYTHONPATH": str(RUN_PY.parent), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    assert done.stderr == "[]\n"


def test_help_lists_the_groups_and_options_there_are() -> None:
    listing = run_py("--help").out.split("Groups")[1].split("\n", 1)[1].split("\n\n")[0]
    told: dict[str, set[str]] = {}
    group = ""
    there = {str(p.parent.relative_to(CONF)) for p in CONF.glob("**/*.yaml")} - {"."}
    there = {name for name in there if not name.startswith("hydra") or name in ("hydra/launcher", "hydra/sweeper")}
    for word in listing.split():
        if word in there:
            group = word
            told[group] = set()
        else:
            told[group].add(word)
    assert told == {name: {p.stem for p in (CONF / name).glob("*.yaml")} for name in there}


def test_help_shows_only_keys_and_settings_that_there_are() -> None:
    text = run_py("--help").out
    cfg = yaml.safe_load(run_py("--cfg", "job", "data=mnist", "tau=exponential").out)
    for key in re.findall(r"\b(?:data|model|tau|optim|training|evaluation|tracking)\.\w+", text):
        group, name = key.split(".")
        assert name in cfg[group], key


def test_cfg_job_resolve_shows_the_whole_config() -> None:
    shown = run_py("--cfg", "job", "--resolve", "training.steps=7", "tau.init='${optim.lr}'").out
    assert "${" not in shown
    assert "???" not in shown
    cfg = yaml.safe_load(shown)
    assert cfg["training"]["epochs"] == cfg["data"]["epochs"]
    assert cfg["tau"] == {"_target_": "gsvae.tau.Constant", "init": 0.001}
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tau=", {f"tau={path.stem}" for path in (RUN_PY.parent / "conf" / "tau").glob("*.yaml")}),
        ("sc", set()),
        ("tau=exponential tau.", {"tau._target_=", "tau.every=", "tau.init=", "tau.min=", "tau.rate="}),
        ("optim/schedule=c", {"optim/schedule=constant", "optim/schedule=cosine", "optim/schedule=custom"}),
    ],
)
def test_completion(typed: str, offered: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"python run.py {typed}"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert set(run_py("-sc", "query=bash").out.split()) == offered
