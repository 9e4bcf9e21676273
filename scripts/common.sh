# Sourced by every script: finds the checkout and the Python, and lets the programs be imported.
REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# $PYTHON if set, else an active virtual or conda environment, else .venv (made by setup.sh).
if [ -z "${PYTHON:-}" ]; then
    if [ -n "${VIRTUAL_ENV:-}" ]; then PYTHON="$VIRTUAL_ENV/bin/python"
    elif [ -n "${CONDA_PREFIX:-}" ]; then PYTHON="$CONDA_PREFIX/bin/python"
    else PYTHON="$REPO/.venv/bin/python"
    fi
fi
export PYTHON PYTHONPATH="$REPO${PYTHONPATH:+:$PYTHONPATH}"

# Waiting threads must sleep: spinning threads slow down other processes on the same cores. A training step
# was several times slower on two busy cores.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"

run() {  # run MODULE ARGUMENTS... in the user's folder, so that relative paths work
    if ! "$PYTHON" -c 'import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ("torch", "open_clip", "umap"))))'; then
        echo "error: $PYTHON lacks the packages. Run: bash $REPO/scripts/setup.sh" >&2
        exit 2
    fi
    # Several GPUs or machines: ACCELERATE names a launch file of configs/accelerate.
    if [ -n "${ACCELERATE:-}" ]; then
        exec "$PYTHON" -m accelerate.commands.launch --config_file "$ACCELERATE" -m "$@"
    fi
    exec "$PYTHON" -m "$@"
}
