package dev.permitd.client;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Objects;
import java.util.Optional;
import permitd.v1.PermitOuterClass;
import permitd.v1.PermitOuterClass.AcquireRequest;

/**
 * Asks for one permit of one budget: plain data, checked when it is sent. Immutable; each setter gives a new request.
 *
 * <pre>{@code
 * Request request = Request.of("anthropic/prod")
 *         .model("claude-sonnet-4-5")
 *         .tokens(1_200)
 *         .priority(Priority.BATCH)
 *         .maxWait(Duration.ofSeconds(30));
 * }</pre>
 */
public final class Request {
    /** Permits that one request may ask for: the server's bound. */
    public static final int COUNT_MAX = 10_000;

    /** Bytes in a name, as UTF-8. The server's bound. */
    static final int NAME_BYTES_MAX = 256;

    /** Further units in one estimate. The server's bound. */
    private static final int OTHER_UNITS_MAX = 16;

    /** Without request id, wait and count, which are known when it is sent. */
    private final AcquireRequest ask;

    private final Duration maxWait;
    private final Duration timeout;

    private Request(AcquireRequest ask, Duration maxWait, Duration timeout) {
        this.ask = ask;
        this.maxWait = maxWait;
        this.timeout = timeout;
    }

    /** One permit of the budget {@code provider/key}. Without a slash, the key is {@code default}. */
    public static Request of(String budget) {
        Objects.requireNonNull(budget, "budget");
        int slash = budget.indexOf('/');
        return slash < 0 ? of(budget, "") : of(budget.substring(0, slash), budget.substring(slash + 1));
    }

    /** One permit of the budget of this provider and key; an empty key is {@code default}. */
    public static Request of(String provider, String key) {
        Objects.requireNonNull(provider, "provider");
        Objects.requireNonNull(key, "key");
        AcquireRequest ask = AcquireRequest.newBuilder()
                .setProvider(provider)
                .setKey(key)
                .setPriority(PermitOuterClass.Priority.PRIORITY_STANDARD)
                .build();
        return new Request(ask, null, null);
    }

    /** The model to be called; limits may differ by model. */
    public Request model(String model) {
        Objects.requireNonNull(model, "model");
        return with(ask.toBuilder().setModel(model));
    }

    /** Who shares the budget. Without one, the client's tenant. */
    public Request tenant(String tenant) {
        Objects.requireNonNull(tenant, "tenant");
        return with(ask.toBuilder().setTenant(tenant));
    }

    /**
     * How many tokens go in: short for {@link #estimate}. What comes out is learned from reports and charged on top; bound it with
     * {@link Usage#maxOutputTokens(long)}.
     */
    public Request tokens(long tokens) {
        return with(ask.toBuilder().setTokens(Usage.checked("tokens", tokens)));
    }

    /** What the call is expected to use. An output that is left open is learned from what this tenant and model used before. */
    public Request estimate(Usage estimate) {
        Objects.requireNonNull(estimate, "estimate");
        return with(ask.toBuilder().setEstimate(estimate.toWire()));
    }

    /** The class. Default: {@link Priority#STANDARD}. */
    public Request priority(Priority priority) {
        Objects.requireNonNull(priority, "priority");
        return with(ask.toBuilder().setPriority(PermitOuterClass.Priority.valueOf("PRIORITY_" + priority.name())));
    }

    /**
     * How long to wait in the queue at most; zero means now or not at all. Without one, the budget's default.
     *
     * @throws IllegalArgumentException a negative span
     */
    public Request maxWait(Duration maxWait) {
        return new Request(ask, span("max_wait", maxWait), timeout);
    }

    /**
     * After how long the caller gives up, counted from the moment of asking and kept by this client whatever the server does. The
     * server is told, so that it refuses at once what cannot be in time. With {@link PermitClient#call} it covers all attempts.
     *
     * @throws IllegalArgumentException a negative span
     */
    public Request timeout(Duration timeout) {
        return new Request(ask, maxWait, span("timeout", timeout));
    }

    /** What stands before the slash. */
    public String provider() {
        return ask.getProvider();
    }

    /** What stands after the slash; empty means {@code default}. */
    public String key() {
        return ask.getKey();
    }

    /** The model, or an empty string. */
    public String model() {
        return ask.getModel();
    }

    /** Whether the request says what the call is expected to use. */
    public boolean hasEstimate() {
        return ask.hasEstimate() || ask.getTokens() != 0;
    }

    /** See {@link #timeout(Duration)}. */
    public Optional<Duration> timeout() {
        return Optional.ofNullable(timeout);
    }

    /** See {@link #maxWait(Duration)}. */
    public Optional<Duration> maxWait() {
        return Optional.ofNullable(maxWait);
    }

    /** What is sent, but for the request id and the wait. */
    AcquireRequest toWire() throws PermitException {
        if (ask.getProvider().isEmpty()) {
            throw PermitException.invalid(
                    "provider", "is empty; name the budget as PROVIDER/KEY, for example anthropic/prod");
        }
        checkName("provider", ask.getProvider());
        checkName("key", ask.getKey());
        checkName("model", ask.getModel());
        checkName("tenant", ask.getTenant());
        var units = ask.getEstimate().getOtherMap().keySet();
        if (units.size() > OTHER_UNITS_MAX || units.stream().anyMatch(unit -> unit.isEmpty() || bytes(unit) > NAME_BYTES_MAX)) {
            throw PermitException.invalid(
                    "estimate.other",
                    "at most " + OTHER_UNITS_MAX + " further units with names of 1 to " + NAME_BYTES_MAX + " bytes");
        }
        return ask;
    }

    static void checkName(String field, String name) throws PermitException {
        if (name.length() > NAME_BYTES_MAX / 4 && bytes(name) > NAME_BYTES_MAX) {
            throw PermitException.invalid(field, bytes(name) + " bytes; a name has at most " + NAME_BYTES_MAX);
        }
    }

    private static int bytes(String name) {
        return name.getBytes(StandardCharsets.UTF_8).length;
    }

    private static Duration span(String field, Duration span) {
        if (Objects.requireNonNull(span, field).isNegative()) {
            throw new IllegalArgumentException(field + ": " + span + " is negative; zero means now or not at all");
        }
        return span;
    }

    private Request with(AcquireRequest.Builder ask) {
        return new Request(ask.build(), maxWait, timeout);
    }

    @Override
    public String toString() {
        return "Request{" + ask.getProvider() + "/" + ask.getKey() + "}";
    }
}
