package permitd_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	permitd "github.com/permitd/permitd/client/go"
	"github.com/permitd/permitd/client/go/internal/fake"
	"github.com/permitd/permitd/client/go/internal/real"
)

const slots = 4

var config = fmt.Sprintf("[budgets.\"api/prod\"]\nlimits = [\"in_flight=%d\"]\n", slots)

// Goal: with a real server, what is asked for is granted in turn, and what can't be is refused with the limit.
func TestRealServer(t *testing.T) {
	server := real.Start(t, "[budgets.\"api/prod\"]\nlimits = [\"in_flight=1\", \"tokens=18446744073709551615/1m\"]\n")
	client := connect(t, permitd.Options{Endpoints: []string{server.Endpoint()}})
	large := permitd.Usage{InputTokens: permitd.Of(9007199254740993), OutputTokens: permitd.Of(1)}
	first, err := client.Acquire(t.Context(), permitd.Request{Provider: "api", Key: "prod", Estimate: large})
	if err != nil {
		t.Fatal(err)
	}
	if charged := first.Permit().Charged; charged.Tokens != permitd.Of(9007199254740994) {
		t.Errorf("charged %+v", charged)
	}
	_, err = client.Acquire(t.Context(), permitd.Request{Provider: "api", Key: "prod", MaxWait: new(time.Duration(0))})
	var refusal *permitd.Error
	if !errors.As(err, &refusal) || refusal.Limit != "in_flight" || refusal.RetryAfter == nil || !errors.Is(err, permitd.ErrNotInTime) {
		t.Errorf("%+v", err)
	}
	waits := asking(t.Context(), client, budget)
	advice, err := first.Report(t.Context(), permitd.Report{Status: 503})
	if err != nil || advice.Outcome != permitd.Overloaded || !advice.Settled || !advice.Retry || advice.RetryAfter == nil {
		t.Errorf("%+v %v", advice, err)
	}
	fake.Soon(t, waits).guard.Close()
	_, err = client.Acquire(t.Context(), permitd.Request{Provider: "nobody", Key: "knows"})
	if !errors.As(err, &refusal) || refusal.Reason != "BUDGET_UNKNOWN" {
		t.Errorf("%v", err)
	}
}

// Goal: servers that are killed, and that are stopped in good order, and come again while much is going on: nobody gets an error, every
// permit is settled once, and in the end every slot is free. One that was lost would keep its slot for ten minutes.
func TestNothingIsLostWhenServersEnd(t *testing.T) {
	const callers, rounds, ends = 40, 25, 4
	server := real.Start(t, config)
	client := connect(t, permitd.Options{Endpoints: []string{server.Endpoint()}, OutageAfter: time.Minute})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rounded := make(chan struct{}, callers*rounds)
	var all sync.WaitGroup
	for caller := range callers {
		random := rand.New(rand.NewPCG(seed, uint64(caller)))
		all.Go(func() {
			for range rounds {
				round(t, client, random)
				rounded <- struct{}{}
			}
		})
	}
	for end := range ends {
		for range callers * rounds / (ends + 1) {
			<-rounded
		}
		if end%2 == 0 {
			server.Kill()
		} else {
			server.Stop()
		}
		server = server.Again()
	}
	all.Wait()
	var guards []*permitd.Guard
	for range slots {
		guard, err := client.Acquire(patience(t), budget)
		if err != nil {
			t.Fatalf("seed %d: a slot is not free: %v", seed, err)
		}
		guards = append(guards, guard)
	}
	if _, err := client.Acquire(t.Context(), permitd.Request{Provider: "api", Key: "prod", MaxWait: new(time.Duration(0))}); !errors.Is(err, permitd.ErrRefused) {
		t.Errorf("seed %d: more than there is: %v", seed, err)
	}
	for _, guard := range guards {
		guard.Close()
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

// Every way in which a request and its guard can end.
func round(t *testing.T, client *permitd.Client, random *rand.Rand) {
	ctx := context.Background()
	how := random.IntN(5)
	if how == 0 {
		cancelled, cancel := context.WithTimeout(ctx, time.Duration(random.IntN(2000))*time.Microsecond)
		defer cancel()
		ctx = cancelled
	}
	guard, err := client.Acquire(ctx, budget)
	if err != nil {
		if how != 0 || !errors.Is(err, permitd.ErrNotInTime) {
			t.Errorf("acquire: %v", err)
		}
		return
	}
	switch how {
	case 1:
		guard.Close()
	case 2:
		guard.Cancel()
	case 3:
		err = guard.ReportDetached(permitd.Report{Outcome: permitd.Success})
	default:
		_, err = guard.Report(context.Background(), permitd.Report{Outcome: permitd.Success})
	}
	if err != nil {
		t.Errorf("report: %v", err)
	}
}
