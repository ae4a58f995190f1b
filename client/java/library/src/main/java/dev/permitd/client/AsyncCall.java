package dev.permitd.client;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** One {@link Caller#callAsync}: each attempt begins where the last one has ended. */
final class AsyncCall<T> {
    private final PermitClient client;
    private final Caller.Classifier<? super T> classifier;
    private final Function<Permit, ? extends CompletionStage<T>> call;
    private final Attempts tried;
    private final CompletableFuture<T> ended = new CompletableFuture<>();
    private volatile CompletableFuture<Guard> acquiring;

    AsyncCall(
            PermitClient client,
            Caller.Classifier<? super T> classifier,
            Function<Permit, ? extends CompletionStage<T>> call,
            Attempts tried) {
        this.client = client;
        this.classifier = classifier;
        this.call = call;
        this.tried = tried;
    }

    CompletableFuture<T> begin() {
        ended.whenComplete((result, error) -> leaveQueue());
        attempt(() -> {});
        return ended;
    }

    /** {@code tell} tells of the last attempt, which is better than that there is no permit for another. */
    private void attempt(Runnable tell) {
        acquiring = client.acquireAsync(tried.next());
        acquiring.whenComplete((guard, noPermit) -> {
            if (noPermit != null) {
                tell.run();
                ended.completeExceptionally(noPermit);
            } else if (ended.isDone()) {
                guard.cancel();
            } else {
                make(guard);
            }
        });
        if (ended.isDone()) {
            leaveQueue();
        }
    }

    private void make(Guard guard) {
        long began = System.nanoTime();
        CompletionStage<T> made;
        try {
            made = Objects.requireNonNull(call.apply(guard.permit()), "the call's stage");
        } catch (RuntimeException broken) {
            made = CompletableFuture.failedFuture(broken);
        }
        made.whenComplete((result, thrown) -> {
            Throwable error = thrown instanceof CompletionException wrapped && wrapped.getCause() != null ? wrapped.getCause() : thrown;
            try {
                Report report = Objects.requireNonNull(classifier.classify(result, error), "the classifier's report");
                report(guard, report.latencyIfUnknown(Duration.ofNanos(System.nanoTime() - began)), result, error);
            } catch (RuntimeException broken) {
                guard.close();
                ended.completeExceptionally(broken);
            }
        });
    }

    private void report(Guard guard, Report report, T result, Throwable error) {
        CompletableFuture<Advice> advice = guard.report(report);
        Runnable tell = () -> {
            if (error != null) {
                ended.completeExceptionally(error);
            } else {
                ended.complete(result);
            }
        };
        if (!tried.isAnotherLeft(report) || ended.isDone()) {
            tell.run();
            return;
        }
        CompletableFuture<Advice> bounded =
                tried.isBounded() ? advice.copy().orTimeout(tried.left(), TimeUnit.NANOSECONDS) : advice;
        bounded.whenComplete((told, none) -> {
            if (told != null && told.retry()) {
                attempt(tell);
            } else {
                tell.run();
            }
        });
    }

    private void leaveQueue() {
        CompletableFuture<Guard> asked = acquiring;
        if (asked != null) {
            asked.cancel(false);
        }
    }
}
