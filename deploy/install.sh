#!/bin/sh
# Installs this checkout as a service, or takes it away again: `make install`, `make uninstall`, as root. See docs/install.md.
#
# Each installation is a folder of its own, PREFIX/releases/TIME, made beside the one that runs: PREFIX/current leads to it when it is
# whole and answers. A process that runs has its own folder until it ends, since it loads some of its modules when it first needs them.
set -eu
umask 022

here=$(cd "$(dirname "$0")/.." && pwd)
prefix=${PREFIX:-/opt/scheduler}
python=${PYTHON:-/usr/bin/python3}
units=/usr/local/lib/systemd/system
sysusers=/usr/local/lib/sysusers.d
command=/usr/local/bin/scheduler
settings=/etc/scheduler

main() {
    [ "$(id -u)" = 0 ] || fail "only root can do this: sudo make $1"
    case $1 in
        install) install_all ;;
        uninstall) uninstall_all ;;
        *) fail "usage: install.sh install|uninstall" ;;
    esac
}

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

install_all() {
    check_python
    install -D -m 0644 "$here/deploy/systemd/scheduler.sysusers.conf" "$sysusers/scheduler.conf"
    systemd-sysusers "$sysusers/scheduler.conf"
    release=$prefix/releases/$(date -u +%Y%m%dT%H%M%SZ)
    make_release
    switch
    install_command
    install_units
    install_settings
    install_state
    remove_old_releases
    say_what_is_next
}

check_python() {
    "$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$python is no Python 3.11 or newer with venv: apt-get install python3 python3-venv"
    case $("$python" -c 'import sys; print(sys.base_prefix)') in
        /home/* | /root/*) fail "$python is in a home, where a service cannot reach it: set PYTHON=/usr/bin/python3" ;;
    esac
}

make_release() {
    trap 'rm -rf "$release"' EXIT
    "$python" -m venv "$release"
    pip() { "$release/bin/python" -m pip --quiet --disable-pip-version-check --no-input "$@"; }
    pip install --require-hashes --requirement "$here/requirements-run.lock"
    pip install --no-deps --no-build-isolation --no-index "$here"
    install -d "$release/share/doc/scheduler"
    install -m 0644 "$here"/docs/*.md "$release/share/doc/scheduler"
    runuser --user scheduler -- "$release/bin/scheduler" --version >/dev/null || fail "what was installed does not start"
    trap - EXIT
}

switch() {
    ln -sfn "$release" "$prefix/next"
    mv -T "$prefix/next" "$prefix/current" # at once: whoever starts meanwhile finds the one or the other
}

install_command() {
    install_text "$here/deploy/command.sh" "$command" 0755
}

install_units() {
    for unit in scheduler scheduler-api; do
        install_text "$here/deploy/systemd/$unit.service" "$units/$unit.service" 0644
        if [ -f "/etc/systemd/system/$unit.service" ]; then
            echo "install.sh: /etc/systemd/system/$unit.service stands before $units/$unit.service; remove it, unless that is meant" >&2
        fi
    done
    reload_systemd
}

install_text() { # from, to, mode; with the prefix in it
    install -d "$(dirname "$2")"
    sed "s#/opt/scheduler/#$prefix/#g" "$1" >"$2.new"
    chmod "$3" "$2.new"
    mv "$2.new" "$2"
}

install_settings() {
    install -d "$settings"
    [ -e "$settings/scheduler.toml" ] || install -m 0644 "$here/deploy/scheduler.toml" "$settings/scheduler.toml"
}

install_state() { # systemd makes these too, at the first start; whoever restores a ledger or makes a key needs them before
    for user in scheduler scheduler-api; do
        [ -e "/var/lib/$user" ] || install -d -m 0700 -o "$user" -g "$user" "/var/lib/$user"
    done
}

remove_old_releases() {
    for old in "$prefix"/releases/*; do
        [ "$old" = "$release" ] || is_running "$old" || rm -rf "$old"
    done
}

is_running() { # whether any process has been started from this folder, or has loaded something from it
    echo "$1/" | grep -qsaFf - /proc/[0-9]*/cmdline /proc/[0-9]*/maps # not as an argument, which grep would find to be its own
}

say_what_is_next() {
    echo "Installed: $("$command" --version), in $release"
    running=$(active)
    if [ -n "$running" ]; then
        echo "What runs goes on as it was, until: systemctl restart$running"
        return
    fi
    cat <<TEXT
Next, as root:
  1. $settings/scheduler.toml                       url and project_id; the rest is optional
  2. install -m 0600 /dev/stdin $settings/posthog-api-key    and type the key, then Enter and Ctrl-D
  3. systemctl enable --now scheduler
TEXT
}

active() {
    is_booted || return 0
    for unit in scheduler-api scheduler; do
        if systemctl --quiet is-active "$unit" 2>/dev/null; then printf ' %s' "$unit"; fi
    done
}

uninstall_all() {
    for unit in scheduler scheduler-api; do
        if [ -f "$units/$unit.service" ] && is_booted; then systemctl --quiet disable --now "$unit"; fi
        rm -f "$units/$unit.service"
    done
    rm -f "$sysusers/scheduler.conf"
    if grep -qs "exec $prefix/current/bin/scheduler" "$command"; then rm "$command"; fi
    rm -rf "$prefix/releases" "$prefix/current" "$prefix/next"
    if [ -d "$prefix" ]; then rmdir --ignore-fail-on-non-empty "$prefix"; fi
    reload_systemd
    cat <<TEXT
Removed. Kept: settings and keys ($settings), the ledger (/var/lib/scheduler), the embedded API's database and runs
(/var/lib/scheduler-api), and the users scheduler and scheduler-api. To remove them too:
  rm -r $settings /var/lib/scheduler /var/lib/scheduler-api
  userdel scheduler; userdel scheduler-api
TEXT
}

reload_systemd() {
    if is_booted; then systemctl daemon-reload; fi
}

is_booted() { # not in a chroot, say while an image is made: systemctl would answer "active" for every unit there
    [ -d /run/systemd/system ]
}

main "${1:-}"
