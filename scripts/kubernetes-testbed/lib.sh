# Shared by build, up, down, load and selftest: where things lie, and how addresses derive from a cluster's index.
set -euo pipefail
shopt -s inherit_errexit

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${ENCAPBENCH_TESTBED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/encapbench-testbed}
STATE=${ENCAPBENCH_TESTBED_STATE:-/var/tmp/encapbench-testbed}
BIN=$CACHE/bin    # the built Kubernetes servers and the pause image
ROOT=$CACHE/root  # unpacked Debian packages

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

PATH=$PATH:/usr/sbin:/sbin # where an ordinary login has no ip, iptables and sysctl

# need COMMAND=PACKAGE...: every command must be there; root gets the packages of those that are not installed, by apt,
# others are told their names.
need() {
  local pair missing=()
  for pair; do command -v "${pair%%=*}" >/dev/null || missing+=("${pair##*=}"); done
  [[ ${#missing[@]} == 0 ]] && return
  if [[ $EUID == 0 ]] && command -v apt-get >/dev/null; then
    echo "$(basename "$0"): installing ${missing[*]}" >&2
    { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends install "${missing[@]}"; } \
      >/dev/null && return
  fi
  die "missing commands; as root, run: apt-get install --no-install-recommends ${missing[*]}"
}

check_name() { [[ $1 =~ ^[a-z][a-z0-9-]{0,19}$ ]] || die "cluster name '$1': use 1 to 20 of a-z, 0-9 and -, a letter first"; }

# cluster NAME: sets the variables of a cluster. INDEX comes from its folder; `up` sets it before there is one.
INDEX=
cluster() {
  check_name "$1"
  NAME=$1 DIR=$STATE/$1 NS=kt-$1
  [[ -n $INDEX ]] || { [[ -f $DIR/index ]] && INDEX=$(<"$DIR/index"); } || die "no cluster '$1'; run: $HERE/up --name $1"
  UNDERLAY=10.$((100 + INDEX))       # .0.0/24 management, .S.0/24 node subnet S
  POD_CIDR=10.$((150 + INDEX)).0.0/16
  SERVICE_CIDR=172.$((16 + INDEX)).0.0/16
  SERVICE_IP=172.$((16 + INDEX)).0.1
  API_IP=$UNDERLAY.0.10
  HOST_LINK=kt-$INDEX                # the one interface outside the cluster's namespaces
}

in_ns() { local ns=$1; shift; nsenter --net="/run/netns/$ns" "$@"; }

# A process is known by its id and start time, so that a reused id is never taken for ours.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
alive() { # PIDFILE
  local pid start
  [[ -f $1 ]] && read -r pid start <"$1" && [[ -n $start && $(start_time "$pid") == "$start" ]]
}
