package permitd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/permitd/permitd/client/go/internal/wire"
)

// Error says why there is no permit, or no answer to a report. Get it with [errors.As]; ask what kind it is with [errors.Is] and one of
// the variables below.
type Error struct {
	// The gRPC code that the server gave, or would have given.
	Code codes.Code
	// The stable name in UPPER_SNAKE_CASE, for example QUEUE_FULL or BUDGET_UNKNOWN.
	Reason string
	// For people; says what to do.
	Message string
	// The limit that refused, for example "tokens/1m", if one did.
	Limit string
	// When asking again may help; nil means never, or not known.
	RetryAfter *time.Duration

	kind  error
	cause error
}

var (
	// ErrRefused: somebody who was asked said no, the server or the local share in its place.
	ErrRefused = errors.New("permitd: refused")
	// ErrNotInTime: the time that the caller gave was not enough. If the server knows that a grant can't come in time, the error is
	// ErrRefused as well; if the context's deadline passed, it is context.DeadlineExceeded as well.
	ErrNotInTime = errors.New("permitd: not in time")
	// ErrUnavailable: no server could be asked, and the outage policy does not stand in for it.
	ErrUnavailable = errors.New("permitd: no server can be reached")
	// ErrInvalid: the request itself, or an option, makes no sense; the message names the field as the wire and the other clients spell
	// it. Asking again is of no use.
	ErrInvalid = errors.New("permitd: invalid")
	// ErrImpossible: the request asks for more than the limit ever holds. Asking again is of no use.
	ErrImpossible = errors.New("permitd: larger than the limit")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("permitd: closed")
)

// Reasons that the client gives itself, or looks for; all others come from the server.
const (
	reasonNotInTime     = "NOT_IN_TIME"
	reasonImpossible    = "LARGER_THAN_LIMIT"
	reasonDraining      = "DRAINING"
	reasonPermitUnknown = "PERMIT_UNKNOWN"
	reasonClientFull    = "CLIENT_FULL"
	reasonDeadline      = "DEADLINE_EXCEEDED"
	reasonCancelled     = "CANCELLED"
	reasonInvalid       = "INVALID_ARGUMENT"
	reasonNoServer      = "NO_SERVER"
	reasonNoLocalShare  = "NO_LOCAL_SHARE"
	reasonClientClosed  = "CLIENT_CLOSED"
	reasonReportPending = "REPORT_PENDING"
)

// Error is the message.
func (e *Error) Error() string {
	switch {
	case e.Message != "":
		return "permitd: " + e.Message
	case e.Limit != "":
		return fmt.Sprintf("permitd: refused by %s: %s", e.Limit, e.Reason)
	default:
		return "permitd: refused: " + e.Reason
	}
}

// Is answers [errors.Is] for the variables of this package.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotInTime:
		return e.kind == ErrNotInTime || e.Reason == reasonNotInTime
	case ErrImpossible:
		return e.Reason == reasonImpossible
	default:
		return e.kind == target
	}
}

// Unwrap gives the context's error where that ended the wait.
func (e *Error) Unwrap() error {
	return e.cause
}

func invalid(field, problem string, details ...any) *Error {
	message := field + ": " + fmt.Sprintf(problem, details...)
	return &Error{Code: codes.InvalidArgument, Reason: reasonInvalid, Message: message, kind: ErrInvalid}
}

func errContext(cause error) *Error {
	if errors.Is(cause, context.DeadlineExceeded) {
		message := "the context's deadline passed before the call was through; allow more time"
		return &Error{Code: codes.DeadlineExceeded, Reason: reasonDeadline, Message: message, kind: ErrNotInTime, cause: cause}
	}
	return &Error{Code: codes.Canceled, Reason: reasonCancelled, Message: "the context was cancelled", cause: cause}
}

func errNoAnswerInTime() *Error {
	message := "MaxWait passed without an answer from the server; try again later or wait longer (MaxWait)"
	return &Error{Code: codes.ResourceExhausted, Reason: reasonNotInTime, Message: message, kind: ErrNotInTime}
}

func errClientFull(waitingMax int) *Error {
	message := fmt.Sprintf("%d requests of this client wait already and none left in time; slow down, allow more time (MaxWait), "+
		"or raise Options.WaitingMax", waitingMax)
	return &Error{Code: codes.ResourceExhausted, Reason: reasonClientFull, Message: message, kind: ErrRefused}
}

// `problem` is the last thing that went wrong while connecting.
func errNoServer(problem string) *Error {
	message := fmt.Sprintf("no permitd server can be reached: %s; check the endpoints and that `permitd serve` runs", problem)
	return &Error{Code: codes.Unavailable, Reason: reasonNoServer, Message: message, kind: ErrUnavailable}
}

func errReportKept(problem string) *Error {
	message := fmt.Sprintf("the report has no answer yet: %s; it is kept and sent as soon as a server can be reached", problem)
	return &Error{Code: codes.Unavailable, Reason: reasonNoServer, Message: message, kind: ErrUnavailable}
}

func errNoLocalShare(budget, problem string) *Error {
	message := fmt.Sprintf("no permitd server can be reached (%s), and there is no valid local share of %s; shares come with the use "+
		"of a budget, for the time that the server says", problem, budget)
	return &Error{Code: codes.Unavailable, Reason: reasonNoLocalShare, Message: message, kind: ErrUnavailable}
}

func errClosed() *Error {
	message := "the client was closed; connect a new one"
	return &Error{Code: codes.FailedPrecondition, Reason: reasonClientClosed, Message: message, kind: ErrClosed}
}

func errReportsPending(reports int) *Error {
	message := fmt.Sprintf("%d reports had no answer when the client was closed; their permits settle when they expire", reports)
	return &Error{Code: codes.Unavailable, Reason: reasonReportPending, Message: message, kind: ErrUnavailable}
}

// The server's refusal of an acquire or a report.
func errRefused(refused *wire.Refused) *Error {
	err := &Error{
		Code:    codes.Code(refused.Code),
		Reason:  refused.Reason,
		Message: refused.Message,
		Limit:   refused.Limit,
		kind:    ErrRefused,
	}
	if err.Code == codes.InvalidArgument {
		err.kind = ErrInvalid
	}
	if refused.RetryAfter != nil {
		err.RetryAfter = new(span(refused.RetryAfter))
	}
	return err
}
