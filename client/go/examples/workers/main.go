// Command workers puts a pool of workers behind one permitd budget: each takes prompts from a channel and asks an API in Anthropic's shape.
// The one line that makes it safe is the transport; the workers know nothing of limits.
//
//	permitd serve &
//	permitd budgets set anthropic/prod --limit requests=1000/1m --limit in_flight=8
//	ANTHROPIC_API_KEY=... go run ./examples/workers https://api.anthropic.com "Name a river." "Name a lake."
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"

	permitd "github.com/permitd/permitd/client/go"
)

const workers = 32

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: workers URL PROMPT...")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	api := &api{base: os.Args[1], key: os.Getenv("ANTHROPIC_API_KEY")}
	err := run(ctx, "http://127.0.0.1:7110", api, os.Args[2:], func(prompt, answer string) { fmt.Printf("%s\n\t%s\n", prompt, answer) })
	if err != nil {
		log.Fatal(err)
	}
}

// Asks the API all prompts, as fast as the budget lets it, and hands out the answers as they come. Ends with the first error.
func run(ctx context.Context, server string, api *api, prompts []string, answered func(prompt, answer string)) error {
	client, err := permitd.Connect(ctx, permitd.Options{Endpoints: []string{server}, Tenant: "workers"})
	if err != nil {
		return err
	}
	defer client.Close()
	api.http = &http.Client{Transport: client.Transport(permitd.Request{Provider: "anthropic", Key: "prod"})}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan string)
	var pool sync.WaitGroup
	var out sync.Mutex
	for range workers {
		pool.Go(func() {
			for prompt := range queue {
				answer, err := api.ask(ctx, prompt)
				if err != nil {
					cancel(fmt.Errorf("%q: %w", prompt, err))
					return
				}
				out.Lock()
				answered(prompt, answer)
				out.Unlock()
			}
		})
	}
	feed(ctx, queue, prompts)
	pool.Wait()
	return context.Cause(ctx)
}

func feed(ctx context.Context, queue chan<- string, prompts []string) {
	defer close(queue)
	for _, prompt := range prompts {
		select {
		case queue <- prompt:
		case <-ctx.Done():
			return
		}
	}
}

// An API in the shape of Anthropic's messages.
type api struct {
	base, key string
	http      *http.Client
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func (a *api) ask(ctx context.Context, prompt string) (string, error) {
	body, err := json.Marshal(map[string]any{
		"model": "claude-sonnet-4-5", "max_tokens": 200, "messages": []message{{Role: "user", Content: prompt}},
	})
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+"/v1/messages", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Api-Key", a.key)
	request.Header.Set("Anthropic-Version", "2023-06-01")
	response, err := a.http.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d: %s", response.StatusCode, text)
	}
	var answer struct {
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
	}
	if err := json.Unmarshal(text, &answer); err != nil || len(answer.Content) == 0 {
		return "", fmt.Errorf("no answer in %.200q (%v)", text, err)
	}
	return answer.Content[0].Text, nil
}
