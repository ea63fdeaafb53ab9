sub { [200, ["Content-Type", "text/plain"], ["release\n"]] };
