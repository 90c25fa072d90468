#!/bin/sh
# Install Debian packages without starting any service: apt_install.sh PACKAGE...
# Needs root or a password-less sudo; says what to run when it has neither.
set -eu
advice="apt-get update && apt-get install --no-install-recommends $*"

fail() {
    echo "$1" >&2
    echo "Install them yourself, as root, then run make again:" >&2
    echo "    $advice" >&2
    exit 1
}

command -v apt-get >/dev/null || fail "Needed and missing here: $*. This is no Debian, so make can't install them."
if [ "$(id -u)" -eq 0 ]; then
    root=""
elif sudo -n true 2>/dev/null; then
    root="sudo -n"
else
    fail "Needed and missing here: $*. Installing takes root or a sudo without password."
fi

# Packages' install scripts ask this file whether they may start their service: no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$root rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
    $root chmod 755 "$policy"
fi

enabled_units() {
    [ ! -d /run/systemd/system ] || systemctl list-unit-files --state=enabled --no-legend --no-pager | cut -d ' ' -f 1
}
enabled_before=$(enabled_units)

log=$(mktemp)
apt() { $root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" </dev/null >>"$log" 2>&1; }
echo "installing from Debian: $* ..." >&2
if ! apt update || ! apt install --no-install-recommends --no-upgrade "$@"; then
    tail -n 25 "$log" >&2
    rm -f "$log"
    fail "apt-get could not install: $*"
fi
rm -f "$log"

# Installed for the tests, which start nodes of their own: nothing of it is to start at the next boot.
enabled_units | while read -r unit; do
    if ! printf '%s\n' "$enabled_before" | grep -qxF "$unit"; then
        $root systemctl --quiet disable "$unit"
    fi
done
