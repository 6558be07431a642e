# what: perl: text, sorting, pipes and children
# needs: perl
# packages: perl
exec perl "$SOFTWARE/work.pl"
