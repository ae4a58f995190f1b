package main

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	permitd "github.com/permitd/permitd/client/go"
)

// command is any command; each has some of these.
type command struct {
	Op string `json:"op"`
	ID string `json:"id"`

	Endpoints   []string `json:"endpoints"`
	CA          string   `json:"ca"`
	Token       string   `json:"token"`
	TokenFile   string   `json:"token_file"`
	Outage      string   `json:"outage"`
	OutageAfter *int64   `json:"outage_after_ms"`
	ConnectTime *int64   `json:"connect_timeout_ms"`
	Keepalive   *int64   `json:"keepalive_ms"`

	Provider string     `json:"provider"`
	Key      string     `json:"key"`
	Model    string     `json:"model"`
	Tenant   string     `json:"tenant"`
	Priority string     `json:"priority"`
	Usage    *units     `json:"usage"`
	Tokens   *string    `json:"tokens"`
	MaxWait  *int64     `json:"max_wait_ms"`
	Deadline *int64     `json:"deadline_ms"`
	Count    int        `json:"count"`
	Answers  []reported `json:"answers"`
	Attempts int        `json:"attempts"`
	URL      string     `json:"url"`
	Method   string     `json:"method"`
	Body     *string    `json:"body"`

	Outcome    string            `json:"outcome"`
	Status     *int              `json:"status"`
	Headers    map[string]string `json:"headers"`
	RetryAfter *int64            `json:"retry_after_ms"`
}

// reported is what a call came to.
type reported struct {
	Outcome    string            `json:"outcome"`
	Tokens     *string           `json:"tokens"`
	Usage      *units            `json:"usage"`
	Status     *int              `json:"status"`
	Headers    map[string]string `json:"headers"`
	Body       *string           `json:"body"`
	RetryAfter *int64            `json:"retry_after_ms"`
	Raises     bool              `json:"raises"`
}

// units is amounts by the wire's names.
type units struct {
	Requests          *string           `json:"requests"`
	Tokens            *string           `json:"tokens"`
	InputTokens       *string           `json:"input_tokens"`
	OutputTokens      *string           `json:"output_tokens"`
	MaxOutputTokens   *string           `json:"max_output_tokens"`
	CachedInputTokens *string           `json:"cached_input_tokens"`
	Other             map[string]string `json:"other"`
}

// The least that gRPC for Go probes by.
const keepaliveMin = 10 * time.Second

var outages = map[string]permitd.OutagePolicy{
	"": permitd.FailClosed, "fail_closed": permitd.FailClosed, "fail_open": permitd.FailOpen, "local_share": permitd.LocalShare,
}

var priorities = map[string]permitd.Priority{
	"": permitd.Standard, "standard": permitd.Standard, "interactive": permitd.Interactive, "batch": permitd.Batch,
}

func (c *command) options() (permitd.Options, error) {
	outage, known := outages[c.Outage]
	if !known {
		return permitd.Options{}, fmt.Errorf("outage: %q is none", c.Outage)
	}
	options := permitd.Options{
		Endpoints: c.Endpoints, Token: c.Token, TokenFile: c.TokenFile, Tenant: c.Tenant, Outage: outage,
	}
	if c.CA != "" {
		options.TLS = &permitd.TLS{CAFile: c.CA}
	}
	if c.OutageAfter != nil {
		options.OutageAfter = milliseconds(*c.OutageAfter)
	}
	if c.ConnectTime != nil {
		options.ConnectTimeout = milliseconds(*c.ConnectTime)
	}
	if c.Keepalive != nil {
		options.Keepalive = max(milliseconds(*c.Keepalive), keepaliveMin)
	}
	return options, nil
}

func (c *command) request() (permitd.Request, error) {
	priority, known := priorities[c.Priority]
	if !known {
		return permitd.Request{}, fmt.Errorf("priority: %q is none", c.Priority)
	}
	request := permitd.Request{Provider: c.Provider, Key: c.Key, Model: c.Model, Tenant: c.Tenant, Priority: priority}
	var err error
	if request.Estimate, err = usage(c.Tokens, c.Usage); err != nil {
		return permitd.Request{}, err
	}
	if c.MaxWait != nil {
		request.MaxWait = new(milliseconds(*c.MaxWait))
	}
	return request, nil
}

func (c *command) report() (permitd.Report, error) {
	said := reported{
		Outcome: c.Outcome, Tokens: c.Tokens, Usage: c.Usage, Status: c.Status, Headers: c.Headers, Body: c.Body,
		RetryAfter: c.RetryAfter,
	}
	return said.report()
}

func (r *reported) report() (permitd.Report, error) {
	var report permitd.Report
	var err error
	if report.Outcome, err = outcome(r.Outcome); err != nil {
		return report, err
	}
	if report.Actual, err = usage(r.Tokens, r.Usage); err != nil {
		return report, err
	}
	if r.Status != nil {
		report.Status = *r.Status
	}
	report.Header = headers(r.Headers)
	if r.Body != nil {
		report.Body = []byte(*r.Body)
	}
	if r.RetryAfter != nil {
		report.RetryAfter = new(milliseconds(*r.RetryAfter))
	}
	return report, nil
}

func outcome(name string) (permitd.Outcome, error) {
	if name == "" {
		return permitd.Unspecified, nil
	}
	for outcome := permitd.Unspecified; outcome <= permitd.Cancelled; outcome++ {
		if outcome.String() == name {
			return outcome, nil
		}
	}
	return 0, fmt.Errorf("outcome: %q is none", name)
}

// Amounts are decimal text, so that no number of any language is in their way.
func usage(tokens *string, given *units) (permitd.Usage, error) {
	var read permitd.Usage
	if given == nil {
		given = new(units)
	}
	if tokens != nil {
		given.Tokens = tokens
	}
	for _, unit := range []struct {
		name string
		text *string
		into *permitd.Amount
	}{
		{"requests", given.Requests, &read.Requests},
		{"tokens", given.Tokens, &read.Tokens},
		{"input_tokens", given.InputTokens, &read.InputTokens},
		{"output_tokens", given.OutputTokens, &read.OutputTokens},
		{"max_output_tokens", given.MaxOutputTokens, &read.MaxOutputTokens},
		{"cached_input_tokens", given.CachedInputTokens, &read.CachedInputTokens},
	} {
		if unit.text == nil {
			continue
		}
		amount, err := strconv.ParseUint(*unit.text, 10, 64)
		if err != nil {
			return read, fmt.Errorf("usage.%s: %w", unit.name, err)
		}
		*unit.into = permitd.Of(amount)
	}
	for name, text := range given.Other {
		amount, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return read, fmt.Errorf("usage.other.%s: %w", name, err)
		}
		if read.Others == nil {
			read.Others = make(map[string]uint64)
		}
		read.Others[name] = amount
	}
	return read, nil
}

func headers(given map[string]string) http.Header {
	header := make(http.Header)
	for name, value := range given {
		header.Set(name, value)
	}
	return header
}

func milliseconds(span int64) time.Duration {
	return time.Duration(span) * time.Millisecond
}
