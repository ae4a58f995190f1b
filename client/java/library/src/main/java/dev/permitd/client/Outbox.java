package dev.permitd.client;

import java.util.ArrayDeque;
import java.util.function.LongConsumer;
import java.util.function.LongFunction;
import java.util.function.Function;
import permitd.v1.PermitOuterClass.AcquireRequest;
import permitd.v1.PermitOuterClass.ReportRequest;
import permitd.v1.Session.SessionRequest;

/**
 * What goes out next: ids only, in order. What they stand for is looked up when the message is built, so that what was cancelled
 * meanwhile is not sent at all.
 */
final class Outbox {
    /** The server's bounds on one message. */
    private static final int ACQUIRES_MAX = 1_000;
    private static final int CANCELS_MAX = 10_000;

    /** Ours, well within the server's bytes. */
    private static final int REPORTS_MAX = 4_000;
    private static final int EXTENDS_MAX = 4_000;

    /** Past this the message is full: the server takes 4 MiB, and one more item is at most a tenth of the rest. */
    private static final int MESSAGE_BYTES_MAX = 2 * 1024 * 1024;

    private final ArrayDeque<Long> acquires = new ArrayDeque<>();
    private final ArrayDeque<String> reports = new ArrayDeque<>();
    private final ArrayDeque<Long> cancels = new ArrayDeque<>();
    private final ArrayDeque<String> extensions = new ArrayDeque<>();

    void acquire(long requestId) {
        acquires.add(requestId);
    }

    void report(String permitId) {
        reports.add(permitId);
    }

    void cancel(long requestId) {
        cancels.add(requestId);
    }

    void extend(String permitId) {
        extensions.add(permitId);
    }

    void clear() {
        acquires.clear();
        reports.clear();
        cancels.clear();
        extensions.clear();
    }

    int cancels() {
        return cancels.size();
    }

    boolean isEmpty() {
        return acquires.isEmpty() && reports.isEmpty() && cancels.isEmpty() && extensions.isEmpty();
    }

    /** The next message. {@code acquire} and {@code report} say what an id stands for by now; null if nothing any more. */
    SessionRequest message(
            LongFunction<AcquireRequest> acquire, Function<String, ReportRequest> report, LongConsumer cancelled) {
        SessionRequest.Builder message = SessionRequest.newBuilder();
        int bytes = 0;
        // Reports first: they make room in the budget for what is asked next.
        while (!reports.isEmpty() && message.getReportCount() < REPORTS_MAX && bytes < MESSAGE_BYTES_MAX) {
            ReportRequest item = report.apply(reports.poll());
            if (item != null) {
                bytes += item.getSerializedSize();
                message.addReport(item);
            }
        }
        while (!acquires.isEmpty() && message.getAcquireCount() < ACQUIRES_MAX && bytes < MESSAGE_BYTES_MAX) {
            AcquireRequest item = acquire.apply(acquires.poll());
            if (item != null) {
                bytes += item.getSerializedSize();
                message.addAcquire(item);
            }
        }
        while (!cancels.isEmpty() && message.getCancelCount() < CANCELS_MAX) {
            long requestId = cancels.poll();
            cancelled.accept(requestId);
            message.addCancel(requestId);
        }
        while (!extensions.isEmpty() && message.getExtendCount() < EXTENDS_MAX) {
            message.addExtend(extensions.poll());
        }
        return message.build();
    }
}
