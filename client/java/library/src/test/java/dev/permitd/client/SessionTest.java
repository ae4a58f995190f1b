package dev.permitd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.permitd.client.FakeServer.Extend;
import dev.permitd.client.FakeServer.Session;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import permitd.v1.PermitOuterClass.AcquireRequest;
import permitd.v1.PermitOuterClass.ReportRequest;
import permitd.v1.Session.Refused;

/** What a client says to a server, message by message. */
@Timeout(60)
class SessionTest {
    private static PermitClient client(FakeServer server) throws PermitException {
        return PermitClient.builder().endpoint(server.endpoint()).tenant("web").connectLazily();
    }

    private static PermitException refusal(CompletableFuture<?> answer) {
        Throwable cause = assertThrows(ExecutionException.class, answer::get).getCause();
        assertTrue(cause instanceof PermitException, String.valueOf(cause));
        return (PermitException) cause;
    }

    /** Goal: whatever is ready travels together, within the server's bounds, and in order. */
    @Test
    void messagesAreCoalesced() throws Exception {
        try (FakeServer server = FakeServer.start();
                PermitClient client = client(server);
                AutoCloseable rest = server::settleAll) {
            List<CompletableFuture<Guard>> asking = new ArrayList<>();
            Session session = server.session();
            assertEquals("web", session.hello.getTenant());
            assertTrue(session.hello.getClient().startsWith("permitd-client-java/"), session.hello.getClient());
            assertTrue(session.hello.getSessionId().length() >= 32, "hard to guess");
            for (int at = 0; at < 2_500; at++) {
                asking.add(client.acquireAsync(Request.of("p/k").tokens(at + 1)));
            }
            session.welcome(false);
            for (int at = 0; at < 2_500; at++) {
                assertEquals(at + 1, session.next(AcquireRequest.class).getTokens());
            }
            synchronized (session.messages) {
                assertEquals(List.of(0, 1_000, 1_000, 500), session.messages.stream().map(m -> m.getAcquireCount()).toList());
            }
            asking.forEach(future -> future.cancel(false));
        }
    }

    /** Goal: a request says everything that was set, and the shorter of wait and timeout. */
    @Test
    void aRequestSaysEverything() throws Exception {
        try (FakeServer server = FakeServer.start();
                PermitClient client = client(server);
                AutoCloseable rest = server::settleAll) {
            Session session = server.welcomed(false);
            Usage estimate = Usage.none().inputTokens(7).maxOutputTokens(9).other("points", 3);
            Request request = Request.of("github/team/ä").model("m").tenant("t").estimate(estimate)
                    .priority(Priority.BATCH).maxWait(Duration.ofSeconds(90)).timeout(Duration.ofSeconds(30));
            CompletableFuture<Guard> asking = client.acquireAsync(request);
            AcquireRequest asked = session.next(AcquireRequest.class);
            assertEquals("github team/ä m t", String.join(" ", asked.getProvider(), asked.getKey(), asked.getModel(), asked.getTenant()));
            assertEquals(estimate.toWire(), asked.getEstimate());
            assertEquals(permitd.v1.PermitOuterClass.Priority.PRIORITY_BATCH, asked.getPriority());
            assertTrue(asked.getMaxWait().getSeconds() >= 20 && asked.getMaxWait().getSeconds() <= 30);
            asking.cancel(false);
        }
    }

    /** Goal: a request that is wrong in itself is refused before it is sent, with the field named. */
    @Test
    void badRequestsNameTheField() throws Exception {
        try (FakeServer server = FakeServer.start();
                PermitClient client = client(server);
                AutoCloseable rest = server::settleAll) {
            String endless = "x".repeat(257);
            for (Request bad : List.of(
                    Request.of(""), Request.of("/k"), Request.of(endless), Request.of("p/" + endless), Request.of("p").model(endless),
                    Request.of("p").tenant(endless), Request.of("p").estimate(Usage.none().other("", 1)))) {
                PermitException problem = refusal(client.acquireAsync(bad));
                assertTrue(problem.isInvalid(), problem.getMessage());
                assertTrue(problem.getMessage().matches("(provider|key|model|tenant|estimate.other): .*"), problem.getMessage());
            }
            assertThrows(IllegalArgumentException.class, () -> Request.of("p").tokens(-1));
            assertThrows(IllegalArgumentException.class, () -> Request.of("p").maxWait(Duration.ofSeconds(-1)));
            assertEquals("budget", assertThrows(NullPointerException.class, () -> Request.of(null)).getMessage());
        }
    }

    /** Goal: the caller's own timeout holds, whatever the server does, and leaves the queue. */
    @Test
    void aTimeoutIsKept() throws Exception {
        try (FakeServer server = FakeServer.start();
                PermitClient client = client(server);
                AutoCloseable rest = server::settleAll) {
            Session session = server.welcomed(false);
            CompletableFuture<Guard> asking = client.acquireAsync(Request.of("p/k").timeout(Duration.ofMillis(50)));
            long id = session.next(AcquireRequest.class).getRequestId();
            PermitException problem = refusal(asking);
            assertTrue(problem.isTimeout() && !problem.isRefused());
            assertEquals("DEADLINE_EXCEEDED", problem.reason());
            assertEquals(id, session.next(FakeServer.Cancel.class).requestId());
            PermitException silent = refusal(client.acquireAsync(Request.of("p/k").maxWait(Duration.ZERO)));
            assertEquals("NOT_IN_TIME", silent.reason());
        }
    }

    /** Goal: a permit is extended while its guard lives, and not after. */
    @Test
    void longCallsAreExtended() throws Exception {
        try (FakeServer server = FakeServer.start();
                PermitClient client = client(server);
                AutoCloseable rest = server::settleAll) {
            Session session = server.welcomed(false);
            CompletableFuture<Guard> asking = client.acquireAsync(Request.of("p/k"));
            session.grant(session.next(AcquireRequest.class).getRequestId(), "long", 1);
            Guard guard = asking.get();
            assertEquals(new Extend("long"), session.next(Extend.class));
            assertEquals(new Extend("long"), session.next(Extend.class));
            // A server that does not know it any more is not asked again.
            session.refuse(Refused.newBuilder().setPermitId("long").setReason("PERMIT_UNKNOWN").setCode(5));
            CompletableFuture<Guard> other = client.acquireAsync(Request.of("p/k"));
            Object next = session.next(Object.class);
            while (next instanceof Extend) {
                next = session.next(Object.class);
            }
            session.grant(((AcquireRequest) next).getRequestId(), "other", 2);
            Guard second = other.get();
            assertEquals(new Extend("other"), session.next(Extend.class));
            guard.cancel();
            second.cancel();
        }
    }

    /** Goal: a guard that was forgotten is found, and settled as failed. */
    @Test
    void aForgottenGuardIsSettled() throws Exception {
        try (FakeServer server = FakeServer.start();
                PermitClient client = client(server);
                AutoCloseable rest = server::settleAll) {
            Session session = server.welcomed(false);
            CompletableFuture<Guard> asking = client.acquireAsync(Request.of("p/k"));
            session.grant(session.next(AcquireRequest.class).getRequestId(), "forgotten", 1);
            asking.get();
            asking = null;
            Object next = null;
            while (!(next instanceof ReportRequest)) {
                System.gc();
                // In between, it is extended: each of them is a moment at which it is looked for.
                next = session.next(Object.class);
            }
            ReportRequest report = (ReportRequest) next;
            assertEquals("forgotten", report.getPermitId());
            assertEquals(Outcome.FAILED.toWire(), report.getOutcome());
        }
    }

    /** Goal: a report that the server can't read is cut down to its outcome, so that the permit is settled all the same. */
    @Test
    void aReportThatIsRefusedIsCutDown() throws Exception {
        try (FakeServer server = FakeServer.start();
                PermitClient client = client(server);
                AutoCloseable rest = server::settleAll) {
            Session session = server.welcomed(false);
            CompletableFuture<Guard> asking = client.acquireAsync(Request.of("p/k"));
            session.grant(session.next(AcquireRequest.class).getRequestId(), "p1");
            CompletableFuture<Advice> advice = asking.get().report(Report.status(503).body("x".repeat(5_000)));
            ReportRequest report = session.next(ReportRequest.class);
            assertEquals(Report.BODY_BYTES_MAX, report.getBody().size());
            session.refuse(Refused.newBuilder().setPermitId("p1").setCode(3).setReason("INVALID_ARGUMENT").setMessage("body: no"));
            assertTrue(refusal(advice).isInvalid());
            ReportRequest bare = session.next(ReportRequest.class);
            assertEquals(Outcome.FAILED.toWire(), bare.getOutcome());
            assertEquals(0, bare.getBody().size());
            session.settle(bare);
        }
    }

    /** Goal: a call is made again while that is advised and attempts are left; its own exception comes through. */
    @Test
    void callsAreMadeAgain() throws Exception {
        try (FakeServer server = FakeServer.start();
                PermitClient client = client(server);
                AutoCloseable rest = server::settleAll) {
            Session session = server.welcomed(false);
            Thread answering = new Thread(() -> answer(session));
            answering.start();
            AtomicInteger made = new AtomicInteger();
            Caller<Integer> caller = client.<Integer>caller().classify((status, error) ->
                    error == null ? Report.status(status) : Report.failed());
            assertEquals(200, caller.call(Request.of("p/k"), permit -> made.incrementAndGet() < 3 ? 429 : 200));
            assertEquals(3, made.get());
            assertEquals(429, caller.attempts(2).callAsync(Request.of("p/k"), permit -> CompletableFuture.completedFuture(429)).get());
            Exception own = new Exception("own");
            Exception thrown = assertThrows(Exception.class, () -> caller.call(Request.of("p/k"), permit -> {
                throw own;
            }));
            assertEquals(own, thrown);
            assertFalse(answering.isInterrupted());
            answering.interrupt();
        }
    }

    /** Grants everything, and advises another try after a 429. */
    private static void answer(Session session) {
        try {
            while (true) {
                Object item = session.next(Object.class);
                if (item instanceof AcquireRequest asked) {
                    session.grant(asked.getRequestId(), "p" + asked.getRequestId());
                } else if (item instanceof ReportRequest report) {
                    session.say(permitd.v1.Session.SessionResponse.newBuilder()
                            .addReported(permitd.v1.PermitOuterClass.ReportResponse.newBuilder()
                                    .setPermitId(report.getPermitId())
                                    .setSettled(true)
                                    .setRetry(report.getHttpStatus() == 429)));
                }
            }
        } catch (InterruptedException done) {
            Thread.currentThread().interrupt();
        }
    }
}
