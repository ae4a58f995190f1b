package permitd_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	permitd "github.com/permitd/permitd/client/go"
	"github.com/permitd/permitd/client/go/internal/fake"
)

// No test leaves a goroutine behind, of the library or of its own.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// A client that is closed with the test.
func connect(t testing.TB, options permitd.Options) *permitd.Client {
	t.Helper()
	client, err := permitd.Connect(patience(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// A client and the session that a server by script has with it.
func connected(t testing.TB, server *fake.Server, options permitd.Options) (*permitd.Client, *fake.Session) {
	t.Helper()
	options.Endpoints = []string{server.Endpoint()}
	clients := make(chan *permitd.Client, 1)
	go func() {
		defer close(clients)
		client, err := permitd.Connect(patience(t), options)
		if err != nil {
			t.Error(err)
			return
		}
		clients <- client
	}()
	session := server.Welcomed(t, false)
	client := fake.Soon(t, clients)
	if client == nil {
		t.FailNow()
	}
	t.Cleanup(func() {
		server.Rest()
		_ = client.Close()
	})
	return client, session
}

// What has to be done by then; no measure of how fast it should be.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), fake.Patience)
	t.Cleanup(cancel)
	return ctx
}

var budget = permitd.Request{Provider: "api", Key: "prod"}

type acquired struct {
	guard *permitd.Guard
	err   error
}

// Asks, and waits beside the test.
func asking(ctx context.Context, client *permitd.Client, request permitd.Request) <-chan acquired {
	answers := make(chan acquired, 1)
	go func() {
		guard, err := client.Acquire(ctx, request)
		answers <- acquired{guard, err}
	}()
	return answers
}

// Asks, and is granted this permit.
func granted(t testing.TB, client *permitd.Client, session *fake.Session, permitID string) *permitd.Guard {
	t.Helper()
	answers := asking(t.Context(), client, budget)
	session.Grant(session.Acquire(), permitID)
	answer := fake.Soon(t, answers)
	if answer.err != nil {
		t.Fatal(answer.err)
	}
	return answer.guard
}
