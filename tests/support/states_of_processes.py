"""Find the state that each process resumes from when one process's part of the newest is damaged.

    python -m accelerate.commands.launch --config_file configs/accelerate/cpu_2proc.yaml \
        tests/support/states_of_processes.py FOLDER

All save steps 500 and 1000; `process-1.pt` of step 1000 is cut off; what each then loads goes to FOLDER.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from i0t.training.accelerator import make_accelerator
from i0t.training.saved_states import SavedStates


def main(folder: Path) -> None:
    """Save, damage, load."""
    accelerator = make_accelerator("cpu")
    rank = accelerator.process_index
    store = SavedStates(folder / "states", 2, accelerator)
    for step in (500, 1000):
        store.save(step, {"step": step}, {"rank": rank})
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        damaged = store.path(1000) / "process-1.pt"
        damaged.write_bytes(damaged.read_bytes()[:100])
    accelerator.wait_for_everyone()
    (folder / f"loaded-{rank}.json").write_text(json.dumps(store.load()))
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
