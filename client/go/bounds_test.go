package permitd_test

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	permitd "github.com/permitd/permitd/client/go"
	"github.com/permitd/permitd/client/go/internal/fake"
	"github.com/permitd/permitd/client/go/internal/wire"
)

// Goal: however much has to be said at once, each message stays within the server's bounds, and requests keep their order.
func TestMessagesStayWithinBounds(t *testing.T) {
	const many = 2_500
	server := fake.Start(t)
	client, session := connected(t, server, permitd.Options{})
	for number := range many {
		guard := granted(t, client, session, fmt.Sprint(number))
		if err := guard.ReportDetached(permitd.Report{Status: 400, Body: bytes.Repeat([]byte("x"), 4096)}); err != nil {
			t.Fatal(err)
		}
		session.Report()
	}
	var waits []<-chan acquired
	for range many {
		waits = append(waits, asking(t.Context(), client, budget))
	}
	for range many {
		session.Acquire()
	}
	session.End(status.Error(codes.Internal, "broken"))
	session = server.Welcomed(t, false)
	reports, last := 0, uint64(0)
	for range 2 * many {
		switch item := session.Item().(type) {
		case *wire.ReportRequest:
			reports++
		case *wire.AcquireRequest:
			if item.RequestId <= last {
				t.Fatalf("%d after %d", item.RequestId, last)
			}
			last = item.RequestId
		default:
			t.Fatalf("%v", item)
		}
	}
	if reports != many {
		t.Errorf("%d reports", reports)
	}
	server.Rest()
	_ = client.Close()
	for _, wait := range waits {
		fake.Soon(t, wait)
	}
}

// Goal: a server that gives what nobody asked for, without end, and answers nothing, does not fill the client's memory.
func TestUnwantedGrantsAreBounded(t *testing.T) {
	const bound, batch = 100_000, 1_000
	client, session := connected(t, fake.Start(t), permitd.Options{})
	var last *wire.ReportRequest
	for start := 0; start < bound+batch; start += batch {
		response := new(wire.SessionResponse)
		for number := range batch {
			permit := &wire.Permit{PermitId: fmt.Sprint(start + number)}
			response.Granted = append(response.Granted, &wire.Granted{RequestId: 99, Permit: permit})
		}
		session.Say(response)
	}
	for range bound {
		last = session.Report()
	}
	waits := asking(t.Context(), client, budget)
	session.Settle(last, false)
	// Nothing of the last batch was given back, and there is room for one again.
	session.Grant(session.Acquire(), "wanted")
	fake.Soon(t, waits).guard.Cancel()
}
