# The image of Dockerfile.example as a job of Nomad, by its Docker driver. The clients allow
# it to mount a directory: plugin "docker" { config { volumes { enabled = true } } }.
#
#     nomad job run web.nomad.hcl
#     nomad alloc exec -i -task web -job web hotinit deploy - <server     # a new release
job "web" {
  group "web" {
    network {
      port "http" {
        static = 8080
        to     = 8080
      }
    }

    service {
      name     = "web"
      port     = "http"
      provider = "nomad"
    }

    task "web" {
      driver = "docker"

      config {
        image   = "web"
        ports   = ["http"]
        volumes = ["/srv/web:/app"]
        # hotinit is the init already.
        init = false
      }

      # A little more than --stop-timeout.
      kill_signal  = "SIGTERM"
      kill_timeout = "12s"
    }
  }
}
