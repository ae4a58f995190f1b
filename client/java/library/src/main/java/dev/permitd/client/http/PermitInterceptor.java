package dev.permitd.client.http;

import dev.permitd.client.Advice;
import dev.permitd.client.Guard;
import dev.permitd.client.PermitClient;
import dev.permitd.client.PermitException;
import dev.permitd.client.Report;
import dev.permitd.client.Request;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.net.ConnectException;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Function;
import okhttp3.Interceptor;
import okhttp3.Response;

/**
 * An OkHttp interceptor that has every call wait for its permit first:
 *
 * <pre>{@code
 * OkHttpClient http = new OkHttpClient.Builder()
 *         .addInterceptor(PermitInterceptor.with(client, Request.of("openai/prod")))
 *         .build();
 * }</pre>
 *
 * <p>To be added as an <em>application</em> interceptor, after those that change the request. What it estimates, reports and makes
 * again is as {@link PermitHttpClient} has it; a body that can be sent only once is not looked at, and sent once.
 *
 * <p>A call that is enqueued waits for its permit on one of the dispatcher's threads: allow for as many of them
 * ({@code Dispatcher.setMaxRequests}, {@code setMaxRequestsPerHost}) as calls may wait. Where there is no permit, the call fails with a
 * {@link PermitException}.
 */
public final class PermitInterceptor implements Interceptor {
    /** How soon a call that is cancelled leaves the queue, in milliseconds: OkHttp tells an interceptor only when asked. */
    private static final long CANCEL_MILLIS = 50;

    private final PermitClient client;
    private final Function<? super okhttp3.Request, Request> requests;
    private final int attempts;

    private PermitInterceptor(PermitClient client, Function<? super okhttp3.Request, Request> requests, int attempts) {
        this.client = Objects.requireNonNull(client, "client");
        this.requests = requests;
        this.attempts = attempts;
    }

    /** Every call asks for {@code request}; what it leaves open of estimate and model is read from the body. */
    public static PermitInterceptor with(PermitClient client, Request request) {
        Objects.requireNonNull(request, "request");
        return with(client, call -> request);
    }

    /** The same, with the budget and all else chosen for each call. */
    public static PermitInterceptor with(PermitClient client, Function<? super okhttp3.Request, Request> requests) {
        return new PermitInterceptor(client, Objects.requireNonNull(requests, "requests"), Exchange.ATTEMPTS);
    }

    /** How often a call is made at most; at least once. Default: 4. */
    public PermitInterceptor attempts(int attempts) {
        return new PermitInterceptor(client, requests, Math.max(1, attempts));
    }

    @Override
    public Response intercept(Chain chain) throws IOException {
        Request base = Objects.requireNonNull(requests.apply(chain.request()), "the request for a permit");
        OkBodies.Sent sent = OkBodies.read(chain.request().body());
        Request asked = Exchange.asked(base, sent.body());
        int attemptsLeft = sent.isRepeatable() ? attempts : 1;
        Response last = null;
        while (true) {
            Guard guard;
            try {
                guard = acquire(chain, asked);
            } catch (PermitException noPermit) {
                if (last == null) {
                    throw noPermit;
                }
                // There is something better to tell than that it cannot be tried again.
                return last;
            }
            if (last != null) {
                last.close();
            }
            attemptsLeft--;
            Exchange exchange = new Exchange(guard);
            Response response = proceed(chain, exchange);
            if (response.code() < Exchange.REFUSED) {
                return OkBodies.tapped(response, exchange);
            }
            Report report = exchange.report(response.code(), response.headers().toMultimap())
                    .body(response.peekBody(Report.BODY_BYTES_MAX).bytes());
            CompletableFuture<Advice> advice = guard.report(report);
            if (attemptsLeft == 0 || !isAdvised(chain, advice)) {
                return response;
            }
            last = response;
        }
    }

    private static Response proceed(Chain chain, Exchange exchange) throws IOException {
        try {
            return chain.proceed(chain.request());
        } catch (ConnectException noConnection) {
            exchange.notSent();
            throw noConnection;
        } catch (IOException | RuntimeException failure) {
            exchange.failed();
            throw failure;
        }
    }

    private Guard acquire(Chain chain, Request asked) throws IOException {
        CompletableFuture<Guard> acquiring = client.acquireAsync(asked);
        try {
            return await(chain, acquiring);
        } catch (ExecutionException refused) {
            if (refused.getCause() instanceof PermitException problem) {
                throw problem;
            }
            throw new IOException(refused.getCause());
        } catch (IOException stopped) {
            if (!acquiring.cancel(false) && !acquiring.isCompletedExceptionally()) {
                acquiring.join().cancel();
            }
            throw stopped;
        }
    }

    private static boolean isAdvised(Chain chain, CompletableFuture<Advice> advice) throws IOException {
        try {
            return await(chain, advice).retry();
        } catch (ExecutionException none) {
            return false;
        }
    }

    /** Waits until there is an answer, or nobody wants it any more. */
    private static <V> V await(Chain chain, CompletableFuture<V> answer) throws IOException, ExecutionException {
        while (true) {
            if (chain.call().isCanceled()) {
                throw new IOException("Canceled");
            }
            try {
                return answer.get(CANCEL_MILLIS, TimeUnit.MILLISECONDS);
            } catch (TimeoutException notYet) {
                continue;
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
                throw new InterruptedIOException("interrupted while waiting for a permit");
            }
        }
    }
}
