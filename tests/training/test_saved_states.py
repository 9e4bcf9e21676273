"""States on disk: complete or absent, the newest kept, damaged ones skipped.

Run: python -m pytest tests/training/test_saved_states.py
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from i0t import I0TError
from i0t.training.accelerator import make_accelerator
from i0t.training.saved_states import SavedStates, require_space


def test_disk_that_fills_up_leaves_the_states_before(tmp_path):
    store = SavedStates(tmp_path / "run", 2, make_accelerator("cpu"))
    store.save(1, {"weights": torch.ones(3)}, {})

    class Full:
        def __reduce__(self):
            raise OSError(28, "No space left on device")

    with pytest.raises(I0TError, match="shared.pt: cannot be written .*No space left"):
        store.save(2, {"weights": Full()}, {})
    assert store.steps() == [1]
    assert store.load()[0]["weights"].tolist() == [1, 1, 1]
    with pytest.raises(I0TError, match="GB free, but a state may need"):
        require_space(tmp_path, 10**18, "a state")


def test_newest_states_are_kept_and_a_damaged_one_is_passed_over(tmp_path, capsys):
    store = SavedStates(tmp_path / "run", 2, make_accelerator("cpu"))
    assert store.load() is None
    for step in (5, 10, 15):
        store.save(step, {"step": step}, {"cpu": torch.get_rng_state()})
    assert store.steps() == [10, 15]
    (store.path(15) / "shared.pt").write_bytes((store.path(15) / "shared.pt").read_bytes()[:100])
    shared, own = store.load()
    assert shared == {"step": 10}
    assert own["cpu"].equal(torch.get_rng_state())
    assert "step-00000015: cannot be read" in capsys.readouterr().err
    store.clear()
    assert store.newest is None


def test_damaged_state_does_not_push_out_whole_ones(tmp_path):
    """It is the newest by its number until the run, resumed from the one before, gets there again."""
    store = SavedStates(tmp_path / "run", 1, make_accelerator("cpu"))
    store.save(10, {"step": 10}, {})
    (store.path(10) / "shared.pt").write_bytes(b"")
    store.save(7, {"step": 7}, {})
    assert store.load() == ({"step": 7}, {})


@pytest.mark.parametrize("part", ["shared.pt", "process-0.pt"])
def test_empty_file_of_a_state_is_passed_over(tmp_path, capsys, part):
    """A file as after a power loss; torch's error for it has no text."""
    store = SavedStates(tmp_path / "run", 2, make_accelerator("cpu"))
    for step in (5, 10):
        store.save(step, {"step": step}, {})
    (store.path(10) / part).write_bytes(b"")
    assert store.load() == ({"step": 5}, {})
    assert f"step-00000010: cannot be read (process 0: {part} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("shared.pt", lambda whole: whole[:-2000] + bytes([whole[-2000] ^ 1]) + whole[-1999:]),  # one bit
        ("shared.pt", lambda whole: whole[:8192] + bytes(4096) + whole[12288:]),  # a page
        ("process-0.pt", lambda whole: whole.replace(b"\x07\x07\x07", b"\x07\x06\x07", 1)),
        ("process-0.pt", None),
        ("shared.pt", None),
        ("sha256.json", lambda whole: b"[]"),
        ("sha256.json", lambda whole: bytes(len(whole))),
        ("sha256.json", None),
    ],
)
def test_damaged_state_is_passed_over_for_the_whole_one_before(tmp_path, capsys, part, damage):
    """Torch reads the first three, whose numbers are other ones."""
    store = SavedStates(tmp_path / "run", 2, make_accelerator("cpu"))
    own = {"cpu": torch.full((100,), 7, dtype=torch.uint8)}
    for step in (5, 10):
        store.save(step, {"step": step, "weights": torch.ones(10_000)}, own)
    path = store.path(10) / part
    if damage is None:
        path.unlink()
    else:
        whole = path.read_bytes()
        assert damage(whole) != whole
        path.write_bytes(damage(whole))
    shared, found = store.load()
    assert shared["step"] == 5 and shared["weights"].equal(torch.ones(10_000))
    assert found["cpu"].equal(own["cpu"])
    assert "step-00000010: cannot be read (process 0: " in capsys.readouterr().err


def test_state_of_fewer_processes_has_no_part_of_another(tmp_path):
    store = SavedStates(tmp_path / "run", 2, make_accelerator("cpu"))
    store.save(5, {"step": 5}, {"cpu": 1})
    other = SavedStates(tmp_path / "run", 2, SimpleNamespace(process_index=1))
    assert other.load() == ({"step": 5}, None)


def test_failed_write_without_a_text_is_reported(tmp_path):
    class Silent:
        def __reduce__(self):
            raise OSError

    with pytest.raises(I0TError, match="shared.pt: cannot be written .OSError"):
        SavedStates(tmp_path / "run", 2, make_accelerator("cpu")).save(1, {"weights": Silent()}, {})
