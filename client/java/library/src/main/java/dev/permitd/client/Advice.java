package dev.permitd.client;

import java.time.Duration;
import java.util.Optional;
import permitd.v1.PermitOuterClass.ReportResponse;

/**
 * The answer to a {@link Report}.
 *
 * @param outcome how the call went, as classified
 * @param settled whether this report settled the permit; false where it had expired, or was given without a server
 * @param retry whether the call is worth acquiring again for
 * @param retryAfter for information: acquiring again already waits in the queue
 */
public record Advice(Outcome outcome, boolean settled, boolean retry, Optional<Duration> retryAfter) {

    /** No server knows of the permit: nothing is settled and nothing advised. */
    static Advice unsettled(Report report) {
        return new Advice(report.assumedOutcome(), false, false, Optional.empty());
    }

    static Advice fromWire(ReportResponse answer) {
        Optional<Duration> wait =
                answer.hasRetryAfter() ? Optional.of(Spans.fromWire(answer.getRetryAfter())) : Optional.empty();
        return new Advice(Outcome.fromWire(answer.getOutcome()), answer.getSettled(), answer.getRetry(), wait);
    }
}
