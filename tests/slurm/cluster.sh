#!/usr/bin/env bash
# A Slurm of one computer for tests, on loopback, without systemd and cgroups: two processors, and two cards that are none.
#   cluster.sh up FOLDER    starts it and prints the path of its slurm.conf, for SLURM_CONF
#   cluster.sh halt FOLDER  ends slurmctld, which keeps what it knows
#   cluster.sh controller FOLDER    starts it again
#   cluster.sh down FOLDER  ends what `up` started
set -euo pipefail
action=$1 folder=$2
export SLURM_CONF=$folder/slurm.conf

# Starts a program in the background and keeps its process id.
start() {
    local name=$1
    shift
    setsid "$@" > "$folder/$name.out" 2>&1 < /dev/null &
    echo $! > "$folder/$name.pid"
}

# Asks a program to end, and waits until it has.
stop() {
    local id
    [[ -s $folder/$1.pid ]] || return 0
    id=$(cat "$folder/$1.pid")
    rm "$folder/$1.pid"
    is_alive() { [[ $(cat "/proc/$id/comm" 2> /dev/null) == "$1" ]]; }
    is_alive "$1" || return 0
    kill "$id"
    for _ in $(seq 100); do
        is_alive "$1" || return 0
        sleep 0.1
    done
    kill -KILL "$id"
}

# Waits until a command prints a text.
until_prints() {
    local text=$1
    shift
    for _ in $(seq 300); do
        [[ $("$@" 2> /dev/null) == "$text" ]] && return
        sleep 0.1
    done
    echo "in vain: $*" >&2
    tail -n 20 "$folder"/*.out "$folder"/*.log >&2
    exit 1
}

free_port() {
    local port
    for port in $(shuf -i 20000-32000 -n 50); do
        (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null || { echo "$port"; return; }
    done
}

up() {
    local host user
    host=$(hostname -s) user=$(id -un)
    mkdir -p "$folder"/{state,spool,munge,cards}
    chmod 755 "$folder"
    chmod 700 "$folder/munge"
    # Slurm counts as cards what are device files.
    for card in 0 1; do
        mknod "$folder/cards/card$card" c 1 3 2> /dev/null || : > "$folder/cards/card$card"
    done
    echo "NodeName=$host Name=gpu File=$folder/cards/card[0-1]" > "$folder/gres.conf"
    cat > "$SLURM_CONF" << CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmctldPidFile=$folder/slurmctld.own-pid
SlurmdPidFile=$folder/slurmd.own-pid
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=10
ReturnToService=2
SlurmdTimeout=300
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    head -c 1024 /dev/urandom > "$folder/munge/key"
    chmod 400 "$folder/munge/key"
    # --force: the folder may lie where others may write, too.
    start munged munged --foreground --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" --num-threads=2
    until_prints yes bash -c "[[ -S '$folder/munge/socket' ]] && echo yes"
    controller
    start slurmd slurmd -D -f "$SLURM_CONF"
    until_prints idle sinfo --noheader --format=%T
    echo "$SLURM_CONF"
}

controller() {
    start slurmctld slurmctld -D -f "$SLURM_CONF"
}

halt() {
    stop slurmctld
}

down() {
    scancel --user="$(id -un)" 2> /dev/null || true
    for name in slurmd slurmctld munged; do
        stop "$name"
    done
}

"$action"
