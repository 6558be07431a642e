# what: redis-server with clients: no lost write, no error
# needs: redis-server redis-cli /usr/bin/python3
# packages: redis-server redis-tools python3
redis-server --port 0 --unixsocket "$PWD/sock" --save '' --appendonly yes --dir "$PWD" --daemonize no > log 2>&1 &
s=$!
for i in $(seq 100); do [ -S sock ] && break; sleep 0.1; done
/usr/bin/python3 "$SOFTWARE/redisload.py" sock 3 4000 | sort; set -- "${PIPESTATUS[@]}"
echo "clients $1"
redis-cli -s sock --no-raw dbsize
redis-cli -s sock debug digest > before
redis-cli -s sock bgrewriteaof > /dev/null
for i in $(seq 100); do redis-cli -s sock info persistence | grep -q 'aof_rewrite_in_progress:0' && break; sleep 0.1; done
redis-cli -s sock info persistence | grep -o 'aof_last_bgrewrite_status:[a-z]*'
redis-cli -s sock shutdown
wait $s
echo "server $?"
# what it has written is what it knew
redis-server --port 0 --unixsocket "$PWD/sock" --save '' --appendonly yes --dir "$PWD" --daemonize no > log2 2>&1 &
s=$!
for i in $(seq 100); do redis-cli -s sock ping 2> /dev/null | grep -q PONG && break; sleep 0.1; done
redis-cli -s sock debug digest | cmp - before && echo "the same after a restart"
redis-cli -s sock shutdown
wait $s
echo "server $?"
