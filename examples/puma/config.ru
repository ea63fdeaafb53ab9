body = "generation #{ENV.fetch('HOTINIT_GENERATION')}\n"

run ->(_env) { [200, { 'Content-Type' => 'text/plain', 'Content-Length' => body.bytesize.to_s }, [body]] }
