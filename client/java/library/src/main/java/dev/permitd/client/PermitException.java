package dev.permitd.client;

import io.grpc.Status;
import java.io.IOException;
import java.time.Duration;
import java.util.Optional;
import permitd.v1.Session.Refused;

/**
 * Why there is no permit, or no answer to a report; with questions to ask it and a message that says what to do. It is an
 * {@link IOException}, so that it passes wherever the errors of the call itself do.
 *
 * <pre>{@code
 * catch (PermitException e) {
 *     if (e.isRefused()) {
 *         // The server said no: e.limit() names which limit did, e.retryAfter() when asking again may help.
 *     } else if (e.isUnavailable()) {
 *         // Nobody could be asked.
 *     }
 * }
 * }</pre>
 */
public final class PermitException extends IOException {
    private static final long serialVersionUID = 1;

    /** Reasons that this library acts on, or gives itself; all others come from the server. */
    static final String NOT_IN_TIME = "NOT_IN_TIME";
    static final String LARGER_THAN_LIMIT = "LARGER_THAN_LIMIT";
    static final String PERMIT_UNKNOWN = "PERMIT_UNKNOWN";
    static final String DRAINING = "DRAINING";

    private enum Kind {
        REFUSED,
        TIMEOUT,
        UNAVAILABLE,
        INVALID,
        CLOSED
    }

    private final Kind kind;
    private final String code;
    private final String reason;
    private final String limit;
    private final Duration retryAfter;

    private PermitException(
            Kind kind, Status.Code code, String reason, String message, String limit, Duration retryAfter) {
        super(message);
        this.kind = kind;
        this.code = code.name();
        this.reason = reason;
        this.limit = limit;
        this.retryAfter = retryAfter;
    }

    private PermitException(Kind kind, Status.Code code, String reason, String message) {
        this(kind, code, reason, message, null, null);
    }

    /** Somebody who was asked said no: the server, or the local share in its place. */
    public boolean isRefused() {
        return kind == Kind.REFUSED;
    }

    /**
     * The time that the caller gave was not enough: its own timeout passed, or the server knows that a grant can't come within
     * {@code maxWait} (then {@link #isRefused()} holds too).
     */
    public boolean isTimeout() {
        return kind == Kind.TIMEOUT || reason.equals(NOT_IN_TIME);
    }

    /** No server could be asked, and the outage policy does not stand in for it. */
    public boolean isUnavailable() {
        return kind == Kind.UNAVAILABLE;
    }

    /** The request itself makes no sense; the message names the field. Asking again is of no use. */
    public boolean isInvalid() {
        return kind == Kind.INVALID;
    }

    /** The request asks for more than the limit ever holds. Asking again is of no use. */
    public boolean isImpossible() {
        return reason.equals(LARGER_THAN_LIMIT);
    }

    /** The client was closed. */
    public boolean isClosed() {
        return kind == Kind.CLOSED;
    }

    /** The gRPC status code by its name, for example {@code RESOURCE_EXHAUSTED}. */
    public String code() {
        return code;
    }

    /** The reason by its stable name in UPPER_SNAKE_CASE, for example {@code QUEUE_FULL} or {@code BUDGET_UNKNOWN}. */
    public String reason() {
        return reason;
    }

    /** When asking again may help; absent means never, or not known. */
    public Optional<Duration> retryAfter() {
        return Optional.ofNullable(retryAfter);
    }

    /** The limit that refused, for example {@code tokens/1m}, if one did. */
    public Optional<String> limit() {
        return Optional.ofNullable(limit);
    }

    /** The same, thrown anew: with the stack of the thread that waited for it. */
    PermitException here() {
        PermitException here =
                new PermitException(kind, Status.Code.valueOf(code), reason, getMessage(), limit, retryAfter);
        here.initCause(this);
        return here;
    }

    static PermitException invalid(String field, String problem) {
        return new PermitException(
                Kind.INVALID, Status.Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", field + ": " + problem);
    }

    static PermitException timeout() {
        String message = "the timeout passed before the call was through; allow more time (timeout, maxWait)";
        return new PermitException(Kind.TIMEOUT, Status.Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", message);
    }

    static PermitException noAnswerInTime() {
        String message =
                "maxWait passed without an answer from the server; try again later or wait longer (maxWait)";
        return new PermitException(Kind.TIMEOUT, Status.Code.RESOURCE_EXHAUSTED, NOT_IN_TIME, message);
    }

    static PermitException clientFull(int waitingMax) {
        String message = waitingMax + " requests of this client wait already and none left in time; slow down, allow more"
                + " time (maxWait), or raise ClientBuilder.waitingMax";
        return new PermitException(Kind.REFUSED, Status.Code.RESOURCE_EXHAUSTED, "CLIENT_FULL", message);
    }

    /** {@code problem} is the last thing that went wrong while connecting. */
    static PermitException noServer(String problem) {
        String message = "no permitd server can be reached: " + problem
                + "; check the endpoints and that `permitd serve` runs";
        return new PermitException(Kind.UNAVAILABLE, Status.Code.UNAVAILABLE, "NO_SERVER", message);
    }

    static PermitException noLocalShare(String budget, String problem) {
        String message = "no permitd server can be reached (" + problem + "), and there is no valid local share of "
                + budget + "; shares come with the use of a budget, for the time that the server says";
        return new PermitException(Kind.UNAVAILABLE, Status.Code.UNAVAILABLE, "NO_LOCAL_SHARE", message);
    }

    static PermitException reportKept(String problem) {
        String message = "the report has no answer yet: " + problem
                + "; it is kept and sent as soon as a server can be reached";
        return new PermitException(Kind.UNAVAILABLE, Status.Code.UNAVAILABLE, "NO_SERVER", message);
    }

    static PermitException closed() {
        String message = "the client was closed; connect a new one";
        return new PermitException(Kind.CLOSED, Status.Code.CANCELLED, "CLIENT_CLOSED", message);
    }

    /** The server's refusal of an acquire or a report. */
    static PermitException refused(Refused refused) {
        Status.Code code = Status.fromCodeValue(refused.getCode()).getCode();
        Kind kind = code == Status.Code.INVALID_ARGUMENT ? Kind.INVALID : Kind.REFUSED;
        String limit = refused.getLimit().isEmpty() ? null : refused.getLimit();
        String message = refused.getMessage();
        if (message.isEmpty()) {
            message = "refused" + (limit == null ? "" : " by " + limit) + ": " + refused.getReason();
        }
        Duration wait = refused.hasRetryAfter() ? Spans.fromWire(refused.getRetryAfter()) : null;
        return new PermitException(kind, code, refused.getReason(), message, limit, wait);
    }

    /** The local share's refusal. */
    static PermitException refusedLocally(String reason, String message, String limit, Duration retryAfter) {
        Status.Code code = reason.equals(LARGER_THAN_LIMIT) ? Status.Code.OUT_OF_RANGE : Status.Code.RESOURCE_EXHAUSTED;
        String told = message + " (from this client's local share: no permitd server can be reached)";
        return new PermitException(Kind.REFUSED, code, reason, told, limit, retryAfter);
    }
}
