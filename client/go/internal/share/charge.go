package share

import (
	"math/bits"

	"github.com/permitd/permitd/client/go/internal/wire"
)

// What one call uses, per unit. An output that is open is guessed by its bound, which is all that a client knows of it.
type usage struct {
	requests, input, output uint64
	// How much of the output is a guess.
	guessed uint64
	others  map[string]uint64
}

func estimated(ask *wire.AcquireRequest) usage {
	estimate := ask.Estimate
	if estimate == nil {
		return usage{requests: 1, input: ask.Tokens}
	}
	read := usage{requests: 1, others: estimate.Other}
	if estimate.Requests != nil {
		read.requests = *estimate.Requests
	}
	total, input, output := estimate.Tokens, estimate.InputTokens, estimate.OutputTokens
	switch {
	case output != nil:
		read.output = *output
		if input != nil {
			read.input = *input
		} else if total != nil {
			read.input = minus(*total, *output)
		}
	case total != nil && input != nil:
		read.input, read.output = *input, minus(*total, *input)
	default:
		read.input = estimate.GetTokens()
		if input != nil {
			read.input = *input
		}
		read.output = estimate.GetMaxOutputTokens()
		read.guessed = read.output
	}
	return read
}

// What was used; a unit that is left out was used as charged.
func actual(told *wire.Usage, charged usage) usage {
	if told == nil {
		return charged
	}
	read := charged
	read.guessed = 0
	if told.Requests != nil {
		read.requests = *told.Requests
	}
	if told.InputTokens != nil {
		read.input = *told.InputTokens
	}
	if told.OutputTokens != nil {
		read.output = *told.OutputTokens
	}
	if told.Tokens != nil {
		switch {
		case told.OutputTokens != nil:
			read.input = minus(*told.Tokens, read.output)
		case told.InputTokens != nil:
			read.output = minus(*told.Tokens, read.input)
		default:
			// Both together, in what proportion nobody says: as charged, and the rest is output.
			read.input = min(read.input, *told.Tokens)
			read.output = minus(*told.Tokens, read.input)
		}
	}
	if len(told.Other) > 0 {
		read.others = make(map[string]uint64, len(charged.others)+len(told.Other))
		for unit, amount := range charged.others {
			read.others[unit] = amount
		}
		for unit, amount := range told.Other {
			read.others[unit] = amount
		}
	}
	return read
}

// How much of a unit, and how much of that is a guess.
func (u *usage) of(unit string) (amount, guessed uint64) {
	switch unit {
	case "requests":
		return u.requests, 0
	case "input_tokens":
		return u.input, 0
	case "output_tokens":
		return u.output, u.guessed
	case "tokens":
		return plus(u.input, u.output), u.guessed
	default:
		return u.others[unit], 0
	}
}

func (u *usage) toWire() *wire.Usage {
	total := plus(u.input, u.output)
	return &wire.Usage{Requests: &u.requests, Tokens: &total, InputTokens: &u.input, OutputTokens: &u.output, Other: u.others}
}

func plus(one, other uint64) uint64 {
	sum, carry := bits.Add64(one, other, 0)
	if carry > 0 {
		return ^uint64(0)
	}
	return sum
}

func minus(one, other uint64) uint64 {
	return one - min(one, other)
}
