#!/bin/sh
# shell: arithmetic and reading of a file by the shell's own means, and now and then a child, for which it may come home.
seconds=${1:-0}
stop=${2:--}
echo "pid $$" >&2
name=shell.$$
i=0
while [ $i -lt 40 ]; do
	echo "line $i of the file $((i * 37 % 11))"
	i=$((i + 1))
done >"$name"
first= rounds=0 bad=0
began=$(cut -d. -f1 /proc/uptime)
while :; do
	rounds=$((rounds + 1)) sum=0 i=0
	while [ $i -lt 3000 ]; do
		sum=$(((sum * 31 + i) % 1000003))
		i=$((i + 1))
	done
	words=0
	while read -r line number of the file rest; do
		words=$((words + number * rest))
	done <"$name"
	this="$sum $words"
	if [ -z "$first" ]; then
		first=$this
		echo "$this"
	elif [ "$this" != "$first" ]; then
		bad=1
		echo "bad: round $rounds: $this, was $first" >&2
	fi
	if [ $((rounds % 10)) -eq 0 ]; then
		[ "$(echo child)" = child ] || bad=1
		sleep 0.01
		read -r now rest </proc/uptime
		[ $((${now%.*} - began)) -lt 240 ] || break
		[ $((${now%.*} - began)) -gt "${seconds%.*}" ] && { [ "$stop" = - ] || [ -e "$stop" ]; } && break
	fi
	[ "$seconds" = 0 ] && [ "$stop" = - ] && break
done
rm -f "$name"
echo "$([ $bad = 0 ] && echo good || echo BAD)"
echo "end $$ after $rounds rounds" >&2
exit $bad
