package dev.permitd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Against the real server: permits, refusals, and what is left afterwards. */
@Timeout(60)
class RealServerTest {
    private static final String CONFIG =
            """
            [budgets."slot/k"]
            limits = ["in_flight=1"]
            [budgets."small/k"]
            limits = ["tokens=1000/1h"]
            """;

    /** Goal: a permit is acquired, charged and settled. */
    @Test
    void acquiresAndReports() throws Exception {
        try (Permitd server = Permitd.start(CONFIG);
                PermitClient client = PermitClient.connect(server.endpoint());
                Guard guard = client.acquire(Request.of("small/k").tokens(600))) {
            assertTrue(guard.isManaged());
            assertEquals(600, guard.permit().charged().inputTokens().orElseThrow());
            Advice advice = guard.report(Report.success().tokens(100)).get();
            assertEquals(Outcome.SUCCESS, advice.outcome());
            assertTrue(advice.settled());
            assertFalse(advice.retry());
            // What was not used is there again.
            client.acquire(Request.of("small/k").tokens(900).maxWait(Duration.ZERO)).cancel();
        }
    }

    /** Goal: a refusal says what refused, why, and whether waiting helps. */
    @Test
    void refusalsAreStructured() throws Exception {
        try (Permitd server = Permitd.start(CONFIG);
                PermitClient client = PermitClient.connect(server.endpoint())) {
            PermitException never = assertThrows(
                    PermitException.class, () -> client.acquire(Request.of("small/k").tokens(1_001)));
            assertTrue(never.isRefused() && never.isImpossible() && !never.isTimeout());
            assertEquals("OUT_OF_RANGE", never.code());
            assertEquals("tokens/1h", never.limit().orElseThrow());
            assertTrue(never.retryAfter().isEmpty());

            Guard held = client.acquire("slot/k");
            PermitException notNow = assertThrows(
                    PermitException.class, () -> client.acquire(Request.of("slot/k").maxWait(Duration.ZERO)));
            assertTrue(notNow.isRefused() && notNow.isTimeout());
            assertEquals("NOT_IN_TIME", notNow.reason());
            assertTrue(notNow.retryAfter().isPresent());
            held.cancel();
        }
    }

    /** Goal: whoever is interrupted or cancels leaves the queue, and those behind move up. */
    @Test
    void whoStopsWaitingLeavesTheQueue() throws Exception {
        try (Permitd server = Permitd.start(CONFIG);
                PermitClient client = PermitClient.connect(server.endpoint())) {
            Guard first = client.acquire("slot/k");
            CompletableFuture<Guard> cancelled = client.acquireAsync(Request.of("slot/k"));
            CompletableFuture<Throwable> interrupted = new CompletableFuture<>();
            Thread thread = new Thread(() -> {
                try (Guard none = client.acquire("slot/k")) {
                    interrupted.complete(null);
                } catch (Exception problem) {
                    interrupted.complete(problem);
                }
            });
            thread.start();
            thread.interrupt();
            assertTrue(interrupted.get() instanceof InterruptedException);
            assertTrue(cancelled.cancel(true));
            CompletableFuture<Guard> last = client.acquireAsync(Request.of("slot/k"));
            first.report(Report.success());
            last.get().cancel();
        }
    }

    /** Goal: a guard that is closed without a report gives its slot back, and a second report changes nothing. */
    @Test
    void guardsSettleOnce() throws Exception {
        try (Permitd server = Permitd.start(CONFIG);
                PermitClient client = PermitClient.connect(server.endpoint())) {
            client.acquire("slot/k").close();
            Guard guard = client.acquire("slot/k");
            CompletableFuture<Advice> first = guard.report(Report.rateLimited().retryAfter(Duration.ZERO));
            assertEquals(first.get(), guard.report(Report.success()).get());
            assertEquals(Outcome.RATE_LIMITED, first.get().outcome());
        }
    }

    /** Goal: nothing runs any more once a client is closed, and nobody is left waiting. */
    @Test
    void closingLeavesNothing() throws Exception {
        try (Permitd server = Permitd.start(CONFIG)) {
            Set<Thread> before = Thread.getAllStackTraces().keySet();
            PermitClient client = PermitClient.connect(server.endpoint());
            Guard held = client.acquire("slot/k");
            CompletableFuture<Guard> waiting = client.acquireAsync(Request.of("slot/k"));
            client.close();
            client.close();
            Throwable told = waiting.handle((guard, problem) -> problem).get();
            assertTrue(told instanceof PermitException problem && problem.isClosed(), String.valueOf(told));
            assertTrue(assertThrows(PermitException.class, () -> client.acquire("slot/k")).isClosed());
            held.close();
            Set<Thread> left = new HashSet<>(Thread.getAllStackTraces().keySet());
            left.removeAll(before);
            left.removeIf(thread -> !thread.getName().startsWith("permitd-") && !thread.getName().contains("grpc"));
            assertEquals(Set.of(), left);
            try (PermitClient next = PermitClient.connect(server.endpoint())) {
                next.acquire("slot/k").cancel();
            }
        }
    }
}
