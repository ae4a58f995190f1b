package dev.permitd.client.http;

import dev.permitd.client.Guard;
import dev.permitd.client.Report;
import dev.permitd.client.Request;
import dev.permitd.client.Usage;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;

/** One HTTP call under one permit, whatever client makes it: what of it is reported, and when. Reports once. */
final class Exchange {
    /** Attempts where nobody said a number. */
    static final int ATTEMPTS = 4;

    /** Bytes of a request's body that is looked at; more than any provider takes. */
    static final int REQUEST_BYTES_MAX = 32 * 1024 * 1024;

    /** From here on a status is no success. */
    static final int REFUSED = 400;

    private final Guard guard;
    private final long began = System.nanoTime();
    private final AtomicBoolean isReported = new AtomicBoolean();

    Exchange(Guard guard) {
        this.guard = guard;
    }

    /** {@code base}, and what of estimate and model it leaves open by what {@code body} tells; null for a body that is not known. */
    static Request asked(Request base, byte[] body) {
        TokenEstimate estimate = body == null ? null : TokenEstimate.of(body).orElse(null);
        if (estimate == null) {
            return base;
        }
        Request request = base.hasEstimate() ? base : base.estimate(estimate.usage());
        return request.model().isEmpty() ? request.model(estimate.model()) : request;
    }

    /** Status and headers; the server reads them by the provider's profile. */
    Report report(int status, Map<String, List<String>> headers) {
        Report report = Report.status(status).latency(Duration.ofNanos(System.nanoTime() - began));
        for (var header : headers.entrySet()) {
            report = report.header(header.getKey(), String.join(", ", header.getValue()));
        }
        return report;
    }

    /** The body was read to its end. */
    void ended(int status, Map<String, List<String>> headers, Usage usage) {
        tell(report(status, headers).actual(usage));
    }

    /** The body was let go before its end: nobody knows what was used, so everything stays as charged. */
    void letGo(int status, Map<String, List<String>> headers) {
        tell(report(status, headers));
    }

    /** There was no answer, or it broke off. */
    void failed() {
        tell(Report.failed().latency(Duration.ofNanos(System.nanoTime() - began)));
    }

    /** There was no connection, so the call was certainly not sent. */
    void notSent() {
        tell(Report.cancelled());
    }

    private void tell(Report report) {
        if (isReported.compareAndSet(false, true)) {
            guard.report(report);
        }
    }
}
