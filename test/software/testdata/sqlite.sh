# what: sqlite3 with its database at home, with a journal and with a shared log: transactions, indexes, a second process that reads
# needs: sqlite3
# packages: sqlite3
exec 2>&1
work() { # JOURNAL
db=$1.db
{
	echo ".timeout 60000"
	echo "pragma journal_mode=$1; create table t(id integer primary key, a int, b text); create index ta on t(a);"
	for k in $(seq 1 60); do
		echo "begin; with recursive c(x) as (select 1 union all select x+1 from c where x<2000) insert into t(a,b) select (x*7919+$k*104729)%100003, hex(x*$k) from c; commit;"
		echo "select $k, count(*), sum(a), max(b) from t where a between $k*100 and $k*1500;"
	done
	echo "select b, count(*) n from t group by b order by n desc, b limit 5; pragma integrity_check;"
} | sqlite3 "$db" > "$1.written" &
w=$!
sleep 0.5
for i in 1 2 3 4 5 6; do
	sqlite3 -cmd '.timeout 60000' "$db" 'select count(*)%2000, (select max(id) from t)-count(*) from t' # every transaction is whole
	sleep 0.4
done
wait $w
echo "writer $?"
cat "$1.written"
sqlite3 "$db" "update t set b=b||'x' where a%3=0; delete from t where a%7=1; vacuum; select count(*), sum(a), sum(length(b)) from t; pragma integrity_check;"
sqlite3 "$db" .dump | sha256sum
}
work delete
work wal # its index is memory that is shared through a file: whoever has it open stays at home
