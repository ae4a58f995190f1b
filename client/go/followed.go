package permitd

import (
	"io"
	"net/http"
	"sync"

	"github.com/permitd/permitd/client/go/internal/reading"
)

// Reports a response whose body is on its way, once that has been read to its end, or is let go.
func follow(response *http.Response, guard *Guard, report Report) {
	if response.StatusCode == http.StatusSwitchingProtocols {
		// What follows is no body.
		_ = guard.ReportDetached(report)
		return
	}
	response.Body = &followed{
		ReadCloser: response.Body, used: reading.NewResponse(response.Header.Get("Content-Type")), guard: guard, report: report,
	}
}

// followed is a body that is read over its reader's shoulder.
type followed struct {
	io.ReadCloser
	guard  *Guard
	report Report

	mu   sync.Mutex
	used *reading.Response
	once sync.Once
}

func (f *followed) Read(into []byte) (int, error) {
	read, err := f.ReadCloser.Read(into)
	f.mu.Lock()
	_, _ = f.used.Write(into[:read])
	f.mu.Unlock()
	if err != nil {
		f.settle()
	}
	return read, err
}

func (f *followed) Close() error {
	f.settle()
	return f.ReadCloser.Close()
}

func (f *followed) settle() {
	f.once.Do(func() {
		f.mu.Lock()
		used := f.used.Used()
		f.mu.Unlock()
		f.report.Actual = Usage{
			InputTokens: amountFromWire(used.InputTokens), OutputTokens: amountFromWire(used.OutputTokens),
			CachedInputTokens: amountFromWire(used.CachedInputTokens),
		}
		_ = f.guard.ReportDetached(f.report)
	})
}
