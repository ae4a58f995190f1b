package dev.permitd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.permitd.client.FakeServer.Cancel;
import dev.permitd.client.FakeServer.End;
import dev.permitd.client.FakeServer.Session;
import io.grpc.Status;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import permitd.v1.PermitOuterClass.AcquireRequest;
import permitd.v1.PermitOuterClass.ReportRequest;
import permitd.v1.Session.Refused;

/** Sessions that break: nothing is lost, nothing is doubled, and callers do not notice. */
@Timeout(60)
class ResumeTest {
    private static PermitClient client(FakeServer... servers) throws Exception {
        return PermitClient.builder()
                .endpoints(List.of(servers).stream().map(FakeServer::endpoint).toList())
                .connectLazily();
    }

    private static CompletableFuture<Guard> ask(PermitClient client) {
        return client.acquireAsync(Request.of("p/k"));
    }

    /**
     * Goal: a broken stream is resumed with the same id; what has no answer is sent again under the same ids, and a grant that is known
     * already is not taken for a new one.
     */
    @Test
    void aBrokenSessionIsResumed() throws Exception {
        try (FakeServer server = FakeServer.start();
                PermitClient client = client(server);
                AutoCloseable rest = server::settleAll) {
            Session session = server.welcomed(false);
            var first = ask(client);
            var second = ask(client);
            var third = ask(client);
            long[] ids = new long[3];
            for (int at = 0; at < 3; at++) {
                ids[at] = session.next(AcquireRequest.class).getRequestId();
            }
            session.grant(ids[0], "held");
            session.grant(ids[1], "reported");
            Guard held = first.get();
            CompletableFuture<Advice> reporting = second.get().report(Report.success());
            session.next(ReportRequest.class);
            session.end(Status.INTERNAL);

            Session next = server.welcomed(true);
            assertEquals(session.hello.getSessionId(), next.hello.getSessionId());
            next.grant(ids[0], "held");
            next.grant(ids[1], "reported");
            ReportRequest again = next.next(ReportRequest.class);
            assertEquals("reported", again.getPermitId());
            assertEquals(ids[2], next.next(AcquireRequest.class).getRequestId());
            next.settle(again);
            assertTrue(reporting.get().settled());
            next.grant(ids[2], "third");
            assertEquals("third", third.get().permit().permitId());
            // Had the repeated grants been taken for new ones, they would have been given back before this.
            held.cancel();
            assertEquals("held", next.next(ReportRequest.class).getPermitId());
        }
    }

    /** Goal: a server that has forgotten the session is asked for everything again. */
    @Test
    void aForgottenSessionIsAskedAgain() throws Exception {
        FakeServer server = FakeServer.start();
        try (PermitClient client = client(server)) {
            Session session = server.welcomed(false);
            var first = ask(client);
            var second = ask(client);
            long[] ids = {session.next(AcquireRequest.class).getRequestId(), session.next(AcquireRequest.class).getRequestId()};
            int port = server.port();
            server.close();
            server = FakeServer.startAt(port);
            session = server.welcomed(false);
            assertEquals(ids[0], session.next(AcquireRequest.class).getRequestId());
            assertEquals(ids[1], session.next(AcquireRequest.class).getRequestId());
            session.grant(ids[0], "p1");
            session.grant(ids[1], "p2");
            first.get().cancel();
            second.get().cancel();
            server.settleAll();
        } finally {
            server.close();
        }
    }

    /** Goal: a cancel that was on its way when the stream broke is said again. */
    @Test
    void aLostCancelIsSaidAgain() throws Exception {
        try (FakeServer server = FakeServer.start();
                PermitClient client = client(server);
                AutoCloseable rest = server::settleAll) {
            Session session = server.welcomed(false);
            var asking = ask(client);
            long id = session.next(AcquireRequest.class).getRequestId();
            asking.cancel(false);
            assertEquals(new Cancel(id), session.next(Cancel.class));
            session.end(Status.INTERNAL);
            assertEquals(new Cancel(id), server.welcomed(true).next(Cancel.class));
        }
    }

    /** Goal: a grant that crosses a cancel is given back. */
    @Test
    void aGrantThatCrossesACancelGoesBack() throws Exception {
        try (FakeServer server = FakeServer.start();
                PermitClient client = client(server);
                AutoCloseable rest = server::settleAll) {
            Session session = server.welcomed(false);
            var asking = ask(client);
            long id = session.next(AcquireRequest.class).getRequestId();
            asking.cancel(false);
            session.next(Cancel.class);
            session.grant(id, "crossed");
            ReportRequest back = session.next(ReportRequest.class);
            assertEquals("crossed", back.getPermitId());
            assertEquals(Outcome.CANCELLED.toWire(), back.getOutcome());
        }
    }

    /** Goal: a server that ends the stream as unavailable is left for the next one, without an error for anybody. */
    @Test
    void anUnavailableServerIsLeftForAnother() throws Exception {
        try (FakeServer first = FakeServer.start();
                FakeServer second = FakeServer.start();
                PermitClient client = client(first, second);
                AutoCloseable rest = second::settleAll) {
            Session session = first.welcomed(false);
            var asking = ask(client);
            long id = session.next(AcquireRequest.class).getRequestId();
            session.end(Status.UNAVAILABLE);
            session = second.welcomed(false);
            assertEquals(id, session.next(AcquireRequest.class).getRequestId());
            session.grant(id, "p1");
            asking.get().cancel();
        }
    }

    /** Goal: a request that a draining server hands back is taken to the next one; a report is still answered by the old. */
    @Test
    void aDrainingServerIsLeftForAnother() throws Exception {
        try (FakeServer first = FakeServer.start();
                FakeServer second = FakeServer.start();
                PermitClient client = client(first, second);
                AutoCloseable rest = second::settleAll) {
            Session session = first.welcomed(false);
            var granted = ask(client);
            var waiting = ask(client);
            session.grant(session.next(AcquireRequest.class).getRequestId(), "p1");
            long id = session.next(AcquireRequest.class).getRequestId();
            var reporting = granted.get().report(Report.success());
            ReportRequest report = session.next(ReportRequest.class);
            session.refuse(Refused.newBuilder().setRequestId(id).setCode(14).setReason("DRAINING"));
            session.settle(report);
            assertTrue(reporting.get().settled());
            session = second.welcomed(false);
            assertEquals(id, session.next(AcquireRequest.class).getRequestId());
            session.grant(id, "p2");
            waiting.get().cancel();
        }
    }

    /** Goal: a close says what there is to say, then half-closes. */
    @Test
    void aCloseIsPolite() throws Exception {
        try (FakeServer server = FakeServer.start()) {
            PermitClient client = client(server);
            Session session = server.welcomed(false);
            var asking = ask(client);
            session.grant(session.next(AcquireRequest.class).getRequestId(), "p1");
            Guard held = asking.get();
            Thread closing = new Thread(client::close);
            closing.start();
            ReportRequest report = session.next(ReportRequest.class);
            assertEquals(Outcome.FAILED.toWire(), report.getOutcome());
            session.settle(report);
            assertTrue(session.next(End.class).isPolite());
            session.end();
            closing.join();
            held.close();
        }
    }
}
