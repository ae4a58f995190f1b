package dev.permitd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.permitd.client.FakeServer.Session;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import permitd.v1.BudgetOuterClass.Limit;
import permitd.v1.PermitOuterClass.AcquireRequest;
import permitd.v1.PermitOuterClass.ReportRequest;
import permitd.v1.Session.LocalShare;

/** No server, or something that is none: what each policy does, and what callers are told. */
@Timeout(60)
class OutageTest {
    private static final com.google.protobuf.Duration SECOND =
            com.google.protobuf.Duration.newBuilder().setSeconds(1).build();

    private static ClientBuilder builder(String endpoint, OutagePolicy policy) {
        return PermitClient.builder().endpoint(endpoint).outagePolicy(policy).outageAfter(Duration.ofMillis(100));
    }

    private static String nobody() throws IOException {
        try (ServerSocket free = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return "http://127.0.0.1:" + free.getLocalPort();
        }
    }

    /** A client that was cut off from its server, with permits that it got before. */
    private record CutOff(PermitClient client, List<Guard> held, int port) implements AutoCloseable {
        static CutOff start(OutagePolicy policy, int permits, LocalShare.Builder share) throws Exception {
            FakeServer server = FakeServer.start();
            PermitClient client = builder(server.endpoint(), policy).connectLazily();
            Session session = server.welcomed(false);
            if (share != null) {
                session.share(share);
            }
            List<Guard> held = new ArrayList<>();
            for (int at = 0; at <= permits; at++) {
                CompletableFuture<Guard> asking = client.acquireAsync(Request.of("p/k"));
                session.grant(session.next(AcquireRequest.class).getRequestId(), "p" + at);
                held.add(asking.get());
            }
            // What came before this grant has been learned by now.
            held.remove(permits).cancel();
            session.settle(session.next(ReportRequest.class));
            server.close();
            return new CutOff(client, held, server.port());
        }

        @Override
        public void close() {
            client.close();
        }
    }

    private static LocalShare.Builder share(Limit.Builder... limits) {
        LocalShare.Builder share = LocalShare.newBuilder().setProvider("p").setKey("k");
        for (Limit.Builder limit : limits) {
            share.addLimits(limit);
        }
        return share.setValidFor(com.google.protobuf.Duration.newBuilder().setSeconds(600));
    }

    private static Limit.Builder rate(String unit, long amount) {
        return Limit.newBuilder().setUnit(unit).setAmount(amount).setPer(SECOND);
    }

    /** Goal: nobody there is told at once to who wants it closed, with what to do. */
    @Test
    void withoutAServerItFailsClosed() throws Exception {
        String nobody = nobody();
        PermitException problem = assertThrows(
                PermitException.class, () -> builder(nobody, OutagePolicy.FAIL_CLOSED).connect());
        assertTrue(problem.isUnavailable());
        assertEquals("NO_SERVER", problem.reason());
        assertTrue(problem.getMessage().contains(nobody) && problem.getMessage().contains("permitd serve"), problem.getMessage());
    }

    /** Goal: fail_open grants what nobody manages, and its reports bother nobody. */
    @Test
    void withoutAServerItFailsOpen() throws Exception {
        try (PermitClient client = builder(nobody(), OutagePolicy.FAIL_OPEN).connect();
                Guard guard = client.acquire(Request.of("p/k").tokens(5))) {
            assertFalse(guard.isManaged());
            assertEquals(Permit.Source.FAIL_OPEN, guard.permit().source());
            assertEquals(5, guard.permit().charged().tokens().orElseThrow());
            Advice advice = guard.report(Report.success()).get();
            assertTrue(!advice.settled() && !advice.retry());
        }
    }

    /** Goal: a report that finds no server is kept, and the next server hears of it. */
    @Test
    void aReportWaitsForTheNextServer() throws Exception {
        try (CutOff cutOff = CutOff.start(OutagePolicy.FAIL_CLOSED, 1, null)) {
            // Once this is refused, the policy holds.
            assertThrows(PermitException.class, () -> cutOff.client.acquire("p/k"));
            Throwable told = assertThrows(
                            ExecutionException.class, () -> cutOff.held.get(0).report(Report.rateLimited()).get())
                    .getCause();
            assertTrue(told.getMessage().contains("kept"), told.getMessage());
            try (FakeServer server = FakeServer.startAt(cutOff.port)) {
                Session session = server.welcomed(false);
                ReportRequest report = session.next(ReportRequest.class);
                assertEquals("p0", report.getPermitId());
                assertEquals(Outcome.RATE_LIMITED.toWire(), report.getOutcome());
                session.settle(report);
            }
        }
    }

    /** Goal: the share is enforced: it begins empty, is refilled at its rate, and what can never be had is refused at once. */
    @Test
    void aLocalShareIsEnforced() throws Exception {
        try (CutOff cutOff = CutOff.start(OutagePolicy.LOCAL_SHARE, 0, share(rate("tokens", 100)))) {
            PermitException never = assertThrows(
                    PermitException.class, () -> cutOff.client.acquire(Request.of("p/k").tokens(101)));
            assertTrue(never.isRefused() && never.isImpossible(), never.getMessage());
            assertEquals("tokens/1s", never.limit().orElseThrow());
            PermitException notNow = assertThrows(
                    PermitException.class, () -> cutOff.client.acquire(Request.of("p/k").tokens(100).maxWait(Duration.ZERO)));
            assertTrue(notNow.isTimeout() && notNow.getMessage().contains("local share"), notNow.getMessage());
            Guard guard = cutOff.client.acquire(Request.of("p/k").tokens(10));
            assertEquals(Permit.Source.LOCAL_SHARE, guard.permit().source());
            assertTrue(guard.report(Report.success()).get().settled());
            PermitException other = assertThrows(PermitException.class, () -> cutOff.client.acquire("q/k"));
            assertEquals("NO_LOCAL_SHARE", other.reason());
        }
    }

    /** Goal: permits that the server gave before count against the share's concurrency until they end. */
    @Test
    void permitsFromBeforeCountAgainstTheShare() throws Exception {
        LocalShare.Builder slots = share(Limit.newBuilder().setUnit("in_flight").setAmount(2));
        try (CutOff cutOff = CutOff.start(OutagePolicy.LOCAL_SHARE, 3, slots)) {
            Request now = Request.of("p/k").maxWait(Duration.ZERO);
            assertTrue(assertThrows(PermitException.class, () -> cutOff.client.acquire(now)).isRefused());
            // One was over the share: its end frees nothing.
            cutOff.held.get(0).close();
            assertTrue(assertThrows(PermitException.class, () -> cutOff.client.acquire(now)).isRefused());
            CompletableFuture<Guard> waiting = cutOff.client.acquireAsync(Request.of("p/k"));
            cutOff.held.get(1).close();
            Guard local = waiting.get();
            assertTrue(assertThrows(PermitException.class, () -> cutOff.client.acquire(now)).isRefused());
            local.cancel();
            cutOff.client.acquire(now).cancel();
        }
    }

    /** Goal: a server that is back takes over, and local permits are nobody's business. */
    @Test
    void aServerThatIsBackTakesOver() throws Exception {
        Limit.Builder slow = rate("requests", 100_000).setPer(com.google.protobuf.Duration.newBuilder().setSeconds(3_600));
        try (CutOff cutOff = CutOff.start(OutagePolicy.LOCAL_SHARE, 0, share(slow))) {
            Guard local = cutOff.client.acquire("p/k");
            Request whole = Request.of("p/k").estimate(Usage.none().requests(100_000));
            CompletableFuture<Guard> waiting = cutOff.client.acquireAsync(whole);
            try (FakeServer server = FakeServer.startAt(cutOff.port)) {
                Session session = server.welcomed(false);
                session.grant(session.next(AcquireRequest.class).getRequestId(), "back");
                assertTrue(waiting.get().isManaged());
                assertFalse(local.report(Report.success()).get().settled(), "nobody has to be asked");
                waiting.get().cancel();
                server.settleAll();
            }
        }
    }

    /** Goal: what is not permitd is called so, at once and by its address, however long outages are waited out. */
    @Test
    void whatIsNotPermitdIsCalledSo() throws Exception {
        try (ServerSocket web = new ServerSocket(0, 8, InetAddress.getLoopbackAddress())) {
            Thread serving = new Thread(() -> speakHttp1(web));
            serving.setDaemon(true);
            serving.start();
            PermitException problem = assertThrows(PermitException.class, () -> PermitClient.builder()
                    .endpoint("http://127.0.0.1:" + web.getLocalPort())
                    .outageAfter(Duration.ofHours(1))
                    .connect());
            assertTrue(problem.getMessage().contains("not a permitd server"), problem.getMessage());
            assertTrue(problem.getMessage().contains(":" + web.getLocalPort()), problem.getMessage());
        }
        var empty = io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder.forPort(0).build().start();
        try {
            PermitException problem = assertThrows(PermitException.class, () -> PermitClient.builder()
                    .endpoint("http://127.0.0.1:" + empty.getPort())
                    .outageAfter(Duration.ofHours(1))
                    .connect());
            assertTrue(problem.getMessage().contains("not a permitd server"), problem.getMessage());
        } finally {
            empty.shutdownNow();
        }
    }

    private static void speakHttp1(ServerSocket web) {
        while (true) {
            try (Socket socket = web.accept()) {
                socket.getOutputStream().write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".getBytes());
                socket.shutdownOutput();
                socket.getInputStream().readAllBytes();
            } catch (IOException closed) {
                if (web.isClosed()) {
                    return;
                }
            }
        }
    }

    /** Goal: a server that says nothing is not waited for without end. */
    @Test
    void aSilentServerIsGivenUp() throws Exception {
        try (ServerSocket silent = new ServerSocket(0, 8, InetAddress.getLoopbackAddress())) {
            PermitException problem = assertThrows(PermitException.class, () -> builder(
                            "http://127.0.0.1:" + silent.getLocalPort(), OutagePolicy.FAIL_CLOSED)
                    .connectTimeout(Duration.ofMillis(200))
                    .outageAfter(Duration.ofMillis(400))
                    .connect());
            assertTrue(problem.getMessage().contains("does not answer"), problem.getMessage());
        }
    }

    /** Goal: settings that make no sense are refused with the field named, before anything is connected. */
    @Test
    void badSettingsNameTheField() {
        var bad = java.util.Map.of(
                "endpoints: none", PermitClient.builder(),
                "endpoints: \"ftp://a:1\"", PermitClient.builder().endpoint("ftp://a:1"),
                "endpoints: http://a:1 is served in the clear", PermitClient.builder().endpoint("http://a:1").tls(Tls.system()),
                "token: is empty", PermitClient.builder().endpoint("http://127.0.0.1:1").token(""),
                "token: would be sent in the clear", PermitClient.builder().endpoint("http://a:1").token("t"),
                "tenant: 257 bytes", PermitClient.builder().endpoint("http://a:1").tenant("x".repeat(257)),
                "waitingMax: 0", PermitClient.builder().endpoint("http://a:1").waitingMax(0),
                "keepalive: is PT0S", PermitClient.builder().endpoint("http://a:1").keepalive(Duration.ZERO),
                "tls.ca: (not shown) has no", PermitClient.builder().endpoint("https://a:1").tls(Tls.system().caPem("garbage")));
        bad.forEach((problem, builder) -> {
            PermitException told = assertThrows(PermitException.class, builder::connectLazily, problem);
            assertTrue(told.isInvalid() && told.getMessage().startsWith(problem), told.getMessage());
        });
    }
}
