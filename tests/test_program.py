"""How programs end: bad input, Ctrl-C, full outputs and faults of their own give one line.

Run: python -m pytest tests/test_program.py
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from multiprocessing.resource_sharer import DupFd

import pytest

from i0t import I0TError
from i0t.cli import Parser, program
from i0t.data.workers import quiet_if_main_stops
from i0t.paths import REPO
from i0t.program import TRACEBACK_VARIABLE, on_stop
from i0t.reading import text

PRINTING = """
from i0t.cli import program
@program
def main(argv):
    print("x" * 99)
    return 0
raise SystemExit(main([]))
"""


@pytest.fixture
def fault(monkeypatch, tmp_path):
    """A program that reads a file with a reader that has a fault, as users have it: with the last resort."""

    def decode(*_: object, **__: object) -> object:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(json, "loads", decode)
    monkeypatch.delenv(TRACEBACK_VARIABLE)

    @program
    def main(argv):
        Parser(prog="x").parse_args(argv)
        text.read_json(tmp_path / "in.json", "content")
        return 0

    (tmp_path / "in.json").write_text("{}")
    return main


def test_a_fault_is_one_line_with_place_and_file(fault, tmp_path, capsys):
    assert fault([]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: unexpected ZeroDivisionError: two, in ") and said.count("\n") == 1
    assert f"of i0t.reading.text, with {tmp_path / 'in.json'}. " in said and "--traceback shows the rest" in said


def test_the_traceback_is_shown_when_asked_for(fault, monkeypatch, capsys):
    with pytest.raises(ZeroDivisionError):
        fault(["--traceback"])
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    with pytest.raises(ZeroDivisionError):
        fault([])


def test_error_of_a_worker_is_named_without_its_traceback(monkeypatch, capsys):
    monkeypatch.delenv(TRACEBACK_VARIABLE)

    @program
    def main(argv):
        raise RuntimeError("Caught KeyError in worker 0.\nOriginal Traceback:\n  x\nKeyError: 'b'\n")

    assert main([]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: unexpected RuntimeError: KeyError: 'b'") and said.count("\n") == 1


def test_ctrl_c_says_what_the_innermost_knows(capsys):
    @program
    def main(argv):
        with on_stop(lambda: "outer"), on_stop(lambda: "2 of 3 are done"):
            raise KeyboardInterrupt

    assert main([]) == 130 and capsys.readouterr().err == "stopped: 2 of 3 are done.\n"


def test_sigterm_ends_as_ctrl_c_and_children_die_of_it(capsys):
    @program
    def main(argv):
        if argv:
            if not os.fork():
                os.kill(os.getpid(), signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGTERM
        with on_stop(lambda: "2 of 3 are done"):
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    for argv in ([], ["fork"]):
        assert main(argv) == 143 and capsys.readouterr().err == "stopped: 2 of 3 are done.\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_two_sigterm_at_once_are_one_and_a_later_one_ends_at_once(capsys, monkeypatch):
    @program
    def main(argv):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    assert main([]) == 143 and capsys.readouterr().err.startswith("stopped: ")  # as `timeout` sends them
    monkeypatch.setattr("i0t.program.TOGETHER", -1)
    child = os.fork()
    if not child:
        main([])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


@pytest.mark.parametrize("quiet", [True, False])
def test_a_worker_says_nothing_if_the_main_process_hangs_up(capfd, quiet):
    def share(ours) -> None:
        if quiet:
            quiet_if_main_stops(0)
        ours.send(DupFd(0)._id)
        ours.recv()

    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=share, args=(theirs,))
    worker.start()
    address, _ = ours.recv()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(address)
    with socket.socket(socket.AF_UNIX) as caller:  # answered after the first
        caller.connect(address)
        caller.recv(1)
    ours.send("end")
    worker.join()
    assert ("Traceback" in capfd.readouterr().err) != quiet


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EMFILE, "too many files are open: give fewer --workers"),
        (errno.ENOSPC, "the disk, or what the output goes to, is full or gone"),
        (errno.ENOMEM, "memory is short"),
        (errno.EPERM, "unexpected PermissionError: [Errno 1] Operation not permitted, in main"),
    ],
)
def test_error_without_a_file_says_what_is_short(monkeypatch, capsys, number, says):
    monkeypatch.delenv(TRACEBACK_VARIABLE)

    @program
    def main(argv):
        raise OSError(number, os.strerror(number))

    monkeypatch.setitem(main.__wrapped__.__globals__, "__name__", "i0t.x")
    assert main([]) == 1
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_stop_within_compiled_code_is_a_stop(capsys):
    @program
    def main(argv):
        raise SystemError("returned a result with an exception set") from KeyboardInterrupt()

    assert main([]) == 130 and capsys.readouterr().err.startswith("stopped: ")


def test_closed_output_is_no_fault():
    run = subprocess.run(["bash", "-c", 'exec "$0" -c "$1" >&-', sys.executable, PRINTING], stderr=subprocess.PIPE)
    assert (run.returncode, run.stderr) == (0, b"")


@pytest.mark.parametrize("package", ["i0t", "evaluation", "benchmarks"])
def test_ctrl_c_while_a_program_is_imported_is_one_line(package):
    code = "import sys; sys.argv[0] = {!r}; import {}; raise KeyboardInterrupt"
    for script, is_traceback in (("-m", False), ("/usr/bin/i0t", False), ("-c", True)):
        run = subprocess.run(
            [sys.executable, "-c", code.format(script, package)], capture_output=True, text=True, cwd=REPO
        )
        assert run.returncode == -signal.SIGINT and ("Traceback" in run.stderr) == is_traceback
        assert is_traceback or run.stderr == "stopped: nothing was begun.\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_output_is_one_line():
    environment = {key: value for key, value in os.environ.items() if key != TRACEBACK_VARIABLE}
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-c", PRINTING], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert run.returncode == 1 and run.stderr.count("\n") == 1 and "No space left on device" in run.stderr


def test_bad_input_stays_one_line_with_traceback(capsys):
    @program
    def main(argv):
        raise I0TError("x: wrong.")

    assert main(["--traceback"]) == 2 and capsys.readouterr().err == "error: x: wrong.\n"
