package permitd

import (
	"net"
	"net/url"
	"strings"
	"time"
)

// Version is this library's; what the server's operator sees of a client by default.
const Version = "0.1.0"

// OutagePolicy is what becomes of requests while no server can be reached.
type OutagePolicy int

const (
	// FailClosed: they fail with an error that is [ErrUnavailable].
	FailClosed OutagePolicy = iota
	// FailOpen: they are granted without any limit; [Permit.Source] is [Unmanaged].
	FailOpen
	// LocalShare: they are granted from a safe share of the budget that the server sent ahead of time, so that all clients together
	// stay within the limits. Without a valid share, as FailClosed.
	LocalShare
)

// Options is everything that can be set about a [Client]. Only Endpoints is needed.
type Options struct {
	// Servers, as http://HOST:PORT or https://HOST:PORT; tried in this order.
	Endpoints []string
	// Whom to trust, and what to show, where endpoints are https://. nil: the system's authorities, and nothing.
	TLS *TLS
	// Says who this client is. It is not sent in the clear to other machines, but with Insecure.
	Token string
	// A file that holds the token, read anew for every connection, so that it can be renewed. In place of Token.
	TokenFile string
	// Sends the token to http:// endpoints on other machines too, where whoever is on the way can read it.
	Insecure bool
	// Who shares the budgets: the tenant of requests that name none. Use one per service, team or job.
	Tenant string
	// What the server's operator sees of this client. Default: this library and its version.
	Name string
	// What becomes of requests while no server can be reached. Default: FailClosed.
	Outage OutagePolicy
	// How long no server can be reached before the outage policy takes over; until then requests wait. Default: 3 s. Shorter than a
	// server's restart, callers notice each of them.
	OutageAfter time.Duration
	// How long one attempt to open a session may take. Default: 2 s.
	ConnectTimeout time.Duration
	// How often a silent connection is probed; one that gives no answer for half of that again is given up. At least 10 s, which
	// gRPC for Go insists on, and the default.
	Keepalive time.Duration
	// How many requests may be on their way or in a queue at a time; more wait inside the client. Default: 10,000, which is the
	// server's own bound for a session.
	WaitingMax int
}

const keepaliveMin = 10 * time.Second

// A server's address, as far as it is known without looking at files.
type endpoint struct {
	text   string
	host   string
	port   string
	secure bool
}

func (e endpoint) address() string {
	return net.JoinHostPort(e.host, e.port)
}

// What Connect was given, checked and with its defaults.
type settings struct {
	Options
	endpoints []endpoint
}

func (o Options) check() (*settings, *Error) {
	if len(o.Endpoints) == 0 {
		return nil, invalid("endpoints", "none given; the default server is http://127.0.0.1:7110")
	}
	for _, name := range []struct{ field, text string }{{"tenant", o.Tenant}, {"name", o.Name}} {
		if err := checkName(name.field, name.text); err != nil {
			return nil, err
		}
	}
	for _, given := range []struct {
		field string
		span  time.Duration
	}{{"outage_after", o.OutageAfter}, {"connect_timeout", o.ConnectTimeout}, {"keepalive", o.Keepalive}} {
		if given.span < 0 {
			return nil, invalid(given.field, "%v is negative", given.span)
		}
	}
	if o.Outage < FailClosed || o.Outage > LocalShare {
		return nil, invalid("outage", "%d is none of FailClosed, FailOpen, LocalShare", o.Outage)
	}
	if o.WaitingMax < 0 {
		return nil, invalid("waiting_max", "%d is negative", o.WaitingMax)
	}
	if o.Keepalive > 0 && o.Keepalive < keepaliveMin {
		return nil, invalid("keepalive", "%v is less than %v, the least that gRPC for Go takes", o.Keepalive, keepaliveMin)
	}
	o.setDefaults()
	checked := &settings{Options: o}
	for _, text := range o.Endpoints {
		endpoint, err := parseEndpoint(text)
		if err != nil {
			return nil, err
		}
		// Files may change, so this is done again for every connection; what is wrong by now is better told now.
		if _, err := o.credentialsFor(endpoint); err != nil {
			return nil, err
		}
		checked.endpoints = append(checked.endpoints, endpoint)
	}
	return checked, nil
}

func (o *Options) setDefaults() {
	orDefault(&o.Name, "permitd-client-go/"+Version)
	orDefault(&o.OutageAfter, 3*time.Second)
	orDefault(&o.ConnectTimeout, 2*time.Second)
	orDefault(&o.Keepalive, keepaliveMin)
	orDefault(&o.WaitingMax, 10_000)
}

func orDefault[T comparable](field *T, value T) {
	var unset T
	if *field == unset {
		*field = value
	}
}

func parseEndpoint(text string) (endpoint, *Error) {
	whole := text
	if !strings.Contains(text, "://") {
		whole = "http://" + text
	}
	address, err := url.Parse(whole)
	scheme := ""
	if err == nil && address.Hostname() != "" {
		scheme = address.Scheme
	}
	port := map[string]string{"http": "80", "https": "443"}[scheme]
	if port == "" {
		return endpoint{}, invalid("endpoints", "%.100q is no address; write http://HOST:PORT", text)
	}
	if address.Port() != "" {
		port = address.Port()
	}
	return endpoint{text: text, host: address.Hostname(), port: port, secure: scheme == "https"}, nil
}
