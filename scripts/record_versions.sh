#!/usr/bin/env bash
# After the tests have passed: write the installed versions to environments/constraints.txt, which setup.sh uses.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
exec "$PYTHON" "$REPO/environments/record_versions.py"
