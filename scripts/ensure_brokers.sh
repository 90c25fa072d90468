#!/bin/sh
# Make sure that RabbitMQ, Redis and Chromium are installed: the tests start private nodes, and look at pages.
set -eu
missing() {
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || echo rabbitmq-server
    command -v redis-server >/dev/null || echo redis-server
    command -v setpriv >/dev/null || echo util-linux
    [ -x /usr/bin/chromium ] || echo chromium fonts-dejavu-core
}
PATH=$PATH:/usr/sbin:/sbin
wanted=$(missing)
[ -n "$wanted" ] || exit 0
# shellcheck disable=SC2086  # one word per package
sh "$(dirname "$0")/apt_install.sh" $wanted
if [ -n "$(missing)" ]; then
    echo "installed, but still not found: $(missing | tr '\n' ' ')" >&2
    exit 1
fi
