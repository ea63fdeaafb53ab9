// Command hotinit-exporter serves the metrics of running hotinits over HTTP, for
// Prometheus to scrape. It asks them by their control sockets at each scrape, so
// that PID 1 needs no HTTP server.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/hotinit/hotinit/internal/version"
)

// mostScrapes bounds how many requests are answered at the same time.
const mostScrapes = 8

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hotinit-exporter:", err)
		os.Exit(1)
	}
}

// run serves until ctx is over.
func run(ctx context.Context, args []string) error {
	app := kingpin.New("hotinit-exporter", "Serves the metrics of running hotinits over HTTP. It has to run in their PID and network namespaces, as root or as the user that hotinit runs as.")
	app.Version("hotinit-exporter version " + version.Number + " - git." + version.Commit()).VersionFlag.Short('V')
	app.HelpFlag.Short('h')
	flags := kingpinflag.AddFlags(app, ":9927")
	path := app.Flag("web.telemetry-path", "where metrics are served").Default("/metrics").String()
	pids := app.Flag("pid", "ask the hotinit with this PID; may be repeated, and as NAME=PID its metrics get the label hotinit=\"NAME\"").Default("1").PlaceHolder("[NAME=]PID").Strings()
	limit := app.Flag("timeout", "how long a hotinit has to answer").Default("5s").Duration()
	if _, err := app.Parse(args); err != nil {
		return err
	}
	targets, err := parseTargets(*pids)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(&collector{targets: targets, limit: *limit}); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(*path, promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: mostScrapes}))
	if *path != "/" {
		page, err := web.NewLandingPage(web.LandingConfig{
			Name: "hotinit-exporter", Description: "Metrics of hotinit", Version: version.Number, Profiling: "false",
			Links: []web.LandingLinks{{Address: *path, Text: "Metrics"}},
		})
		if err != nil {
			return err
		}
		mux.Handle("/", page)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		<-ctx.Done()
		soon, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(soon)
	}()
	err = web.ListenAndServe(server, flags, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if errors.Is(err, http.ErrServerClosed) {
		<-gone
		return nil
	}
	return err
}
