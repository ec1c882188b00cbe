package main

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"deploygate/scripts/testbed"
)

// recorder writes every request to samples.csv.gz.
type recorder struct {
	file *os.File
	zip  *gzip.Writer
	csv  *csv.Writer
}

func newRecorder(dir string) (*recorder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(dir, "samples.csv.gz"))
	if err != nil {
		return nil, err
	}
	zip := gzip.NewWriter(file)
	r := &recorder{file, zip, csv.NewWriter(zip)}
	return r, r.csv.Write([]string{
		"contender", "release", "socket_unit", "requests_per_second", "sent_ms_after_start", "took_ms", "path", "status", "answered_by", "error",
	})
}

func (r *recorder) add(d deploy, samples []testbed.Sample, start time.Time) error {
	for _, s := range samples {
		err := r.csv.Write([]string{
			d.Contender, d.Release, strconv.FormatBool(d.Socket), strconv.Itoa(d.Rate),
			milliseconds(s.At.Sub(start)), milliseconds(s.Took), s.Path, strconv.Itoa(s.Status), s.Release, s.Err,
		})
		if err != nil {
			return err
		}
	}
	r.csv.Flush()
	return r.csv.Error()
}

func (r *recorder) close() error {
	r.csv.Flush()
	return errors.Join(r.csv.Error(), r.zip.Close(), r.file.Close())
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }
