use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use POSIX qw(:sys_wait_h);

$| = 1;
my $seed = 12345;
sub rnd { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return $seed }

for my $round (1 .. 12) {
	# a child counts words and tells of them through a pipe
	my @words = map { join '', map { chr(97 + rnd() % 4) } 1 .. 4 } 1 .. 60000;
	pipe(my $r, my $w) or die;
	my $pid = fork // die;
	if ($pid == 0) {
		close $r;
		my %count;
		$count{$_}++ for @words;
		print $w "$_ $count{$_}\n" for sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
		close $w;
		exit $round;
	}
	close $w;
	my $text = join '', <$r>;
	waitpid($pid, 0) == $pid or die;
	my $status = $? >> 8;

	# a file is written, read by line and changed in place
	open my $f, '>', "f$round" or die;
	print $f "$_: ", ($_ * 7919) % 10007, "\n" for 1 .. 20000;
	close $f;
	open $f, '+<', "f$round" or die;
	my $sum = 0;
	while (<$f>) { $sum += $1 if /^\d+: (\d+)$/ }
	seek $f, 0, 0;
	print $f "X";
	close $f;

	my $sorted = `sort -n -t: -k2 f$round | head -n 5 | tr '\\n' ' '`;
	printf "%d: %s child %d sum %d sorted %s file %s\n", $round, sha256_hex($text), $status, $sum, $sorted, sha256_hex(join '', do { local @ARGV = "f$round"; <> });
}
local $SIG{ALRM} = sub { print "alarm\n" };
alarm 1;
select undef, undef, undef, 3;
alarm 0;
my @big = sort { $a <=> $b } map { rnd() } 1 .. 400000;
print sha256_hex(pack 'L*', @big), "\n";
