#!/bin/sh
# Make or refresh the environment of the programs that tests/programs runs: programs.sh VENV.  Run from the repository root.
set -eu
venv=$1
stamp=$venv/programs/.installed

# Another make may have done the work while this one waited for the lock.
if [ -e "$stamp" ] && [ -z "$(find scripts/programs.txt pyproject.toml -newer "$stamp")" ]; then
    exit 0
fi

echo "installing other programs into $venv/programs ..." >&2
"$venv/bin/python" -m venv "$venv/programs"
"$venv/programs/bin/python" -m pip install -qq --disable-pip-version-check --editable . -r scripts/programs.txt
touch "$stamp"
