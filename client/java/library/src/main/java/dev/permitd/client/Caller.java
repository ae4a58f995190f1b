package dev.permitd.client;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Function;

/**
 * A way of making calls, from {@link PermitClient#caller()}: one that acquires, runs, reports, and does so again while the server
 * advises it. Immutable.
 *
 * <pre>{@code
 * Caller<Reply> caller = client.<Reply>caller().attempts(6).classify((reply, error) ->
 *         error != null ? Report.failed() : Report.status(reply.status()).tokens(reply.used()));
 * Reply reply = caller.call(Request.of("anthropic/prod").tokens(1_200), permit -> ask("hello"));
 * }</pre>
 */
public final class Caller<T> {
    /** Attempts where nobody said a number. */
    private static final int ATTEMPTS = 4;

    /** Reads the report out of how a call ended. */
    @FunctionalInterface
    public interface Classifier<T> {
        /** How the call went: with {@code result}, or, if {@code error} is not null, with that. */
        Report classify(T result, Throwable error);
    }

    /** A call. */
    @FunctionalInterface
    public interface Call<T> {
        /** Makes it, with leave from {@code permit}. */
        T call(Permit permit) throws Exception;
    }

    private final PermitClient client;
    private final Classifier<? super T> classifier;
    private final int attempts;

    /** A result is a success with everything as estimated, an exception a failure. */
    Caller(PermitClient client) {
        this(client, (result, error) -> error == null ? Report.success() : Report.failed(), ATTEMPTS);
    }

    private Caller(PermitClient client, Classifier<? super T> classifier, int attempts) {
        this.client = client;
        this.classifier = classifier;
        this.attempts = attempts;
    }

    /** How often the call is made at most; at least once. Default: 4. */
    public Caller<T> attempts(int attempts) {
        return new Caller<>(client, classifier, Math.max(1, attempts));
    }

    /** How results are read. Also for a result that holds a refusal, such as an HTTP response with status 429. */
    public Caller<T> classify(Classifier<? super T> classifier) {
        return new Caller<>(client, Objects.requireNonNull(classifier, "classifier"), attempts);
    }

    /**
     * Acquires, makes the call, reports how it went; and again, waiting in the queue, while the server advises it, attempts are left
     * and the request's timeout has not passed. The result is the last call's own: with its attempts used up also one that holds a
     * refusal. The timeout does not interrupt a call that is under way.
     *
     * @throws PermitException no permit for the first attempt
     * @throws InterruptedException the thread was interrupted; the request has left the queue
     * @throws Exception the last call's own
     */
    public T call(Request request, Call<? extends T> call) throws Exception {
        Objects.requireNonNull(call, "call");
        Attempts tried = new Attempts(request, attempts);
        Ended<T> last = null;
        while (true) {
            Guard guard;
            try {
                guard = client.acquire(tried.next());
            } catch (PermitException noPermit) {
                if (last == null) {
                    throw noPermit;
                }
                // There is something better to tell than that it cannot be tried again.
                return last.get();
            }
            last = make(guard, call);
            CompletableFuture<Advice> advice = guard.report(last.report);
            if (last.error instanceof InterruptedException || !tried.isAnotherLeft(last.report) || !isAdvised(advice, tried)) {
                return last.get();
            }
        }
    }

    /** {@link #call} without waiting. Cancelling the future leaves the queue, and interrupts no call that is under way. */
    public CompletableFuture<T> callAsync(Request request, Function<Permit, ? extends CompletionStage<T>> call) {
        Objects.requireNonNull(call, "call");
        return new AsyncCall<T>(client, classifier, call, new Attempts(request, attempts)).begin();
    }

    private Ended<T> make(Guard guard, Call<? extends T> call) {
        long began = System.nanoTime();
        T result = null;
        Throwable error = null;
        try {
            result = call.call(guard.permit());
        } catch (Throwable thrown) {
            error = thrown;
        }
        Report report = read(guard, result, error);
        return new Ended<>(result, error, report.latencyIfUnknown(Duration.ofNanos(System.nanoTime() - began)));
    }

    /** A classifier that fails leaves nothing but the failure to report. */
    private Report read(Guard guard, T result, Throwable error) {
        try {
            return Objects.requireNonNull(classifier.classify(result, error), "the classifier's report");
        } catch (RuntimeException broken) {
            guard.close();
            throw broken;
        }
    }

    /** Waits for the advice, but not past the request's timeout. */
    private static boolean isAdvised(CompletableFuture<Advice> advice, Attempts tried) throws InterruptedException {
        try {
            return advice.get(tried.left(), TimeUnit.NANOSECONDS).retry();
        } catch (ExecutionException | TimeoutException none) {
            return false;
        }
    }

    /** How one call ended. */
    private record Ended<T>(T result, Throwable error, Report report) {
        T get() throws Exception {
            if (error instanceof Error fatal) {
                throw fatal;
            }
            if (error != null) {
                throw (Exception) error;
            }
            return result;
        }
    }
}
