#!/bin/sh
# try_wheel.sh FOLDER: install the one wheel in FOLDER in an empty environment, away from the repository, and use it.
set -eu
PYTHON=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
wheel=$(cd "$1" && pwd)/$(cd "$1" && ls -- *.whl)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cp "$root/examples/demo.keras" "$root/examples/demo.bed" "$root/examples/demo.fa" .

"$PYTHON" -m venv venv
venv/bin/python -m pip install --quiet "$wheel"
venv/bin/python -m pip check
PATH=$work/venv/bin:$PATH
unset PYTHONPATH || true
version=$(venv/bin/python -c 'from importlib.metadata import version; print(version("fastism-cli"))')
said=$(fastism --version)
[ "$said" = "fastism, version $version" ] || { echo "--version says: $said" >&2; exit 1; }
fastism run --model demo.keras --bed demo.bed --fasta demo.fa --limit 5
fastism info demo.ism.h5
fastism report demo.ism.h5
[ "$(wc -c <report.html)" -gt 50000 ] || { echo "report.html is too small" >&2; exit 1; }
echo "$(basename "$wheel"): installed alone, fastism $version runs the example and reports it"
