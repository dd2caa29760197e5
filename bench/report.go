package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ctwatch/ctwatch/test/journals"
)

// report measures what a report over 30 days takes, and one of an hour in their midst.
func report(ctx context.Context, ctwatch string) (ok bool, err error) {
	dir, err := os.MkdirTemp("", "ctwatch-bench-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	until := time.Now().UTC().Truncate(time.Second)
	if err := journals.Write(dir, journals.Options{Days: 30, Incidents: 200, NetNS: 100, Until: until, Seed: 1}); err != nil {
		return false, err
	}
	bytes, err := sizeOf(dir)
	if err != nil {
		return false, err
	}
	fmt.Printf("a journal of 30 days with 200 incidents and 100 namespaces: %.1f MB\n\n", float64(bytes)/1e6)
	fmt.Printf("  %-28s %10s %12s\n", "", "seconds", "peak RSS, MiB")
	ok = true
	midst := until.Add(-15 * 24 * time.Hour)
	var month, hour time.Duration
	for _, c := range []struct {
		name  string
		since time.Time
		until time.Time
		took  *time.Duration
	}{
		{"30 days", until.Add(-30 * 24 * time.Hour), until, &month},
		{"one hour, 15 days ago", midst, midst.Add(time.Hour), &hour},
	} {
		for _, format := range []string{"text", "html", "json"} {
			cmd := exec.CommandContext(ctx, ctwatch, "report", "--source", "journal:"+dir, "--format", format,
				"--since", c.since.Format(time.RFC3339), "--until", c.until.Format(time.RFC3339))
			cmd.Stderr = os.Stderr
			begun := time.Now()
			if err := cmd.Run(); err != nil {
				return false, fmt.Errorf("ctwatch report: %w", err)
			}
			took := time.Since(begun)
			rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
			fmt.Printf("  %-28s %10.2f %12.1f\n", c.name+", "+format, took.Seconds(), float64(rss)/(1<<20))
			*c.took = max(*c.took, took)
			ok = ok && took <= 2*time.Second && rss <= 128<<20
		}
	}
	fmt.Printf("\n  wanted: at most 2 s and 128 MiB, and of the hour a tenth of the time: %.2f\n", hour.Seconds()/month.Seconds())
	return ok && hour.Seconds() <= month.Seconds()/10, nil
}

func sizeOf(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
