#!/bin/sh
# Make or refresh the virtual environment: venv.sh DIRECTORY PYTHON.  Run from the repository root.
set -eu
venv=$1
python=$2
stamp=$venv/.installed

# Another make may have done the work while this one waited for the lock.
if [ -e "$stamp" ] && [ -z "$(find pyproject.toml scripts/venv.sh -newer "$stamp")" ]; then
    exit 0
fi

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "kombu_actors needs Python 3.11 or later, and '$python' is not: make PYTHON=python3.11 ..." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian splits these modules off into a package of their own.
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    sh "$(dirname "$0")/apt_install.sh" "python$version-venv"
fi
if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

echo "installing into $venv ..." >&2
install() { "$venv/bin/python" -m pip install -qq --disable-pip-version-check --editable '.[dev]'; }
if ! install; then
    echo "that failed; trying once more, in case it was the network" >&2
    install
fi
touch "$stamp"
