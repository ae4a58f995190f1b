package dev.permitd.client;

import java.util.Arrays;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.function.Function;

/**
 * Asks a permitd server for permits over one session. To be made once per process, used by all of its threads, and closed at the end.
 *
 * <pre>{@code
 * try (PermitClient client = PermitClient.connect("http://127.0.0.1:7110");
 *         // Waits in the fair queue of the budget anthropic/prod.
 *         Guard guard = client.acquire(Request.of("anthropic/prod").tokens(1_200))) {
 *     Reply reply = callTheApi();
 *     guard.report(Report.success().inputTokens(reply.input()).outputTokens(reply.output()));
 * }
 * }</pre>
 */
public final class PermitClient implements AutoCloseable {
    private final Settings settings;
    private final Driver driver;

    PermitClient(Settings settings) {
        this.settings = settings;
        this.driver = new Driver(settings);
    }

    /** {@linkplain ClientBuilder#connect Connects} to the first of {@code endpoints} that answers, with the defaults. */
    public static PermitClient connect(String... endpoints) throws PermitException, InterruptedException {
        return builder().endpoints(Arrays.asList(endpoints)).connect();
    }

    /** Everything that can be set. */
    public static ClientBuilder builder() {
        return new ClientBuilder();
    }

    /**
     * Waits for a permit of a budget.
     *
     * @throws PermitException no permit; it says why, and whether asking again may help
     * @throws InterruptedException the thread was interrupted; the request has left the queue, and nothing is held
     */
    public Guard acquire(Request request) throws PermitException, InterruptedException {
        CompletableFuture<Guard> answer = new CompletableFuture<>();
        // Nobody else sees this future, so that the driver may complete it by itself.
        Waiting asked = ask(request, 1, new Waiting.One(answer), Runnable::run);
        driver.acquire(asked);
        try {
            return answer.get();
        } catch (InterruptedException interrupted) {
            if (answer.cancel(false)) {
                driver.cancel(asked.id());
            } else if (!answer.isCompletedExceptionally()) {
                answer.join().cancel();
            }
            throw interrupted;
        } catch (ExecutionException refused) {
            throw thrown(refused);
        }
    }

    /** {@link #acquire(Request)} of a budget, {@code provider/key}, with nothing more to say. */
    public Guard acquire(String budget) throws PermitException, InterruptedException {
        return acquire(Request.of(budget));
    }

    /**
     * Asks for a permit of a budget, and does not wait for it. Whoever cancels the future, or completes it in any other way, leaves the
     * queue; a grant that crosses that is given back.
     *
     * @return the guard, or a {@link PermitException}
     */
    public CompletableFuture<Guard> acquireAsync(Request request) {
        CompletableFuture<Guard> answer = new CompletableFuture<>();
        Waiting asked;
        try {
            asked = ask(request, 1, new Waiting.One(answer), settings.executor());
        } catch (PermitException invalid) {
            answer.completeExceptionally(invalid);
            return answer;
        }
        answer.whenComplete((guard, problem) -> {
            if (!asked.isAnswered()) {
                driver.cancel(asked.id());
            }
        });
        driver.acquire(asked);
        return answer;
    }

    /**
     * Asks for several permits of a budget at once, each for the whole estimate. The request has one place in the queue; its permits
     * come as they become possible.
     *
     * @param count 1 to {@link Request#COUNT_MAX}
     * @throws PermitException the request makes no sense
     */
    public Grants acquireMany(Request request, int count) throws PermitException {
        var came = new Grants.Came();
        // Taking one only puts it into a queue, so that the driver may do it by itself.
        Waiting asked = ask(request, count, came, Runnable::run);
        driver.acquire(asked);
        return new Grants(count, came, () -> driver.cancel(asked.id()));
    }

    /**
     * Acquires, runs {@code call}, reports how it went, and again while the server advises it. A result counts as a success and an
     * exception as a failure; to look closer, and for the number of attempts, see {@link #caller()}.
     *
     * @throws PermitException no permit
     * @throws InterruptedException the thread was interrupted while it waited; the request has left the queue
     * @throws Exception the last call's own
     */
    public <T> T call(Request request, Callable<T> call) throws Exception {
        return this.<T>caller().call(request, permit -> call.call());
    }

    /** The same without waiting: {@code call} starts a call and tells its end. */
    public <T> CompletableFuture<T> callAsync(Request request, Function<Permit, CompletionStage<T>> call) {
        return this.<T>caller().callAsync(request, call);
    }

    /** A way of making calls: how results are read, how many attempts. To be kept and used many times. */
    public <T> Caller<T> caller() {
        return new Caller<>(this);
    }

    /** Whether a session stands at the moment. */
    public boolean isConnected() {
        return driver.isConnected();
    }

    /**
     * Ends the session politely: reports that are on their way are answered first (within 5 seconds), requests that wait end with an
     * exception for which {@link PermitException#isClosed()} holds, and permits that are still held are reported as failed. No thread
     * is left. A second close does nothing.
     */
    @Override
    public void close() {
        driver.close();
    }

    /** Waits for the first session, or for the outage policy to take over. */
    void awaitReady() throws PermitException, InterruptedException {
        try {
            driver.ready().get();
        } catch (ExecutionException problem) {
            throw thrown(problem);
        }
    }

    private Waiting ask(Request request, int count, Waiting.Taker taker, Executor executor) throws PermitException {
        Objects.requireNonNull(request, "request");
        if (count < 1 || count > Request.COUNT_MAX) {
            throw PermitException.invalid("count", count + " is outside 1 to " + Request.COUNT_MAX);
        }
        var wire = request.toWire().toBuilder().setRequestId(driver.nextNumber()).setCount(count).build();
        return new Waiting(wire, request, System.nanoTime(), taker, executor);
    }

    private static PermitException thrown(ExecutionException wrapped) {
        if (wrapped.getCause() instanceof PermitException problem) {
            return problem.here();
        }
        throw new IllegalStateException("answers fail with a PermitException only", wrapped);
    }
}
