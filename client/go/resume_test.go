package permitd_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	permitd "github.com/permitd/permitd/client/go"
	"github.com/permitd/permitd/client/go/internal/fake"
	"github.com/permitd/permitd/client/go/internal/wire"
)

// Goal: a broken stream is resumed with the same id. What has no answer is sent again under the same ids, and a grant that is known
// already is not taken for a new one.
func TestBrokenSessionIsResumed(t *testing.T) {
	server := fake.Start(t)
	client, session := connected(t, server, permitd.Options{})
	held := granted(t, client, session, "held")
	reported := granted(t, client, session, "reported")
	advice := make(chan error, 1)
	go func() {
		_, err := reported.Report(t.Context(), permitd.Report{Outcome: permitd.Success})
		advice <- err
	}()
	report := session.Report()
	waits := asking(t.Context(), client, budget)
	ask := session.Acquire()
	id := session.Hello.SessionId
	session.End(status.Error(codes.Internal, "broken"))

	session = server.Welcomed(t, true)
	if session.Hello.SessionId != id {
		t.Errorf("%q and not %q", session.Hello.SessionId, id)
	}
	session.Grant(&wire.AcquireRequest{RequestId: 1}, "held")
	session.Grant(&wire.AcquireRequest{RequestId: 2}, "reported")
	var again *wire.ReportRequest
	for range 2 {
		switch item := session.Item().(type) {
		case *wire.ReportRequest:
			again = item
		case *wire.AcquireRequest:
			if item.RequestId != ask.RequestId {
				t.Errorf("asked again %v", item)
			}
		default:
			t.Errorf("%v", item)
		}
	}
	if again == nil || again.PermitId != report.PermitId || again.Outcome != report.Outcome {
		t.Fatalf("reported again %v", again)
	}
	session.Settle(again, false)
	if err := fake.Soon(t, advice); err != nil {
		t.Error(err)
	}
	session.Grant(ask, "third")
	third := fake.Soon(t, waits).guard
	// Had the repeated grants been taken for new ones, they would have been given back before this.
	held.Cancel()
	if report := session.Report(); report.PermitId != "held" {
		t.Errorf("reported %v", report)
	}
	third.Close()
}

// Goal: a server that has forgotten everything is asked for it again, in order, and not told of what is not wanted any more.
func TestForgottenSessionIsAskedAgain(t *testing.T) {
	server := fake.Start(t)
	client, session := connected(t, server, permitd.Options{OutageAfter: time.Hour})
	first := asking(t.Context(), client, budget)
	asked := session.Acquire().RequestId
	ctx, cancel := context.WithCancel(t.Context())
	second := asking(ctx, client, budget)
	session.Acquire()
	server = fake.StartAt(t, server.Kill())
	cancel()
	fake.Soon(t, second)

	session = server.Welcomed(t, false)
	ask := session.Acquire()
	if ask.RequestId != asked {
		t.Errorf("asked again %v", ask)
	}
	session.Grant(ask, "p1")
	fake.Soon(t, first).guard.Cancel()
	if report := session.Report(); report.PermitId != "p1" {
		t.Errorf("reported %v", report)
	}
	server.Rest()
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

// Goal: a cancel that was perhaps lost with the stream is said again.
func TestLostCancelIsSaidAgain(t *testing.T) {
	server := fake.Start(t)
	client, session := connected(t, server, permitd.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	answers := asking(ctx, client, budget)
	ask := session.Acquire()
	cancel()
	fake.Soon(t, answers)
	session.Cancel()
	session.End(status.Error(codes.Internal, "broken"))
	session = server.Welcomed(t, true)
	if id := session.Cancel(); id != ask.RequestId {
		t.Errorf("cancelled %d", id)
	}
}

// Goal: a server that is about to stop keeps its reports, and its requests go to the next one, without an error for anybody.
func TestDrainingServerIsLeftForAnother(t *testing.T) {
	one, other := fake.Start(t), fake.Start(t)
	clients := make(chan *permitd.Client, 1)
	go func() {
		client, err := permitd.Connect(t.Context(), permitd.Options{Endpoints: []string{one.Endpoint(), other.Endpoint()}})
		if err != nil {
			t.Error(err)
		}
		clients <- client
	}()
	session := one.Welcomed(t, false)
	client := fake.Soon(t, clients)
	defer client.Close()
	defer other.Rest()
	guard := granted(t, client, session, "p1")
	advice := make(chan error, 1)
	go func() {
		_, err := guard.Report(t.Context(), permitd.Report{Outcome: permitd.Success})
		advice <- err
	}()
	report := session.Report()
	waits := asking(t.Context(), client, budget)
	ask := session.Acquire()
	session.Refuse(&wire.Refused{RequestId: ask.RequestId, Code: 14, Reason: "DRAINING"})
	session.Settle(report, false)
	if err := fake.Soon(t, advice); err != nil {
		t.Error(err)
	}
	session = other.Welcomed(t, false)
	again := session.Acquire()
	if again.RequestId != ask.RequestId {
		t.Errorf("asked again %v", again)
	}
	session.Grant(again, "p2")
	fake.Soon(t, waits).guard.Cancel()
}

// Goal: an endpoint where nobody listens does not keep a client from the others.
func TestDeadEndpointIsPassedOver(t *testing.T) {
	server := fake.Start(t)
	clients := make(chan error, 1)
	go func() {
		client, err := permitd.Connect(patience(t), permitd.Options{Endpoints: []string{closedPort(t), server.Endpoint()}})
		if err == nil {
			err = client.Close()
		}
		clients <- err
	}()
	session := server.Welcomed(t, false)
	session.Item()
	session.End(nil)
	if err := fake.Soon(t, clients); err != nil {
		t.Error(err)
	}
}

// Goal: what is not permitd is called so, at once and by its address, however long outages are waited out.
func TestWhatIsNotPermitdIsCalledSo(t *testing.T) {
	says := func(endpoint, what string) {
		t.Helper()
		_, err := permitd.Connect(patience(t), permitd.Options{Endpoints: []string{endpoint}, OutageAfter: time.Hour})
		if !errors.Is(err, permitd.ErrUnavailable) || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), endpoint) {
			t.Errorf("%v does not say %q of %s", err, what, endpoint)
		}
	}
	says("http://"+serve(t, func(socket net.Conn) {
		_, _ = socket.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
	}), "not a permitd server")

	empty := grpc.NewServer()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = empty.Serve(listener) }()
	defer empty.Stop()
	says("http://"+listener.Addr().String(), "not a permitd server")

	dumb := fake.Start(t)
	go func() { dumb.Opened(t).Say(new(wire.SessionResponse)) }()
	says(dumb.Endpoint(), "answered without a Welcome")
}

// Goal: a server that answers in garbage, or not at all, is an error in words, and no hang and no storm of attempts.
func TestGarbageIsNoHang(t *testing.T) {
	attempts := make(chan struct{}, 10_000)
	for _, answer := range []string{"\x00\x00\x04\x04\x00\x00\x00\x00\x00\xff\xff\xff\xff", strings.Repeat("\x00", 64), ""} {
		endpoint := "http://" + serve(t, func(socket net.Conn) {
			attempts <- struct{}{}
			_, _ = socket.Write([]byte(answer))
			_, _ = socket.Read(make([]byte, 1024))
		})
		_, err := permitd.Connect(patience(t), permitd.Options{
			Endpoints: []string{endpoint}, OutageAfter: 500 * time.Millisecond, ConnectTimeout: 100 * time.Millisecond,
		})
		if !errors.Is(err, permitd.ErrUnavailable) || !strings.Contains(err.Error(), endpoint) {
			t.Errorf("%q: %v", answer, err)
		}
	}
	// Without a backoff there would be thousands.
	if len(attempts) > 300 {
		t.Errorf("%d attempts", len(attempts))
	}
}

// Goal: a token that expires in mid-session is shown anew, as its file has it by then; once there is no better one, callers are told.
func TestExpiredTokenIsReadAnew(t *testing.T) {
	server := fake.Start(t)
	file := filepath.Join(t.TempDir(), "token")
	renew := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	renew("old")
	client, session := connected(t, server, permitd.Options{TokenFile: file})
	if session.Authorization != "Bearer old" {
		t.Errorf("shown %q", session.Authorization)
	}
	renew("new")
	expired := status.Error(codes.Unauthenticated, "the token has expired")
	session.End(expired)
	session = server.Welcomed(t, true)
	if session.Authorization != "Bearer new" {
		t.Errorf("shown %q", session.Authorization)
	}
	session.End(expired)
	server.Opened(t).End(expired)
	_, err := client.Acquire(t.Context(), budget)
	if !errors.Is(err, permitd.ErrUnavailable) || !strings.Contains(err.Error(), "the token has expired") {
		t.Errorf("%v", err)
	}
}

// Listens until the test ends, and does this with everybody who comes.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			socket, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer socket.Close()
				_ = socket.SetDeadline(time.Now().Add(fake.Patience))
				handle(socket)
			}()
		}
	}()
	return listener.Addr().String()
}

// An address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "http://" + listener.Addr().String()
}
