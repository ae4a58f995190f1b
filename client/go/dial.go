package permitd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/permitd/permitd/client/go/internal/wire"
)

const (
	// Bytes of one answer. The server bounds its own.
	responseBytesMax = 16 * 1024 * 1024
	// Room for what is in flight on the one stream and its connection.
	windowBytes = 4 * 1024 * 1024
)

// stream is a session that was welcomed, on one connection of its own.
type stream struct {
	wire.PermitService_SessionClient
	connection *grpc.ClientConn
	// Ends the stream at once: broken, and not politely ended.
	abandon context.CancelCauseFunc
	ctx     context.Context
	// The first message, which holds the welcome and perhaps more.
	first *wire.SessionResponse
}

// problem is why there is no stream (any more), in words that follow the endpoint's name.
type problem struct {
	text string
	// Trying the same endpoint again will not help by itself.
	definitive bool
	// The server asks to be left alone.
	elsewhere bool
}

func (p *problem) Error() string {
	return p.text
}

func passing(format string, details ...any) *problem {
	return &problem{text: fmt.Sprintf(format, details...)}
}

func definitive(format string, details ...any) *problem {
	return &problem{text: fmt.Sprintf(format, details...), definitive: true}
}

// Opens a session on one endpoint. Who gets a stream has to close it.
func dial(ctx context.Context, settings *settings, endpoint endpoint, hello *wire.Hello) (*stream, *problem) {
	ctx, abandon := context.WithCancelCause(ctx)
	patience := settings.ConnectTimeout
	tired := time.AfterFunc(patience, func() { abandon(passing("does not answer within %v", patience)) })
	opened, problem := open(ctx, abandon, settings, endpoint, hello)
	if !tired.Stop() && problem == nil {
		opened.close()
		problem = causeOf(ctx)
	}
	if problem != nil {
		if cause := causeOf(ctx); cause != nil {
			problem = cause
		}
		abandon(nil)
		problem.text = endpoint.text + " " + problem.text
		return nil, problem
	}
	return opened, nil
}

func open(
	ctx context.Context, abandon context.CancelCauseFunc, settings *settings, endpoint endpoint, hello *wire.Hello,
) (*stream, *problem) {
	secured, err := settings.credentialsFor(endpoint)
	if err != nil {
		return nil, definitive("can't be connected to: %s", err.Message)
	}
	signed, err := settings.sign(ctx)
	if err != nil {
		return nil, definitive("can't be connected to: %s", err.Message)
	}
	// Connected by the first call, and given up with it: when to try again is decided here. A proxy from the environment is for the web.
	connection, failed := grpc.NewClient("passthrough:///"+endpoint.address(),
		grpc.WithTransportCredentials(secured),
		grpc.WithNoProxy(), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithDisableHealthCheck(),
		grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(windowBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(responseBytesMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: settings.Keepalive, Timeout: settings.Keepalive / 2, PermitWithoutStream: true,
		}))
	if failed != nil {
		return nil, definitive("can't be connected to: %v", failed)
	}
	opened := &stream{connection: connection, ctx: ctx, abandon: abandon}
	if problem := opened.greet(signed, endpoint, hello); problem != nil {
		opened.close()
		return nil, problem
	}
	return opened, nil
}

func (s *stream) greet(ctx context.Context, endpoint endpoint, hello *wire.Hello) *problem {
	calling, err := wire.NewPermitServiceClient(s.connection).Session(ctx)
	if err != nil {
		return refused(ctx, endpoint, err)
	}
	s.PermitService_SessionClient = calling
	// Where sending fails, receiving says why.
	_ = calling.Send(&wire.SessionRequest{Hello: hello})
	first, err := calling.Recv()
	if errors.Is(err, io.EOF) {
		return passing("ended the session at once")
	}
	if err != nil {
		return refused(ctx, endpoint, err)
	}
	if first.Welcome == nil {
		return definitive("answered without a Welcome: not permitd, or not this version")
	}
	s.first = first
	return nil
}

func (s *stream) close() {
	s.abandon(nil)
	// Of a connection that is given up there is nothing to hear.
	_ = s.connection.Close()
}

// Why this program gave the stream up, if it did.
func causeOf(ctx context.Context) *problem {
	var own *problem
	if errors.As(context.Cause(ctx), &own) {
		// Each is told of once, with the endpoint's name put before it.
		return &problem{text: own.text, definitive: own.definitive, elsewhere: own.elsewhere}
	}
	return nil
}

// Reads how a stream ended.
func problemOf(err error) *problem {
	told := status.Convert(err)
	switch told.Code() {
	case codes.Unavailable:
		return &problem{text: fmt.Sprintf("is unavailable (%s)", told.Message()), elsewhere: true}
	case codes.Unimplemented:
		return definitive("speaks gRPC but has no permit service: it is not a permitd server (%s)", told.Message())
	case codes.Unauthenticated, codes.PermissionDenied:
		return definitive("does not let this client in: %s", told.Message())
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return definitive("refused the session: %s", told.Message())
	default:
		return passing("broke the session (%v: %s)", told.Code(), told.Message())
	}
}

// How a session ended that was let in. A token that expired since may have been renewed.
func midway(err error) *problem {
	problem := problemOf(err)
	problem.definitive = problem.definitive && status.Code(err) != codes.Unauthenticated
	return problem
}

// Why there is no session. Most of what is not permitd breaks the connection off, as a server that is killed does; it takes another look
// to tell them apart.
func refused(ctx context.Context, endpoint endpoint, err error) *problem {
	problem := problemOf(err)
	if !problem.definitive && !endpoint.secure && speaksInText(ctx, endpoint) {
		return definitive("does not speak HTTP/2, so it is not a permitd server; check the port")
	}
	return problem
}

// Whether the peer answers an HTTP/1 request with text, or greets with it. HTTP/2 speaks in frames, which begin with the high byte of a
// length: a zero.
func speaksInText(ctx context.Context, endpoint endpoint) bool {
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "tcp", endpoint.address())
	if err != nil {
		return false
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(socket, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return false
	}
	var first [1]byte
	_, err = io.ReadFull(socket, first[:])
	return err == nil && first[0] > ' ' && first[0] <= '~'
}
