# what: python3's own tests of select
# needs: /usr/bin/python3 /usr/lib/python3.11/test/test_select.py
# packages: python3 libpython3.11-testsuite
# seconds: 600
exec /usr/bin/python3 "$SOFTWARE/pytests.py" test_select
