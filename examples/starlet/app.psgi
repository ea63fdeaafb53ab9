use strict;
use warnings;
use IO::Handle;

# A Starlet with one socket waits in accept, so the socket must be a blocking
# one: with another its workers go round in circles and burn the processor.
open(our $listener, '+<&=', 3) or die "descriptor 3: $!";
$listener->blocking(1);

my $app = sub {
    return [200, ['Content-Type' => 'text/plain'], ["generation $ENV{SERVER_STARTER_GENERATION}\n"]];
};
