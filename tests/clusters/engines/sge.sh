#!/bin/bash
# sge.sh up|down PREFIX PORT: a private cell of Grid Engine, of one node, on one Debian machine.
#
# Nothing is written outside PREFIX but the packages, and a line in /etc/hosts if the name of the
# host does not resolve. Root, no systemd. With a C compiler it listens on the loopback only.
set -euo pipefail
action=$1 prefix=$2 port=$3
host=$(hostname -s)
bin=/usr/lib/gridengine
export SGE_ROOT=$prefix/root SGE_CELL=default SGE_CLUSTER_NAME=test SGE_ENABLE_MSG_ID=0
export SGE_QMASTER_PORT=$port SGE_EXECD_PORT=$((port + 1))
common=$SGE_ROOT/$SGE_CELL/common
# shellcheck source=/dev/null
. "$(dirname "$0")/install.sh"

down() {
    local pids=() shepherds=() file pid
    timeout 10 "$bin/qdel" -f -u '*' >/dev/null 2>&1 || true
    for file in "$prefix/run/execd.pid" "$prefix/qmaster/qmaster.pid"; do
        if [ -s "$file" ]; then pids+=("$(cat "$file")"); fi
    done
    for pid in "${pids[@]}"; do
        mapfile -t -O "${#shepherds[@]}" shepherds < <(pgrep -P "$pid" -x sge_shepherd || true)
        kill -TERM "$pid" 2>/dev/null || true
    done
    for _ in $(seq 50); do
        kill -0 "${pids[@]}" 2>/dev/null || break
        sleep 0.1
    done
    for pid in "${pids[@]}" "${shepherds[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
}

configure() {
    mkdir -p "$common" "$prefix"/{qmaster/job_scripts,spooldb,execd,run}
    chmod 755 "$prefix" "$prefix"/*
    ln -s /usr/share/gridengine/util "$SGE_ROOT/util"
    # Names have to resolve both ways, and 127.0.0.1 may well be "localhost".
    { echo localhost; getent hosts 127.0.0.1 "$host" | awk '{ for (i = 2; i <= NF; i++) print $i }'; } |
        grep -vx "$host" | sort -u | paste -sd' ' | sed "s/^/$host /" >"$common/host_aliases"
    echo "$host" >"$common/act_qmaster"
    echo test >"$common/cluster_name"
    cat >"$common/bootstrap" <<CONF
admin_user              root
default_domain          none
ignore_fqdn             true
spooling_method         berkeleydb
spooling_lib            libspoolb
spooling_params         $prefix/spooldb
binary_path             $bin
qmaster_spool_dir       $prefix/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
jvm_threads             0
CONF
    sed -e "s#^execd_spool_dir.*#execd_spool_dir $prefix/execd#" \
        -e 's#^min_uid.*#min_uid 0#; s#^min_gid.*#min_gid 0#' \
        -e 's#^gid_range.*#gid_range 20000-24000#; s#^mailer.*#mailer /bin/true#' \
        -e 's#^load_report_time.*#load_report_time 00:00:05#' \
        -e 's#^shell_start_mode.*#shell_start_mode unix_behavior#' \
        -e 's#^reporting_params.*#reporting_params accounting=true reporting=false flush_time=00:00:01 accounting_flush_time=00:00:00 joblog=false sharelog=00:00:00#' \
        -e 's#^execd_params.*#execd_params INHERIT_ENV=false ENABLE_ADDGRP_KILL=true#' \
        /usr/share/gridengine/default-configuration >"$prefix/configuration"
    {
        "$bin/spoolinit" berkeleydb libspoolb "$prefix/spooldb" init
        "$bin/spooldefaults" configuration "$prefix/configuration"
        "$bin/spooldefaults" complexes /usr/share/gridengine/util/resources/centry
        "$bin/spooldefaults" usersets /usr/share/gridengine/util/resources/usersets
        "$bin/spooldefaults" managers root
    } >/dev/null
}

loopback() { # It can bind to every address only; this puts it on 127.0.0.1.
    command -v cc >/dev/null || return 0
    cat >"$prefix/loopback.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>
int bind(int s, const struct sockaddr *a, socklen_t n) {
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
    struct sockaddr_in b;
    if (a->sa_family == AF_INET && n >= sizeof b) {
        b = *(const struct sockaddr_in *)a;
        if (b.sin_addr.s_addr == htonl(INADDR_ANY)) b.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return real(s, (struct sockaddr *)&b, sizeof b);
    }
    return real(s, a, n);
}
C
    cc -shared -fPIC -O1 -o "$prefix/loopback.so" "$prefix/loopback.c" -ldl
}

start() { # the master alone
    if [ -e "$prefix/loopback.so" ]; then
        LD_PRELOAD=$prefix/loopback.so "$@"
    else
        "$@"
    fi
}

queue() {
    cat <<CONF
qname batch
hostlist @allhosts
load_thresholds NONE
slots 64
shell /bin/sh
shell_start_mode unix_behavior
rerun FALSE
pe_list NONE
CONF
}

up() {
    install gridengine-master gridengine-exec gridengine-client msmtp-mta bsd-mailx
    getent hosts "$host" >/dev/null || echo "127.0.0.1 $host" >>/etc/hosts
    configure
    loopback
    start "$bin/sge_qmaster"
    for _ in $(seq 100); do
        timeout 5 "$bin/qconf" -sconf >/dev/null 2>&1 && break
        sleep 0.1
    done
    "$bin/qconf" -sh | grep -qx "$host" || "$bin/qconf" -ah "$host" >/dev/null
    "$bin/qconf" -as "$host" >/dev/null
    printf 'group_name @allhosts\nhostlist %s\n' "$host" >"$prefix/group"
    "$bin/qconf" -Ahgrp "$prefix/group" >/dev/null
    "$bin/qconf" -ssconf | sed -e 's#^schedule_interval.*#schedule_interval 0:0:1#' \
        -e 's#^flush_submit_sec.*#flush_submit_sec 1#; s#^flush_finish_sec.*#flush_finish_sec 1#' \
        -e 's#^job_load_adjustments.*#job_load_adjustments NONE#' >"$prefix/scheduler"
    "$bin/qconf" -Msconf "$prefix/scheduler" >/dev/null
    SGE_EXECD_PIDFILE=$prefix/run/execd.pid start "$bin/sge_execd"
    for _ in $(seq 100); do
        "$bin/qconf" -sel 2>/dev/null | grep -qx "$host" && break
        sleep 0.1
    done
    # The defaults of a queue, with ours put in.
    "$bin/qconf" -sq 2>/dev/null >"$prefix/defaults" || true
    queue >"$prefix/own"
    awk 'NR == FNR { own[$1] = $0; next } $1 in own { print own[$1]; next } { print }' \
        "$prefix/own" "$prefix/defaults" >"$prefix/queue"
    "$bin/qconf" -Aq "$prefix/queue" >/dev/null
    for _ in $(seq 300); do
        # Five columns and no sixth: the queue has no state letters such as "au".
        timeout 5 "$bin/qstat" -f -q batch 2>/dev/null |
            awk '/^batch@/ && NF == 5 { good = 1 } END { exit !good }' && exit 0
        sleep 0.1
    done
    "$bin/qstat" -f >&2
    exit 1
}

case $action in
master) start "$bin/sge_qmaster" ;;
*) "$action" ;;
esac
