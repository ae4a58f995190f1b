package reading_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/permitd/permitd/client/go/internal/reading"
)

func estimated(t *testing.T, body string) (input uint64, bound string) {
	t.Helper()
	estimate, known := reading.ReadEstimate([]byte(body))
	if !known {
		t.Fatalf("%.100s tells nothing", body)
	}
	return estimate.InputTokens, digits(estimate.MaxOutputTokens)
}

func digits(amount *uint64) string {
	if amount == nil {
		return "-"
	}
	return fmt.Sprint(*amount)
}

// Goal: text counts a token for every four bytes, wherever it stands and in whatever script; what is no text does not count by its
// bytes, and tokens count as what they are.
func TestEstimateOfTheInput(t *testing.T) {
	text := strings.Repeat("x", 400)
	megabyte := strings.Repeat("A", 1_000_000)
	for body, wanted := range map[string]uint64{
		`{"messages": [{"content": "` + text + `"}]}`:   100,
		`{"input": ["` + text + `", "` + text + `"]}`:   200,
		`{"input": "` + strings.Repeat("文", 400) + `"}`: 300,
		`{}`: 1,
		`{"input": [[1, 2, 3], [4, 5]], "temperature": 1}`:                       5,
		`{"image_url": {"url": "data:image/png;base64,` + megabyte + `"}}`:       1_600,
		`{"source": {"type": "", "media_type": "", "data": "` + megabyte + `"}}`: 1_600,
		`{"data": "` + text + `"}`:                                               100,
	} {
		if input, _ := estimated(t, body); input != wanted {
			t.Errorf("%d and not %d: %.100s", input, wanted, body)
		}
	}
	for _, body := range []string{"", "{", "<html>", "{} {}"} {
		if estimate, known := reading.ReadEstimate([]byte(body)); known {
			t.Errorf("%q tells %v", body, estimate)
		}
	}
}

// Goal: the bound of the output is found where each provider has it, counts for each answer asked for, and is exact however large.
func TestEstimateOfTheBound(t *testing.T) {
	for body, wanted := range map[string]string{
		`{"max_tokens": 64}`:                                              "64",
		`{"max_tokens": 64, "max_completion_tokens": 32}`:                 "32",
		`{"max_output_tokens": 7}`:                                        "7",
		`{"generationConfig": {"maxOutputTokens": 7}}`:                    "7",
		`{"max_tokens": 64, "n": 3, "best_of": 2}`:                        "192",
		`{"max_tokens": 18446744073709551615}`:                            "18446744073709551615",
		`{"max_tokens": 18446744073709551615, "n": 18446744073709551615}`: "18446744073709551615",
		`{"max_tokens": 9007199254740993}`:                                "9007199254740993",
		`{"max_tokens": -5}`:                                              "-",
		`{"max_tokens": 1.5}`:                                             "-",
		`{"max_tokens": "5", "generationConfig": 5}`:                      "-",
		`["max_tokens"]`:                                                  "-",
	} {
		if _, bound := estimated(t, body); bound != wanted {
			t.Errorf("%s and not %s: %s", bound, wanted, body)
		}
	}
	if estimate, _ := reading.ReadEstimate([]byte(`{"model": "gpt-5"}`)); estimate.Model != "gpt-5" {
		t.Errorf("model %q", estimate.Model)
	}
}

func used(contentType string, body io.Reader) string {
	response := reading.NewResponse(contentType)
	// Neither fails.
	_, _ = io.Copy(response, body)
	return told(response)
}

func told(response *reading.Response) string {
	used := response.Used()
	return digits(used.InputTokens) + " " + digits(used.OutputTokens) + " " + digits(used.CachedInputTokens)
}

// Goal: what was used is found in every provider's words, with the cached part in the input; nonsense leaves the estimate as it is.
func TestUsageOfAnswers(t *testing.T) {
	for body, wanted := range map[string]string{
		`{"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}`:                                                "9 4 -",
		`{"usage":{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":5}}}`:                      "9 4 5",
		`{"usage":{"input_tokens":9,"output_tokens":4,"input_tokens_details":{"cached_tokens":0}}}`:                            "9 4 -",
		`{"usage":{"input_tokens":9,"output_tokens":4,"cache_creation_input_tokens":2,"cache_read_input_tokens":3}}`:           "14 4 3",
		`{"usage":{"prompt_tokens":9,"total_tokens":9}}`:                                                                       "9 0 -",
		`{"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":4,"thoughtsTokenCount":2,"cachedContentTokenCount":1}}`: "9 6 1",
		`{"usage":{"prompt_tokens":18446744073709551615}}`:                                                                     "18446744073709551615 0 -",
		`{"usage":null}`:                "- - -",
		`{"usage":{"input_tokens":-1}}`: "- - -",
		"":                              "- - -",
		"<html>usage":                   "- - -",
		"[]":                            "- - -",
	} {
		if told := used("application/json", strings.NewReader(body)); told != wanted {
			t.Errorf("%s and not %s: %s", told, wanted, body)
		}
	}
	long := `{"text":"` + strings.Repeat("x", 17<<20) + `","usage":{"input_tokens":1}}`
	if told := used("application/json", strings.NewReader(long)); told != "- - -" {
		t.Errorf("more than fits is kept: %s", told)
	}
}

var streams = map[string]string{
	"data: {\"choices\":[]}\n\ndata: {\"choices\":[],\"usage\":null}\n\n" +
		"data: {\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n": "9 4 -",
	"event: response.completed\r\ndata: {\"response\":\r\ndata: {\"usage\":{\"input_tokens\":9,\"output_tokens\":4}}}\r\n\r\n": "9 4 -",
	"event: message_start\rdata: {\"message\":{\"usage\":{\"input_tokens\":9,\"cache_read_input_tokens\":3,\"output_tokens\":1}}}\r\r" +
		": a comment\r\rdata:{\"usage\":{\"output_tokens\":25}}\r\r": "12 25 3",
	"data: {\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":1}}\n\n" +
		"data: {\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":4}}\n\n": "9 4 -",
	"data: {\"usage\":{\"input_tokens\":9}}\n\ndata: " + strings.Repeat("x", 2<<20) + "\n\ndata: {\"usage\":{\"output_tokens\":4}}\n\n": "9 4 -",
	"data: {\"usage\":{\"input_tokens\":9}}\n": "- - -",
}

// Goal: streams tell as they pass, later numbers replace earlier ones, and an event that is too long does not spoil the next.
func TestUsageOfStreams(t *testing.T) {
	for body, wanted := range streams {
		if told := used("text/event-stream; charset=utf-8", strings.NewReader(body)); told != wanted {
			t.Errorf("%s and not %s: %.200s", told, wanted, body)
		}
	}
}

// Goal: it does not matter how a stream is cut into pieces.
func TestStreamsInPieces(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for body, wanted := range streams {
		if len(body) > 1<<20 {
			continue
		}
		if told := used("text/event-stream", iotest.OneByteReader(strings.NewReader(body))); told != wanted {
			t.Errorf("byte by byte: %s and not %s: %s", told, wanted, body)
		}
		for range 50 {
			response := reading.NewResponse("text/event-stream")
			for rest := body; rest != ""; {
				piece := 1 + random.IntN(len(rest))
				_, _ = io.WriteString(response, rest[:piece])
				rest = rest[piece:]
			}
			if told := told(response); told != wanted {
				t.Errorf("seed %d: %s and not %s: %s", seed, told, wanted, body)
			}
		}
	}
}
