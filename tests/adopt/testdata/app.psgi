sub { [200, ["Content-Type", "text/plain"], ["generation $ENV{HOTINIT_GENERATION}\n"]] };
