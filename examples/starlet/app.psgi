use strict;
use warnings;

my $app = sub {
    return [200, ['Content-Type' => 'text/plain'], ["generation $ENV{SERVER_STARTER_GENERATION}\n"]];
};
