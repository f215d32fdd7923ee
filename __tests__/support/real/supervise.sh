#!/bin/sh
# supervise.sh FOLDER COMMAND... : runs a command until this script's standard input ends, then ends it and removes FOLDER.
# The input ends when the test process lets go of it or dies in any way, so no server outlives a run; it also
# crosses sudo, where signals and process ids of an ordinary user do not.
folder=$1
shift

"$@" </dev/null &
child=$!

exec 3<&0
{
  while read -r _ <&3; do :; done
  kill -TERM "$child"
  waited=0
  while kill -0 "$child" && [ "$waited" -lt 150 ]; do
    sleep 0.1
    waited=$((waited + 1))
  done
  kill -KILL "$child"
} 2>/dev/null &
watcher=$!

wait "$child"
code=$?
kill "$watcher" 2>/dev/null

# A dockerd that had to be killed leaves its containerd and its mounts behind.
for pidfile in "$folder"/exec/containerd/containerd.pid; do
  [ -f "$pidfile" ] && kill -KILL "$(cat "$pidfile")" 2>/dev/null
done
grep -o " $folder/[^ ]* " /proc/mounts 2>/dev/null | sort -r | xargs -r umount -l 2>/dev/null
case $folder in
  /*/chunked-push-*) rm -rf --one-file-system "$folder" ;;
esac
exit "$code"
