#!/usr/bin/env bash
# A real one-node Slurm on this machine, from Debian's packages, for repeatable checks of the
# submitit launcher: requeueing, preemption and time limits as a cluster does them.
#
#   eval "$(tests/slurm/one_node.sh up)"   start it (or find it running); exports SLURM_CONF
#   tests/slurm/one_node.sh status         what runs; exit 0 when up, 3 when not
#   tests/slurm/one_node.sh down           end its jobs and daemons, remove its folder
#
# stdout carries only shell code to eval; everything for people goes to stderr.
#
# Partitions: `low` (the default; its jobs are requeued when preempted) and `high` (preempts them).
# Environment, all optional, read by `up`:
#   GSVAE_SLURM_DIR          state folder                        (/tmp/gsvae-slurm)
#   GSVAE_SLURM_PORT         slurmctld's port, slurmd's is +1    (16817)
#   GSVAE_SLURM_CPUS         CPUs the node claims to have        (4)
#   GSVAE_SLURM_GRACE_S      GraceTime of `low`, seconds         (10)
#   GSVAE_SLURM_KILL_WAIT_S  SIGTERM to SIGKILL, seconds         (5)
#   GSVAE_SLURM_USER_SIGNAL  1: preemption sends the job's own --signal (submitit's SIGUSR2) at once,
#                            in place of SIGTERM; 0: Slurm's default, SIGTERM only         (0)
#   GSVAE_SLURM_SACCT        1: also put a stand-in `sacct` on PATH (see write_sacct)      (0)
set -euo pipefail

STATE=${GSVAE_SLURM_DIR:-/tmp/gsvae-slurm}
PORT=${GSVAE_SLURM_PORT:-16817}
CPUS=${GSVAE_SLURM_CPUS:-4}
GRACE_S=${GSVAE_SLURM_GRACE_S:-10}
KILL_WAIT_S=${GSVAE_SLURM_KILL_WAIT_S:-5}
USER_SIGNAL=${GSVAE_SLURM_USER_SIGNAL:-0}
SACCT=${GSVAE_SLURM_SACCT:-0}

CONF=$STATE/slurm.conf
MARKER=$STATE/.gsvae-one-node # says that `up` made this folder, so `down` may remove it
NODE=$(hostname -s)
export SLURM_CONF=$CONF
# Debian keeps the daemons in sbin, which a plain user PATH lacks.
export PATH=$PATH:/usr/sbin:/sbin

say() { printf 'one_node.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

require_root() {
    [[ $(id -u) == 0 ]] || die "must run as root: munged, slurmctld and slurmd are started as root (you are $(id -un))"
}

require_linux_debian_or_slurm() {
    [[ $(uname -s) == Linux ]] || die "needs Linux (this is $(uname -s))"
    have_packages || command -v apt-get >/dev/null ||
        die "slurmctld, slurmd and munged are not all installed, and there is no apt-get to install them with"
}

have_packages() {
    local tool
    for tool in munged slurmctld slurmd srun sbatch; do
        command -v "$tool" >/dev/null || return 1
    done
}

# The daemons and srun bind to the address that the host's name resolves to (NoInAddrAny), so that
# address must be loopback: otherwise they would listen on a real interface.
require_loopback_name() {
    local address
    address=$(getent ahostsv4 "$NODE" | awk 'NR == 1 { print $1 }') || true
    [[ $address == 127.* ]] || die "this host's name, $NODE, resolves to '${address:-nothing}', not to loopback:" \
        "add '127.0.0.1 $NODE' as the first line for that name in /etc/hosts"
}

install_packages() {
    have_packages && return
    say "installing slurm-wlm and munge by apt-get"
    # The packages' own services are not wanted: without a policy of the machine's own, forbid them to start.
    local policy=/usr/sbin/policy-rc.d made_policy=0
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made_policy=1
    fi
    local failed=0
    {
        apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge
    } >&2 || failed=1
    [[ $made_policy == 0 ]] || rm -f "$policy"
    [[ $failed == 0 ]] && have_packages || die "apt-get could not install slurm-wlm and munge"
}

make_state_folder() {
    [[ ! -e $STATE || -e $MARKER ]] || die "$STATE exists and was not made by this script: remove it or set GSVAE_SLURM_DIR"
    [[ $STATE == /* ]] || die "GSVAE_SLURM_DIR must be an absolute path (it is '$STATE')"
    mkdir -p "$STATE"/{munge,ctld,slurmd,log,bin}
    touch "$MARKER"
    # munged refuses a folder that others may write, and a socket folder that others may not enter.
    chmod 755 "$STATE" "$STATE/munge"
}

write_conf() {
    local memory_mb user_signal=""
    memory_mb=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
    [[ $USER_SIGNAL == 0 ]] || user_signal="SlurmctldParameters=preempt_send_user_signal"
    cat >"$CONF" <<CONF
ClusterName=gsvae
# Ids that no earlier cluster of ours gave: submitit would take an old result of the same job id
# in a reused sweep folder for the new job's.
FirstJobId=$(($(date +%s) % 10000000 + 1))
SlurmctldHost=$NODE(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
# Both are needed: the first is for slurmctld, the second for slurmd and srun.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
# A requeued job may not start for cred_expire seconds, 120 by default.
AuthInfo=socket=$STATE/munge/socket,cred_expire=5
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/slurmd
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdLogFile=$STATE/log/slurmd.log

# No cgroups and no accounting: neither a container nor a test has them.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none

# Short timers. Time limits and grace ends are still looked at only every 30 s: that is compiled in.
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
KillWait=$KILL_WAIT_S
InactiveLimit=0
CompleteWait=0
SlurmctldTimeout=30
SlurmdTimeout=30
# How long scontrol still knows an ended job.
MinJobAge=600
ReturnToService=2
JobRequeue=1

# config_overrides: believe CPUs= below, even where the machine has fewer.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
$user_signal
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$memory_mb State=UNKNOWN
PartitionName=low Nodes=$NODE Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=$GRACE_S OverSubscribe=NO
PartitionName=high Nodes=$NODE State=UP PriorityTier=10 PreemptMode=OFF OverSubscribe=NO
CONF
    printf 'CgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\n' >"$STATE/cgroup.conf"
}

# submitit asks sacct how a job without a result ended, and sacct needs an accounting database, which
# clusters have and this one lacks. This stand-in answers submitit's one question (-o
# JobID,State,NodeList --parsable2 -j ID ...) from slurmctld's memory. It is no part of Slurm.
write_sacct() {
    [[ $SACCT == 0 ]] && { rm -f "$STATE/bin/sacct"; return; }
    cat >"$STATE/bin/sacct" <<'SACCT'
#!/usr/bin/env bash
echo "JobID|State|NodeList"
while (($#)); do
    if [[ $1 == -j ]]; then
        scontrol --oneliner show job "$2" 2>/dev/null | awk '{
            delete f
            for (i = 1; i <= NF; i++) { p = index($i, "="); f[substr($i, 1, p - 1)] = substr($i, p + 1) }
            id = f["JobId"]
            if ("ArrayTaskId" in f) id = f["ArrayJobId"] "_" (f["ArrayTaskId"] ~ /^[0-9]+$/ ? f["ArrayTaskId"] : "[" f["ArrayTaskId"] "]")
            print id "|" f["JobState"] "|" f["NodeList"]
        }'
        shift
    fi
    shift
done
SACCT
    chmod 755 "$STATE/bin/sacct"
}

start_munge() {
    [[ -s $STATE/munge/key ]] || (umask 077 && head -c 1024 /dev/urandom >"$STATE/munge/key")
    munged --socket="$STATE/munge/socket" --key-file="$STATE/munge/key" --seed-file="$STATE/munge/seed" \
        --pid-file="$STATE/munge/pid" --log-file="$STATE/munge/log" >&2
}

# What the daemons inherit, every job's steps inherit: keep a caller's own Slurm job out of it.
clean_env() {
    env -i PATH="$PATH" HOME="${HOME:-/root}" SLURM_CONF="$CONF" "$@"
}

start_slurm() {
    clean_env slurmctld -f "$CONF" </dev/null >&2
    clean_env slurmd -f "$CONF" </dev/null >&2
}

node_state() { timeout 10 sinfo --noheader --nodes="$NODE" --partition=low --format=%T 2>/dev/null || true; }

is_up() {
    [[ -e $CONF ]] && case $(node_state) in idle | mixed | allocated | completing) ;; *) false ;; esac
}

wait_until_up() {
    local tries
    for ((tries = 0; tries < 120; tries++)); do
        is_up && return
        sleep 0.25
    done
    tail -n 20 "$STATE"/log/*.log "$STATE/munge/log" >&2 || true
    say "the node is '$(node_state)' after 30 s; the ends of its logs are above"
    stop_all
    exit 1
}

# TCP sockets, on any address, that our daemons listen on: one "address name" a line.
listeners() {
    local pids
    pids=$(daemon_pids | paste -sd'|')
    [[ -n $pids ]] || return 0
    ss -H -ltnp 2>/dev/null | grep -E "pid=($pids)," | awk '{ print $4, $6 }' || true
}

require_loopback_listeners() {
    command -v ss >/dev/null || { say "no ss here: not checking what the daemons listen on"; return; }
    local open
    open=$(listeners | grep -v '^127\.' || true)
    [[ -z $open ]] && return
    stop_all
    die "stopped: a daemon listened beyond loopback: $open"
}

# A zombie is not running: an init that reaps late, as containers' often do, must not hold us up.
running() { # PID
    local state
    state=$(awk '/^State:/ { print $2 }' "/proc/$1/status" 2>/dev/null) || return 1
    [[ -n $state && $state != Z ]]
}

pid_file_alive() { # FILE COMM: prints the pid if it is running and is that program
    local pid
    [[ -s $1 ]] || return 0
    pid=$(<"$1")
    if running "$pid" && [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$2" ]]; then echo "$pid"; fi
}

daemon_pids() {
    pid_file_alive "$STATE/slurmctld.pid" slurmctld
    pid_file_alive "$STATE/slurmd.pid" slurmd
    pid_file_alive "$STATE/munge/pid" munged
}

# Job steps and their tasks, found by the configuration in their environment: they outlive slurmd.
job_pids() {
    local environ pid
    for environ in /proc/[0-9]*/environ; do
        pid=${environ#/proc/} pid=${pid%/environ}
        tr '\0' '\n' <"$environ" 2>/dev/null | grep -xF "SLURM_CONF=$CONF" >/dev/null || continue
        # A caller that did eval "$(... up)" has SLURM_CONF too; only a job's process has a job id.
        if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == slurmstepd ]] ||
            tr '\0' '\n' <"$environ" 2>/dev/null | grep '^SLURM_JOB_ID=' >/dev/null; then
            echo "$pid"
        fi
    done 2>/dev/null
}

gone() { local pid; for pid in "$@"; do if running "$pid"; then return 1; fi; done; }

stop_pids() { # PID...: SIGTERM, then SIGKILL after 5 s
    (($#)) || return 0
    kill "$@" 2>/dev/null || true
    local tries
    for ((tries = 0; tries < 50; tries++)); do
        gone "$@" && return
        sleep 0.1
    done
    kill -KILL "$@" 2>/dev/null || true
}

stop_jobs() {
    [[ -n $(pid_file_alive "$STATE/slurmctld.pid" slurmctld) ]] || return 0
    local -a jobs
    mapfile -t jobs < <(timeout 10 squeue --noheader --array-unique --format=%A 2>/dev/null | sort -u)
    ((${#jobs[@]})) || return 0
    # No waiting for graceful ends: whoever takes the cluster down is done with its jobs. Pending jobs
    # take no signal, so those are cancelled.
    timeout 10 scancel --signal=KILL --full "${jobs[@]}" 2>/dev/null || true
    timeout 10 scancel "${jobs[@]}" 2>/dev/null || true
    # Their processes are what must be gone; slurmctld may call them COMPLETING for long after.
    local tries
    for ((tries = 0; tries < 4; tries++)); do
        [[ -n $(job_pids) ]] || return 0
        sleep 0.25
    done
}

stop_all() {
    local -a pids
    stop_jobs
    mapfile -t pids < <(pid_file_alive "$STATE/slurmd.pid" slurmd; pid_file_alive "$STATE/slurmctld.pid" slurmctld)
    stop_pids "${pids[@]}"
    mapfile -t pids < <(job_pids) # steps that did not end in time, and those of a dead slurmctld
    ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
    mapfile -t pids < <(pid_file_alive "$STATE/munge/pid" munged)
    stop_pids "${pids[@]}"
}

print_env() {
    printf 'export SLURM_CONF=%q\n' "$CONF"
    [[ ! -x $STATE/bin/sacct ]] || printf 'export PATH=%q:"$PATH"\n' "$STATE/bin"
}

up() {
    require_root
    require_linux_debian_or_slurm
    install_packages
    require_loopback_name
    if is_up && [[ $(daemon_pids | wc -l) == 3 ]]; then
        say "already up in $STATE (\`down\` first, to change its settings)"
        print_env
        return
    fi
    [[ ! -e $MARKER ]] || down # half up, or left by a machine that went away
    make_state_folder
    write_conf
    write_sacct
    start_munge
    start_slurm
    wait_until_up
    require_loopback_listeners
    say "up: node $NODE is $(node_state), partitions low (default) and high, state in $STATE"
    print_env
}

down() {
    require_root
    [[ -e $MARKER ]] || { say "not up: no $STATE of this script's making"; return 0; }
    stop_all
    rm -rf "$STATE"
    say "down: daemons stopped, $STATE removed"
}

status() {
    if ! is_up; then
        say "down"
        return 3
    fi
    {
        sinfo --all
        squeue --all
        echo "listening:"
        listeners
    } >&2
}

case ${1:-} in
    up | down | status) (($# == 1)) || die "$1 takes no arguments (settings are read from the environment)"; "$1" ;;
    *) die "usage: one_node.sh up|down|status" ;;
esac
