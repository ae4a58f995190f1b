package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	permitd "github.com/permitd/permitd/client/go"
	"github.com/permitd/permitd/client/go/internal/reading"
)

var errRaised = errors.New("raised by the case")

// Makes a call whose attempts end as the command says, one after the other; the last answer is given again.
func (d *driver) call(ctx context.Context, command *command, _ *called) event {
	request, err := command.request()
	if err != nil {
		return failure("refused", command.ID, err)
	}
	attempts, last := 0, reported{}
	err = d.client.Call(ctx, request, func(context.Context, *permitd.Permit) (permitd.Report, error) {
		if len(command.Answers) > 0 {
			last = command.Answers[min(attempts, len(command.Answers)-1)]
		}
		attempts++
		if last.Raises {
			return permitd.Report{}, errRaised
		}
		return last.report()
	}, callOptions(command)...)
	switch {
	case errors.Is(err, errRaised):
		return event{"event": "raised", "id": command.ID, "attempts": attempts}
	case err != nil:
		return failure("refused", command.ID, err)
	default:
		return event{"event": "called", "id": command.ID, "attempts": attempts, "status": last.Status}
	}
}

func callOptions(command *command) []permitd.CallOption {
	if command.Attempts == 0 {
		return nil
	}
	return []permitd.CallOption{permitd.Attempts(command.Attempts)}
}

func (d *driver) many(ctx context.Context, command *command, _ *called) event {
	request, err := command.request()
	if err != nil {
		return failure("refused", command.ID, err)
	}
	var granted, refused atomic.Int64
	var all sync.WaitGroup
	for range command.Count {
		all.Go(func() {
			guard, err := d.client.Acquire(ctx, request)
			if err == nil {
				_, err = guard.Report(ctx, permitd.Report{Outcome: permitd.Success})
			}
			if err != nil {
				refused.Add(1)
			} else {
				granted.Add(1)
			}
		})
	}
	all.Wait()
	return event{"event": "many", "id": command.ID, "granted": granted.Load(), "refused": refused.Load()}
}

func (d *driver) http(ctx context.Context, command *command, _ *called) event {
	ask, err := command.request()
	if err != nil {
		return failure("refused", command.ID, err)
	}
	var body io.Reader
	if command.Body != nil {
		body = strings.NewReader(*command.Body)
	}
	request, err := http.NewRequestWithContext(ctx, command.Method, command.URL, body)
	if err != nil {
		return failure("refused", command.ID, err)
	}
	request.Header = headers(command.Headers)
	base := http.DefaultTransport.(*http.Transport).Clone()
	defer base.CloseIdleConnections()
	transport := d.client.Transport(ask)
	transport.Base, transport.Attempts = base, command.Attempts
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return failure("refused", command.ID, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return failure("refused", command.ID, err)
	}
	return event{"event": "responded", "id": command.ID, "status": response.StatusCode, "body": string(text)}
}

func estimate(command *command) event {
	told := event{"event": "estimated", "id": command.ID, "input_tokens": nil, "max_output_tokens": nil, "model": ""}
	if command.Body == nil {
		return told
	}
	if estimate, known := reading.ReadEstimate([]byte(*command.Body)); known {
		told["input_tokens"] = digits(&estimate.InputTokens)
		told["max_output_tokens"] = digits(estimate.MaxOutputTokens)
		told["model"] = estimate.Model
	}
	return told
}

func used(command *command) event {
	response := reading.NewResponse(headers(command.Headers).Get("Content-Type"))
	if command.Body != nil && (command.Status == nil || *command.Status < http.StatusBadRequest) {
		// Never fails.
		_, _ = io.WriteString(response, *command.Body)
	}
	used := response.Used()
	return event{
		"event": "used", "id": command.ID, "input_tokens": digits(used.InputTokens), "output_tokens": digits(used.OutputTokens),
		"cached_input_tokens": digits(used.CachedInputTokens),
	}
}

func digits(amount *uint64) any {
	if amount == nil {
		return nil
	}
	return strconv.FormatUint(*amount, 10)
}

// What a permit holds, of the units that it tells.
func amounts(usage permitd.Usage) event {
	told := make(event)
	for unit, amount := range map[string]permitd.Amount{
		"requests": usage.Requests, "tokens": usage.Tokens, "input_tokens": usage.InputTokens, "output_tokens": usage.OutputTokens,
	} {
		if value, known := amount.Get(); known {
			told[unit] = digits(&value)
		}
	}
	if len(usage.Others) > 0 {
		others := make(event)
		for unit, amount := range usage.Others {
			others[unit] = digits(&amount)
		}
		told["other"] = others
	}
	return told
}
