package permitd

import (
	"fmt"
	"maps"
	"unicode/utf8"

	"github.com/permitd/permitd/client/go/internal/wire"
)

// Further units in one estimate, and bytes in the name of one: the server's bounds.
const otherUnitsMax = 16

// Amount is how much of a unit, or that nothing is known of it, which is not the same as 0. Make one with [Of].
type Amount struct {
	value uint64
	known bool
}

// Of is a known amount.
func Of(amount uint64) Amount {
	return Amount{value: amount, known: true}
}

// Get returns the amount, and whether it is known.
func (a Amount) Get() (amount uint64, known bool) {
	return a.value, a.known
}

// Usage is amounts per unit: an estimate when asking, the actual use when reporting. A unit that is left out is unknown in an estimate,
// and as charged in a report.
type Usage struct {
	// Calls; left out, it is 1.
	Requests Amount
	// Input and output together; but alone in an estimate it is the input, and what comes out is learned and charged on top.
	Tokens Amount
	// What goes into the model.
	InputTokens Amount
	// What comes out of the model.
	OutputTokens Amount
	// A bound on the output, for estimates only.
	MaxOutputTokens Amount
	// For reports: the part of the input that the provider read from its cache.
	CachedInputTokens Amount
	// Further units by name, for example "points" or "usd_micros"; at most 16.
	Others map[string]uint64
}

// IsEmpty says whether nothing is known.
func (u Usage) IsEmpty() bool {
	return !u.Requests.known && !u.Tokens.known && !u.InputTokens.known && !u.OutputTokens.known &&
		!u.MaxOutputTokens.known && !u.CachedInputTokens.known && len(u.Others) == 0
}

// `field` is what the caller knows the usage as.
func (u Usage) check(field string) *Error {
	if len(u.Others) > otherUnitsMax {
		return invalid(field+".other", "%d further units; at most %d", len(u.Others), otherUnitsMax)
	}
	for unit := range u.Others {
		if unit == "" || len(unit) > nameBytesMax || !utf8.ValidString(unit) {
			return invalid(field+".other", "%.20q is no unit; a name has 1 to %d bytes of UTF-8", unit, nameBytesMax)
		}
	}
	return nil
}

func (u Usage) toWire() *wire.Usage {
	if u.IsEmpty() {
		return nil
	}
	return &wire.Usage{
		Requests:          u.Requests.toWire(),
		Tokens:            u.Tokens.toWire(),
		InputTokens:       u.InputTokens.toWire(),
		OutputTokens:      u.OutputTokens.toWire(),
		MaxOutputTokens:   u.MaxOutputTokens.toWire(),
		CachedInputTokens: u.CachedInputTokens.toWire(),
		// Marshalled later, when the caller may have changed its own.
		Other: maps.Clone(u.Others),
	}
}

func usageFromWire(usage *wire.Usage) Usage {
	if usage == nil {
		return Usage{}
	}
	return Usage{
		Requests:          amountFromWire(usage.Requests),
		Tokens:            amountFromWire(usage.Tokens),
		InputTokens:       amountFromWire(usage.InputTokens),
		OutputTokens:      amountFromWire(usage.OutputTokens),
		MaxOutputTokens:   amountFromWire(usage.MaxOutputTokens),
		CachedInputTokens: amountFromWire(usage.CachedInputTokens),
		Others:            usage.Other,
	}
}

func (a Amount) toWire() *uint64 {
	if !a.known {
		return nil
	}
	return &a.value
}

func amountFromWire(amount *uint64) Amount {
	if amount == nil {
		return Amount{}
	}
	return Of(*amount)
}

// String is the amount in digits, or "unknown".
func (a Amount) String() string {
	if !a.known {
		return "unknown"
	}
	return fmt.Sprint(a.value)
}
