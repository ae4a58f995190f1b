package dev.permitd.client;

import static org.junit.jupiter.api.Assertions.assertNotNull;

import io.grpc.Server;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import permitd.v1.PermitOuterClass.AcquireRequest;
import permitd.v1.PermitOuterClass.ReportRequest;
import permitd.v1.PermitOuterClass.ReportResponse;
import permitd.v1.PermitServiceGrpc.PermitServiceImplBase;
import permitd.v1.Session.Granted;
import permitd.v1.Session.Hello;
import permitd.v1.Session.LocalShare;
import permitd.v1.Session.Refused;
import permitd.v1.Session.SessionRequest;
import permitd.v1.Session.SessionResponse;
import permitd.v1.Session.Welcome;

/** A permit service that does only what the test tells it to. */
final class FakeServer implements AutoCloseable {
    /** Nothing in a test takes as long as this, in seconds, unless it fails. */
    static final long PATIENCE = 20;

    private final BlockingQueue<Session> sessions = new LinkedBlockingQueue<>();
    private final List<Session> all = new CopyOnWriteArrayList<>();
    private final Server server;
    private final int port;

    private FakeServer(int port) throws IOException {
        server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", port))
                .addService(new PermitServiceImplBase() {
                    @Override
                    public StreamObserver<SessionRequest> session(StreamObserver<SessionResponse> answers) {
                        Session session = new Session((ServerCallStreamObserver<SessionResponse>) answers);
                        all.add(session);
                        sessions.add(session);
                        return session;
                    }
                })
                .build()
                .start();
        this.port = server.getPort();
    }

    static FakeServer start() throws IOException {
        return new FakeServer(0);
    }

    /** Where another one was killed before. */
    static FakeServer startAt(int port) throws IOException {
        return new FakeServer(port);
    }

    int port() {
        return port;
    }

    String endpoint() {
        return "http://127.0.0.1:" + port;
    }

    /** The next session, after its Hello and before its Welcome. */
    Session session() throws InterruptedException {
        Session session = sessions.poll(PATIENCE, TimeUnit.SECONDS);
        assertNotNull(session, "a session begins soon");
        session.hello = session.next(Hello.class);
        return session;
    }

    /** The next session, welcomed. */
    Session welcomed(boolean resumed) throws InterruptedException {
        Session session = session();
        session.welcome(resumed);
        return session;
    }

    /** From here on, and for what was not answered yet, reports are settled, so that a client can end politely. */
    void settleAll() {
        all.forEach(Session::settleAll);
    }

    /** As {@code kill -9}: connections break, the port is closed. */
    @Override
    public void close() {
        server.shutdownNow();
        try {
            server.awaitTermination(PATIENCE, TimeUnit.SECONDS);
        } catch (InterruptedException hurry) {
            Thread.currentThread().interrupt();
        }
    }

    /** A cancel, by the request's id. */
    record Cancel(long requestId) {}

    /** An extension, by the permit's id. */
    record Extend(String permitId) {}

    /** How the client ended its side: politely, or broken. */
    record End(boolean isPolite) {}

    /** One stream, and what the client said on it, item by item. */
    static final class Session implements StreamObserver<SessionRequest> {
        Hello hello;

        /** What came in one message, in order. */
        final List<SessionRequest> messages = new ArrayList<>();

        private boolean settles;
        private boolean isEnded;
        private final BlockingQueue<Object> items = new LinkedBlockingQueue<>();
        private final ServerCallStreamObserver<SessionResponse> answers;

        private Session(ServerCallStreamObserver<SessionResponse> answers) {
            this.answers = answers;
        }

        /** The next thing that the client says, which has to be of this kind. */
        <I> I next(Class<I> kind) throws InterruptedException {
            Object item = items.poll(PATIENCE, TimeUnit.SECONDS);
            assertNotNull(item, "the client says something soon");
            return kind.cast(item);
        }

        /** Nobody listens any more to a session that broke. */
        void say(SessionResponse.Builder response) {
            synchronized (answers) {
                if (!isEnded && !answers.isCancelled()) {
                    answers.onNext(response.build());
                }
            }
        }

        void welcome(boolean resumed) {
            say(SessionResponse.newBuilder()
                    .setWelcome(Welcome.newBuilder()
                            .setSessionId(hello.getSessionId())
                            .setResumed(resumed)
                            .setGrace(com.google.protobuf.Duration.newBuilder().setSeconds(10))));
        }

        void grant(long requestId, String permitId) {
            grant(requestId, permitId, 600);
        }

        void grant(long requestId, String permitId, long ttlSeconds) {
            say(SessionResponse.newBuilder()
                    .addGranted(Granted.newBuilder()
                            .setRequestId(requestId)
                            .setPermit(permitd.v1.PermitOuterClass.Permit.newBuilder()
                                    .setPermitId(permitId)
                                    .setProvider("p")
                                    .setKey("k")
                                    .setTtl(com.google.protobuf.Duration.newBuilder().setSeconds(ttlSeconds)))));
        }

        void refuse(Refused.Builder refused) {
            say(SessionResponse.newBuilder().addRefused(refused));
        }

        /** Answers a report as a server does that reads nothing but its outcome. */
        void settle(ReportRequest report) {
            say(SessionResponse.newBuilder()
                    .addReported(ReportResponse.newBuilder()
                            .setPermitId(report.getPermitId())
                            .setOutcome(report.getOutcome())
                            .setSettled(true)));
        }

        private void settleAll() {
            synchronized (messages) {
                settles = true;
                messages.forEach(message -> message.getReportList().forEach(this::settle));
            }
        }

        void share(LocalShare.Builder share) {
            say(SessionResponse.newBuilder().addShares(share));
        }

        void end(Status status) {
            synchronized (answers) {
                isEnded = true;
                answers.onError(status.asRuntimeException());
            }
        }

        void end() {
            synchronized (answers) {
                isEnded = true;
                answers.onCompleted();
            }
        }

        @Override
        public void onNext(SessionRequest message) {
            synchronized (messages) {
                messages.add(message);
                if (settles) {
                    message.getReportList().forEach(this::settle);
                }
            }
            if (message.hasHello()) {
                items.add(message.getHello());
            }
            items.addAll(message.getReportList());
            items.addAll(message.getAcquireList());
            message.getCancelList().forEach(id -> items.add(new Cancel(id)));
            message.getExtendList().forEach(id -> items.add(new Extend(id)));
        }

        @Override
        public void onError(Throwable broken) {
            items.add(new End(false));
        }

        @Override
        public void onCompleted() {
            items.add(new End(true));
            if (settles) {
                end();
            }
        }
    }
}
