run ->(env) { [200, { "content-type" => "text/plain" }, ["generation #{ENV["HOTINIT_GENERATION"]}\n"]] }
