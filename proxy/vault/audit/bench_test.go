// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
)

// BenchmarkAppend shows what a cached read pays at VAULT_AUDIT_SYNC=batch, syncs
// included: cpu-ns/record is the process's own and the kernel's time.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 100, 1024} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			s, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			records := make([]Record, n)
			for i := range records {
				records[i] = read("db/password")
			}
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				if err := s.Append(b.Context(), records); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N*n), "cpu-ns/record")
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// cpu is the time that the process has had, in nanoseconds.
func cpu(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkAlways shows how many records share a sync where each waits for the disk.
func BenchmarkAlways(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			s, err := Open(b.TempDir(), Options{Sync: SyncAlways})
			if err != nil {
				b.Fatal(err)
			}
			before := cpu(b)
			var clients sync.WaitGroup
			for range n {
				clients.Go(func() {
					records := []Record{read("db/password")}
					for range b.N {
						if err := s.Append(b.Context(), records); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			clients.Wait()
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N*n), "cpu-ns/record")
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
