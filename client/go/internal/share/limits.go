package share

import (
	"math/bits"
	"path"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/permitd/permitd/client/go/internal/wire"
)

const (
	// More limits than a budget has.
	limitsMax = 128
	inFlight  = "in_flight"
	// What a quantised limit is judged by where nobody says.
	defaultQuantum = time.Second
)

// rate is one rate limit of a share in use.
type rate struct {
	meter
	unit string
	// As refusals name it: "tokens/1m0s".
	name            string
	models, tenants string
}

// limits is a share in use: its rate limits, and how many calls may be in flight; 0 if there is no such limit.
type limits struct {
	rates    []rate
	inFlight int64
}

// Reads a share on the safe side. A limit for each tenant becomes one for all tenants of this client, and a bound on what is in flight
// one for all models, since nobody knows which models the permits from before are for. A phase is not kept, so that a fixed window is
// enforced as a sliding one, which holds for every phase. Everything starts empty: what the server granted last is not in it.
//
// False if the share makes no sense, or is none.
func readLimits(given []*wire.Limit, now time.Time) (limits, bool) {
	var read limits
	if len(given) == 0 || len(given) > limitsMax {
		return limits{}, false
	}
	for _, limit := range given {
		amount := clamp(limit.Amount)
		if amount == 0 || limit.Unit == "" {
			return limits{}, false
		}
		if limit.Unit == inFlight {
			if read.inFlight == 0 || amount < read.inFlight {
				read.inFlight = amount
			}
			continue
		}
		meter := emptyMeter(limit, amount, now)
		if meter == nil {
			return limits{}, false
		}
		name := limit.Unit + "/" + limit.Per.AsDuration().String()
		tenants := limit.Tenants
		if tenants == "each" {
			tenants = ""
		}
		read.rates = append(read.rates, rate{meter: meter, unit: limit.Unit, name: name, models: limit.Models, tenants: tenants})
	}
	return read, true
}

// nil if the limit makes no sense.
func emptyMeter(limit *wire.Limit, amount int64, now time.Time) meter {
	per := limit.Per.AsDuration()
	if !isSpan(limit.Per) {
		return nil
	}
	switch limit.Window {
	case wire.Window_WINDOW_FIXED, wire.Window_WINDOW_SLIDING:
		return emptyWindow(amount, per, now)
	case wire.Window_WINDOW_QUANTISED:
		quantum := defaultQuantum
		if limit.Quantum != nil {
			quantum = limit.Quantum.AsDuration()
		}
		if quantum <= 0 || quantum > per {
			return nil
		}
		high, low := bits.Mul64(uint64(amount), uint64(quantum))
		part, _ := bits.Div64(high, low, uint64(per))
		if part == 0 {
			return nil
		}
		return emptyWindow(int64(part), quantum, now)
	default:
		burst := clamp(limit.Burst)
		if burst == 0 {
			burst = amount
		}
		return &bucket{amount: amount, per: per, burst: burst, at: now}
	}
}

func emptyWindow(amount int64, per time.Duration, now time.Time) meter {
	window := &window{amount: amount, per: per}
	window.take(amount, now)
	return window
}

func isSpan(per *durationpb.Duration) bool {
	return per.CheckValid() == nil && per.AsDuration() >= time.Millisecond && per.AsDuration() <= farAway
}

func (r *rate) counts(model, tenant string) bool {
	return matches(r.models, model) && matches(r.tenants, tenant)
}

// Globs as the server has them: * for any characters, ? for one, and nothing else is special.
func matches(glob, name string) bool {
	if glob == "" {
		return true
	}
	// Slashes are nothing special in names of models, but are in paths.
	plain := strings.NewReplacer("/", "\x00", "[", `\[`, `\`, `\\`)
	matched, err := path.Match(plain.Replace(glob), strings.ReplaceAll(name, "/", "\x00"))
	return matched && err == nil
}

func clamp(amount uint64) int64 {
	return int64(min(amount, amountMax))
}
