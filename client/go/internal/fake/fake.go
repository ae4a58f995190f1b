// Package fake is a permitd server by script, for tests: it says what the test says, and hands out what clients say item by item.
package fake

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/permitd/permitd/client/go/internal/wire"
)

// Patience is how long tests wait for what has to come. It says nothing about how fast that should be.
const Patience = 20 * time.Second

// Items that a client may be ahead of the test.
const itemsMax = 200_000

// The server's bounds on one message.
const (
	acquiresMax = 1_000
	cancelsMax  = 10_000
	bytesMax    = 4 * 1024 * 1024
)

// Server is one that listens until the test ends or it is killed.
type Server struct {
	wire.UnimplementedPermitServiceServer
	address  string
	grpc     *grpc.Server
	sessions chan *Session
	// Closed when the script is over.
	rest     chan struct{}
	restOnce sync.Once
}

// Session is one stream of a client, from its Hello on.
type Session struct {
	Hello *wire.Hello
	// What the client showed, empty if nothing.
	Authorization string

	t testing.TB
	// *wire.AcquireRequest, *wire.ReportRequest, Cancel, Extend or HalfClose.
	items chan any
	out   chan *wire.SessionResponse
	end   chan error
	ended chan struct{}

	mu      sync.Mutex
	reports []string
}

// Cancel is a request that a client takes back; Extend a permit that needs another ttl; HalfClose the client's polite end.
type (
	Cancel    uint64
	Extend    string
	HalfClose struct{}
)

// Start listens on a free port of this machine.
func Start(t testing.TB) *Server {
	return StartAt(t, "127.0.0.1:0")
}

// StartAt listens on an address that is free.
func StartAt(t testing.TB, address string) *Server {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	// As permitd, it takes whatever probes there are.
	probes := grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true})
	server := &Server{
		address: listener.Addr().String(), grpc: grpc.NewServer(probes), sessions: make(chan *Session, 16), rest: make(chan struct{}),
	}
	wire.RegisterPermitServiceServer(server.grpc, server)
	served := make(chan error, 1)
	go func() { served <- server.grpc.Serve(listener) }()
	t.Cleanup(func() {
		server.grpc.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return server
}

// Endpoint is where clients find it.
func (s *Server) Endpoint() string { return "http://" + s.address }

// Kill breaks every connection, and gives the address that is free now.
func (s *Server) Kill() string {
	s.grpc.Stop()
	return s.address
}

// Session is what gRPC calls.
func (s *Server) Session(stream grpc.BidiStreamingServer[wire.SessionRequest, wire.SessionResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	session := &Session{
		Hello: first.Hello, Authorization: strings.Join(metadata.ValueFromIncomingContext(stream.Context(), "authorization"), ","),
		items: make(chan any, itemsMax), out: make(chan *wire.SessionResponse), end: make(chan error, 1), ended: make(chan struct{}),
	}
	defer close(session.ended)
	s.sessions <- session
	go session.read(stream)
	for {
		select {
		case response := <-session.out:
			if err := stream.Send(response); err != nil {
				return err
			}
		case err := <-session.end:
			return err
		case <-s.rest:
			return session.settleRest(stream)
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func (s *Session) read(stream grpc.BidiStreamingServer[wire.SessionRequest, wire.SessionResponse]) {
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			s.items <- HalfClose{}
		}
		if err != nil {
			return
		}
		if len(request.Acquire) > acquiresMax || len(request.Cancel) > cancelsMax || proto.Size(request) > bytesMax {
			// As the server does.
			s.end <- status.Error(codes.InvalidArgument, "the message is too large")
			return
		}
		for _, report := range request.Report {
			s.mu.Lock()
			s.reports = append(s.reports, report.PermitId)
			s.mu.Unlock()
			s.items <- report
		}
		for _, id := range request.Extend {
			s.items <- Extend(id)
		}
		for _, ask := range request.Acquire {
			s.items <- ask
		}
		for _, id := range request.Cancel {
			s.items <- Cancel(id)
		}
	}
}

// Rest ends the script: every report is answered, and clients are let go politely.
func (s *Server) Rest() {
	s.restOnce.Do(func() { close(s.rest) })
}

func (s *Session) settleRest(stream grpc.BidiStreamingServer[wire.SessionRequest, wire.SessionResponse]) error {
	for {
		s.mu.Lock()
		settled := new(wire.SessionResponse)
		for _, id := range s.reports {
			settled.Reported = append(settled.Reported, &wire.ReportResponse{PermitId: id, Settled: true})
		}
		s.reports = nil
		s.mu.Unlock()
		if err := stream.Send(settled); err != nil {
			return err
		}
		select {
		case item := <-s.items:
			if item == (HalfClose{}) {
				return nil
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// Opened is the next session, which has no welcome yet.
func (s *Server) Opened(t testing.TB) *Session {
	t.Helper()
	session := Soon(t, s.sessions)
	session.t = t
	return session
}

// Welcomed is the next session, welcomed.
func (s *Server) Welcomed(t testing.TB, resumed bool) *Session {
	t.Helper()
	session := s.Opened(t)
	session.Say(&wire.SessionResponse{Welcome: &wire.Welcome{
		SessionId: session.Hello.SessionId, Resumed: resumed, Grace: durationpb.New(10 * time.Second),
	}})
	return session
}

// Say sends a message.
func (s *Session) Say(response *wire.SessionResponse) {
	s.t.Helper()
	select {
	case s.out <- response:
	case <-s.ended:
		s.t.Fatal("the session has ended")
	case <-time.After(Patience):
		s.t.Fatal("nobody reads")
	}
}

// End ends the stream with this status; nil is a polite end.
func (s *Session) End(err error) {
	s.end <- err
}

// Item is what the client says next.
func (s *Session) Item() any {
	s.t.Helper()
	return Soon(s.t, s.items)
}

// Acquire is the next item, which has to be one.
func (s *Session) Acquire() *wire.AcquireRequest {
	s.t.Helper()
	return itemOf[*wire.AcquireRequest](s)
}

// Report is the next item, which has to be one.
func (s *Session) Report() *wire.ReportRequest {
	s.t.Helper()
	return itemOf[*wire.ReportRequest](s)
}

// Cancel is the next item, which has to be one.
func (s *Session) Cancel() uint64 {
	s.t.Helper()
	return uint64(itemOf[Cancel](s))
}

func itemOf[T any](s *Session) T {
	s.t.Helper()
	item := s.Item()
	wanted, ok := item.(T)
	if !ok {
		s.t.Fatalf("%T %v, and not %T", item, item, wanted)
	}
	return wanted
}

// Grant gives a permit with a ttl of ten minutes.
func (s *Session) Grant(ask *wire.AcquireRequest, permitID string) {
	s.t.Helper()
	s.GrantFor(ask, permitID, 10*time.Minute)
}

// GrantFor gives a permit with this ttl.
func (s *Session) GrantFor(ask *wire.AcquireRequest, permitID string, ttl time.Duration) {
	s.t.Helper()
	permit := &wire.Permit{PermitId: permitID, Provider: ask.Provider, Key: ask.Key, Ttl: durationpb.New(ttl)}
	s.Say(&wire.SessionResponse{Granted: []*wire.Granted{{RequestId: ask.RequestId, Permit: permit}}})
}

// Settle answers a report.
func (s *Session) Settle(report *wire.ReportRequest, retry bool) {
	s.t.Helper()
	outcome := report.Outcome
	if outcome == wire.Outcome_OUTCOME_UNSPECIFIED {
		outcome = wire.Outcome_OUTCOME_RATE_LIMITED
	}
	s.Say(&wire.SessionResponse{Reported: []*wire.ReportResponse{{
		PermitId: report.PermitId, Outcome: outcome, Settled: true, Retry: retry,
	}}})
}

// Refuse refuses a request, a report or an extension.
func (s *Session) Refuse(refused *wire.Refused) {
	s.t.Helper()
	s.Say(&wire.SessionResponse{Refused: []*wire.Refused{refused}})
}

// Soon is what comes over the channel.
func Soon[T any](t testing.TB, channel <-chan T) T {
	t.Helper()
	select {
	case item := <-channel:
		return item
	case <-time.After(Patience):
		t.Fatal("it does not come")
		panic("unreachable")
	}
}
