# what: bash running an interactive script on a terminal: jobs, pipes, traps, its prompt
# needs: script bash
# packages: bsdutils bash
exec /usr/bin/python3 "$SOFTWARE/typist.py" "$SOFTWARE/typed.txt"
