# what: a Go program with hundreds of goroutines
# needs: go
# packages: golang-go
exec "$SOFTWARE/goroutines"
