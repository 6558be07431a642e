# what: node: workers, timers, files, children, its garbage collector
# needs: node
# packages: nodejs
exec node "$SOFTWARE/work.js"
