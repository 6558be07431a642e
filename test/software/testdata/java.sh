# what: java: threads, locks, its garbage collector and compiler, files, children
# needs: java javac
# packages: openjdk-17-jdk-headless
# seconds: 600
# its statistics in a file that it shares for writing would keep it at home
cp "$SOFTWARE/Work.java" . && javac -J-XX:+PerfDisableSharedMem Work.java && java -XX:+PerfDisableSharedMem -Xmx256m Work
