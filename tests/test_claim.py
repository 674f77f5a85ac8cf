"""Claims: one holder at a time whatever the timing, the dead give way, the robbed notice."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest

from gsvae import claim as claims
from gsvae.claim import BusyError, Claim, ClaimLost, holder


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.05)
    monkeypatch.setattr(claims, "STALE", 1.0)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_held_while_entered_and_gone_after(tmp_path):
    with Claim(tmp_path) as claim:
        claim.check()
        assert holder(tmp_path).pid == os.getpid()
        with pytest.raises(BusyError, match=f"process {os.getpid()} on "):
            Claim(tmp_path)
    assert holder(tmp_path) is None
    assert files(tmp_path) == []


def dead_process():
    """The pid of a process that has ended, and been one that took a claim."""
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    return int(done.stdout)


def test_a_dead_process_gives_way_at_once(tmp_path):
    said = {"host": claims.host(), "pid": dead_process(), "begun": "1"}
    (tmp_path / "claim.7").write_text(json.dumps(said))
    with Claim(tmp_path) as claim:
        assert claim.path.name == "claim.8"
        assert files(tmp_path) == ["claim.8"]


def test_a_later_process_with_the_same_number_is_not_the_holder(tmp_path):
    said = {"host": claims.host(), "pid": os.getpid(), "begun": "1"}
    (tmp_path / "claim.1").write_text(json.dumps(said))
    with Claim(tmp_path):
        assert holder(tmp_path).path.name == "claim.2"


def test_on_another_machine_only_its_silence_tells(tmp_path, quick):
    path = tmp_path / "claim.1"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "begun": "1"}))
    with pytest.raises(BusyError, match="on elsewhere"):
        Claim(tmp_path)
    os.utime(path, (time.time() - 2, time.time() - 2))
    with Claim(tmp_path):
        assert files(tmp_path) == ["claim.2"]


def test_the_heartbeat_goes_on_beside_long_work(tmp_path, quick):
    with Claim(tmp_path) as claim:
        first = claim.path.stat().st_mtime_ns
        time.sleep(0.3)
        assert claim.path.stat().st_mtime_ns > first


@pytest.mark.parametrize("how", ["a higher claim", "its file is gone"])
def test_who_is_robbed_notices(how, tmp_path, quick):
    with Claim(tmp_path) as claim:
        if how == "a higher claim":
            (tmp_path / "claim.2").write_text(json.dumps({"host": "elsewhere", "pid": 1, "begun": None}))
        else:
            claim.path.unlink()
        claim._thread.join(5)  # ends when it has noticed
        with pytest.raises(ClaimLost):
            claim.check()
    if how == "a higher claim":  # the robber's claim is not touched
        assert "claim.2" in files(tmp_path)


def test_who_wakes_up_looks_before_the_next_step(tmp_path, monkeypatch):
    """No beat has come since the takeover, as after a suspension; check() itself must look."""
    with Claim(tmp_path) as claim:
        (tmp_path / "claim.2").write_text("{}")
        monkeypatch.setattr(claim, "_seen", time.monotonic() - 1000)
        with pytest.raises(ClaimLost):
            claim.check()


def contend(folder, barrier, won):
    barrier.wait()
    for _ in range(40):
        try:
            with Claim(folder):
                with won.get_lock():
                    won.value += 1
                    inside = won.value
                time.sleep(0.001)
                assert inside == won.value  # nobody else came in
                with won.get_lock():
                    won.value = inside
        except BusyError:
            pass


def test_processes_never_hold_it_together(tmp_path):
    """Four processes claim and release as fast as they can, over claims of the dead."""
    (tmp_path / "claim.3").write_text(json.dumps({"host": claims.host(), "pid": dead_process(), "begun": "1"}))
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(4), context.Value("i", 0)
    workers = [context.Process(target=contend, args=(tmp_path, barrier, won)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert won.value > 4
    assert files(tmp_path) == []


def test_of_two_that_see_the_same_dead_claim_one_gets_it(tmp_path, monkeypatch):
    """Both have listed the folder before either creates a claim."""
    (tmp_path / "claim.1").write_text(json.dumps({"host": claims.host(), "pid": dead_process(), "begun": "1"}))
    both, waited = threading.Barrier(2), set()
    found = claims.alive

    def together(path):
        answer = found(path)
        if threading.get_ident() not in waited:
            waited.add(threading.get_ident())
            both.wait(5)
        return answer

    monkeypatch.setattr(claims, "alive", together)
    got = []

    def try_it():
        try:
            got.append(Claim(tmp_path).path.name)
        except BusyError:
            got.append("busy")

    threads = [threading.Thread(target=try_it) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(got) == ["busy", "claim.2"]
