#!/usr/bin/perl
# accept.pl COMMAND...: take one connection from descriptor 3 and run the
# command with it as standard input and output, as inetd does. Where none comes
# within 5 s, or another process was faster, end.
use strict;
use warnings;
use IO::Handle;

open(my $listener, '<&=', 3) or die "descriptor 3: $!\n";
$listener->blocking(0);    # another generation may be faster
my $ready = '';
vec($ready, 3, 1) = 1;
exit 0 unless select($ready, undef, undef, 5) > 0;
accept(my $connection, $listener) or exit 0;
open(STDIN,  '<&', $connection) or die "standard input: $!\n";
open(STDOUT, '>&', $connection) or die "standard output: $!\n";
exec(@ARGV) or die "$ARGV[0]: $!\n";
