#!/bin/sh
# `scheduler`, on a machine where it is a service: root's commands have the keys that systemd hands to the daemon.
if [ -z "${CREDENTIALS_DIRECTORY:-}" ] && [ "$(id -u)" = 0 ]; then
    export CREDENTIALS_DIRECTORY=/etc/scheduler
fi
exec /opt/scheduler/current/bin/scheduler "$@"
