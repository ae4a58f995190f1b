package dev.permitd.client;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import permitd.v1.PermitServiceGrpc;
import permitd.v1.Session.Hello;
import permitd.v1.Session.SessionRequest;
import permitd.v1.Session.SessionResponse;

/** The way to a server: waiting to try, trying, or up. There is always exactly one of these. Belongs to the driver's thread. */
final class Link {
    /** Answers that may be under way before the first of them is read. */
    private static final int READ_AHEAD = 8;

    /** How long the server is given to end its side of a session politely, in nanoseconds. */
    private static final long END_PATIENCE = 1_000_000_000L;

    /** What happens on the way to the server; told on the driver's thread. */
    interface Events {
        void onUp(boolean resumed, SessionResponse first);

        void onResponse(SessionResponse response);

        /** There is room for a message. */
        void onWritable();

        /** Call {@link Link#retry}. */
        void onLost(Problem problem);
    }

    private final Settings settings;
    private final ScheduledExecutorService thread;
    private final Transport transport;
    private final Events events;
    private final SessionRequest opening;

    /** The endpoint in use or to be tried next. */
    private int at;

    /** Failures since the last session that lived. */
    private int failures;

    /** Null while waiting to try. */
    private Attempt attempt;

    private Future<?> retrying;
    private boolean isEnded;

    Link(Settings settings, ScheduledExecutorService thread, Transport transport, Events events) {
        this.settings = settings;
        this.thread = thread;
        this.transport = transport;
        this.events = events;
        byte[] id = new byte[16];
        new SecureRandom().nextBytes(id);
        this.opening = SessionRequest.newBuilder()
                .setHello(Hello.newBuilder()
                        .setSessionId(HexFormat.of().formatHex(id))
                        .setClient(settings.name())
                        .setTenant(settings.tenant()))
                .build();
    }

    boolean isUp() {
        return attempt != null && attempt.isWelcome;
    }

    /** Whether a message would go out now: one is being written, and what comes meanwhile travels together. */
    boolean isWritable() {
        return isUp() && attempt.call.isReady();
    }

    void send(SessionRequest message) {
        attempt.call.sendMessage(message);
    }

    void dial() {
        if (!isEnded) {
            attempt = new Attempt(settings.endpoints().get(at));
            attempt.start();
        }
    }

    /** Tries again after a while, on the next endpoint or this one. */
    void retry(boolean elsewhere) {
        if (elsewhere) {
            at = (at + 1) % settings.endpoints().size();
        }
        long wait = Backoff.wait(failures, ThreadLocalRandom.current().nextDouble());
        failures++;
        retrying = thread.schedule(this::dial, wait, TimeUnit.NANOSECONDS);
    }

    /** Breaks a session off that is to be left. */
    void leave() {
        attempt.end();
    }

    /** Half-closes, lets the server end its side, then runs {@code done}. Nothing is told any more. */
    void end(Runnable done) {
        isEnded = true;
        if (retrying != null) {
            retrying.cancel(false);
        }
        if (!isUp()) {
            if (attempt != null) {
                attempt.end();
            }
            done.run();
            return;
        }
        Attempt last = attempt;
        last.onEnd = () -> {
            last.onEnd = null;
            last.end();
            done.run();
        };
        last.call.halfClose();
        // A server that keeps it open past that is left.
        thread.schedule(() -> last.tellEnd(), END_PATIENCE, TimeUnit.NANOSECONDS);
    }

    /** One connection with one session on it, from the first try to its end. */
    private final class Attempt extends ClientCall.Listener<SessionResponse> {
        private final Endpoint endpoint;
        private final long since = System.nanoTime();
        private ManagedChannel channel;
        private ClientCall<SessionRequest, SessionResponse> call;
        private Future<?> patience;
        private boolean isWelcome;
        private boolean isOver;
        private Runnable onEnd;

        Attempt(Endpoint endpoint) {
            this.endpoint = endpoint;
        }

        void start() {
            Metadata metadata;
            try {
                metadata = endpoint.metadata();
                channel = transport.open(endpoint);
            } catch (PermitException unusable) {
                lost(Problem.definitive("can't be connected to: " + unusable.getMessage()));
                return;
            }
            call = channel.newCall(PermitServiceGrpc.getSessionMethod(), CallOptions.DEFAULT);
            call.start(this, metadata);
            call.request(READ_AHEAD);
            call.sendMessage(opening);
            // Only now: what a JVM that has just begun takes to load what is above is not the server's fault.
            patience = thread.schedule(this::onTimeout, settings.connectTimeout(), TimeUnit.NANOSECONDS);
        }

        @Override
        public void onMessage(SessionResponse response) {
            if (isOver) {
                return;
            }
            call.request(1);
            if (isWelcome) {
                events.onResponse(response);
                return;
            }
            if (!response.hasWelcome()) {
                lost(Problem.definitive("answered without a Welcome: not permitd, or not this version"));
                return;
            }
            isWelcome = true;
            patience.cancel(false);
            events.onUp(response.getWelcome().getResumed(), response);
        }

        @Override
        public void onReady() {
            if (!isOver && isWelcome) {
                events.onWritable();
            }
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            tellEnd();
            if (!isOver) {
                lost(isWelcome ? Problem.midway(status) : Problem.of(status));
            }
        }

        private void onTimeout() {
            if (!isOver && !isWelcome) {
                lost(Problem.passing("does not answer within " + settings.connectTimeout() / 1_000_000 + " ms"));
            }
        }

        private void lost(Problem problem) {
            end();
            events.onLost(problem.at(endpoint));
        }

        private void tellEnd() {
            if (onEnd != null) {
                onEnd.run();
            }
        }

        /** A session that is dropped is reset: broken, and not politely ended. */
        private void end() {
            if (isOver) {
                return;
            }
            isOver = true;
            if (isWelcome && System.nanoTime() - since >= Backoff.GOOD_LIFE) {
                failures = 0;
            }
            attempt = null;
            if (patience != null) {
                patience.cancel(false);
            }
            if (call != null) {
                call.cancel("left", null);
            }
            if (channel != null) {
                channel.shutdownNow();
            }
        }
    }
}
