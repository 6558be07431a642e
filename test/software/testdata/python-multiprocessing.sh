# what: python3's own tests of multiprocessing
# needs: /usr/bin/python3 /usr/lib/python3.11/test/test_multiprocessing_fork.py
# packages: python3 libpython3.11-testsuite
# seconds: 1200
exec /usr/bin/python3 "$SOFTWARE/pytests.py" test_multiprocessing_fork
