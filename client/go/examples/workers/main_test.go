package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/permitd/permitd/client/go/internal/real"
)

// Goal: thirty-two workers on an API that takes five calls at a time get every answer, and the API refuses nobody.
func TestWorkersAreNotRefused(t *testing.T) {
	line, _ := real.Launch(t, real.Binary("PERMITD_LAB_BIN", "permitd-lab"), "provider", "--concurrency", "5", "--latency-median-ms", "5")
	base := line[strings.Index(line, "http://"):]
	base, _, _ = strings.Cut(base, " ")
	// One less than the API takes, which may count a call a moment longer than its caller does.
	server := real.Start(t, "[budgets.\"anthropic/prod\"]\nlimits = [\"in_flight=4\", \"output_tokens=10M/1m\"]\n")

	var prompts []string
	for number := range 200 {
		prompts = append(prompts, fmt.Sprintf("What is %d squared?", number))
	}
	answers := make(map[string]string)
	err := run(t.Context(), server.Endpoint(), &api{base: base, key: "sim"}, prompts, func(prompt, answer string) { answers[prompt] = answer })
	if err != nil {
		t.Fatal(err)
	}
	if len(answers) != len(prompts) {
		t.Errorf("%d answers of %d", len(answers), len(prompts))
	}
	response, err := http.Get(base + "/sim/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var stats struct {
		Keys map[string]struct {
			OK      int `json:"ok"`
			Limited int `json:"limited"`
		} `json:"keys"`
	}
	if err := json.NewDecoder(response.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	if counted := stats.Keys["sim"]; counted.OK != len(prompts) || counted.Limited != 0 {
		t.Errorf("the API counted %+v", counted)
	}
}
