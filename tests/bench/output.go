package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Columns of the measurement of output.
const (
	outputThrough = "MB/s through hotinit's output"
	outputAsItIs  = "untouched"
	outputNamed   = "--log-prefix"
)

// outputPrograms are how many write at once.
const outputPrograms = 20

// measureOutput has programs write lines as fast as they are taken, as they are and
// with each program's name before them.
func measureOutput(ctx context.Context, b *bench, r *report) error {
	rate := r.figure(outputThrough, "%.0f")
	for range b.runs {
		for _, way := range []string{outputAsItIs, outputNamed} {
			got, err := b.outputOnce(ctx, way)
			if err != nil {
				return fmt.Errorf("%s: %w", way, err)
			}
			rate.add(way, got)
		}
	}
	r.note("%d programs of `yes`, lines of 100 bytes, %d MB in all, into a pipe that is read at once", outputPrograms, b.scale.output>>20)
	return nil
}

// outputOnce returns how many megabytes come in a second.
func (b *bench) outputOnce(ctx context.Context, way string) (float64, error) {
	dir, err := os.MkdirTemp(b.dir, "output")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	line := bytes.Repeat([]byte("x"), 99)
	for i := range outputPrograms {
		text := fmt.Sprintf("HOTINIT_COMMAND=yes %s\n", line)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("p%d.env", i)), []byte(text), 0o644); err != nil {
			return 0, err
		}
	}
	args := []string{"--programs", dir, "--verbosity", "0"}
	if way == outputNamed {
		args = append(args, "--log-prefix")
	}
	read, write, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer read.Close()
	cmd := exec.CommandContext(ctx, b.hotinit, args...)
	cmd.Stdout, cmd.Stderr = write, b.log
	err = cmd.Start()
	write.Close()
	if err != nil {
		return 0, err
	}
	// Not before all of them write: a tenth is read first.
	_, err = io.CopyN(io.Discard, read, int64(b.scale.output/10))
	began := time.Now()
	if err == nil {
		_, err = io.CopyN(io.Discard, read, int64(b.scale.output))
	}
	took := time.Since(began)
	_ = cmd.Process.Signal(os.Interrupt)
	_, _ = io.Copy(io.Discard, read)
	_ = cmd.Wait() // its status is that of a stop
	return float64(b.scale.output) / 1e6 / took.Seconds(), err
}
