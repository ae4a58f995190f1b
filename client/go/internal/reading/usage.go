package reading

import (
	"bytes"
	"math/bits"
)

// Used is what a response says was used; nil is what it does not say.
type Used struct {
	InputTokens, OutputTokens, CachedInputTokens *uint64
}

// Teller collects what a response, or one event of a stream after the other, tells of usage. A later number replaces an earlier one.
type Teller struct {
	told map[string]uint64
}

// Where usage stands: in an answer, in the events of OpenAI's responses, in the first event of Anthropic's messages; and Gemini's.
var usagePaths = [][]string{{"usage"}, {"response", "usage"}, {"message", "usage"}, {"usageMetadata"}}

// What of it counts. Details have names of their own within.
var usageFields = [][]string{
	{"prompt_tokens"}, {"completion_tokens"}, {"prompt_tokens_details", "cached_tokens"},
	{"input_tokens"}, {"output_tokens"}, {"input_tokens_details", "cached_tokens"},
	{"cache_creation_input_tokens"}, {"cache_read_input_tokens"},
	{"promptTokenCount"}, {"candidatesTokenCount"}, {"thoughtsTokenCount"}, {"cachedContentTokenCount"},
}

// Hear takes one JSON value in; what is none tells nothing.
func (t *Teller) Hear(body []byte) {
	// Most events of a stream say nothing of usage.
	if !bytes.Contains(body, []byte(`"usage`)) {
		return
	}
	value, _ := decode(body)
	for _, path := range usagePaths {
		fields, _ := value.(map[string]any)
		for _, name := range path {
			fields, _ = fields[name].(map[string]any)
		}
		for _, field := range usageFields {
			if amount := amountAt(fields, field...); amount != nil {
				if t.told == nil {
					t.told = make(map[string]uint64)
				}
				t.told[field[0]] = *amount
			}
		}
	}
}

// Used is what has been told, in one provider's words or another's.
func (t *Teller) Used() Used {
	var used Used
	if input := t.of("input_tokens"); input != nil {
		// Anthropic does not count what its cache is made of, and what comes from it, among its input_tokens.
		used.InputTokens = new(plus(plus(*input, t.told["cache_creation_input_tokens"]), t.told["cache_read_input_tokens"]))
	}
	used.InputTokens = first(used.InputTokens, t.of("prompt_tokens"), t.of("promptTokenCount"))
	used.OutputTokens = first(t.of("output_tokens"), t.of("completion_tokens"))
	if used.OutputTokens == nil && t.of("prompt_tokens") != nil {
		// An embedding has no output, which is known and not open.
		used.OutputTokens = new(uint64(0))
	}
	if output := t.of("candidatesTokenCount"); used.OutputTokens == nil && output != nil {
		used.OutputTokens = new(plus(*output, t.told["thoughtsTokenCount"]))
	}
	used.CachedInputTokens = first(t.of("cache_read_input_tokens"), t.of("input_tokens_details"), t.of("prompt_tokens_details"),
		t.of("cachedContentTokenCount"))
	if used.CachedInputTokens != nil && *used.CachedInputTokens == 0 {
		used.CachedInputTokens = nil
	}
	return used
}

func (t *Teller) of(field string) *uint64 {
	if amount, known := t.told[field]; known {
		return &amount
	}
	return nil
}

func first(amounts ...*uint64) *uint64 {
	for _, amount := range amounts {
		if amount != nil {
			return amount
		}
	}
	return nil
}

func plus(one, other uint64) uint64 {
	sum, carry := bits.Add64(one, other, 0)
	if carry > 0 {
		return ^uint64(0)
	}
	return sum
}
