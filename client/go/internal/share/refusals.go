package share

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/permitd/permitd/client/go/internal/wire"
)

// What a refusal says of who refused.
const bySelf = "(from this client's local share: no permitd server can be reached)"

func larger(rate *rate, amount uint64) *wire.Refused {
	message := fmt.Sprintf("%d %s are more than %s of the share ever holds (%d); wait for a server, or ask for less %s",
		amount, rate.unit, rate.name, rate.capacity(), bySelf)
	return &wire.Refused{Code: uint32(codes.OutOfRange), Reason: "LARGER_THAN_LIMIT", Message: message, Limit: rate.name}
}

func notInTime(wait time.Duration, limit string) *wire.Refused {
	message := fmt.Sprintf("not in time: held by %s; wait longer, or try again after %v %s", limit, wait, bySelf)
	return &wire.Refused{
		Code: uint32(codes.ResourceExhausted), Reason: "NOT_IN_TIME", Message: message, Limit: limit,
		RetryAfter: durationpb.New(max(wait, 0)),
	}
}

func (r *running) quotaExhausted(now time.Time) *wire.Refused {
	refused := &wire.Refused{
		Code: uint32(codes.ResourceExhausted), Reason: "QUOTA_EXHAUSTED",
		Message: "the provider said that credit or quota is used up; top it up " + bySelf,
	}
	if !r.exhaustedUntil.IsZero() {
		refused.RetryAfter = durationpb.New(r.exhaustedUntil.Sub(now))
	}
	return refused
}
