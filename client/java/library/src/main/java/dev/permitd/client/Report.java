package dev.permitd.client;

import com.google.protobuf.ByteString;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Locale;
import java.util.Objects;
import java.util.Optional;
import permitd.v1.PermitOuterClass.ReportRequest;

/**
 * Says how the call of one permit went. Immutable; each setter gives a new report.
 *
 * <pre>{@code
 * // Say it outright,
 * Report good = Report.success().inputTokens(812).outputTokens(96);
 * // or pass on what the provider said; the server reads it by the provider's profile.
 * Report bad = Report.status(429).header("retry-after", "7").body("{\"error\":{}}");
 * }</pre>
 */
public final class Report {
    /** Bytes of an error body that are sent on; the rest is cut off. The server's bound. */
    public static final int BODY_BYTES_MAX = 4 * 1024;

    /** Headers that one report carries; the rest is left out. */
    private static final int HEADERS_MAX = 64;

    /** Bytes in one header's value; longer ones are left out. */
    private static final int HEADER_BYTES_MAX = 1024;

    /**
     * Parts of the names of headers that can say something about limits. Profiles on the server decide which ones count; this only
     * keeps out what no profile could want.
     */
    private static final String[] TELLING =
            {"limit", "retry", "quota", "remaining", "reset", "throttl", "x-amzn-errortype", "x-should-retry"};

    private static final Report SUCCESS = of(Outcome.SUCCESS);
    private static final Report FAILED = of(Outcome.FAILED);
    private static final Report RATE_LIMITED = of(Outcome.RATE_LIMITED);
    private static final Report CANCELLED = of(Outcome.CANCELLED);

    /** Without the permit's id. */
    private final ReportRequest wire;

    private Report(ReportRequest wire) {
        this.wire = wire;
    }

    /** It went like this. */
    public static Report of(Outcome outcome) {
        Objects.requireNonNull(outcome, "outcome");
        return new Report(ReportRequest.newBuilder().setOutcome(outcome.toWire()).build());
    }

    /** It worked. */
    public static Report success() {
        return SUCCESS;
    }

    /** It was sent, and failed for a reason that has nothing to do with limits. */
    public static Report failed() {
        return FAILED;
    }

    /** The provider refused it for a rate of requests or tokens. */
    public static Report rateLimited() {
        return RATE_LIMITED;
    }

    /** It was never sent: everything goes back to the budget. */
    public static Report cancelled() {
        return CANCELLED;
    }

    /**
     * The provider answered with this HTTP status; the server decides what it means. Add {@linkplain #header headers} and the
     * {@linkplain #body(byte[]) body} of an error.
     */
    public static Report status(int status) {
        return new Report(ReportRequest.newBuilder().setHttpStatus(status).build());
    }

    /** A response header. Only those that can say something about limits are kept: never a cookie or a credential. */
    public Report header(String name, String value) {
        Objects.requireNonNull(name, "name");
        Objects.requireNonNull(value, "value");
        String lower = name.toLowerCase(Locale.ROOT);
        if (!saysSomethingOfLimits(lower)
                || value.getBytes(StandardCharsets.UTF_8).length > HEADER_BYTES_MAX
                || wire.getHeadersCount() >= HEADERS_MAX) {
            return this;
        }
        return new Report(wire.toBuilder().putHeaders(lower, value).build());
    }

    /** The body of an error, or its beginning; at most {@link #BODY_BYTES_MAX} are sent. */
    public Report body(byte[] body) {
        Objects.requireNonNull(body, "body");
        ByteString kept = ByteString.copyFrom(body, 0, Math.min(body.length, BODY_BYTES_MAX));
        return new Report(wire.toBuilder().setBody(kept).build());
    }

    /** The same for text. */
    public Report body(String body) {
        Objects.requireNonNull(body, "body");
        return body(body.getBytes(StandardCharsets.UTF_8));
    }

    /** The wait that the provider asked for; wins over headers and body. */
    public Report retryAfter(Duration wait) {
        Objects.requireNonNull(wait, "wait");
        return new Report(wire.toBuilder().setRetryAfter(Spans.toWire(wait)).build());
    }

    /** What was used; absent units stay as charged. */
    public Report actual(Usage actual) {
        Objects.requireNonNull(actual, "actual");
        ReportRequest.Builder builder = wire.toBuilder();
        return new Report(actual.isEmpty() ? builder.clearActual().build() : builder.setActual(actual.toWire()).build());
    }

    /** So many tokens were used, input and output together. */
    public Report tokens(long amount) {
        return actual(Usage.fromWire(wire.getActual()).tokens(amount));
    }

    /** So many tokens went into the model. */
    public Report inputTokens(long amount) {
        return actual(Usage.fromWire(wire.getActual()).inputTokens(amount));
    }

    /** So many tokens came out of the model. */
    public Report outputTokens(long amount) {
        return actual(Usage.fromWire(wire.getActual()).outputTokens(amount));
    }

    /** How long the call took. Filled in by {@link PermitClient#call} and the HTTP adapters. */
    public Report latency(Duration latency) {
        Objects.requireNonNull(latency, "latency");
        return new Report(wire.toBuilder().setLatency(Spans.toWire(latency)).build());
    }

    /** Whether the outcome is said outright, and which. */
    public Optional<Outcome> outcome() {
        return isOutright() ? Optional.of(Outcome.fromWire(wire.getOutcome())) : Optional.empty();
    }

    /** The wait that the provider asked for, if it was said outright. */
    Optional<Duration> retryAfter() {
        return wire.hasRetryAfter() ? Optional.of(Spans.fromWire(wire.getRetryAfter())) : Optional.empty();
    }

    Report latencyIfUnknown(Duration latency) {
        return wire.hasLatency() ? this : latency(latency);
    }

    /** Whether it says nothing but "it worked", or leaves the outcome to a status below 400. */
    boolean isGood() {
        return isOutright()
                ? wire.getOutcome() == permitd.v1.PermitOuterClass.Outcome.OUTCOME_SUCCESS
                : wire.getHttpStatus() < 400;
    }

    /** The outcome as far as the report tells by itself. */
    Outcome assumedOutcome() {
        return outcome().orElse(isGood() ? Outcome.SUCCESS : Outcome.FAILED);
    }

    ReportRequest toWire(String permitId) {
        return wire.toBuilder().setPermitId(permitId).build();
    }

    /** As it will be sent, for a permit that no server knows. */
    ReportRequest toWire() {
        return wire;
    }

    private boolean isOutright() {
        return wire.getOutcome() != permitd.v1.PermitOuterClass.Outcome.OUTCOME_UNSPECIFIED;
    }

    private static boolean saysSomethingOfLimits(String name) {
        if (name.equals("date")) {
            return true;
        }
        for (String part : TELLING) {
            if (name.contains(part)) {
                return true;
            }
        }
        return false;
    }
}
