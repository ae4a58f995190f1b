package permitd_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	permitd "github.com/permitd/permitd/client/go"
	"github.com/permitd/permitd/client/go/internal/real"
)

// A budget that always has room.
const roomy = "[budgets.\"api/prod\"]\nlimits = [\"in_flight=1000000\", \"requests=9223372036854775807/1m\"]\n"

func benchmarked(b *testing.B) *permitd.Client {
	b.Helper()
	server := real.Start(b, roomy)
	return connect(b, permitd.Options{Endpoints: []string{server.Endpoint()}})
}

func acquireAndReport(b *testing.B, client *permitd.Client) {
	guard, err := client.Acquire(context.Background(), permitd.Request{Provider: "api", Key: "prod", Tokens: 100})
	if err == nil {
		err = guard.ReportDetached(permitd.Report{Outcome: permitd.Success, Actual: permitd.Usage{Tokens: permitd.Of(90)}})
	}
	if err != nil {
		b.Error(err)
	}
}

// How many permits one process gets and reports in a second through its one session, by callers at the same time. Server, client and
// callers share the machine's cores.
func BenchmarkPermits(b *testing.B) {
	for _, callers := range []int{1, 16, 256, 4096} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			client := benchmarked(b)
			left := atomic.Int64{}
			left.Store(int64(b.N))
			b.ResetTimer()
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for left.Add(-1) >= 0 {
						acquireAndReport(b, client)
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "permits/s")
		})
	}
}

// How long one caller alone waits for a permit that is there: half of the times are below p50, and all but one in a hundred below p99.
func BenchmarkUncontended(b *testing.B) {
	client := benchmarked(b)
	waits := make([]time.Duration, 0, b.N)
	for b.Loop() {
		began := time.Now()
		guard, err := client.Acquire(context.Background(), budget)
		waits = append(waits, time.Since(began))
		if err != nil {
			b.Fatal(err)
		}
		guard.Cancel()
	}
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "p99-µs")
}

// How much memory is in use after a hundred thousand permits, and after a million more.
func BenchmarkMemory(b *testing.B) {
	const callers, warm, permits = 256, 100_000, 1_000_000
	client := benchmarked(b)
	run := func(permits int) {
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for range permits / callers {
					acquireAndReport(b, client)
				}
			})
		}
		all.Wait()
	}
	for b.Loop() {
		run(warm)
		before := heap()
		run(permits)
		b.ReportMetric(before, "KiB-before")
		b.ReportMetric(heap(), "KiB-after")
	}
}

// What is in use once nothing is left to be collected. Guards are collected in two turns.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc) / 1024
}
