// Package reading tells what an API's request is expected to use, and what a response says was used, from their bodies alone.
package reading

import (
	"bytes"
	"encoding/json"
	"io"
	"math/bits"
	"strconv"
	"strings"
)

const (
	// English has four characters to a token, and scripts of three bytes a character come near to one token each: in UTF-8, both are
	// about four bytes. The providers' own rule of thumb.
	bytesPerToken = 4
	// What an image, a sound or a document counts, whatever its bytes: about the most that providers charge for one image.
	attachmentTokens = 1_600
)

// Where providers look for the bound of the output; the first that is there counts.
var outputBounds = [][]string{
	{"max_completion_tokens"}, {"max_tokens"}, {"max_output_tokens"}, {"max_tokens_to_sample"}, {"generationConfig", "maxOutputTokens"},
}

// Names beside a `data` that is no text.
var media = []string{"format", "media_type", "mimeType", "mime_type"}

// Estimate is what a request's body tells.
type Estimate struct {
	InputTokens uint64
	// nil if the body has no bound.
	MaxOutputTokens *uint64
	// Empty if the body names none.
	Model string
}

// ReadEstimate reads a request's body. False if it is no JSON: nothing is known then.
func ReadEstimate(body []byte) (Estimate, bool) {
	value, ok := decode(body)
	if !ok {
		return Estimate{}, false
	}
	var content content
	content.add(value)
	estimate := Estimate{InputTokens: content.total()}
	fields, _ := value.(map[string]any)
	estimate.Model, _ = fields["model"].(string)
	for _, path := range outputBounds {
		if bound := amountAt(fields, path...); bound != nil {
			estimate.MaxOutputTokens = new(times(*bound, answers(fields)))
			break
		}
	}
	return estimate, true
}

// How many answers are asked for, each of which can be as long as the bound.
func answers(fields map[string]any) uint64 {
	asked := uint64(1)
	for _, name := range []string{"n", "best_of"} {
		if amount := amountAt(fields, name); amount != nil {
			asked = max(asked, *amount)
		}
	}
	return asked
}

type content struct {
	textBytes uint64
	// Input that comes as tokens already: numbers in arrays.
	tokens      uint64
	attachments uint64
}

func (c *content) add(value any) {
	switch value := value.(type) {
	case string:
		if strings.HasPrefix(value, "data:") {
			c.attachments++
		} else {
			c.textBytes += uint64(len(value))
		}
	case []any:
		for _, item := range value {
			if _, isNumber := item.(json.Number); isNumber {
				c.tokens++
			}
			c.add(item)
		}
	case map[string]any:
		isMedia := false
		for _, name := range media {
			_, has := value[name]
			isMedia = isMedia || has
		}
		for name, field := range value {
			if _, isText := field.(string); isText && isMedia && name == "data" {
				c.attachments++
			} else {
				c.add(field)
			}
		}
	}
}

func (c *content) total() uint64 {
	// Of what fits into memory, none of these comes near to overflowing.
	return max(c.textBytes/bytesPerToken+c.tokens+c.attachments*attachmentTokens, 1)
}

// One JSON value with its numbers to the last digit.
func decode(body []byte) (any, bool) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil, false
	}
	_, err := decoder.Token()
	return value, err == io.EOF
}

// The whole number that is not negative which stands there; nil if none does.
func amountAt(fields map[string]any, path ...string) *uint64 {
	for ; len(path) > 1; path = path[1:] {
		fields, _ = fields[path[0]].(map[string]any)
	}
	number, _ := fields[path[0]].(json.Number)
	amount, err := strconv.ParseUint(number.String(), 10, 64)
	if err != nil {
		return nil
	}
	return &amount
}

func times(one, other uint64) uint64 {
	if high, low := bits.Mul64(one, other); high == 0 {
		return low
	}
	return ^uint64(0)
}
