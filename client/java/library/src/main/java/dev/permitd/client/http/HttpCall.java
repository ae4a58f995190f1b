package dev.permitd.client.http;

import dev.permitd.client.Guard;
import dev.permitd.client.PermitClient;
import dev.permitd.client.Request;
import java.net.ConnectException;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandler;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Future;

/** One call of a {@link PermitHttpClient}: each attempt begins where the last one has ended. */
final class HttpCall<T> {
    private final HttpClient http;
    private final PermitClient client;
    private final BodyHandler<T> handler;
    private final CompletableFuture<HttpResponse<T>> ended = new CompletableFuture<>();
    private int attemptsLeft;
    private HttpRequest sent;
    private Request asked;

    /** What is under way: to be cancelled with the call. */
    private volatile Future<?> underWay;

    HttpCall(HttpClient http, PermitClient client, BodyHandler<T> handler, int attempts) {
        this.http = http;
        this.client = client;
        this.handler = handler;
        this.attemptsLeft = attempts;
    }

    CompletableFuture<HttpResponse<T>> begin(HttpRequest request, Request base) {
        ended.whenComplete((response, problem) -> stop());
        var publisher = request.bodyPublisher().orElse(null);
        long length = publisher == null ? 0 : publisher.contentLength();
        if (length == 0 || length > Exchange.REQUEST_BYTES_MAX) {
            first(request, base, null);
        } else if (length < 0) {
            attemptsLeft = 1;
            first(request, base, null);
        } else {
            Bodies.read(publisher).whenComplete((body, problem) -> {
                if (problem != null) {
                    ended.completeExceptionally(problem);
                } else {
                    first(withBody(request, body), base, body);
                }
            });
        }
        return ended;
    }

    private void first(HttpRequest request, Request base, byte[] body) {
        sent = request;
        asked = Exchange.asked(base, body);
        attempt(null);
    }

    /** {@code last} is how the attempt before ended; null for the first. */
    private void attempt(HttpResponse<Answer<T>> last) {
        attemptsLeft--;
        CompletableFuture<Guard> acquiring = client.acquireAsync(asked);
        follow(acquiring);
        acquiring.whenComplete((guard, noPermit) -> {
            if (guard != null && ended.isDone()) {
                guard.cancel();
            } else if (guard != null) {
                send(guard);
            } else if (last != null) {
                // There is something better to tell than that it cannot be tried again.
                tell(last);
            } else {
                ended.completeExceptionally(noPermit);
            }
        });
    }

    private void send(Guard guard) {
        Exchange exchange = new Exchange(guard);
        CompletableFuture<HttpResponse<Answer<T>>> sending;
        try {
            sending = http.sendAsync(sent, info -> Answer.read(info, handler, exchange));
        } catch (RuntimeException invalid) {
            exchange.notSent();
            ended.completeExceptionally(invalid);
            return;
        }
        follow(sending);
        sending.whenComplete((response, thrown) -> {
            if (thrown != null) {
                Throwable problem = thrown instanceof CompletionException && thrown.getCause() != null ? thrown.getCause() : thrown;
                if (problem instanceof ConnectException) {
                    exchange.notSent();
                } else {
                    exchange.failed();
                }
                ended.completeExceptionally(problem);
            } else if (response.body().isRefusal()) {
                refused(guard, exchange, response);
            } else {
                tell(response);
            }
        });
    }

    private void refused(Guard guard, Exchange exchange, HttpResponse<Answer<T>> response) {
        var report = exchange.report(response.statusCode(), response.headers().map()).body(response.body().refusal());
        guard.report(report).whenComplete((advice, none) -> {
            if (advice != null && advice.retry() && attemptsLeft > 0 && !ended.isDone()) {
                attempt(response);
            } else {
                tell(response);
            }
        });
    }

    private void tell(HttpResponse<Answer<T>> response) {
        response.body().body().whenComplete((body, problem) -> {
            if (problem != null) {
                ended.completeExceptionally(problem);
            } else {
                ended.complete(new Response<>(response, body));
            }
        });
    }

    private void follow(Future<?> next) {
        underWay = next;
        if (ended.isDone()) {
            stop();
        }
    }

    private void stop() {
        Future<?> last = underWay;
        if (last != null) {
            last.cancel(true);
        }
    }

    private static HttpRequest withBody(HttpRequest request, byte[] body) {
        return HttpRequest.newBuilder(request, (name, value) -> true)
                .method(request.method(), BodyPublishers.ofByteArray(body))
                .build();
    }
}
