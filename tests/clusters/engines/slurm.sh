#!/bin/bash
# slurm.sh up|down PREFIX PORT [accounted]: a private Slurm of three virtual nodes on one Debian
# machine; with accounting and limits per user, if asked.
#
# Nothing is written outside PREFIX but the packages, and a line in /etc/hosts if the name of the
# host does not resolve. Root, no systemd, no cgroups; everything listens on the loopback only.
set -euo pipefail
action=$1 prefix=$2 port=$3 accounted=${4-}
host=$(hostname -s)
export SLURM_CONF=$prefix/etc/slurm.conf
# shellcheck source=/dev/null
. "$(dirname "$0")/install.sh"

stop() {
    local file pid pids=()
    for file in "$@"; do
        if [ -s "$file" ] && pid=$(cat "$file") && kill -TERM "$pid" 2>/dev/null; then
            pids+=("$pid")
        fi
    done
    for _ in $(seq 100); do
        for pid in "${pids[@]}"; do
            if kill -0 "$pid" 2>/dev/null; then
                sleep 0.1
                continue 2
            fi
        done
        break
    done
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
}

down() {
    timeout 5 scancel --user=root >/dev/null 2>&1 || true
    sleep 1
    shopt -s nullglob
    stop "$prefix"/run/slurmd.*.pid "$prefix/run/slurmctld.pid"
    stop "$prefix/run/slurmdbd.pid" "$prefix/run/munged.pid" "$prefix/database/pid"
    for process in /proc/[0-9]*; do
        [ "$(cat "$process/comm" 2>/dev/null)" = slurmstepd ] || continue
        if tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qx "SLURM_CONF=$SLURM_CONF"; then
            kill -KILL "${process#/proc/}" || true
        fi
    done
}

configure() {
    local age=300
    [ -z "$accounted" ] || age=2 # so that the controller soon forgets jobs
    mkdir -p "$prefix"/{etc,log,state,run,munge}
    chmod 755 "$prefix" "$prefix"/*
    chmod 700 "$prefix/munge"
    dd if=/dev/urandom of="$prefix/munge/key" bs=128 count=1 status=none
    chmod 400 "$prefix/munge/key"
    # Without this file slurmd looks for cgroups, and fails where they are mixed.
    echo CgroupPlugin=cgroup/v1 >"$prefix/etc/cgroup.conf"
    cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$prefix/run/munge.sock
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$prefix/state
SlurmdSpoolDir=$prefix/spool.%n
SlurmctldPidFile=$prefix/run/slurmctld.pid
SlurmdPidFile=$prefix/run/slurmd.%n.pid
SlurmctldLogFile=$prefix/log/slurmctld.log
SlurmdLogFile=$prefix/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=64
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=5
ReturnToService=2
TCPTimeout=10
KillWait=2
OverTimeLimit=0
MinJobAge=$age
MaxJobCount=20000
CONF
    for node in 1 2 3; do
        echo "NodeName=n$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + node))" \
            "CPUs=32 RealMemory=8000 State=UNKNOWN"
    done >>"$SLURM_CONF"
    if [ -z "$accounted" ]; then
        echo AccountingStorageType=accounting_storage/none
    else
        echo AccountingStorageType=accounting_storage/slurmdbd
        echo AccountingStorageHost=127.0.0.1
        echo "AccountingStoragePass=$prefix/run/munge.sock"
        echo AccountingStoragePort=$((port + 4))
        echo AccountingStorageEnforce=associations,limits,qos
    fi >>"$SLURM_CONF"
    echo "PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP" >>"$SLURM_CONF"
}

# account: starts a private MariaDB without network, and slurmdbd; root may submit.
account() {
    local folder=$prefix/database
    mkdir -p "$folder/tmp"
    chown -R mysql:mysql "$folder"
    export TMPDIR=$folder/tmp # ours need not be open to others
    mariadb-install-db --no-defaults --user=mysql --datadir="$folder/data" \
        --auth-root-authentication-method=socket --skip-test-db >"$prefix/log/install-db.log" 2>&1
    /usr/sbin/mariadbd --no-defaults --user=mysql --datadir="$folder/data" \
        --socket="$folder/sock" --pid-file="$folder/pid" --skip-networking \
        --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
        --innodb-flush-log-at-trx-commit=0 >"$prefix/log/mariadbd.log" 2>&1 </dev/null &
    for _ in $(seq 200); do
        if mariadb -S "$folder/sock" -e 'select 1' >/dev/null 2>&1; then break; fi
        sleep 0.1
    done
    mariadb -S "$folder/sock" -e "create database slurm_acct_db;
        create user slurm@localhost identified by 'slurm';
        grant all on slurm_acct_db.* to slurm@localhost;"
    cat >"$prefix/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$prefix/run/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((port + 4))
SlurmUser=root
PidFile=$prefix/run/slurmdbd.pid
LogFile=$prefix/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CommunicationParameters=NoInAddrAny
CONF
    chmod 600 "$prefix/etc/slurmdbd.conf"
    # The client library takes the socket of a connection to "localhost" from this variable.
    MYSQL_UNIX_PORT=$folder/sock /usr/sbin/slurmdbd
    for _ in $(seq 200); do
        if timeout 5 sacctmgr -n -i list cluster >/dev/null 2>&1; then break; fi
        sleep 0.1
    done
    sacctmgr -i -Q add cluster test
    sacctmgr -i -Q add account all
    sacctmgr -i -Q add user root account=all
}

up() {
    install slurm-wlm munge
    [ -z "$accounted" ] || install mariadb-server slurmdbd slurm-wlm-mysql-plugin
    getent hosts "$host" >/dev/null || echo "127.0.0.1 $host" >>/etc/hosts
    configure
    /usr/sbin/munged --key-file="$prefix/munge/key" --socket="$prefix/run/munge.sock" \
        --pid-file="$prefix/run/munged.pid" --log-file="$prefix/log/munged.log" \
        --seed-file="$prefix/munge/seed" --num-threads=4
    [ -z "$accounted" ] || account
    /usr/sbin/slurmctld -i
    for node in 1 2 3; do /usr/sbin/slurmd -N "n$node"; done
    for _ in $(seq 300); do
        idle=$(timeout 5 sinfo -h -N -o %t 2>/dev/null | grep -cx idle || true)
        if [ "$idle" = 3 ]; then
            exit 0
        fi
        sleep 0.1
    done
    tail -n 20 "$prefix"/log/*.log >&2
    exit 1
}

"$action"
