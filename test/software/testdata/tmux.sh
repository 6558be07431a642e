# what: tmux with a shell inside: its server, its client on a terminal, what is typed and shown
# needs: tmux script
# packages: tmux bsdutils
export TERM=xterm LC_ALL=C.UTF-8 SHELL=/bin/bash
t="tmux -S $PWD/sock -f /dev/null"
await() { for i in $(seq 400); do $t capture-pane -p -t "$1" 2> /dev/null | grep -q -e "$2" && return; sleep 0.05; done; echo "no $2 in $1"; }
$t new-session -d -x 80 -y 24 -s one 'bash --norc --noprofile'
$t send-keys -t one "PS1='> '" Enter "clear" Enter
mkfifo keyboard # at whose end script would type something of its own
exec 9<> keyboard
script -q -c "stty rows 24 cols 80; $t attach -t one" typescript <&9 > /dev/null 2>&1 &
for i in 1 2 3 4; do
	$t send-keys -t one "x=0; for i in \$(seq 20000); do x=\$(( (x*31+i) % 1000003 )); done; echo sum $i \$x" Enter
	await one "^sum $i [0-9]"
done
$t split-window -t one -h 'bash --norc --noprofile'
$t send-keys -t one.1 "PS1='> '" Enter clear Enter "seq 1 40 | tail -n 3; echo half \$((COLUMNS))" Enter
await one.1 '^half'
$t resize-pane -t one.1 -x 20
for i in $(seq 100); do case $($t list-panes -t one -F "#{pane_width}") in *20*) break ;; esac; sleep 0.1; done
sleep 2 # until the shell there has heard of it
$t send-keys -t one.1 "echo now \$(stty size)" Enter
await one.1 '^now'
runs() { for i in $(seq 200); do case $($t list-panes -t one -F "#{pane_index} #{pane_current_command}") in "0 $1"*) break ;; esac; sleep 0.1; done; sleep 1; }
$t send-keys -t one.0 "cat" Enter
runs cat # what is typed before is shown twice
$t send-keys -t one.0 "what is typed comes back" Enter
sleep 1
$t send-keys -t one.0 C-d
runs bash
$t send-keys -t one.0 "sleep 100" Enter
runs sleep
$t send-keys -t one.0 C-c
runs bash
$t send-keys -t one.0 "echo status \$?" Enter
await one.0 '^status'
echo "--- left"
$t capture-pane -p -t one.0
echo "--- right"
$t capture-pane -p -t one.1
$t list-panes -t one -F '#{pane_index} #{pane_width}x#{pane_height} #{pane_current_command}'
$t send-keys -t one.1 exit Enter
$t send-keys -t one.0 exit Enter
for i in $(seq 100); do $t has-session 2> /dev/null || break; sleep 0.1; done
$t has-session 2> /dev/null || echo gone
wait
