# what: java: threads, locks, its garbage collector and compiler, files, children
# needs: java javac
# packages: openjdk-17-jdk-headless
# seconds: 600
cp "$SOFTWARE/Work.java" . && javac Work.java && java -Xmx256m Work
