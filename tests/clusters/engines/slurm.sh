#!/bin/bash
# slurm.sh up|down PREFIX PORT: a private Slurm of three virtual nodes on one Debian machine.
#
# Nothing is written outside PREFIX but the packages, and a line in /etc/hosts if the name of the
# host does not resolve. Root, no systemd, no cgroups; everything listens on the loopback only.
set -euo pipefail
action=$1 prefix=$2 port=$3
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
    stop "$prefix/run/munged.pid"
    for process in /proc/[0-9]*; do
        [ "$(cat "$process/comm" 2>/dev/null)" = slurmstepd ] || continue
        if tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qx "SLURM_CONF=$SLURM_CONF"; then
            kill -KILL "${process#/proc/}" || true
        fi
    done
}

configure() {
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
MinJobAge=300
MaxJobCount=20000
AccountingStorageType=accounting_storage/none
CONF
    for node in 1 2 3; do
        echo "NodeName=n$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + node))" \
            "CPUs=32 RealMemory=8000 State=UNKNOWN"
    done >>"$SLURM_CONF"
    echo "PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP" >>"$SLURM_CONF"
}

up() {
    install slurm-wlm munge
    getent hosts "$host" >/dev/null || echo "127.0.0.1 $host" >>/etc/hosts
    configure
    /usr/sbin/munged --key-file="$prefix/munge/key" --socket="$prefix/run/munge.sock" \
        --pid-file="$prefix/run/munged.pid" --log-file="$prefix/log/munged.log" \
        --seed-file="$prefix/munge/seed" --num-threads=4
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
