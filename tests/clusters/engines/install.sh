# Sourced: `install PACKAGE ...` installs Debian packages, without starting any service.
install() {
    exec 9>"${TMPDIR:-/tmp}/turnstile-engines.lock"
    flock 9
    local missing=() name made=
    for name in "$@"; do dpkg -s "$name" >/dev/null 2>&1 || missing+=("$name"); done
    if [ ${#missing[@]} -gt 0 ]; then
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
            chmod 755 /usr/sbin/policy-rc.d
            made=yes
        fi
        # The maintainer scripts of Grid Engine would make a cell with a wrong host name.
        printf 'gridengine-%s shared/gridengineconfig boolean false\n' common master exec client |
            debconf-set-selections
        timeout 120 apt-get update -qq
        DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq --no-install-recommends \
            "${missing[@]}" >/dev/null
        [ -z "$made" ] || rm -f /usr/sbin/policy-rc.d
    fi
    flock -u 9
}
