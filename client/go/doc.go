// Package permitd is the Go client of permitd, the rate-limit permit service: ask for a permit before each outbound call, report
// afterwards how it went.
//
// A permitd server holds the request, token and concurrency budgets of every (provider, key). All services that call the same API ask
// it, and get their permits from one fair queue, as fast as the provider allows and no faster.
//
//	client, err := permitd.Connect(ctx, permitd.Options{Endpoints: []string{"http://127.0.0.1:7110"}})
//	...
//	defer client.Close()
//
//	guard, err := client.Acquire(ctx, permitd.Request{Provider: "anthropic", Key: "prod", Tokens: 1200})
//	...
//	defer guard.Close()
//	// ... make the call, then say what it used ...
//	advice, err := guard.Report(ctx, permitd.Report{
//		Outcome: permitd.Success,
//		Actual:  permitd.Usage{InputTokens: permitd.Of(812), OutputTokens: permitd.Of(96)},
//	})
//
// [Client.Call] does all of it in one, and again while the server advises it. [Client.Transport] puts it in front of an HTTP client, so
// that a program or an SDK that has one needs one more line.
//
// # What it takes care of
//
//   - Nothing leaks. A context that ends leaves the queue, and a grant that crosses goes back. A guard that is closed or forgotten
//     settles by itself; one that lives long is extended. [Client.Close] ends every goroutine.
//   - Deadlines, of contexts and [Request.MaxWait], are sent along, so that what cannot be in time is refused at once.
//   - Reconnecting. A broken session is resumed, on the same or another endpoint: requests keep their places, grants and reports that
//     were on their way are neither lost nor doubled. Callers do not notice.
//   - Outages. When no server can be reached for a while, the [OutagePolicy] decides.
//   - Speed. All callers share one stream; whatever is ready goes out in one message.
//
// Errors are of type [*Error], with a reason, the limit and the wait, and answer [errors.Is] for [ErrRefused] and its like.
package permitd
